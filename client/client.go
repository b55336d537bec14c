// Package client records events into a trail that another program runs and
// serves over HTTP (veritrail up). It is for Go programs that do not write a
// trail themselves; what it speaks is in docs/http.md.
//
//	c, err := client.New(client.Config{URL: "https://audit.example.com:8790", TokenFile: "token", Spool: "spool"})
//	…
//	err = c.Record(ctx, &veritrail.ComplianceEvent{Action: "AUTH.LOGIN.FAIL", Subject: map[string]string{"user": "10086"}})
//	…
//	err = c.Close()
//
// A Client is a veritrail.EventRecorder. Events of all goroutines that arrive
// while a request is under way go together into the next one, in their order,
// compressed when there are many.
//
// # What nil means
//
// Without a spool Record returns nil once the server has acknowledged the event,
// and keeps trying until it has, its context ends, or the Client is closed.
//
// With a spool, a directory of this machine, events go there while the server
// can't be reached or refuses to record, each synced to the disk, and are sent
// in their order when it can. Config.Policy says when Record returns nil then:
// with AckServer, the default, only once the server has acknowledged; with
// AckSpool also once the event is durable in the spool. A spool that is full
// refuses events with ErrSpoolFull. Nothing is dropped.
//
// # Exactly once
//
// Every event gets its id here, before it is sent, and the server knows the ids
// of the newest million events of the last 24 hours (as it is configured). So
// an event that is sent again, because an answer was lost, or because this
// program or the server crashed in between, is in the trail once. An event that
// was acknowledged in the very moment of a crash, and whose spool is not sent
// until it fell out of what the server remembers, is there twice, with one id.
//
// # What the server refuses
//
// Record returns a *RejectedError. When Record has returned before, as it does
// with AckSpool, the event and why it was refused are appended to the file
// rejected.jsonl in the spool, and Config.Rejected is called. Events that break
// the rules of package veritrail are refused at once and not sent.
package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
)

// Policy says when an event counts as recorded, for a Client with a spool.
type Policy int

// The policies.
const (
	// AckServer: the server has acknowledged it.
	AckServer Policy = iota
	// AckSpool: the server has acknowledged it, or it is on stable storage in
	// the spool. It is not in the trail then, nor is it known whether the server
	// will take it.
	AckSpool
)

// Compression of requests.
type Compression int

// The compressions. A server that does not know one gets requests without.
const (
	// AutoCompression is Zstd, and NoCompression for a server on this machine,
	// where it would cost more time than it saves.
	AutoCompression Compression = iota
	Zstd
	Gzip
	NoCompression
)

// Config says where to send and how. URL is required, and a token or a client
// certificate unless the server wants none.
type Config struct {
	URL string // http://127.0.0.1:8790; plain HTTP is for this machine only

	// The server's API token. A TokenFile is read again when the server refuses
	// what was in it.
	Token     string
	TokenFile string
	// TLS has the roots to trust and the client's certificate; the system's
	// roots and none when nil.
	TLS *tls.Config
	// Transport is used in place of one of the Client's own, and TLS is not.
	Transport http.RoundTripper
	// UnsafePlainHTTP sends token and events in the clear across a network.
	UnsafePlainHTTP bool

	// Spool is a directory for events that can't be sent now, made when it does
	// not exist. It belongs to one Client at a time, whatever the process.
	Spool      string
	SpoolBytes int64  // at most in it, what was rejected aside; 256 MiB when 0
	Policy     Policy // AckSpool needs a Spool
	// Rejected is called for each event from the spool that the server refused,
	// after it was written to rejected.jsonl. It must not call the Client.
	Rejected func(*RejectedError)

	BatchEvents int           // in one request; 10,000 when 0
	BatchBytes  int           // of events in one request; 4 MiB when 0
	QueueBytes  int           // of events waiting before Record must wait; 8 MiB when 0
	Compression Compression   // of requests of 4 KiB and more
	Timeout     time.Duration // of one request; 30 s when 0
	// Patience is how long a request may take before its events go to the spool,
	// under AckSpool; 2 s when 0.
	Patience time.Duration
	// Between attempts, doubled each time, each with a random part: 100 ms and
	// 30 s when 0. A server that says Retry-After is obeyed, for 5 minutes at most.
	RetryMin, RetryMax time.Duration
	CloseTimeout       time.Duration // for what is left at Close; 10 s when 0

	Log *slog.Logger     // discarded when nil; neither events nor tokens are logged
	Now func() time.Time // time.Now when nil

	disk durable.FS // durable.OS when nil
}

