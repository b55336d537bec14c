package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

const testToken = "0123456789abcdef-a-token"

// site is a trail that is recorded and served.
type site struct {
	t   testing.TB
	dir string
	rec *recorder.Recorder
	srv *Server
	url string
	log *logBuffer
}

// newSite makes one. Checkpoints are signed when the test asks for them.
func newSite(t testing.TB, change ...func(*recorder.Config, *Config)) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "trail"), log: new(logBuffer)}
	rc := recorder.Config{Dir: s.dir, Origin: "example.com/test", CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30}
	sc := Config{
		Dir: s.dir, Origin: "example.com/test", Token: testToken,
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&rc, &sc)
	}
	rec, err := recorder.Open(rc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.Close() })
	s.rec = rec
	sc.Recorder, sc.View, sc.VKeys = rec, rec.Trail().View, rec.Keys()
	s.serve(sc)
	return s
}

func (s *site) serve(c Config) {
	s.t.Helper()
	srv, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.srv = srv
	ts := httptest.NewServer(srv.Handler())
	s.t.Cleanup(ts.Close)
	s.url = ts.URL
}

// logBuffer takes log lines from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request with the token, unless header says otherwise.
func (s *site) do(method, path string, body io.Reader, header ...string) reply {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
		} else {
			req.Header.Set(header[i], header[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	described(s.t, req, resp, b)
	return reply{resp.StatusCode, resp.Header, b}
}

func (s *site) get(path string, header ...string) reply {
	s.t.Helper()
	return s.do(http.MethodGet, path, nil, header...)
}

// posted is what an answer to POST /v1/events says.
type posted struct {
	reply
	Accepted int
	Rejected int
	Error    *struct{ Code, Message string }
	Results  []struct {
		Line       int
		ID         string
		Leaf       *uint64
		Status     string
		Duplicate  bool
		Violations []struct{ Path, Rule, Shape string }
		More       int
	}
}

func (s *site) post(body, contentType string) posted {
	s.t.Helper()
	return s.postFrom(strings.NewReader(body), contentType)
}

func (s *site) postFrom(body io.Reader, contentType string) posted {
	s.t.Helper()
	return parsePosted(s.t, s.do(http.MethodPost, "/v1/events", body, "Content-Type", contentType))
}

func parsePosted(t testing.TB, r reply) posted {
	t.Helper()
	p := posted{reply: r}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Fatalf("status %d, body %q: %v", r.status, r.body, err)
	}
	return p
}

func (p *posted) code() string {
	if p.Error == nil {
		return ""
	}
	return p.Error.Code
}

// statuses are the results as "line status", one behind the other.
func (p *posted) statuses() string {
	var all []string
	for _, r := range p.Results {
		all = append(all, fmt.Sprintf("%d %s", r.Line, r.Status))
	}
	return strings.Join(all, ", ")
}

func (s *site) seal() {
	s.t.Helper()
	if err := s.rec.Seal(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// event is the JSON of an event about n.
func event(n int) string {
	return fmt.Sprintf(`{"act":"APP.TEST","sub":{"user":"u%d"},"obj":{"n":"%d"}}`, n, n)
}

func events(from, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(event(from+i) + "\n")
	}
	return b.String()
}

// fill records n events and seals them.
func (s *site) fill(n int) {
	s.t.Helper()
	if p := s.post(events(0, n), "application/x-ndjson"); p.status != http.StatusCreated || p.Accepted != n {
		s.t.Fatalf("status %d: %.200s", p.status, p.body)
	}
	s.seal()
}

// checkRecorded closes the trail and looks for every event an answer called
// recorded, at its leaf.
func (s *site) checkRecorded(all ...posted) {
	s.t.Helper()
	if err := s.rec.Close(); err != nil {
		s.t.Fatal(err)
	}
	view, tail, err := trail.OpenView(s.dir)
	if err != nil || tail.Size != 0 {
		s.t.Fatalf("tail of %d bytes, %v", tail.Size, err)
	}
	defer view.Close()
	seen := make(map[uint64]bool)
	for _, p := range all {
		n := 0
		for _, r := range p.Results {
			if r.Status != recorded {
				continue
			}
			n++
			leaf, _, err := view.Leaves().ReadPlace(*r.Leaf)
			if err != nil {
				s.t.Fatal(err)
			}
			if !bytes.HasPrefix(leaf, []byte(`{"id":"`+r.ID+`"`)) || seen[*r.Leaf] {
				s.t.Errorf("line %d: event %s is not leaf %d, or that was another's", r.Line, r.ID, *r.Leaf)
			}
			seen[*r.Leaf] = true
		}
		if n != p.Accepted {
			s.t.Errorf("accepted %d, %d results say recorded", p.Accepted, n)
		}
	}
}

// await polls until the condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(2 * time.Millisecond); !condition(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}

// checkNoLeak returns a function that waits until there are as many goroutines
// as there were.
func checkNoLeak(t testing.TB) func() {
	t.Helper()
	before := runtime.NumGoroutine()
	return func() {
		t.Helper()
		http.DefaultClient.CloseIdleConnections()
		await(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
	}
}
