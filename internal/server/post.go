package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

// What became of an event.
const (
	recorded    = "recorded"     // it is acknowledged
	rejected    = "rejected"     // it broke a rule; sending it again is of no use
	conflict    = "conflict"     // another event has its id; sending it again is of no use
	notRecorded = "not_recorded" // it is not in the trail
	unconfirmed = "unconfirmed"  // it was taken, and could not be acknowledged: it may be in the trail
)

// answer is the body of every answer to POST /v1/events whose body was looked
// at.
type answer struct {
	Accepted int      `json:"accepted"`
	Rejected int      `json:"rejected"`
	Error    *problem `json:"error,omitempty"`
	Results  []result `json:"results"`

	shape     string // that the request names
	ways      []way  // of the results, in their order
	listed    int    // violations
	conflicts int    // among the rejected
}

// way is how an event gets to its result.
type way struct {
	future recorder.Future // of the event, or of the one that has its id
	mine   *flight         // of an event with an id of its own
	again  bool            // its id is on its way, or known
	other  bool            // under its id, something else is
	known  bool            // and was acknowledged before
	leaf   uint64          // where, when it is known
}

type result struct {
	Line       int         `json:"line"`
	ID         string      `json:"id,omitempty"`
	Leaf       *uint64     `json:"leaf,omitempty"`
	Status     string      `json:"status"`
	Duplicate  bool        `json:"duplicate,omitempty"` // it was recorded before, and not again
	Violations []violation `json:"violations,omitempty"`
	More       int         `json:"more,omitempty"` // violations not listed
}

type violation struct {
	Path    string `json:"path"`
	Keyword string `json:"keyword,omitempty"`
	Rule    string `json:"rule"`
	Shape   string `json:"shape,omitempty"`
}

// ackGrace is how long acknowledgements are waited for when nobody seems to.
const ackGrace = 5 * time.Second

// Events are seldom shorter, and requests seldom have more.
const (
	likelyText = 200
	likelyMost = 5000
)

// statusClientGone is what nginx and others count a request as whose client did
// not wait for the answer. No standard has a code for it.
const statusClientGone = 499

// maxViolations are listed in full in one answer. From there on each event
// lists its first.
const maxViolations = 1000

func (s *Server) postEvents(w http.ResponseWriter, r *http.Request) {
	if s.cfg.Recorder == nil {
		p := problemf(http.StatusServiceUnavailable, "read_only", "the trail is damaged and can only be read; run veritrail verify on it")
		p.retryAfter = 60
		p.write(w)
		return
	}
	coding, p := codingOf(r.Header)
	var lines bool
	if p == nil {
		lines, p = checkHeader(r, s.cfg.MaxBody)
	} else {
		w.Header().Set("Accept-Encoding", "gzip, zstd")
	}
	if p != nil {
		p.write(w)
		return
	}
	// About as many as there may be, so that they need not be moved as they grow.
	likely := int(min(max(r.ContentLength, 0)/likelyText+1, likelyMost))
	a := &answer{Results: make([]result, 0, likely), ways: make([]way, 0, likely), shape: r.URL.Query().Get("shape")}
	if !s.cfg.Recorder.KnowsShape(a.shape) {
		problemf(http.StatusBadRequest, "shape", "unknown shape; docs/format/schemas.md says which there are").write(w)
		return
	}
	var src io.Reader = http.MaxBytesReader(w, r.Body, s.cfg.MaxBody)
	if coding != "" {
		unpacked := openInflated(coding, src, s.cfg.MaxBody)
		defer unpacked.close()
		src = unpacked
	}
	s.takeAll(r.Context(), a, src, lines)
	s.settle(r.Context(), a)
	if a.Error != nil {
		a.Error.setRetryAfter(w.Header())
		w.Header().Set("Connection", "close") // there may be more of the body, which nobody will read
	}
	writeJSON(w, a.status(), a)
}

