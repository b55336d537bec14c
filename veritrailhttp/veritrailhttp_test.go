package veritrailhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailhttp"
	"github.com/veritrail/veritrail/veritrailtest"
)

var (
	errDisk = errors.New("disk on fire")
	start   = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
)

// clock goes on by a millisecond and a half with each look.
func clock() func() time.Time {
	var mu sync.Mutex
	now := start
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at := now
		now = now.Add(1500 * time.Microsecond)
		return at
	}
}

func wrap(t testing.TB, cfg veritrailhttp.Config, next http.Handler) http.Handler {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	if cfg.Now == nil {
		cfg.Now = clock()
	}
	audit, err := veritrailhttp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return audit(next)
}

func mux(routes map[string]http.HandlerFunc) *http.ServeMux {
	m := http.NewServeMux()
	for pattern, h := range routes {
		m.HandleFunc(pattern, h)
	}
	return m
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") }

func check(t *testing.T, part string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v\nwant %v", part, got, want)
	}
}

const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// Nothing of what the tests started may be left: the package starts no goroutine that outlives a call.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		code := m.Run()
		patience := time.After(10 * time.Second)
		for tick := time.Tick(10 * time.Millisecond); ; {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			// The first one is this.
			_, others, _ := bytes.Cut(stacks, []byte("\n\n"))
			if !bytes.Contains(others, []byte("veritrailhttp")) {
				return code
			}
			select {
			case <-tick:
			case <-patience:
				fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", others)
				return 1
			}
		}
	}())
}

func TestRequestBecomesEvent(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{
		Recorder: rec,
		Subject:  func(*http.Request) map[string]string { return map[string]string{"user": "u1", "role": ""} },
		Actions:  map[string]string{"POST /v1/transfers/{account}": "DATA.TRANSFER"},
	}, mux(map[string]http.HandlerFunc{"POST /v1/transfers/{account}": func(w http.ResponseWriter, r *http.Request) {
		if b, err := io.ReadAll(r.Body); err != nil || string(b) != "amount=100" {
			t.Errorf("the handler read %q, %v", b, err)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "booked")
	}}))
	r := httptest.NewRequest(http.MethodPost, "/v1/transfers/62?pin=4711", strings.NewReader("amount=100"))
	r.Header.Set("X-Request-Id", "req-1")
	r.Header.Set("Traceparent", "00-"+traceID+"-"+spanID+"-01")
	r.Header.Set("Authorization", "Bearer 4711")
	r.Header.Set("X-Forwarded-For", "198.51.100.9")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Body.String() != "booked" {
		t.Errorf("the client got %d %q", w.Code, w.Body)
	}

	e := rec.One("*")
	if e.Action != "DATA.TRANSFER" || e.Severity != veritrail.SeverityInfo || !e.Timestamp.Equal(start) {
		t.Errorf("got %s %s at %s", e.Action, e.Severity, e.Timestamp)
	}
	check(t, "sub", e.Subject, map[string]string{"user": "u1"})
	check(t, "obj", e.Object, map[string]string{"method": "POST", "api": "/v1/transfers/{account}"})
	check(t, "ctx", e.Context, map[string]string{
		"outcome": "ok", "status": "201", "status_class": "2xx", "duration_ms": "1.500", "bytes_in": "10", "bytes_out": "6",
		"ip": "192.0.2.1", "request_id": "req-1", "trace_id": traceID, "parent_span_id": spanID,
	})
	said := *e
	said.ID = "" // random, so it may hold anything
	if text := fmt.Sprint(said); strings.Contains(text, "4711") || strings.Contains(text, "62") {
		t.Errorf("query, header field or path in the event: %s", text)
	}
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		status         int
		sev            veritrail.Severity
		outcome, class string
	}{
		{200, veritrail.SeverityInfo, "ok", "2xx"},
		{304, veritrail.SeverityInfo, "ok", "3xx"},
		{401, veritrail.SeverityWarn, "denied", "4xx"},
		{403, veritrail.SeverityWarn, "denied", "4xx"},
		{404, veritrail.SeverityWarn, "failed", "4xx"},
		{500, veritrail.SeverityError, "failed", "5xx"},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		wrap(t, veritrailhttp.Config{Recorder: rec}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tt.status)
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		e := rec.One("ACCESS.HTTP.GET")
		if e.Severity != tt.sev || e.Context["outcome"] != tt.outcome || e.Context["status_class"] != tt.class ||
			e.Subject["svc"] != "payments" {
			t.Errorf("%d: got %v", tt.status, e)
		}
	}
}

