package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/veritrail/veritrail"
)

const (
	compressFrom  = 4 << 10
	maxAnswer     = 64 << 20
	maxRetryAfter = 5 * time.Minute
)

// intake takes events from the queue, in their order, and sends them, or puts
// them into the spool. It is the goroutine that ends last.
func (c *Client) intake(ctx context.Context) {
	var replayed sync.WaitGroup
	quiet := make(chan struct{}) // nothing more is put into the spool
	if c.spool != nil {
		c.queue.found(c.spool.events())
		replayed.Go(func() { c.replay(ctx, quiet) })
	}
	defer func() {
		close(quiet)
		replayed.Wait()
	}()
	for {
		batch := c.queue.take(c.cfg.BatchEvents, c.cfg.BatchBytes)
		switch {
		case batch == nil:
			return
		case c.spool == nil:
			c.deliver(ctx, batch)
		default:
			// What is in the spool comes first.
			if c.spool.events() == 0 {
				batch = c.tryOnce(ctx, batch)
			}
			if len(batch) > 0 {
				c.keep(batch)
			}
		}
	}
}

// tryOnce sends events past the spool, and returns those that must be kept.
func (c *Client) tryOnce(ctx context.Context, batch []*entry) []*entry {
	if c.cfg.Policy == AckSpool {
		// Record must not wait for a server that is slow to answer. Cutting the
		// request off costs nothing: the server knows the ids.
		bounded, cancel := context.WithTimeout(ctx, c.cfg.Patience)
		defer cancel()
		ctx = bounded
	}
	rest, _, err := c.post(ctx, batch, nil)
	if len(rest) > 0 {
		c.retries.Add(1)
		c.note(err)
		c.cfg.Log.Info("the server can't be reached: events go to the spool", slog.Any("error", err))
	}
	return rest
}

