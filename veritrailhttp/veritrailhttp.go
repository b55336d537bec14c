// Package veritrailhttp is net/http middleware that records each request as a compliance event: who asked for what,
// from where, and what came of it.
//
//	audit, err := veritrailhttp.New(veritrailhttp.Config{
//		Recorder: rec,
//		Service:  "payments",
//		Actions:  map[string]string{"POST /v1/login": "AUTH.LOGIN", "POST /v1/transfers/{account}": "DATA.TRANSFER"},
//	})
//	…
//	http.ListenAndServe(addr, audit(mux))
//
// A handler says what only it knows, such as who it let in:
//
//	veritrailhttp.SetSubject(r.Context(), "user", id)
//	veritrailhttp.SetObject(r.Context(), "account", account)
//
// # The event
//
//	sub      Config.Subject and SetSubject; svc is Config.Service when they name nobody
//	act      Config.Actions by route, else Config.Action, else ACCESS.HTTP. and the method
//	obj      method, api (the route's pattern), path when Config.Path; SetObject
//	ctx      outcome (ok, denied, failed), status, status_class, duration_ms, bytes_in, bytes_out, ip, request_id,
//	         trace_id and parent_span_id, and, when true: panic, aborted, hijacked; SetContext
//	ts, sev  when the request came; WARN from 400 on, ERROR from 500 on and after a panic
//
// Neither query strings nor header fields nor bodies are recorded, and the path only when asked for: they hold what the
// trail need not know. A request can't keep its event out: what it brings is made valid UTF-8 and cut at 1,024 bytes,
// and ctx.cut then names what was cut; leaving early does not stop the recording.
//
// # When the trail fails
//
// With FailOpen, the default, the request is answered first and recorded then; when that fails, OnError is told. With
// FailClosed an event with ctx.phase=intent is recorded before the handler runs, and when it can't be, the handler does
// not run and the answer is 503. A second event, phase=outcome, has the first one's ID in ctx.intent. An intent without an
// outcome is a request during which the program died, or the trail failed.
package veritrailhttp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/deliver"
)

// Policy says what a request is worth without its event.
type Policy int

// The policies.
const (
	FailOpen   Policy = iota // record after the answer; a failure is told to OnError
	FailClosed               // record the intent first, and answer 503 when that fails
)

// Config says what is recorded and how. Recorder and Service are required.
type Config struct {
	Recorder veritrail.EventRecorder
	Service  string // sub.svc of events that name no other subject: the program's name
	Policy   Policy

	// Subject says who asks, from what is known before the handler runs: a client's certificate, a session that an
	// outer middleware has checked. It must not return what the request merely claims.
	Subject func(*http.Request) map[string]string
	// Actions are the actions of routes, by pattern as it was given to http.ServeMux: "POST /v1/login".
	Actions map[string]string
	// Action is the action of requests that Actions does not name.
	Action func(*http.Request) string
	// Route returns the pattern that a request matched, for routers other than http.ServeMux. It is called after the
	// handler, and for an intent before it, too.
	Route func(*http.Request) string
	// Path records the path as it was sent. It may hold personal data: see to it that the redaction policy covers it.
	Path bool
	// Skip leaves requests out, such as those for /healthz.
	Skip func(*http.Request) bool

	// TrustedProxies are those whose X-Forwarded-For is believed. Without any, ctx.ip is the address of the connection.
	TrustedProxies []netip.Prefix
	// RequestIDHeader is where the request's id is read; X-Request-Id when empty.
	RequestIDHeader string
	// SpanInContext says that a tracing middleware outside this one put a span into the request's context, from which the
	// recorder takes the trace. The request's traceparent is not read then.
	SpanInContext bool

	Timeout time.Duration // how long a request waits for the trail, for each of its events; 10 s when 0
	// OnError is told of each event that was not recorded, or not for certain, with an ID to look for it or record it
	// again. When nil, a line on standard error says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
	Now     func() time.Time // time.Now when nil
}

const packageName = "veritrailhttp"

