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

	shape   string            // that the request names
	futures []recorder.Future // of the results, in their order
	listed  int               // violations
}

type result struct {
	Line       int         `json:"line"`
	ID         string      `json:"id,omitempty"`
	Leaf       *uint64     `json:"leaf,omitempty"`
	Status     string      `json:"status"`
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
	lines, p := checkHeader(r, s.cfg.MaxBody)
	if p != nil {
		p.write(w)
		return
	}
	a := &answer{Results: []result{}, shape: r.URL.Query().Get("shape")}
	if !s.cfg.Recorder.KnowsShape(a.shape) {
		problemf(http.StatusBadRequest, "shape", "unknown shape; docs/format/schemas.md says which there are").write(w)
		return
	}
	s.takeAll(r.Context(), a, http.MaxBytesReader(w, r.Body, s.cfg.MaxBody), lines)
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
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return false, problemf(http.StatusUnsupportedMediaType, "content_encoding", "want a body without Content-Encoding")
	}
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
	f, err := s.cfg.Recorder.RecordJSONAs(ctx, a.shape, text)
	res := result{Line: line}
	p := s.recorderProblem(err)
	switch {
	case err == nil:
		res.ID, res.Status = f.ID.String(), unconfirmed
	case p == nil:
		a.reject(&res, err)
	default:
		res.Status = notRecorded
		a.Error = p
	}
	a.Results = append(a.Results, res)
	a.futures = append(a.futures, f)
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
		res := &a.Results[i]
		if res.Status != unconfirmed {
			continue
		}
		f := a.futures[i]
		err := f.Wait(waiting)
		if leaf, durable := f.Leaf(); durable {
			res.Leaf = &leaf
		}
		if err == nil {
			res.Status = recorded
			a.Accepted++
			continue
		}
		if res.Leaf == nil && errors.Is(err, recorder.ErrHalted) {
			res.Status = notRecorded // the trail had halted before it was written
		}
		if a.Error == nil {
			a.Error = s.ackProblem(err)
		}
	}
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
