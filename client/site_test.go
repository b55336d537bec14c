package client

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/server"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/recorder"
)

const testToken = "0123456789abcdef-a-token"

// site is a trail that is served on one address, as long as it is up. Between
// the network and the server stands fault, when it is set: it decides what
// becomes of a request.
type site struct {
	t       testing.TB
	dir     string
	rec     *recorder.Recorder
	handler http.Handler
	addr    string
	ts      *httptest.Server

	mu    sync.Mutex
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler)
	sizes []int // of requests, in bytes as they came
	codes []string
}

func newSite(t testing.TB, change ...func(*server.Config)) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "trail")}
	rec, err := recorder.Open(recorder.Config{Dir: s.dir, Origin: "example.com/client", CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.Close() })
	s.rec = rec
	sc := server.Config{Dir: s.dir, Recorder: rec, View: rec.Trail().View, Origin: "example.com/client", VKeys: rec.Keys(), Token: testToken}
	for _, f := range change {
		f(&sc)
	}
	srv, err := server.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	s.handler = srv.Handler()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = ln.Addr().String()
	s.serve(ln)
	return s
}

func (s *site) serve(ln net.Listener) {
	s.ts = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.sizes = append(s.sizes, int(r.ContentLength))
		s.codes = append(s.codes, r.Header.Get("Content-Encoding"))
		fault := s.fault
		s.mu.Unlock()
		if fault != nil {
			fault(w, r, s.handler)
			return
		}
		s.handler.ServeHTTP(w, r)
	}))
	if err := s.ts.Listener.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.ts.Listener = ln
	s.ts.Start()
	s.t.Cleanup(s.ts.Close)
}

// down makes the address refuse connections.
func (s *site) down() {
	s.ts.CloseClientConnections()
	s.ts.Close()
}

// up serves on the same address again.
func (s *site) up() {
	s.t.Helper()
	var ln net.Listener
	await(s.t, "the address is free", func() bool {
		var err error
		ln, err = net.Listen("tcp", s.addr)
		return err == nil
	})
	s.serve(ln)
}

func (s *site) setFault(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *site) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sizes)
}

// quick are the settings of a client that does not wait long.
func (s *site) quick() Config {
	return Config{
		URL: "http://" + s.addr, Token: testToken, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
		Patience: 100 * time.Millisecond, CloseTimeout: 5 * time.Second,
	}
}

func open(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func shut(t testing.TB, c *Client) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func event(n int) *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{Action: "APP.STEP", Subject: map[string]string{"user": "u1"}, Object: map[string]string{"n": fmt.Sprint(n)}}
}

// leaves reads the events of the trail that clients sent, in their order.
func (s *site) leaves() (out []*veritrail.ComplianceEvent) {
	s.t.Helper()
	size := s.rec.Stats().Size
	for at := uint64(0); at < size; {
		n := min(tlog.TileWidth-at%tlog.TileWidth, size-at)
		lines, err := s.rec.Trail().View().Leaves().Read(at, int(n))
		if err != nil {
			s.t.Fatal(err)
		}
		for _, line := range lines {
			if bytes.Contains(line, []byte(`"act":"TRAIL.`)) {
				continue
			}
			e, err := veritrail.ParseCanonical(line)
			if err != nil {
				s.t.Fatal(err)
			}
			out = append(out, e)
		}
		at += n
	}
	return out
}

// numbers are what obj.n of the trail's events says.
func (s *site) numbers() string {
	s.t.Helper()
	var all []string
	for _, e := range s.leaves() {
		all = append(all, e.Object["n"])
	}
	return strings.Join(all, " ")
}

func sequence(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return strings.Join(all, " ")
}

func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(2 * time.Millisecond); !condition(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still not: %s", what)
		}
	}
}

func spoolFiles(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), spoolSuffix) || strings.HasPrefix(e.Name(), "cut-") {
			names = append(names, e.Name())
		}
	}
	return names
}
