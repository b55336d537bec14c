package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
)

// Searcher finds events. Implementations: search.Scanner, which reads through
// the leaves, and indexes.
type Searcher interface {
	// Search calls hit for every leaf in [first, end) that fulfils q, in rising
	// order, or falling when newest is set, until hit returns an error, which
	// Search then returns as it is. Leaves that could not be searched are
	// returned as gaps. It may run in many goroutines at once.
	Search(ctx context.Context, q *search.Query, first, end uint64, newest bool, hit func(search.Hit) error) ([]search.Gap, error)
}

// Bounds of a search.
const (
	maxConditions = 32
	maxCondition  = 2 << 10 // bytes of one
	defaultLimit  = 100
	maxLimit      = 1000    // events on a page
	pageBytes     = 4 << 20 // of events on a page, or in memory
	pageTime      = 10 * time.Second

	// A search goes through so many leaves at a time, so that it can say how far
	// it came when its time is over: more while that is quick, less while it is
	// slow.
	firstStep = 1 << 16
	minStep   = 1 << 12
	maxStep   = 1 << 30
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeSSE    = "text/event-stream"
)

// inquiry is what GET /v1/events asks for, and what is left to do of it.
type inquiry struct {
	query   *search.Query
	asked   []byte // stands for the query in a cursor
	newest  bool
	limit   int // 0: not given
	proof   bool
	since   bool // given
	resumed bool // by a cursor
	first   uint64
	end     uint64
	step    uint64
}

func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Accept")
	kind := accepted(r.Header.Values("Accept"), typeJSON, typeNDJSON, typeSSE)
	q, p := s.parseInquiry(r.URL.RawQuery, kind)
	if p != nil {
		p.write(w)
		return
	}
	switch kind {
	case typeNDJSON:
		s.streamLines(w, r, q)
	case typeSSE:
		s.streamTail(w, r, q)
	default:
		s.writePage(w, r, q)
	}
}

// parseInquiry reads the query of GET /v1/events. It takes nothing that it does
// not know: a condition that is left out for a slip of the pen finds too much.
func (s *Server) parseInquiry(raw, kind string) (*inquiry, *problem) {
	bad := func(name, want string, args ...any) (*inquiry, *problem) {
		return nil, problemf(http.StatusBadRequest, "parameter", "%s: "+want, append([]any{name}, args...)...)
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, problemf(http.StatusBadRequest, "parameter", "the query is not in URL encoding")
	}
	for name := range values {
		switch name {
		case "where", "since", "until", "order", "limit", "cursor", "proof":
		default:
			return nil, problemf(http.StatusBadRequest, "parameter", "want where, since, until, order, limit, cursor, proof; there is another")
		}
		if name != "where" && len(values[name]) > 1 {
			return bad(name, "want it once")
		}
	}
	where := values["where"]
	if len(where) > maxConditions {
		return bad("where", "want at most %d conditions", maxConditions)
	}
	for i, condition := range where {
		if len(condition) > maxCondition {
			return bad("where", "condition %d: want at most %d bytes", i+1, maxCondition)
		}
	}
	q := &inquiry{step: firstStep}
	if q.query, err = search.Parse(where); err != nil {
		// What the condition says is the client's, and may be sensitive.
		return bad("where", "want conditions as act=AUTH.LOGIN.*, sub.user=10086, sev>=WARN, id=…, text=…; one is not")
	}
	now := s.cfg.Now()
	for name, at := range map[string]*time.Time{"since": &q.query.Since, "until": &q.query.Until} {
		if !values.Has(name) {
			continue
		}
		if *at, err = search.ParseTime(values.Get(name), now); err != nil || at.Year() < 1 || at.Year() > 9999 {
			return bad(name, "want 2006-01-02, 2006-01-02T15:04:05Z, or how long ago, as 24h or 7d")
		}
	}
	q.since = values.Has("since")
	switch values.Get("order") {
	case "", "asc":
	case "desc":
		q.newest = true
	default:
		return bad("order", "want asc or desc")
	}
	if values.Has("order") && (values.Get("order") == "" || q.newest && kind == typeSSE) {
		return bad("order", "want asc or desc; a live stream is in rising order")
	}
	if values.Has("limit") {
		most := maxLimit
		if kind == typeNDJSON {
			most = math.MaxInt32
		}
		if q.limit, err = strconv.Atoi(values.Get("limit")); err != nil || q.limit < 1 || q.limit > most || kind == typeSSE {
			return bad("limit", "want a number from 1 to %d; a live stream has no limit", most)
		}
	}
	switch values.Get("proof") {
	case "1", "true":
		q.proof = true
	case "", "0", "false":
	default:
		return bad("proof", "want 1 or 0")
	}
	q.asked = canonicalQuery(values)
	q.end = s.size()
	if !values.Has("cursor") {
		return q, nil
	}
	c, err := parseCursor(values.Get("cursor"), s.cursorKey, q.asked)
	if err != nil || c.first > c.end || c.end > q.end || kind == typeSSE {
		return nil, problemf(http.StatusBadRequest, "cursor", "%v; leave the other parameters as they were", errCursor)
	}
	q.first, q.end, q.newest, q.query.Since, q.query.Until, q.resumed = c.first, c.end, c.newest, c.since, c.until, true
	return q, nil
}