// checkHeader tells whether the body is a value a line for sure, or why it will
// not be read. Clients send JSON under many names, curl under that of a form, so
// most are welcome.
func checkHeader(r *http.Request, maxBytes int64) (lines bool, p *problem) {
	if r.ContentLength > maxBytes {
		return false, tooLarge(maxBytes)
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return false, nil
	}
	if kind == "text/html" || strings.HasPrefix(kind, "multipart/") {
		return false, problemf(http.StatusUnsupportedMediaType, "content_type", "want application/json or application/x-ndjson")
	}
	switch kind {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
		return true, nil
	}
	return false, nil
}

func tooLarge(maxBytes int64) *problem {
	return problemf(http.StatusRequestEntityTooLarge, "body_size", "the body is longer than %d bytes; send fewer events at a time", maxBytes)
}

// takeAll hands the events to the recorder in the body's order, until the body
// ends or something is wrong with the request as a whole.
func (s *Server) takeAll(ctx context.Context, a *answer, src io.Reader, lines bool) {
	b, err := openBody(src, lines)
	if err != nil {
		a.Error = s.bodyProblem(err)
		return
	}
	for {
		text, err := b.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			a.Error = s.bodyProblem(err)
			return
		}
		if len(a.Results) == s.events {
			a.Error = problemf(http.StatusRequestEntityTooLarge, "event_count",
				"more than %d events; those before event %d were taken", s.events, b.line)
			return
		}
		if !s.take(ctx, a, b.line, text) {
			return
		}
	}
	if b.notJSON && a.Rejected > 0 {
		a.Error = problemf(http.StatusBadRequest, "not_json",
			"the body is neither one JSON value nor one a line; several events need a newline between them (curl: --data-binary)")
	}
}

// take hands one event over. It returns false when there is no use in going on.
func (s *Server) take(ctx context.Context, a *answer, line int, text []byte) bool {
	res := result{Line: line}
	in := s.identify(a.shape, text)
	defer in.release()
	w, err := s.claim(ctx, in)
	if err == nil && !w.again {
		if in != nil {
			w.future, err = s.cfg.Recorder.RecordDraft(ctx, &in.draft)
		} else {
			w.future, err = s.cfg.Recorder.RecordJSONAs(ctx, a.shape, text)
		}
		switch {
		case w.mine == nil:
		case err == nil:
			s.window.launch(w.mine, w.future)
		default:
			s.window.drop(w.mine)
			w.mine = nil
		}
	}
	p := s.recorderProblem(err)
	switch {
	case err == nil && w.known:
		a.settleKnown(&res, &w, in)
	case err == nil:
		res.ID, res.Status = w.future.ID.String(), unconfirmed
	case p == nil:
		a.reject(&res, err)
	default:
		res.Status = notRecorded
		a.Error = p
	}
	a.Results = append(a.Results, res)
	a.ways = append(a.ways, w)
	return a.Error == nil
}

// reject notes why an event was refused.
func (a *answer) reject(res *result, err error) {
	a.Rejected++
	res.Status = rejected
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) {
		// Whatever redaction says of it may hold what was to be redacted.
		res.Violations = []violation{{Rule: "refused by redaction"}}
		return
	}
	n := len(invalid.Violations)
	if a.listed+n > maxViolations {
		n = min(n, 1)
	}
	a.listed += n
	for _, v := range invalid.Violations[:n] {
		res.Violations = append(res.Violations, violation{v.Path, v.Keyword, v.Rule, v.Shape})
	}
	res.More = len(invalid.Violations) - n
}

// settle waits until all that was taken is acknowledged, or will not be.
// A client that seems to have gone may have closed one direction only, and an
// acknowledgement is a moment away: it is waited for a little longer.
func (s *Server) settle(ctx context.Context, a *answer) {
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(ackGrace, cancel) })()
	for i := range a.Results {
		res, w := &a.Results[i], &a.ways[i]
		if res.Status != unconfirmed {
			continue
		}
		err := w.future.Wait(waiting)
		leaf, durable := w.future.Leaf()
		if durable {
			res.Leaf = &leaf
		}
		switch {
		case w.mine != nil:
			s.window.settle(w.mine)
		case !w.again:
			s.window.adopt(w.future)
		}
		if durable && w.other {
			a.conflict(res)
			continue
		}
		if err == nil {
			res.Status, res.Duplicate = recorded, w.again
			a.Accepted++
			continue
		}
		if res.Leaf == nil && (errors.Is(err, recorder.ErrHalted) || w.other) {
			res.Status = notRecorded // the trail had halted before it was written
		}
		if a.Error == nil {
			a.Error = s.ackProblem(err)
		}
	}
	s.noteConflicts(waiting, a)
}