// Errors a caller acts upon. A *RejectedError is one more.
var (
	// ErrClosed: the Client was closed before the event was acknowledged.
	ErrClosed = errors.New("client closed")
	// ErrSpoolFull: the server can't be reached, and the spool holds as much as
	// it may. The event was not taken.
	ErrSpoolFull = errors.New("spool is full")
	// ErrSpool: the spool can't be written. The event was not taken.
	ErrSpool = errors.New("spool can't be written")
	// ErrRefused: the server does not let this client in. Trying again is of no
	// use until token, certificate or address are others.
	ErrRefused = errors.New("server refuses the client")
	// ErrConflict: the trail has another event with the same id.
	ErrConflict = errors.New("another event has this id")
	// ErrSpoolLocked: another Client uses the spool.
	ErrSpoolLocked = durable.ErrLocked
)

// RejectedError says why the server refused an event. It matches
// veritrail.ErrInvalidComplianceEvent, and ErrConflict when another event has
// the id.
type RejectedError struct {
	ID         string
	Conflict   bool
	Violations []veritrail.Violation // at least one
	More       int                   // violations not listed
}

// Error names the first violation.
func (e *RejectedError) Error() string {
	line := "event " + e.ID + " rejected"
	if e.Conflict {
		line = "event " + e.ID + ": " + ErrConflict.Error()
	}
	if len(e.Violations) > 0 && !e.Conflict {
		line += ": " + e.Violations[0].String()
	}
	if more := len(e.Violations) - 1 + e.More; more > 0 {
		line += fmt.Sprintf(" (and %d more)", more)
	}
	return line
}

// Is makes the error match what it is.
func (e *RejectedError) Is(target error) bool {
	return target == veritrail.ErrInvalidComplianceEvent || e.Conflict && target == ErrConflict
}

// LeftError is returned by Close when events are left.
type LeftError struct {
	Spooled uint64 // in the spool, for the next Client to send
	Failed  uint64 // not recorded; whoever recorded them was told
	Last    error  // why they could not be sent, nil when not known
}

func (e *LeftError) Error() string {
	line := fmt.Sprintf("%d events are left in the spool", e.Spooled)
	if e.Failed > 0 {
		line = fmt.Sprintf("%d events were not recorded", e.Failed)
		if e.Spooled > 0 {
			line += fmt.Sprintf(", %d are left in the spool", e.Spooled)
		}
	}
	if e.Last != nil {
		line += ": " + e.Last.Error()
	}
	return line
}

// Stats are numbers since New, but for Spooled and SpoolBytes.
type Stats struct {
	Recorded   uint64 // acknowledged by the server
	Duplicates uint64 // of those, known to it before
	Rejected   uint64 // by the server
	Failed     uint64 // neither, and not kept
	Requests   uint64
	Retries    uint64 // requests whose events must be sent again
	Spooled    uint64 // events in the spool
	SpoolBytes int64
	Cut        uint64 // bytes of the spool that could not be read, and were set aside
}

// Client records into the trail of a server. It is safe for concurrent use.
type Client struct {
	cfg    Config
	url    string
	http   *http.Client
	facts  [3]veritrail.Pair
	spool  *spool // nil without one
	jitter func(time.Duration) time.Duration

	queue queue
	token tokenSource
	plain atomic.Bool   // the server takes no compressed requests
	wake  chan struct{} // there may be something in the spool
	stop  context.CancelFunc
	gone  sync.WaitGroup

	waiting waiting // for events in the spool

	recorded, duplicates, rejected, failed, requests, retries atomic.Uint64
	last                                                      atomic.Pointer[error]
}

var _ veritrail.EventRecorder = (*Client)(nil)