func TestAnswerWithoutAWordIs200(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	wrap(t, veritrailhttp.Config{Recorder: rec}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
		ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	if got := rec.One("*").Context["status"]; got != "200" {
		t.Errorf("got %q", got)
	}
}

func TestActions(t *testing.T) {
	m := mux(map[string]http.HandlerFunc{"GET /a": ok, "/b": ok, "GET /c": func(_ http.ResponseWriter, r *http.Request) {
		if !veritrailhttp.SetAction(r.Context(), "AUTH.LOGIN.FAIL") {
			t.Error("SetAction found no event")
		}
	}})
	byFunc := func(r *http.Request) string {
		if r.URL.Path == "/b" {
			return "DATA.READ"
		}
		return ""
	}
	for _, tt := range []struct{ method, path, want, api string }{
		{"GET", "/a", "ADMIN.A", "/a"},
		{"HEAD", "/a", "ADMIN.A", "/a"},
		{"POST", "/b", "DATA.READ", "/b"},
		{"GET", "/c", "AUTH.LOGIN.FAIL", "/c"},
		{"GET", "/nowhere", "ACCESS.HTTP.GET", ""},
		{"BREW/1|.", "/nowhere", "ACCESS.HTTP.OTHER", ""},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		h := wrap(t, veritrailhttp.Config{Recorder: rec, Actions: map[string]string{"GET /a": "ADMIN.A"}, Action: byFunc}, m)
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		r.Method = tt.method
		h.ServeHTTP(httptest.NewRecorder(), r)
		e := rec.One("*")
		if e.Action != tt.want || e.Object["api"] != tt.api || e.Object["method"] != tt.method {
			t.Errorf("%s %s: got %s %v, want %s", tt.method, tt.path, e.Action, e.Object, tt.want)
		}
	}
}

func TestPathAndRouteByConfiguration(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{
		Recorder: rec, Path: true,
		Route: func(*http.Request) string { return "GET  /by/{router}" },
	}, http.HandlerFunc(ok))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/by/a%2Fb?q=1", nil))
	check(t, "obj", rec.One("*").Object, map[string]string{"method": "GET", "api": "/by/{router}", "path": "/by/a%2Fb"})
}

func TestSkip(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{Recorder: rec, Skip: func(r *http.Request) bool { return r.URL.Path == "/healthz" }}, http.HandlerFunc(ok))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Body.String() != "fine" {
		t.Errorf("got %q", w.Body)
	}
	rec.None("*")
}

func TestHandlersAddToTheEvent(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var ctx context.Context
	h := wrap(t, veritrailhttp.Config{
		Recorder: rec, Subject: func(*http.Request) map[string]string { return map[string]string{"device": "d1", "user": "?"} },
	}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ctx = r.Context()
		var all sync.WaitGroup
		all.Go(func() { veritrailhttp.SetSubject(ctx, "user", "u1") })
		all.Go(func() { veritrailhttp.SetObject(ctx, "account", "62") })
		all.Go(func() { veritrailhttp.SetContext(ctx, "mfa", "totp") })
		all.Wait()
	}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
	e := rec.One("*")
	check(t, "sub", e.Subject, map[string]string{"device": "d1", "user": "u1"})
	if e.Object["account"] != "62" || e.Context["mfa"] != "totp" {
		t.Errorf("got %v", e)
	}
	for name, set := range map[string]bool{
		"subject": veritrailhttp.SetSubject(ctx, "user", "late"), "object": veritrailhttp.SetObject(ctx, "k", "late"),
		"context": veritrailhttp.SetContext(ctx, "k", "late"), "action": veritrailhttp.SetAction(ctx, "DATA.LATE"),
		"subject of no request": veritrailhttp.SetSubject(t.Context(), "user", "u1"),
		"action of no request":  veritrailhttp.SetAction(t.Context(), "DATA.X"),
	} {
		if set {
			t.Errorf("%s: set, and in no event", name)
		}
	}
}