// keep puts events into the spool.
func (c *Client) keep(batch []*entry) {
	if c.cfg.Policy == AckServer {
		c.waiting.add(batch)
	}
	if err := c.spool.append(batch); err != nil {
		c.waiting.drop(batch)
		c.note(err)
		c.fail(batch, err)
		return
	}
	if c.cfg.Policy == AckSpool {
		for _, e := range batch {
			e.settle(nil)
		}
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Client) fail(batch []*entry, err error) {
	c.failed.Add(uint64(len(batch)))
	for _, e := range batch {
		e.settle(err)
	}
	c.queue.end(len(batch))
}

func (c *Client) note(err error) {
	if err != nil {
		c.last.Store(&err)
	}
}

// deliver sends events until the server has taken all of them, nobody waits for
// those that are left, or the Client is closed.
func (c *Client) deliver(ctx context.Context, batch []*entry) {
	pause := backoff{c: c}
	for {
		rest, after, err := c.post(ctx, batch, nil)
		if len(rest) == 0 {
			return
		}
		c.retries.Add(1)
		c.note(err)
		if errors.Is(err, ErrRefused) {
			c.fail(rest, err)
			return
		}
		c.cfg.Log.Info("events not recorded yet", slog.Int("events", len(rest)), slog.Any("error", err))
		if !pause.wait(ctx, after) {
			c.fail(rest, fmt.Errorf("%w: %w", ErrClosed, err))
			return
		}
		var left, alone []*entry
		for _, e := range rest {
			if e.gone.Load() {
				alone = append(alone, e)
			} else {
				left = append(left, e)
			}
		}
		c.fail(alone, err)
		if batch = left; len(batch) == 0 {
			return
		}
	}
}

// replay sends what is in the spool, oldest first, until it is empty and the
// Client is closed.
func (c *Client) replay(ctx context.Context, quiet <-chan struct{}) {
	pause := backoff{c: c}
	for {
		batch, err := c.spool.oldest(c.cfg.BatchEvents, c.cfg.BatchBytes)
		if err != nil {
			c.note(err)
			c.cfg.Log.Error("the spool can't be read", slog.Any("error", err))
			if !pause.wait(ctx, 0) {
				return
			}
			continue
		}
		if len(batch) == 0 {
			select {
			case <-c.wake:
				continue
			case <-ctx.Done():
				return
			case <-quiet:
			}
			if c.spool.events() == 0 {
				return
			}
			continue
		}
		pause.reset()
		for rest := batch; len(rest) > 0; {
			var after time.Duration
			rest, after, err = c.post(ctx, rest, c.spool)
			if len(rest) == 0 {
				break
			}
			c.retries.Add(1)
			c.note(err)
			c.cfg.Log.Info("events stay in the spool", slog.Uint64("events", c.spool.events()), slog.Any("error", err))
			if !pause.wait(ctx, after) {
				return
			}
		}
		n := len(batch)
		if err := c.spool.remove(n); err != nil {
			c.note(err)
			c.cfg.Log.Error("the spool can't be written", slog.Any("error", err))
			if !pause.wait(ctx, 0) {
				return
			}
		}
		c.queue.end(n)
	}
}

// backoff is how long to wait between attempts.
type backoff struct {
	c    *Client
	next time.Duration
}

func (b *backoff) reset() { b.next = 0 }

// wait waits, at least as long as the server said. It returns false when ctx
// ended first.
func (b *backoff) wait(ctx context.Context, after time.Duration) bool {
	b.next = min(max(2*b.next, b.c.cfg.RetryMin), b.c.cfg.RetryMax)
	pause := b.c.jitter(b.next)
	if after > 0 {
		pause = max(pause, after+b.c.jitter(b.c.cfg.RetryMin))
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// waiting are those who wait for events in the spool. Two may wait for one id.
type waiting struct {
	mu  sync.Mutex
	all map[veritrail.UUID][]*entry
}

func (w *waiting) add(batch []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range batch {
		w.all[e.id] = append(w.all[e.id], e)
	}
}

// drop takes back what add did.
func (w *waiting) drop(batch []*entry) {
	for _, e := range batch {
		w.mu.Lock()
		w.all[e.id] = slices.DeleteFunc(w.all[e.id], func(other *entry) bool { return other == e })
		if len(w.all[e.id]) == 0 {
			delete(w.all, e.id)
		}
		w.mu.Unlock()
	}
}

// take returns the first who waits for the event, nil when nobody does.
func (w *waiting) take(id veritrail.UUID) *entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.all[id]
	switch len(all) {
	case 0:
		return nil
	case 1:
		delete(w.all, id)
	default:
		w.all[id] = all[1:]
	}
	return all[0]
}

// giveUp tells those who wait that nobody will send their events any more.
func (w *waiting) giveUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, all := range w.all {
		for _, e := range all {
			e.settle(fmt.Errorf("%w: the event is in the spool", ErrClosed))
		}
	}
	clear(w.all)
}

// answer is what the server says of a request's events.
type answer struct {
	Results []result `json:"results"`
	Error   struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`

	code       int
	status     string
	retryAfter string
}

type result struct {
	Line       int                   `json:"line"`
	Status     string                `json:"status"`
	Leaf       *uint64               `json:"leaf"`
	Duplicate  bool                  `json:"duplicate"`
	Violations []veritrail.Violation `json:"violations"`
	More       int                   `json:"more"`
}

// post sends events once, settles those that the server recorded or refused, and
// returns the others with why, and when to try again. Events from a spool have
// other owners than those who wait for them.
func (c *Client) post(ctx context.Context, batch []*entry, from *spool) (rest []*entry, after time.Duration, err error) {
	a, err := c.exchange(ctx, batch)
	if err != nil {
		return batch, 0, err
	}
	switch a.code {
	case http.StatusOK, http.StatusCreated, http.StatusMultiStatus, http.StatusUnprocessableEntity, http.StatusConflict:
	case http.StatusUnauthorized:
		c.token.reload()
		return batch, 0, fmt.Errorf("%w: %s", ErrRefused, a.describe())
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMisdirectedRequest:
		return batch, 0, fmt.Errorf("%w: %s", ErrRefused, a.describe())
	case http.StatusUnsupportedMediaType:
		if !c.plain.Swap(true) {
			return c.post(ctx, batch, from)
		}
		return batch, 0, fmt.Errorf("%w: %s", ErrRefused, a.describe())
	case http.StatusRequestEntityTooLarge:
		if len(a.Results) == 0 {
			return c.split(ctx, batch, from, a)
		}
	}
	rest, err = c.settle(batch, a, from)
	if err == nil && len(rest) > 0 {
		err = errors.New(a.describe())
	}
	return rest, retryAfter(a.retryAfter, c.cfg.Now()), err
}

// split sends the halves of a request that is too large for the server. One
// event that is, is refused for that.
func (c *Client) split(ctx context.Context, batch []*entry, from *spool, a *answer) ([]*entry, time.Duration, error) {
	if len(batch) == 1 {
		err := &RejectedError{ID: batch[0].id.String(), Violations: []veritrail.Violation{{
			Rule: "want an event that the server takes (" + a.describe() + ")", Shape: strconv.Itoa(len(batch[0].line)) + " bytes",
		}}}
		return nil, 0, c.reject(batch[0], err, from)
	}
	half := len(batch) / 2
	rest, after, err := c.post(ctx, batch[:half], from)
	if len(rest) > 0 {
		return append(rest, batch[half:]...), after, err
	}
	return c.post(ctx, batch[half:], from)
}

func (a *answer) describe() string {
	return "the server answers " + a.status + ": " + cmp.Or(a.Error.Message, "without a reason")
}

// settle ends events that the server has decided upon. An error is about the
// spool.
func (c *Client) settle(batch []*entry, a *answer, from *spool) (rest []*entry, err error) {
	settled := make([]bool, len(batch))
	ended := 0
	defer func() { c.queue.end(ended) }()
	for i := range a.Results {
		r := &a.Results[i]
		if r.Line < 1 || r.Line > len(batch) || settled[r.Line-1] {
			return unsettled(batch, settled), fmt.Errorf("the server answers for line %d of %d", r.Line, len(batch))
		}
		e := batch[r.Line-1]
		switch r.Status {
		case "recorded":
			c.recorded.Add(1)
			if r.Duplicate {
				c.duplicates.Add(1)
			}
			waiter := e
			if from != nil {
				waiter = c.waiting.take(e.id)
			}
			if waiter != nil {
				if waiter.recorded = r.Leaf != nil; waiter.recorded {
					waiter.leaf = *r.Leaf
				}
				waiter.settle(nil)
			}
		case "rejected", "conflict":
			rejection := &RejectedError{ID: e.id.String(), Conflict: r.Status == "conflict", Violations: r.Violations, More: r.More}
			if err := c.reject(e, rejection, from); err != nil {
				return unsettled(batch, settled), err
			}
			settled[r.Line-1] = true
			continue // reject has counted it
		default:
			continue // to be sent again
		}
		settled[r.Line-1] = true
		if from == nil {
			ended++
		}
	}
	return unsettled(batch, settled), nil
}

func unsettled(batch []*entry, settled []bool) (rest []*entry) {
	for i, e := range batch {
		if !settled[i] {
			rest = append(rest, e)
		}
	}
	return rest
}

// reject ends an event that the server refused. One from the spool is written
// down first: who recorded it may have gone.
func (c *Client) reject(e *entry, why *RejectedError, from *spool) error {
	waiter := e
	if from != nil {
		if err := from.reject(e, why, c.cfg.Now()); err != nil {
			return err
		}
		waiter = c.waiting.take(e.id)
		c.cfg.Log.Warn("an event from the spool was rejected; it is in rejected.jsonl", slog.String("id", why.ID))
		if c.cfg.Rejected != nil {
			c.cfg.Rejected(why)
		}
	} else {
		c.queue.end(1)
	}
	c.rejected.Add(1)
	if waiter != nil {
		waiter.settle(why)
	}
	return nil
}

// exchange sends a request and reads the answer.
func (c *Client) exchange(ctx context.Context, batch []*entry) (*answer, error) {
	body, coding, err := c.body(batch)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("User-Agent", "veritrail-go/"+veritrail.Version)
	if coding != "" {
		req.Header.Set("Content-Encoding", coding)
	}
	if token := c.token.get(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	c.requests.Add(1)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{code: resp.StatusCode, status: resp.Status, retryAfter: resp.Header.Get("Retry-After")}
	text, err := readAnswer(resp)
	if err != nil {
		return nil, fmt.Errorf("the server answers %s, and breaks off: %w", resp.Status, err)
	}
	if a.quick(text, len(batch)) {
		return a, nil
	}
	if err := json.Unmarshal(text, a); err != nil && resp.StatusCode < 300 {
		return nil, fmt.Errorf("the server answers %s, and no JSON", resp.Status)
	}
	return a, nil
}

func readAnswer(resp *http.Response) ([]byte, error) {
	var b bytes.Buffer
	if n := resp.ContentLength; 0 < n && n <= maxAnswer {
		b.Grow(int(n) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, maxAnswer))
	return b.Bytes(), err
}

// body is the lines of the events, compressed when that is worth it.
func (c *Client) body(batch []*entry) (body []byte, coding string, err error) {
	size := 0
	for _, e := range batch {
		size += len(e.line) + 1
	}
	body = make([]byte, 0, size)
	for _, e := range batch {
		body = append(append(body, e.line...), '\n')
	}
	if size < compressFrom || c.plain.Load() {
		return body, "", nil
	}
	switch c.cfg.Compression {
	case Zstd:
		z, _ := zstdWriters.Get().(*zstd.Encoder)
		defer zstdWriters.Put(z)
		return z.EncodeAll(body, nil), "zstd", nil
	case Gzip:
		var b bytes.Buffer
		g, _ := gzipWriters.Get().(*gzip.Writer)
		defer gzipWriters.Put(g)
		g.Reset(&b)
		_, err := g.Write(body)
		err = errors.Join(err, g.Close()) // not in one expression with Bytes: it writes the end
		return b.Bytes(), "gzip", err
	}
	return body, "", nil
}

var (
	zstdWriters = sync.Pool{New: func() any {
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20))
		if err != nil {
			panic(err) // the options are constants
		}
		return z
	}}
	gzipWriters = sync.Pool{New: func() any {
		g, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return g
	}}
)

// retryAfter reads the header: seconds, or a date (RFC 9110 §10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// tokenSource is the server's API token.
type tokenSource struct {
	mu    sync.Mutex
	token string
	file  string
}

func (t *tokenSource) open(token, file string) error {
	t.token, t.file = token, file
	if file == "" {
		return nil
	}
	var err error
	if t.token, err = readToken(file); err != nil {
		return fmt.Errorf("client: TokenFile: %w", err)
	}
	return nil
}

func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("%s: want one line without white space", file)
	}
	return token, nil
}

func (t *tokenSource) get() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token
}

// reload reads the file again; while that is not possible, the token stays.
func (t *tokenSource) reload() {
	if t.file == "" {
		return
	}
	if token, err := readToken(t.file); err == nil {
		t.mu.Lock()
		t.token = token
		t.mu.Unlock()
	}
}