// New checks the Config, opens the spool, and begins to send what is in it. The
// server need not be there.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	u, local, err := parseURL(cfg.URL, cfg.UnsafePlainHTTP)
	if err != nil {
		return nil, err
	}
	if cfg.Compression == AutoCompression {
		if cfg.Compression = Zstd; local {
			cfg.Compression = NoCompression
		}
	}
	c := &Client{
		cfg: cfg, url: u, jitter: halfRandom,
		wake: make(chan struct{}, 1),
	}
	c.waiting.all = make(map[veritrail.UUID][]*entry)
	c.queue.init(cfg.QueueBytes)
	if err := c.token.open(cfg.Token, cfg.TokenFile); err != nil {
		return nil, err
	}
	if err := c.gatherFacts(); err != nil {
		return nil, err
	}
	c.http = &http.Client{Transport: cfg.Transport, Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // a token must not follow
	}}
	if cfg.Transport == nil {
		c.http.Transport = newTransport(cfg.TLS, local)
	}
	if cfg.Spool != "" {
		if c.spool, err = openSpool(cfg.disk, cfg.Spool, cfg.SpoolBytes); err != nil {
			return nil, err
		}
		if cut := c.spool.cutBytes(); cut > 0 {
			cfg.Log.Warn("the spool's end could not be read and was set aside", slog.String("spool", cfg.Spool), slog.Uint64("bytes", cut))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.gone.Go(func() { c.intake(ctx) })
	return c, nil
}

func (cfg *Config) check() error {
	switch {
	case cfg.URL == "":
		return errors.New("client: URL is not set")
	case cfg.Token != "" && cfg.TokenFile != "":
		return errors.New("client: want Token or TokenFile, not both")
	case cfg.Policy != AckServer && cfg.Policy != AckSpool:
		return fmt.Errorf("client: Policy is %d", int(cfg.Policy))
	case cfg.Policy == AckSpool && cfg.Spool == "":
		return errors.New("client: AckSpool needs a Spool")
	case cfg.Compression < AutoCompression || cfg.Compression > NoCompression:
		return fmt.Errorf("client: Compression is %d", int(cfg.Compression))
	case cfg.SpoolBytes < 0 || cfg.BatchEvents < 0 || cfg.BatchBytes < 0 || cfg.QueueBytes < 0:
		return errors.New("client: want bounds of 0 or more")
	case cfg.Timeout < 0 || cfg.Patience < 0 || cfg.RetryMin < 0 || cfg.RetryMax < 0 || cfg.CloseTimeout < 0:
		return errors.New("client: want times of 0 or more")
	}
	return nil
}

func (cfg *Config) setDefaults() {
	cfg.SpoolBytes = cmp.Or(cfg.SpoolBytes, 256<<20)
	cfg.BatchEvents = cmp.Or(cfg.BatchEvents, 10_000)
	cfg.BatchBytes = cmp.Or(cfg.BatchBytes, 4<<20)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 8<<20)
	cfg.Timeout = cmp.Or(cfg.Timeout, 30*time.Second)
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Second)
	cfg.RetryMin = cmp.Or(cfg.RetryMin, 100*time.Millisecond)
	cfg.RetryMax = max(cmp.Or(cfg.RetryMax, 30*time.Second), cfg.RetryMin)
	cfg.CloseTimeout = cmp.Or(cfg.CloseTimeout, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.disk == nil {
		cfg.disk = durable.OS
	}
}

// parseURL also tells whether the server is on this machine.
func parseURL(text string, unsafePlain bool) (events string, local bool, err error) {
	u, err := url.Parse(strings.TrimSuffix(text, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", false, errors.New("client: URL: want one as https://audit.example.com:8790")
	}
	if u.User != nil {
		return "", false, errors.New("client: URL: want the token in Token, no password in the URL")
	}
	ip := net.ParseIP(u.Hostname())
	local = u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "http" && !local && !unsafePlain {
		return "", false, errors.New("client: URL: plain HTTP to another machine would send token and events in the clear; want https")
	}
	return u.JoinPath("v1/events").String(), local, nil
}

func newTransport(conf *tls.Config, local bool) *http.Transport {
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conf = conf.Clone()
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 2,
		DisableCompression: local, // of answers
		IdleConnTimeout:    time.Minute, TLSHandshakeTimeout: 10 * time.Second,
	}
}

// gatherFacts finds out who sends. The server would fill in its own host and
// process otherwise.
func (c *Client) gatherFacts() error {
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("client: the host's name: %w", err)
	}
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	c.facts = [3]veritrail.Pair{
		{Key: "host", Value: strings.ToValidUTF8(host, "?")},
		{Key: "pid", Value: strconv.Itoa(os.Getpid())},
		{Key: "process", Value: strings.ToValidUTF8(name, "?")},
	}
	return nil
}

// Record implements veritrail.EventRecorder.
func (c *Client) Record(ctx context.Context, e *veritrail.ComplianceEvent) error {
	p, err := c.RecordAsync(ctx, e)
	if err != nil {
		return err
	}
	err = p.Wait(ctx)
	if ctx.Err() != nil && err != nil {
		p.e.gone.Store(true) // nobody waits any more: it need not be tried for ever
	}
	return err
}

// RecordAsync takes the event in and does not wait until it is acknowledged:
// that is for the Pending to tell. It waits, until ctx ends, while too many
// events are on their way.
func (c *Client) RecordAsync(ctx context.Context, e *veritrail.ComplianceEvent) (Pending, error) {
	d, _ := drafts.Get().(*veritrail.Draft)
	defer release(d)
	if err := d.SetEvent(e); err != nil {
		return Pending{}, err
	}
	return c.send(ctx, d)
}