// New returns the middleware, or what is wrong with cfg. Put it outside of what decides who is let in, so that who was
// turned away is recorded, too; and directly around the http.ServeMux, if there is one, so that the pattern of a route
// is known before the handler runs and no other middleware hides it.
func New(cfg Config) (func(http.Handler) http.Handler, error) {
	trail, err := deliver.New(packageName, deliver.Config{Recorder: cfg.Recorder, Timeout: cfg.Timeout, OnError: cfg.OnError})
	if err != nil {
		return nil, err
	}
	if cfg.Service == "" {
		return nil, errors.New(packageName + ": Service is not set")
	}
	if cfg.Policy != FailOpen && cfg.Policy != FailClosed {
		return nil, fmt.Errorf("%s: Policy: %d is none", packageName, cfg.Policy)
	}
	cfg.Actions = maps.Clone(cfg.Actions)
	for pattern, action := range cfg.Actions {
		if err := veritrail.CheckActionPattern(action); err != nil || strings.Contains(action, "*") {
			return nil, fmt.Errorf("%s: Actions: %q: want dotted segments of A-Z a-z 0-9 _ -", packageName, pattern)
		}
	}
	cfg.TrustedProxies = slices.Clone(cfg.TrustedProxies)
	if cfg.RequestIDHeader == "" {
		cfg.RequestIDHeader = "X-Request-Id"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return func(next http.Handler) http.Handler {
		h := &handler{cfg: cfg, trail: trail, next: next, route: cfg.Route}
		mux, isMux := next.(*http.ServeMux)
		switch {
		case h.route != nil:
		case isMux:
			h.route = func(r *http.Request) string {
				if r.Pattern != "" {
					return r.Pattern
				}
				_, pattern := mux.Handler(r)
				return pattern
			}
		default:
			h.route = func(r *http.Request) string { return r.Pattern }
		}
		return h
	}, nil
}

type handler struct {
	cfg   Config
	trail *deliver.Delivery
	next  http.Handler
	route func(*http.Request) string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.cfg.Skip != nil && h.cfg.Skip(r) {
		h.next.ServeHTTP(w, r)
		return
	}
	x := &exchange{handler: h, start: h.cfg.Now(), caller: r.Context(), outer: r}
	if h.cfg.Subject != nil {
		x.subject = h.cfg.Subject(r)
	}
	// A request of our own, because of its context and its body. What a ServeMux writes into it is seen here.
	x.request = r.WithContext(context.WithValue(r.Context(), notesKey{}, &x.notes))
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &countedBody{ReadCloser: r.Body}
		x.request.Body = x.body
	}
	if h.cfg.Policy == FailClosed {
		intent := x.intent()
		if h.trail.Record(x.caller, intent) != nil { // which told OnError
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the audit trail takes no records now", http.StatusServiceUnavailable)
			return
		}
		x.intentID = intent.ID
	}
	x.response = &response{ResponseWriter: w}
	x.serve()
}

// serve runs the handler and records what came of it, also when it panics or ends its goroutine.
func (x *exchange) serve() {
	returned := false
	defer func() {
		if returned {
			return
		}
		panicked := recover()
		x.end(endPanic, panicked)
		if panicked != nil {
			panic(panicked) // with the handler's frames still below this one in the stack
		}
	}()
	x.next.ServeHTTP(x.response.wrapped(), x.request)
	returned = true
	x.end(endReturn, nil)
}

func (x *exchange) end(how ending, panicked any) {
	// What the inner request was given belongs to the outer one as well: the server removes the files of a form that it
	// finds there, and an outer middleware reads the pattern.
	if x.outer.MultipartForm == nil {
		x.outer.MultipartForm = x.request.MultipartForm
	}
	if x.outer.Pattern == "" {
		x.outer.Pattern = x.request.Pattern
	}
	x.duration = x.cfg.Now().Sub(x.start)
	x.how = how
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		x.how = endAbort
	}
	// A failure was told to OnError; the answer has been given.
	_ = x.trail.Record(x.caller, x.outcome())
}