// Nothing that a client sends may get the event refused.
func TestHostileRequestIsRecorded(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{Recorder: rec, Path: true},
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			veritrailhttp.SetSubject(r.Context(), "user", strings.Repeat("ü", 1000)+"\xff")
			veritrailhttp.SetObject(r.Context(), "account", strings.Repeat("6", 70_000))
			veritrailhttp.SetContext(r.Context(), "note", "\xff\x00")
		}))
	r := httptest.NewRequest(http.MethodGet, "/"+strings.Repeat("a", 100_000), nil)
	r.Method = strings.Repeat("M", 5000)
	r.Header.Set("X-Request-Id", strings.Repeat("x", 3000))
	r.Header.Set("Traceparent", "00-\xff")
	r.RemoteAddr = "@"
	h.ServeHTTP(httptest.NewRecorder(), r)
	e := rec.One("ACCESS.HTTP.OTHER")
	if got, want := e.Context["cut"], "ctx.request_id obj.account obj.method obj.path sub.user"; got != want {
		t.Errorf("cut: %q, want %q", got, want)
	}
	if got := e.Subject["user"]; got != strings.Repeat("ü", 512) {
		t.Errorf("user: %d bytes %q…", len(got), got[:10])
	}
	if got := e.Context["note"]; got != "\uFFFD\x00" {
		t.Errorf("note: %q", got)
	}
	if _, there := e.Context["ip"]; there {
		t.Errorf("an address where there is none: %v", e.Context)
	}
	if leaf, err := e.Canonical(); err != nil || len(leaf) > 16<<10 {
		t.Errorf("%d bytes, %v", len(leaf), err)
	}
}

func TestClientBehindProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"),
		netip.MustParsePrefix("192.0.2.0/24")}
	long := strings.TrimSuffix(strings.Repeat("10.0.0.1, ", 1000), ", ")
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "203.0.113.5:1", []string{"198.51.100.1"}, "203.0.113.5"},
		{"one proxy", "10.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1"},
		{"the client's own claim", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		{"two proxies", "10.0.0.1:1", []string{"1.1.1.1, 198.51.100.1, 10.9.9.9"}, "198.51.100.1"},
		{"two fields", "10.0.0.1:1", []string{"198.51.100.1", "10.9.9.9"}, "198.51.100.1"},
		{"all trusted", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"nothing said", "10.0.0.1:1", nil, "10.0.0.1"},
		{"nonsense", "10.0.0.1:1", []string{"198.51.100.1, unknown"}, "10.0.0.1"},
		{"nonsense behind a proxy", "10.0.0.1:1", []string{"<script>, 10.0.0.2"}, "10.0.0.2"},
		{"empty", "10.0.0.1:1", []string{""}, "10.0.0.1"},
		{"with port", "10.0.0.1:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6", "[fd00::1]:1", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"IPv6 in brackets", "[fd00::1]:1", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		{"zone", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"a long list", "10.0.0.1:1", []string{"198.51.100.1, " + long}, "10.0.0.1"},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		h := wrap(t, veritrailhttp.Config{Recorder: rec, TrustedProxies: trusted}, http.HandlerFunc(ok))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tt.peer
		for _, f := range tt.forwarded {
			r.Header.Add("X-Forwarded-For", f)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got := rec.One("*").Context["ip"]; got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestSpanInContextLeavesTheTraceToTheRecorder(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{Recorder: rec, SpanInContext: true}, http.HandlerFunc(ok))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Traceparent", "00-"+traceID+"-"+spanID+"-01")
	h.ServeHTTP(httptest.NewRecorder(), r)
	if e := rec.One("*"); e.Context["trace_id"] != "" || e.Context["parent_span_id"] != "" {
		t.Errorf("got %v", e.Context)
	}
}

func TestPanicIsRecordedAndGoesOn(t *testing.T) {
	for _, tt := range []struct {
		panics  any
		wrote   bool
		want    map[string]string
		wantSev veritrail.Severity
	}{
		{"card 4711", false, map[string]string{"panic": "true", "status": ""}, veritrail.SeverityError},
		{"card 4711", true, map[string]string{"panic": "true", "status": "200"}, veritrail.SeverityError},
		{http.ErrAbortHandler, true, map[string]string{"aborted": "true", "panic": "", "status": "200"},
			veritrail.SeverityWarn},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		h := wrap(t, veritrailhttp.Config{Recorder: rec}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.wrote {
				_, _ = io.WriteString(w, "half an ans")
			}
			panic(tt.panics)
		}))
		func() {
			defer func() {
				if got := recover(); got != tt.panics {
					t.Errorf("recovered %v, want %v", got, tt.panics)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		}()
		e := rec.One("*")
		for k, want := range tt.want {
			if e.Context[k] != want {
				t.Errorf("%v: ctx.%s: got %q, want %q", tt.panics, k, e.Context[k], want)
			}
		}
		if e.Context["outcome"] != "failed" || e.Severity != tt.wantSev || strings.Contains(fmt.Sprint(e.Action, e.Subject, e.Object, e.Context), "4711") {
			t.Errorf("%v: got %v", tt.panics, e)
		}
	}
}

func TestHandlerThatEndsItsGoroutineIsRecorded(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{Recorder: rec}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		runtime.Goexit()
	}))
	var all sync.WaitGroup
	all.Go(func() { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)) })
	all.Wait()
	if got := rec.One("*").Context["outcome"]; got != "failed" {
		t.Errorf("got %q", got)
	}
}