// RecordJSON is RecordAsync for an event as JSON text, in any spelling that
// veritrail.ParseEvent reads.
func (c *Client) RecordJSON(ctx context.Context, text []byte) (Pending, error) {
	d, _ := drafts.Get().(*veritrail.Draft)
	defer release(d)
	if err := d.Parse(text); err != nil {
		return Pending{}, err
	}
	return c.send(ctx, d)
}

var drafts = sync.Pool{New: func() any { return new(veritrail.Draft) }}

func release(d *veritrail.Draft) {
	d.Reset()
	drafts.Put(d)
}

// send fills in what the event lacks, so that it is the same each time it is
// sent, and puts it into the queue.
func (c *Client) send(ctx context.Context, d *veritrail.Draft) (Pending, error) {
	if d.ID.IsZero() {
		d.ID = newID()
	}
	if d.Timestamp.IsZero() {
		d.Timestamp = c.cfg.Now().UTC().Round(0)
	}
	for _, fact := range c.facts {
		if _, there := d.Context.Get(fact.Key); !there && len(d.Context) < veritrail.MaxPairs {
			d.Context = append(d.Context, fact)
		}
	}
	if err := d.Validate(); err != nil {
		return Pending{}, err
	}
	e := &entry{id: d.ID, line: d.AppendCanonical(nil), done: make(chan struct{})}
	if err := c.queue.put(ctx, e); err != nil {
		return Pending{}, err
	}
	return Pending{e}, nil
}

// newID is a random UUID, version 4 (RFC 9562 §5.4).
func newID() (id veritrail.UUID) {
	_, _ = rand.Read(id[:]) // never fails
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// halfRandom is between a half and the whole of d.
func halfRandom(d time.Duration) time.Duration {
	return d/2 + mrand.N(d/2+1) //nolint:gosec // nobody gains from guessing a pause
}

// Pending is an event on its way.
type Pending struct{ e *entry }

// ID is the event's, the one it came with or the one it was given.
func (p Pending) ID() string { return p.e.id.String() }

// Wait returns nil once the event counts as recorded. When ctx ends first, the
// event may still be recorded.
func (p Pending) Wait(ctx context.Context) error {
	select {
	case <-p.e.done:
		return p.e.err
	default:
	}
	select {
	case <-p.e.done:
		return p.e.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the server: %w", ctx.Err())
	}
}

// Leaf is the event's place in the trail, once the server has acknowledged it. It
// is not known of an event that went through the spool under AckSpool.
func (p Pending) Leaf() (uint64, bool) {
	select {
	case <-p.e.done:
		return p.e.leaf, p.e.recorded
	default:
		return 0, false
	}
}

// entry is an event between Record and its acknowledgement.
type entry struct {
	id   veritrail.UUID
	line []byte // canonical
	gone atomic.Bool

	// Valid when done is closed.
	done     chan struct{}
	err      error
	leaf     uint64
	recorded bool
}

func (e *entry) settle(err error) {
	e.err = err
	close(e.done)
}

// Flush returns nil once the server has acknowledged or refused every event that
// was taken before, those in the spool included.
func (c *Client) Flush(ctx context.Context) error {
	return c.queue.flushed(ctx)
}

// Stats counts.
func (c *Client) Stats() Stats {
	st := Stats{
		Recorded: c.recorded.Load(), Duplicates: c.duplicates.Load(), Rejected: c.rejected.Load(), Failed: c.failed.Load(),
		Requests: c.requests.Load(), Retries: c.retries.Load(),
	}
	if c.spool != nil {
		st.Spooled, st.SpoolBytes, st.Cut = c.spool.events(), c.spool.size(), c.spool.cutBytes()
	}
	return st
}

// Close refuses further events, sends what is left for as long as CloseTimeout
// says, and gives the spool up. A *LeftError says what was not sent. A second
// call returns ErrClosed.
func (c *Client) Close() error {
	if !c.queue.close() {
		return ErrClosed
	}
	late := time.AfterFunc(c.cfg.CloseTimeout, c.stop)
	c.gone.Wait()
	late.Stop()
	c.stop()
	c.waiting.giveUp()
	left := &LeftError{Failed: c.failed.Load()}
	var err error
	if c.spool != nil {
		left.Spooled = c.spool.events()
		err = c.spool.close()
	}
	c.http.CloseIdleConnections()
	if left.Spooled+left.Failed > 0 {
		if last := c.last.Load(); last != nil {
			left.Last = *last
		}
		return errors.Join(left, err)
	}
	return err
}
