package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// access says who may use a route.
type access int

const (
	public access = iota
	withToken
)

// route is a path and what answers there. GET includes HEAD.
type route struct {
	pattern string
	access  access
	get     http.HandlerFunc
	post    http.HandlerFunc
}

// routes are all there are; schemas/openapi.json describes the same.
func (s *Server) routes() []route {
	entries := withToken
	if s.cfg.PublicTiles {
		entries = public
	}
	all := []route{
		{"/v1/events", withToken, compressing(s.getEvents), compressing(s.postEvents)},
		{"/v1/events/{id}", withToken, compressing(s.getEvent), nil},
		{"/v1/openapi.json", public, compressing(getOpenAPI), nil},
		{"/metrics", withToken, s.metrics.Handler(s.cfg.Log).ServeHTTP, nil},
		{"/healthz", public, getHealth, nil},
		{"/readyz", public, s.getReady, nil},
		{"/{$}", public, s.getIndex, nil},
	}
	for _, prefix := range []string{"/v1/", "/"} {
		all = append(all,
			route{prefix + "checkpoint", public, s.getCheckpoint, nil},
			route{prefix + "tile/{path...}", public, s.getTile, nil},
			route{prefix + "tile/entries/{path...}", entries, compressing(s.getEntries), nil},
			route{prefix + "sm3/tile/{path...}", public, s.getSM3Tile, nil},
			route{prefix + "keys", public, s.getKeys, nil},
		)
	}
	return all
}

// handler answers on all routes. With localOnly it answers to names of this
// machine alone.
func (s *Server) handler(localOnly bool) http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.pattern, s.guard(&r))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problemf(http.StatusNotFound, "not_found", "nothing is served here; see /").write(w)
	})
	return s.observe(mux, localOnly)
}

// observe counts and logs requests, and turns away those for another host.
func (s *Server) observe(mux *http.ServeMux, localOnly bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun, end := time.Now(), s.metrics.Begin()
		seen := &answerWriter{ResponseWriter: w}
		// The mux names the route in r. Whatever the client made up stays out of
		// the names that are counted.
		defer func() {
			name := routeName(r.Pattern)
			end(name, seen.status())
			s.cfg.Log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("method", knownMethod(r.Method)), slog.String("route", name),
				slog.Int("code", seen.status()), slog.Int64("bytes", seen.bytes), slog.Duration("duration", time.Since(begun)))
		}()
		seen.Header().Set("X-Content-Type-Options", "nosniff")
		if localOnly && !isLocalName(r.Host) {
			problemf(http.StatusMisdirectedRequest, "wrong_host", "this address answers to localhost only").write(seen)
			return
		}
		mux.ServeHTTP(seen, r)
	})
}

func routeName(pattern string) string {
	switch pattern {
	case "", "/":
		return "other"
	case "/{$}":
		return "/"
	}
	return pattern
}

func knownMethod(method string) string {
	if slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodTrace, http.MethodConnect}, method) {
		return method
	}
	return "other"
}

// isLocalName tells whether a Host header names this machine, with any port. A
// name of somebody's domain that resolves to loopback (DNS rebinding) does not.
func isLocalName(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	} else if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	switch strings.ToLower(name) {
	case "localhost", "127.0.0.1", "::1", "[::1]":
		return true
	}
	return false
}

// guard lets a request through to the handler of its method when its origin and
// what it proves itself with allow.
func (s *Server) guard(to *route) http.Handler {
	allow := "GET, HEAD"
	if to.post != nil {
		allow += ", POST"
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var h http.HandlerFunc
		switch r.Method {
		case http.MethodGet, http.MethodHead:
			h = to.get
		case http.MethodPost:
			h = to.post
		}
		if h == nil {
			w.Header().Set("Allow", allow)
			problemf(http.StatusMethodNotAllowed, "method", "want %s", allow).write(w)
			return
		}
		if r.Method == http.MethodPost && !sameOrigin(r) {
			problemf(http.StatusForbidden, "cross_origin", "requests from web pages of another origin are refused").write(w)
			return
		}
		if to.access == withToken && !s.authorized(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="veritrail"`)
			problemf(http.StatusUnauthorized, "token",
				"want the header Authorization: Bearer TOKEN, with this trail's token, or a certificate that the server trusts").write(w)
			return
		}
		h(w, r)
	})
}

// authorized lets in who has the token, or a certificate of the authority that
// the server was told to trust with clients: TLS has verified it then.
func (s *Server) authorized(r *http.Request) bool {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return true
	}
	return s.hasToken(r)
}

// hasToken compares digests: how long it takes says nothing of the token.
func (s *Server) hasToken(r *http.Request) bool {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(token)))
	same := subtle.ConstantTimeCompare(got[:], s.token[:]) == 1
	return ok && strings.EqualFold(scheme, "Bearer") && same
}

// sameOrigin tells whether a request is not one that a page of another origin
// made a browser send. Other programs send no Origin.
func sameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u, err := url.Parse(origins[0])
	return len(origins) == 1 && err == nil && u.Scheme == scheme && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// answerWriter remembers what was answered.
type answerWriter struct {
	http.ResponseWriter
	code  int
	bytes int64
}

func (w *answerWriter) WriteHeader(code int) {
	if w.code == 0 && code >= 200 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *answerWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *answerWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// problem is why a request, or part of it, was not served. It is no error type:
// its words are for the client, and hold nothing of an event.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`

	status     int
	retryAfter int // seconds, 0 when trying again is of no use
}

func problemf(status int, code, format string, args ...any) *problem {
	return &problem{Code: code, Message: fmt.Sprintf(format, args...), status: status}
}

func (p *problem) setRetryAfter(h http.Header) {
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
}

func (p *problem) write(w http.ResponseWriter) {
	p.setRetryAfter(w.Header())
	writeJSON(w, p.status, struct {
		Error *problem `json:"error"`
	}{p})
}

// writeJSON answers with one JSON object on one line. That the client has gone
// by then is not ours to report.
func writeJSON(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body)
}

func writeText(w http.ResponseWriter, cache, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", cache)
	_, _ = w.Write([]byte(text))
}