// ackProblem is why an event that was taken is not acknowledged.
func (s *Server) ackProblem(err error) *problem {
	if p := s.recorderProblem(err); p != nil {
		return p
	}
	s.cfg.Log.Warn("events not acknowledged", slog.Any("error", err))
	p := problemf(http.StatusServiceUnavailable, "not_sealed", "unconfirmed events that have a leaf are durable, and no checkpoint covers them yet")
	p.retryAfter = 2
	return p
}

func (a *answer) status() int {
	switch {
	case a.Error != nil:
		return a.Error.status
	case len(a.Results) == 0:
		return http.StatusOK
	case a.Rejected == 0:
		return http.StatusCreated
	case a.conflicts == len(a.Results):
		return http.StatusConflict
	case a.Accepted == 0:
		return http.StatusUnprocessableEntity
	}
	return http.StatusMultiStatus
}

// recorderProblem is why the trail takes no events, nil when err is about one
// event only. What the disk said is for the log.
func (s *Server) recorderProblem(err error) *problem {
	var invalid *veritrail.InvalidEventError
	var p *problem
	switch {
	case err == nil, errors.As(err, &invalid):
		return nil
	case errors.Is(err, recorder.ErrHalted):
		p = problemf(http.StatusServiceUnavailable, "halted", "the disk failed; nothing is recorded until it works, send the events that are not recorded again")
		p.retryAfter = 2
	case errors.Is(err, recorder.ErrNotDurable):
		p = problemf(http.StatusServiceUnavailable, "not_durable", "the disk failed; unconfirmed events may be in the trail or not")
		p.retryAfter = 2
	case errors.Is(err, recorder.ErrClosed):
		p = problemf(http.StatusServiceUnavailable, "closed", "the trail was closed")
		p.retryAfter = 5
	case errors.Is(err, errUnread):
		s.cfg.Log.Error("trail not readable", slog.String("what", "leaf"), slog.Any("error", err))
		return problemf(http.StatusInternalServerError, "unreadable", "an event with the same id can't be read; run veritrail verify on the trail")
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		// Nobody reads this but the metrics, which shall not count it as ours.
		return problemf(statusClientGone, "canceled", "the request ended before its events were acknowledged")
	default:
		return nil
	}
	s.cfg.Log.Warn("events not recorded", slog.String("code", p.Code), slog.Any("error", err))
	return p
}

// bodyProblem is why a body was not read to its end.
func (s *Server) bodyProblem(err error) *problem {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(s.cfg.MaxBody)
	case errors.Is(err, errTextLarge):
		return problemf(http.StatusRequestEntityTooLarge, "body_size", "the body is longer than %d bytes when it is unpacked; send fewer events at a time", s.cfg.MaxBody)
	case errors.Is(err, errRatio):
		return problemf(http.StatusRequestEntityTooLarge, "body_ratio", "the body is compressed by more than 1 to %d; the events before were taken", maxRatio)
	case errors.Is(err, errCoding):
		return problemf(http.StatusBadRequest, "not_encoded", "%v; the events before were taken", errCoding)
	case errors.Is(err, errTextLong):
		return problemf(http.StatusRequestEntityTooLarge, "event_size", "%v", errTextLong)
	case errors.Is(err, errNoEvent):
		return problemf(http.StatusBadRequest, "no_event", "%v", errNoEvent)
	case errors.Is(err, errNotArray):
		return problemf(http.StatusBadRequest, "not_json", "%v; the events before were taken", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problemf(http.StatusRequestTimeout, "timeout", "the body did not arrive within %s; the events before were taken", readTimeout)
	}
	return problemf(http.StatusBadRequest, "body_ended", "the body ended early; the events before were taken")
}