func TestFailOpenAnswersAndTells(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var told []*veritrail.ComplianceEvent
	h := wrap(t, veritrailhttp.Config{Recorder: rec, OnError: func(_ context.Context, e *veritrail.ComplianceEvent, err error) {
		if !errors.Is(err, errDisk) {
			t.Errorf("told %v", err)
		}
		told = append(told, e)
	}}, http.HandlerFunc(ok))
	rec.FailNext(errDisk)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 200 || w.Body.String() != "fine" {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
	if len(told) != 1 || told[0].Context["status"] != "200" || told[0].ID == "" {
		t.Errorf("told of %v", told)
	}
}

func TestFailClosedRecordsIntentThenOutcome(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h := wrap(t, veritrailhttp.Config{
		Recorder: rec, Policy: veritrailhttp.FailClosed, Actions: map[string]string{"GET /v1/accounts/{id}": "DATA.READ"},
		Subject: func(*http.Request) map[string]string { return map[string]string{"user": "u1"} },
	}, mux(map[string]http.HandlerFunc{"GET /v1/accounts/{id}": func(_ http.ResponseWriter, r *http.Request) {
		if e := rec.One("*"); e.Context["phase"] != "intent" {
			t.Errorf("before the handler: %v", e)
		}
		veritrailhttp.SetObject(r.Context(), "account", "62")
	}}))
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/accounts/62", nil))
	events := rec.Find("DATA.READ")
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	intent, outcome := events[0], events[1]
	for _, e := range events {
		if e.Subject["user"] != "u1" || e.Object["api"] != "/v1/accounts/{id}" {
			t.Errorf("got %v", e)
		}
	}
	check(t, "ctx", intent.Context, map[string]string{"phase": "intent", "ip": "192.0.2.1"})
	if outcome.Context["phase"] != "outcome" || outcome.Context["intent"] != intent.ID ||
		outcome.Object["account"] != "62" || outcome.Context["status"] != "200" {
		t.Errorf("outcome of %s: %v", intent.ID, outcome)
	}
}

func TestFailClosedRunsNothingThatIsNotOnRecord(t *testing.T) {
	for name, prepare := range map[string]func(*veritrailtest.Recorder){
		"not recorded": func(rec *veritrailtest.Recorder) { rec.FailNext(errDisk) },
		"not certain":  func(rec *veritrailtest.Recorder) { rec.LoseAnswerNext(errDisk) },
		"hangs":        func(rec *veritrailtest.Recorder) { rec.Hold() },
	} {
		t.Run(name, func(t *testing.T) {
			rec := veritrailtest.New(t, veritrailtest.Config{})
			prepare(rec)
			told := 0
			h := wrap(t, veritrailhttp.Config{
				Recorder: rec, Policy: veritrailhttp.FailClosed, Timeout: 10 * time.Millisecond,
				OnError: func(context.Context, *veritrail.ComplianceEvent, error) { told++ },
			}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler ran") }))
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || told != 1 {
				t.Errorf("answered %d, told %d times", w.Code, told)
			}
		})
	}
}

func TestClientThatLeavesIsRecorded(t *testing.T) {
	for _, policy := range []veritrailhttp.Policy{veritrailhttp.FailOpen, veritrailhttp.FailClosed} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		ctx, leave := context.WithCancel(t.Context())
		h := wrap(t, veritrailhttp.Config{Recorder: rec, Policy: policy},
			http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				leave()
				if r.Context().Err() == nil {
					t.Error("the handler's context has lost its end")
				}
			}))
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil).WithContext(ctx))
		if got, want := len(rec.Events()), 1+int(policy); got != want {
			t.Errorf("policy %d: %d events, want %d", policy, got, want)
		}
	}
}