// canonicalQuery stands for what is searched for, whatever the parameters' order.
func canonicalQuery(values url.Values) []byte {
	where := slices.Clone(values["where"])
	slices.Sort(where)
	sum := sha256.Sum256([]byte(url.Values{
		"where": where, "since": values["since"], "until": values["until"], "order": values["order"],
	}.Encode()))
	return sum[:]
}

func (q *inquiry) cursor() *cursor {
	return &cursor{q.first, q.end, q.newest, q.query.Since, q.query.Until}
}

func (q *inquiry) done() bool { return q.first >= q.end }

// size is the number of leaves that can be read: those that are durable, sealed
// or not.
func (s *Server) size() uint64 {
	size := s.cfg.View().Size()
	if s.cfg.Recorder != nil {
		size = max(size, s.cfg.Recorder.Stats().Size)
	}
	return size
}

type found struct {
	leaf  uint64
	bytes []byte
}

var errFull = errors.New("enough for now")

// some goes on with a search until it has so many events, or a page full, or its
// time is over. It keeps one of the places of those who read through the log.
func (s *Server) some(ctx context.Context, q *inquiry, most int, bound time.Duration) (all []found, gaps []search.Gap, err error) {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	bytesLeft := pageBytes
	deadline := time.Now().Add(bound)
	for steps := 0; !q.done() && len(all) < most && bytesLeft > 0 && (steps == 0 || time.Now().Before(deadline)); steps++ {
		first, end := q.first, q.end
		if end-first > q.step {
			if q.newest {
				first = end - q.step
			} else {
				end = first + q.step
			}
		}
		begun := time.Now()
		missed, err := s.searcher.Search(ctx, q.query, first, end, q.newest, func(h search.Hit) error {
			all = append(all, found{h.Leaf, bytes.Clone(h.Bytes)})
			if bytesLeft -= len(h.Bytes); len(all) >= most || bytesLeft <= 0 {
				return errFull
			}
			return nil
		})
		gaps = append(gaps, missed...)
		full := errors.Is(err, errFull)
		switch {
		case err != nil && !full:
			return all, gaps, err
		case full && q.newest:
			q.end = all[len(all)-1].leaf
		case full:
			q.first = all[len(all)-1].leaf + 1
		case q.newest:
			q.end = first
		default:
			q.first = end
		}
		switch took := time.Since(begun); {
		case took < 250*time.Millisecond:
			q.step = min(2*q.step, maxStep)
		case took > time.Second:
			q.step = max(q.step/2, minStep)
		}
	}
	return all, gaps, nil
}

// gapInfo tells a client what was not searched. Why is for the log: it may name
// where the trail lies.
type gapInfo struct {
	First   uint64 `json:"first"`
	End     uint64 `json:"end"`
	Problem string `json:"problem"`
}

func (s *Server) gapInfos(gaps []search.Gap) []gapInfo {
	out := make([]gapInfo, 0, len(gaps))
	for _, g := range gaps {
		s.cfg.Log.Error("leaves not searched", slog.Uint64("first", g.First), slog.Uint64("end", g.End), slog.Any("error", g.Err))
		problem := "unreadable"
		if errors.Is(g.Err, trail.ErrMissing) {
			problem = "missing"
		}
		out = append(out, gapInfo{g.First, g.End, problem})
	}
	return out
}

// appendFound writes an event as clients get it. Without a checkpoint, or a wish
// for proof, it comes without one.
func (s *Server) appendFound(b []byte, f *found, sealed *trail.Sealed, prove bool) ([]byte, error) {
	info := eventInfo{Leaf: f.leaf, Sealed: sealed != nil && f.leaf < sealed.Checkpoint.Size}
	if prove && info.Sealed {
		proof, err := sealed.Prove(f.leaf, f.bytes)
		if err != nil {
			return b, err
		}
		info.Proof, info.Checkpoint = newProofInfo(&proof, sealed), string(sealed.Note)
	}
	return appendEvent(b, f.bytes, info), nil
}

// searchFailed answers for a search that did not come to its end.
func (s *Server) searchFailed(ctx context.Context, err error) *problem {
	if ctx.Err() != nil {
		return problemf(statusClientGone, "canceled", "the request ended before its search")
	}
	s.cfg.Log.Error("search failed", slog.Any("error", err))
	return problemf(http.StatusInternalServerError, "unreadable", "the trail's files can't be read; run veritrail verify on it")
}