// Over real connections: what a handler can do with its writer it can do inside the middleware.
func TestWriterKeepsItsAbilities(t *testing.T) {
	file := filepath.Join(t.TempDir(), "answer")
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	flushed := make(chan struct{})
	routes := map[string]http.HandlerFunc{
		"/flush": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints) // announces an answer and is none
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "first ")
			w.(http.Flusher).Flush()
			<-flushed
			_, _ = io.WriteString(w, "second")
		},
		"/controller": func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			if err := errors.Join(c.SetWriteDeadline(time.Now().Add(time.Minute)), c.EnableFullDuplex(),
				c.Flush()); err != nil {
				t.Error(err)
			}
		},
		"/hijack": func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
			_ = rw.Flush()
		},
		"/file": func(w http.ResponseWriter, r *http.Request) {
			if _, ok := w.(io.ReaderFrom); !ok {
				t.Error("no io.ReaderFrom")
			}
			http.ServeFile(w, r, file)
		},
		"/panic": func(http.ResponseWriter, *http.Request) { panic("4711") },
	}
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var logged bytes.Buffer
	srv := httptest.NewUnstartedServer(wrap(t, veritrailhttp.Config{Recorder: rec, Now: time.Now}, mux(routes)))
	srv.Config.ErrorLog = log.New(&logged, "", 0)
	srv.Start()
	get := func(path string) (*http.Response, error) { return srv.Client().Get(srv.URL + path) }

	resp, err := get("/flush")
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 6)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first " {
		t.Errorf("before the handler went on: %q, %v", first, err)
	}
	close(flushed)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Errorf("afterwards: %q, %v", rest, err)
	}
	resp.Body.Close()

	if resp, err = get("/controller"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("controller: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}

	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if all, err := io.ReadAll(bufio.NewReader(conn)); err != nil || !bytes.HasSuffix(all, []byte("hello")) {
		t.Errorf("hijacked: %q, %v", all, err)
	}
	conn.Close()

	if resp, err = get("/file"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("file: %d bytes, %v", len(got), err)
	}
	resp.Body.Close()

	if resp, err := get("/panic"); err == nil {
		t.Errorf("a handler that panicked answered %d", resp.StatusCode)
		resp.Body.Close()
	}

	events := rec.Wait("*", 5)
	srv.Close()
	if !strings.Contains(logged.String(), "4711") || !strings.Contains(logged.String(), "veritrailhttp_test.go") {
		t.Errorf("the server's log has lost the panic or where it came from:\n%s", logged.String())
	}
	byAPI := make(map[string]*veritrail.ComplianceEvent)
	for _, e := range events {
		byAPI[e.Object["api"]] = e
	}
	for api, want := range map[string]map[string]string{
		"/flush":      {"status": "202", "bytes_out": "12"},
		"/controller": {"status": "200", "bytes_out": "0"},
		"/hijack":     {"hijacked": "true", "status": "", "outcome": "ok"},
		"/file":       {"status": "200", "bytes_out": fmt.Sprint(len(body))},
		"/panic":      {"panic": "true", "status": ""},
	} {
		for k, v := range want {
			if e := byAPI[api]; e == nil || e.Context[k] != v {
				t.Errorf("%s: ctx.%s: want %q, got event %v", api, k, v, e)
			}
		}
	}
}

// The server removes a form's files after the request; it looks for them in the request that it made.
func TestFilesOfAFormAreRemoved(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	t.Setenv("TMP", temp) // of Windows
	rec := veritrailtest.New(t, veritrailtest.Config{})
	files := func() int {
		list, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	var pattern string
	inner := wrap(t, veritrailhttp.Config{Recorder: rec}, mux(map[string]http.HandlerFunc{"POST /upload": func(_ http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(0); err != nil {
			t.Error(err)
		}
		if files() == 0 {
			t.Error("the test makes no file")
		}
	}}))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inner.ServeHTTP(w, r)
		pattern = r.Pattern
	}))
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	part, err := parts.CreateFormFile("scan", "scan.pdf")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(make([]byte, 11<<20)); err != nil { // more than 10 MiB are not kept in memory
		t.Fatal(err)
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	resp, err := srv.Client().Post(srv.URL+"/upload", parts.FormDataContentType(), &form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	srv.Close() // waits for the request to be done with
	if n := files(); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if pattern != "POST /upload" {
		t.Errorf("outside, the pattern is %q", pattern)
	}
}

// A writer without an ability must not seem to have it.
func TestWriterGainsNoAbility(t *testing.T) {
	for name, inner := range map[string]http.ResponseWriter{
		"neither": struct{ http.ResponseWriter }{httptest.NewRecorder()},
		"flusher": httptest.NewRecorder(),
		"hijacker": struct {
			http.ResponseWriter
			http.Hijacker
		}{httptest.NewRecorder(), nil},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		wrap(t, veritrailhttp.Config{Recorder: rec}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, wantFlush := inner.(http.Flusher)
			_, wantHijack := inner.(http.Hijacker)
			_, gotFlush := w.(http.Flusher)
			_, gotHijack := w.(http.Hijacker)
			if gotFlush != wantFlush || gotHijack != wantHijack {
				t.Errorf("%s: Flusher %v, Hijacker %v", name, gotFlush, gotHijack)
			}
			if n, err := io.Copy(w, strings.NewReader("copied")); n != 6 || err != nil {
				t.Errorf("%s: copied %d, %v", name, n, err)
			}
		})).ServeHTTP(inner, httptest.NewRequest(http.MethodGet, "/", nil))
		if got := rec.One("*").Context["bytes_out"]; got != "6" {
			t.Errorf("%s: %s bytes", name, got)
		}
	}
}

func TestHTTP2(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	srv := httptest.NewUnstartedServer(wrap(t, veritrailhttp.Config{Recorder: rec},
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 {
				t.Errorf("HTTP/%d", r.ProtoMajor)
			}
			if _, ok := w.(http.Hijacker); ok {
				t.Error("a Hijacker over HTTP/2")
			}
			w.(http.Flusher).Flush()
		})))
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	srv.StartTLS()
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	rec.Wait("ACCESS.HTTP.GET", 1)
}

func TestConcurrentRequests(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	srv := httptest.NewServer(wrap(t, veritrailhttp.Config{Recorder: rec, Policy: veritrailhttp.FailClosed},
		mux(map[string]http.HandlerFunc{
			"GET /u/{user}": func(_ http.ResponseWriter, r *http.Request) {
				veritrailhttp.SetSubject(r.Context(), "user", r.PathValue("user"))
				veritrailhttp.SetObject(r.Context(), "same", r.PathValue("user"))
			},
		})))
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 25 {
				resp, err := srv.Client().Get(fmt.Sprintf("%s/u/%d-%d", srv.URL, w, i))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
			}
		})
	}
	all.Wait()
	srv.Close()
	intents, outcomes := make(map[string]bool), 0
	for _, e := range rec.Events() {
		if e.Context["phase"] == "intent" {
			intents[e.ID] = true
			continue
		}
		outcomes++
		if !intents[e.Context["intent"]] || e.Subject["user"] != e.Object["same"] {
			t.Fatalf("mixed up: %v", e)
		}
		delete(intents, e.Context["intent"])
	}
	if outcomes != 200 || len(intents) != 0 {
		t.Errorf("%d outcomes, %d intents without one", outcomes, len(intents))
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	for want, cfg := range map[string]veritrailhttp.Config{
		"veritrailhttp: Recorder is not set": {Service: "s"},
		"veritrailhttp: Service is not set":  {Recorder: rec},
		"veritrailhttp: Policy: 7 is none":   {Recorder: rec, Service: "s", Policy: 7},
		`veritrailhttp: Actions: "GET /a": want dotted segments of A-Z a-z 0-9 _ -`: {Recorder: rec, Service: "s",
			Actions: map[string]string{"GET /a": "AUTH.*"}},
	} {
		if _, err := veritrailhttp.New(cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// No header field gets a request's event refused, or the middleware to panic.
func FuzzHeaders(f *testing.F) {
	f.Add("GET", "/a", "req-1", "00-"+traceID+"-"+spanID+"-01", "198.51.100.1, 10.0.0.1", "10.0.0.1:80")
	f.Add("\xff", "/%ff", "\x00", "ff-", "[::1]:80,,[", "@")
	f.Add("BREW", "", strings.Repeat("x", 2000), "", strings.Repeat(",", 100), "[fe80::1%eth0]:1")
	f.Fuzz(func(t *testing.T, method, path, id, trace, forwarded, peer string) {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		h := wrap(t, veritrailhttp.Config{
			Recorder: rec, Path: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"),
				netip.MustParsePrefix("fe80::/10")},
		}, mux(map[string]http.HandlerFunc{"GET /a": ok}))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.URL.Path, r.RemoteAddr = method, path, peer
		r.Header.Set("X-Request-Id", id)
		r.Header.Set("Traceparent", trace)
		r.Header.Set("X-Forwarded-For", forwarded)
		h.ServeHTTP(httptest.NewRecorder(), r)
		rec.One("ACCESS.*")
	})
}

type nowhere struct{}

func (nowhere) Record(context.Context, *veritrail.ComplianceEvent) error { return nil }

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// What the middleware costs without the trail, beside the handler alone.
func BenchmarkMiddleware(b *testing.B) {
	m := mux(map[string]http.HandlerFunc{"GET /v1/accounts/{id}": ok})
	for name, h := range map[string]http.Handler{
		"bare": m, "open": wrap(b, veritrailhttp.Config{Recorder: nowhere{}, Now: time.Now}, m),
		"closed": wrap(b, veritrailhttp.Config{Recorder: nowhere{}, Now: time.Now, Policy: veritrailhttp.FailClosed}, m),
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/v1/accounts/62", nil)
			w := discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