// writePage answers with some events and, when there may be more, a cursor.
func (s *Server) writePage(w http.ResponseWriter, r *http.Request, q *inquiry) {
	limit := q.limit
	if limit == 0 {
		limit = defaultLimit
	}
	all, gaps, err := s.some(r.Context(), q, limit, pageTime)
	var sealed *trail.Sealed
	if err == nil {
		sealed, err = s.sealed()
	}
	if err != nil {
		s.searchFailed(r.Context(), err).write(w)
		return
	}
	b := []byte(`{"events":[`)
	for i := range all {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = s.appendFound(b, &all[i], sealed, q.proof); err != nil {
			s.unreadable(w, "proof", err)
			return
		}
	}
	rest := struct {
		Next   string    `json:"next,omitempty"`
		Size   uint64    `json:"size"`
		Sealed uint64    `json:"sealed"`
		Gaps   []gapInfo `json:"gaps"`
		Index  string    `json:"index,omitempty"`
	}{Size: s.size(), Gaps: s.gapInfos(gaps), Index: s.indexState().Rebuilding}
	if sealed != nil {
		rest.Sealed = sealed.Checkpoint.Size
	}
	if !q.done() {
		rest.Next = q.cursor().text(s.cursorKey, q.asked)
	}
	text, err := json.Marshal(rest)
	if err != nil {
		panic(err) // strings and numbers can be marshaled
	}
	b = append(b, "],"...)
	b = append(b, text[1:]...)
	b = append(b, '\n')
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(b)
}

// lastLine ends a stream of lines. Without it the stream broke off.
type lastLine struct {
	End struct {
		Events int       `json:"events"`
		Next   string    `json:"next,omitempty"`
		Gaps   []gapInfo `json:"gaps"`
	} `json:"end"`
	Error *problem `json:"error,omitempty"`
}

// streamLines answers with all events, one a line, and a last line that says
// that these were all, or where to go on.
func (s *Server) streamLines(w http.ResponseWriter, r *http.Request, q *inquiry) {
	stream, p := s.openStream(w, r, typeNDJSON)
	if p != nil {
		p.write(w)
		return
	}
	defer stream.close()
	var last lastLine
	last.End.Gaps = []gapInfo{}
	for left := q.limit; !q.done() && (q.limit == 0 || left > 0); {
		most := maxLimit
		if q.limit > 0 {
			most = min(most, left)
		}
		if stream.ending() {
			last.Error = problemf(http.StatusServiceUnavailable, "closed", "the server stops; go on with the cursor")
			break
		}
		all, gaps, err := s.some(r.Context(), q, most, time.Second)
		var sealed *trail.Sealed
		if err == nil {
			sealed, err = s.sealed()
		}
		for i := 0; err == nil && i < len(all); i++ {
			if stream.b, err = s.appendFound(stream.b, &all[i], sealed, q.proof); err == nil {
				stream.b = append(stream.b, '\n')
			}
		}
		last.End.Gaps = append(last.End.Gaps, s.gapInfos(gaps)...)
		if err != nil {
			last.Error = s.searchFailed(r.Context(), err)
			break
		}
		left -= len(all)
		last.End.Events += len(all)
		if err := stream.send(); err != nil {
			return // the client has gone, or takes nothing: the missing last line says so
		}
	}
	if last.Error == nil && !q.done() || last.Error != nil && last.Error.Code == "closed" {
		last.End.Next = q.cursor().text(s.cursorKey, q.asked)
	}
	text, err := json.Marshal(last)
	if err != nil {
		panic(err) // strings and numbers can be marshaled
	}
	stream.b = append(append(stream.b, text...), '\n')
	_ = stream.send() // the client may have gone
}

// stream is an answer that goes on for as long as its client wants.
type stream struct {
	w    http.ResponseWriter
	rc   *http.ResponseController
	s    *Server
	b    []byte // not yet sent
	head bool
}

// streams that may run at once, and how long one may stand still.
const (
	maxStreams  = 256
	streamStall = 15 * time.Second
)

// openStream begins an answer that the server's bounds of time do not end: each
// piece of it has a bound of its own, so a client that stops reading is cut off.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request, kind string) (*stream, *problem) {
	select {
	case s.streams <- struct{}{}:
	default:
		p := problemf(http.StatusServiceUnavailable, "streams", "%d streams are read at once, which is the most there may be", cap(s.streams))
		p.retryAfter = 10
		return nil, p
	}
	st := &stream{w: w, rc: http.NewResponseController(w), s: s, head: r.Method == http.MethodHead}
	_ = st.rc.SetReadDeadline(time.Time{}) // not every kind of connection has deadlines
	_ = st.rc.SetWriteDeadline(time.Time{})
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return st, nil
}

// send hands over what was gathered. After an error nothing more arrives.
func (st *stream) send() error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(st.s.stall))
	_, err := st.w.Write(st.b)
	st.b = st.b[:0]
	if err != nil {
		return err
	}
	if err := st.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	// Over HTTP/2 a deadline that passes ends the stream, also while nothing is
	// written.
	_ = st.rc.SetWriteDeadline(time.Time{})
	return nil
}

// ending tells whether the server stops, or nobody reads.
func (st *stream) ending() bool {
	select {
	case <-st.s.stopping:
		return true
	default:
		return false
	}
}

func (st *stream) close() { <-st.s.streams }

// Of a live stream.
const (
	tailEvery = 200 * time.Millisecond // how often it looks for new events
	heartbeat = 15 * time.Second
)

// streamTail answers with events as they come, as Server-Sent Events (WHATWG
// HTML §9.2). Each has its leaf for an id, so that a client that was cut off
// goes on behind the last it has.
//
// Nothing waits for a slow client: each reads the log for itself, at its own
// pace, and is cut off when it takes nothing for a while.
func (s *Server) streamTail(w http.ResponseWriter, r *http.Request, q *inquiry) {
	switch last := r.Header.Get("Last-Event-ID"); {
	case last != "":
		leaf, err := strconv.ParseUint(last, 10, 63)
		if err != nil || leaf >= q.end {
			problemf(http.StatusBadRequest, "last_event_id", "want the number of a leaf of this trail").write(w)
			return
		}
		q.first = leaf + 1
	case !q.since:
		q.first = q.end // what comes from now on
	}
	stream, p := s.openStream(w, r, typeSSE)
	if p != nil {
		p.write(w)
		return
	}
	defer stream.close()
	if stream.head {
		return
	}
	stream.b = append(stream.b, "retry: 2000\n\n"...)
	if stream.send() != nil {
		return
	}
	t := &tail{s: s, stream: stream, q: q, sent: time.Now(), told: q.first}
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	for t.goOn(r.Context()) {
		if !q.done() {
			continue // there is more at once
		}
		select {
		case <-tick.C:
		case <-s.stopping:
		case <-r.Context().Done():
		}
	}
}

type tail struct {
	s      *Server
	stream *stream
	q      *inquiry
	sent   time.Time // when something was sent last
	told   uint64    // the client knows that nothing before it is left
	sealed uint64    // as the client was told
}

// goOn sends what has come, and returns false at the stream's end.
func (t *tail) goOn(ctx context.Context) bool {
	if t.stream.ending() || ctx.Err() != nil {
		return false
	}
	sealed, err := t.s.sealed()
	if err != nil {
		return t.fail(ctx, err)
	}
	if t.q.end = t.s.size(); t.q.proof { // with proofs, events come once they are sealed
		t.q.end = 0
		if sealed != nil {
			t.q.end = sealed.Checkpoint.Size
		}
		t.q.end = max(t.q.end, t.q.first)
	}
	all, gaps, err := t.s.some(ctx, t.q, maxLimit, time.Second)
	if err != nil {
		return t.fail(ctx, err)
	}
	b := t.stream.b
	for _, g := range t.s.gapInfos(gaps) {
		b = fmt.Appendf(b, "event: gap\ndata: {\"first\":%d,\"end\":%d,\"problem\":%q}\n\n", g.First, g.End, g.Problem)
	}
	for i := range all {
		b = fmt.Appendf(b, "id: %d\ndata: ", all[i].leaf)
		if b, err = t.s.appendFound(b, &all[i], sealed, t.q.proof); err != nil {
			return t.fail(ctx, err)
		}
		b = append(b, "\n\n"...)
		t.told = all[i].leaf + 1
	}
	if sealed != nil && sealed.Checkpoint.Size > t.sealed {
		t.sealed = sealed.Checkpoint.Size
		b = fmt.Appendf(b, "event: checkpoint\ndata: {\"size\":%d}\n\n", t.sealed)
	}
	if len(b) == 0 && time.Since(t.sent) >= heartbeat {
		if t.q.first > t.told { // nothing of what was looked through is of interest: do not look again
			b = fmt.Appendf(b, "id: %d\n", t.q.first-1)
			t.told = t.q.first
		}
		b = append(b, ": \n\n"...)
	}
	if t.stream.b = b; len(b) == 0 {
		return true
	}
	t.sent = time.Now()
	return t.stream.send() == nil
}

// fail tells the client why its stream ends.
func (t *tail) fail(ctx context.Context, err error) bool {
	p := t.s.searchFailed(ctx, err)
	t.stream.b = fmt.Appendf(nil, "event: error\ndata: {\"code\":%q,\"message\":%q}\n\n", p.Code, p.Message)
	_ = t.stream.send() // the client may have gone
	return false
}
