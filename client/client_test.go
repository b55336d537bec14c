package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/server"
)

func TestRecordReturnsWhenTheServerHasTheEvent(t *testing.T) {
	s := newSite(t)
	c := open(t, s.quick())
	const goroutines, each = 32, 40
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for n := range each {
				e := event(n)
				e.Subject["user"] = fmt.Sprint(g)
				before := s.rec.Stats().Size
				if err := c.Record(t.Context(), e); err != nil {
					t.Error(err)
				}
				if s.rec.Stats().Size == before && goroutines == 1 {
					t.Error("acknowledged before it was recorded")
				}
				if e.ID != "" || !e.Timestamp.IsZero() || e.Context != nil {
					t.Error("the caller's event was changed")
				}
			}
		})
	}
	wg.Wait()
	shut(t, c)
	next := make(map[string]int)
	for _, e := range s.leaves() {
		if got := fmt.Sprint(next[e.Subject["user"]]); e.Object["n"] != got {
			t.Fatalf("goroutine %s: event %s where %s was to come", e.Subject["user"], e.Object["n"], got)
		}
		next[e.Subject["user"]]++
		host, _ := os.Hostname()
		if e.Context["host"] != host || e.Context["pid"] != fmt.Sprint(os.Getpid()) || e.Timestamp.IsZero() {
			t.Fatalf("context %v, at %s", e.Context, e.Timestamp)
		}
	}
	if len(next) != goroutines || s.requests() >= goroutines*each {
		t.Errorf("%d goroutines, %d requests", len(next), s.requests())
	}
	if st := c.Stats(); st.Recorded != goroutines*each || st.Failed+st.Rejected+st.Retries+st.Duplicates != 0 {
		t.Errorf("%+v", st)
	}
}

func TestManyEventsGoTogetherAndCompressed(t *testing.T) {
	for compression, coding := range map[Compression]string{AutoCompression: "", Zstd: "zstd", Gzip: "gzip", NoCompression: ""} {
		s := newSite(t)
		hold := make(chan struct{})
		s.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			<-hold
			next.ServeHTTP(w, r)
		})
		cfg := s.quick()
		cfg.Compression = compression
		c := open(t, cfg)
		var all []Pending
		for n := range 1001 {
			p, err := c.RecordAsync(t.Context(), event(n))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
		close(hold)
		for n, p := range all {
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if leaf, ok := p.Leaf(); !ok || leaf != uint64(n) {
				t.Fatalf("event %d: leaf %d, %t", n, leaf, ok)
			}
		}
		if got := s.requests(); got > 3 {
			t.Errorf("%d requests", got)
		}
		if !slices.Contains(s.codes, coding) {
			t.Errorf("codings %q, want %q", s.codes, coding)
		}
		if got := s.numbers(); got != sequence(1001) {
			t.Errorf("another order: %.100s", got)
		}
	}
}

// faults are what can happen to a request.
func faults(random *rand.Rand) func(w http.ResponseWriter, r *http.Request, next http.Handler) {
	var mu sync.Mutex
	roll := func() int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(12)
	}
	cut := func(w http.ResponseWriter) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		answer := httptest.NewRecorder()
		switch roll() {
		case 0: // it never arrives
			cut(w)
		case 1: // it is half of it that arrives
			r.Body = io.NopCloser(io.LimitReader(r.Body, r.ContentLength/2))
			next.ServeHTTP(answer, r)
			cut(w)
		case 2: // the answer is lost
			next.ServeHTTP(answer, r)
			cut(w)
		case 3: // the answer breaks off
			next.ServeHTTP(answer, r)
			w.Header().Set("Content-Length", fmt.Sprint(answer.Body.Len()))
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes()[:answer.Body.Len()/2])
		case 4: // somebody else answers
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>bad gateway</html>")
		case 5:
			fmt.Fprint(w, "<html>log in, please</html>")
		case 6:
			w.WriteHeader(http.StatusServiceUnavailable)
		case 7: // recorded, but the proxy gave up
			next.ServeHTTP(answer, r)
			w.WriteHeader(http.StatusGatewayTimeout)
		case 8:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		default:
			next.ServeHTTP(w, r)
		}
	}
}

// TestFaultyNetworkLosesAndDoublesNothing, in all ways that a client can be set.
func TestFaultyNetworkLosesAndDoublesNothing(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no spool":                func(*Config) {},
		"spool, server's ack":     func(c *Config) { c.Spool = filepath.Join(t.TempDir(), "a") },
		"spool, its own ack":      func(c *Config) { c.Spool, c.Policy = filepath.Join(t.TempDir(), "b"), AckSpool },
		"small requests and gzip": func(c *Config) { c.BatchEvents, c.Compression = 7, Gzip },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			seed := uint64(time.Now().UnixNano())
			s.setFault(faults(rand.New(rand.NewPCG(seed, 1))))
			cfg := s.quick()
			change(&cfg)
			c := open(t, cfg)
			const goroutines, each = 8, 60
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for n := range each {
						if err := c.Record(t.Context(), &veritrail.ComplianceEvent{
							Action: "APP.STEP", Subject: map[string]string{"user": fmt.Sprint(g)}, Object: map[string]string{"n": fmt.Sprint(n)},
						}); err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
				})
			}
			wg.Wait()
			if err := c.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			shut(t, c)
			next := make(map[string]int)
			for _, e := range s.leaves() {
				if want := fmt.Sprint(next[e.Subject["user"]]); e.Object["n"] != want {
					t.Fatalf("seed %d: user %s: event %s where %s was to come", seed, e.Subject["user"], e.Object["n"], want)
				}
				next[e.Subject["user"]]++
			}
			for g := range goroutines {
				if got := next[fmt.Sprint(g)]; got != each {
					t.Errorf("seed %d: user %d: %d events, want %d", seed, g, got, each)
				}
			}
			if st := c.Stats(); st.Recorded != goroutines*each || st.Retries == 0 || st.Spooled != 0 {
				t.Errorf("seed %d: %+v", seed, st)
			}
		})
	}
}

func TestRejectedEventsComeBackWithWhatTheyBroke(t *testing.T) {
	s := newSite(t)
	c := open(t, s.quick())
	err := c.Record(t.Context(), &veritrail.ComplianceEvent{Action: "NOT.ALLOWED", Subject: map[string]string{"user": "u"}})
	var rejected *RejectedError
	if !errors.As(err, &rejected) || !errors.Is(err, veritrail.ErrInvalidComplianceEvent) || errors.Is(err, ErrConflict) ||
		len(rejected.Violations) != 1 || rejected.Violations[0].Path != "/act" {
		t.Errorf("got %v", err)
	}
	e := event(1)
	e.ID = "0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10"
	e.Timestamp = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for range 2 {
		if err := c.Record(t.Context(), e); err != nil {
			t.Error(err)
		}
	}
	e.Object["n"] = "2"
	if err := c.Record(t.Context(), e); !errors.Is(err, ErrConflict) || !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
		t.Errorf("the same id again: %v", err)
	}
	before := s.requests()
	for _, bad := range []*veritrail.ComplianceEvent{nil, {}, {Action: "APP.X"}, {ID: "x", Action: "APP.X", Subject: map[string]string{"user": "u"}}} {
		if err := c.Record(t.Context(), bad); !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := c.RecordJSON(t.Context(), []byte(`{"act":`)); !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
		t.Errorf("no JSON: %v", err)
	}
	if got := s.requests(); got != before {
		t.Error("what is no event was sent")
	}
	if st := c.Stats(); st.Recorded != 2 || st.Duplicates != 1 || st.Rejected != 2 {
		t.Errorf("%+v", st)
	}
}

func TestRecordEndsWithItsContext(t *testing.T) {
	s := newSite(t)
	s.down()
	c := open(t, s.quick())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Record(ctx, event(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// It is not tried for ever then, and does not stand in the way of others.
	await(t, "it was given up", func() bool { return c.Stats().Failed == 1 })
	s.up()
	if err := c.Record(t.Context(), event(2)); err != nil {
		t.Error(err)
	}
	if got := s.numbers(); got != "2" {
		t.Errorf("the trail has %q", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	s := newSite(t)
	s.down()
	cfg := s.quick()
	cfg.QueueBytes = 2000
	cfg.CloseTimeout = 10 * time.Millisecond
	c := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	taken := 0
	for ; ; taken++ {
		if _, err := c.RecordAsync(ctx, event(taken)); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			break
		}
	}
	if taken < 5 || taken > 100 {
		t.Errorf("%d events were taken", taken)
	}
	var left *LeftError
	if err := c.Close(); !errors.As(err, &left) || left.Failed != uint64(taken) || left.Last == nil {
		t.Errorf("%d were taken: %v", taken, err)
	}
	if err := c.Record(t.Context(), event(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := c.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "2": 2 * time.Second, "0": 0, "-1": 0, "x": 0, "99999": maxRetryAfter,
		now.Add(7 * time.Second).Format(http.TimeFormat): 7 * time.Second, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	s := newSite(t)
	var refused atomic.Bool
	s.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !refused.Swap(true) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
	c := open(t, s.quick())
	begun := time.Now()
	if err := c.Record(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took < time.Second {
		t.Errorf("tried again after %s", took)
	}
}

func TestBackoffGrowsAndHasARandomPart(t *testing.T) {
	c := &Client{cfg: Config{RetryMin: time.Microsecond, RetryMax: 50 * time.Microsecond}}
	var asked []time.Duration
	c.jitter = func(d time.Duration) time.Duration { asked = append(asked, d); return 0 }
	b := backoff{c: c}
	for range 8 {
		b.wait(t.Context(), 0)
	}
	b.reset()
	b.wait(t.Context(), 0)
	if got := fmt.Sprint(asked); got != "[1µs 2µs 4µs 8µs 16µs 32µs 50µs 50µs 1µs]" {
		t.Errorf("got %s", got)
	}
	seen := make(map[time.Duration]bool)
	for range 100 {
		d := halfRandom(time.Second)
		if d < time.Second/2 || d > time.Second {
			t.Fatalf("got %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d different pauses of 100", len(seen))
	}
}

func TestTokenIsReadAgainWhenItIsRefused(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("an old token")
	cfg := s.quick()
	cfg.Token, cfg.TokenFile = "", file
	if _, err := New(cfg); err == nil {
		t.Error("a token with white space was taken")
	}
	write("old-token")
	c := open(t, cfg)
	if err := c.Record(t.Context(), event(1)); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "old-token") {
		t.Errorf("got %v", err)
	}
	write(testToken)
	if err := c.Record(t.Context(), event(2)); !errors.Is(err, ErrRefused) {
		t.Errorf("the first request after the change: %v", err)
	}
	if err := c.Record(t.Context(), event(3)); err != nil {
		t.Error(err)
	}
}

func TestServerThatKnowsNoCompression(t *testing.T) {
	s := newSite(t)
	s.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Content-Encoding") != "" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		next.ServeHTTP(w, r)
	})
	c := open(t, s.quick())
	var all []Pending
	for n := range 200 {
		p, err := c.RecordAsync(t.Context(), event(n))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for _, p := range all {
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.numbers(); got != sequence(200) {
		t.Errorf("the trail has %.100s", got)
	}
}

func TestRequestsThatAreTooLargeAreSplit(t *testing.T) {
	s := newSite(t, func(c *server.Config) { c.MaxBody = 3000 })
	cfg := s.quick()
	cfg.Compression = NoCompression
	c := open(t, cfg)
	var all []Pending
	for n := range 300 {
		e := event(n)
		if n == 150 {
			e.Object["x"] = strings.Repeat("x", 4000)
		}
		p, err := c.RecordAsync(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	for n, p := range all {
		err := p.Wait(t.Context())
		var rejected *RejectedError
		if n == 150 && !errors.As(err, &rejected) || n != 150 && err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
	}
	if got := s.numbers(); got != strings.Replace(sequence(300), "150 ", "", 1) {
		t.Errorf("the trail has %.300s", got)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"URL is not set":            {},
		"URL: want one as":          {URL: "ftp://x"},
		"URL: want one as https":    {URL: "audit.example.com"},
		"no password in the URL":    {URL: "https://u:p@audit.example.com"},
		"plain HTTP to another":     {URL: "http://audit.example.com"},
		"plain HTTP to another mac": {URL: "http://192.0.2.1:80"},
		"Token or TokenFile":        {URL: "https://x", Token: "a", TokenFile: "b"},
		"AckSpool needs a Spool":    {URL: "https://x", Policy: AckSpool},
		"Policy is 7":               {URL: "https://x", Policy: 7},
		"Compression is 9":          {URL: "https://x", Compression: 9},
		"TokenFile":                 {URL: "https://x", TokenFile: filepath.Join(t.TempDir(), "none")},
		"want bounds of 0 or more":  {URL: "https://x", BatchBytes: -1},
		"want times of 0 or more":   {URL: "https://x", Timeout: -1},
		"spool":                     {URL: "https://x", Spool: "/dev/null/x"},
	} {
		if c, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
			if c != nil {
				_ = c.Close()
			}
		}
	}
	for _, cfg := range []Config{{URL: "http://localhost:1/"}, {URL: "http://[::1]:1"}, {URL: "http://192.0.2.1", UnsafePlainHTTP: true}} {
		shut(t, open(t, cfg))
	}
}

func TestOverTLS(t *testing.T) {
	s := newSite(t)
	ts := httptest.NewTLSServer(s.handler)
	defer ts.Close()
	cfg := s.quick()
	cfg.URL = ts.URL
	transport, _ := ts.Client().Transport.(*http.Transport)
	cfg.TLS = &tls.Config{RootCAs: transport.TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}
	c := open(t, cfg)
	if err := c.Record(t.Context(), event(0)); err != nil {
		t.Error(err)
	}
	cfg.TLS = nil // and without its root
	cfg.CloseTimeout = time.Millisecond
	other := open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := other.Record(ctx, event(1)); err == nil {
		t.Error("recorded with a server that nobody vouches for")
	}
	if got := s.numbers(); got != "0" {
		t.Errorf("the trail has %q", got)
	}
}

func TestSpoolKeepsEventsWhileTheServerIsAway(t *testing.T) {
	s := newSite(t)
	s.down()
	cfg := s.quick()
	cfg.Spool, cfg.Policy = filepath.Join(t.TempDir(), "spool"), AckSpool
	cfg.CloseTimeout = 10 * time.Millisecond
	c := open(t, cfg)
	for n := range 50 {
		if err := c.Record(t.Context(), event(n)); err != nil {
			t.Fatal(err)
		}
	}
	if st := c.Stats(); st.Spooled != 50 || st.SpoolBytes == 0 || len(spoolFiles(t, cfg.Spool)) != 1 {
		t.Errorf("%+v, %v", st, spoolFiles(t, cfg.Spool))
	}
	if _, err := New(cfg); !errors.Is(err, ErrSpoolLocked) {
		t.Errorf("a second client of the spool: %v", err)
	}
	var left *LeftError
	if err := c.Close(); !errors.As(err, &left) || left.Spooled != 50 || left.Failed != 0 {
		t.Errorf("Close: %v", err)
	}
	c = open(t, cfg)
	if st := c.Stats(); st.Spooled != 50 {
		t.Errorf("opened again: %+v", st)
	}
	for n := range 50 { // go behind those
		if err := c.Record(t.Context(), event(50+n)); err != nil {
			t.Fatal(err)
		}
	}
	s.up()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.numbers(); got != sequence(100) {
		t.Errorf("the trail has %.300s", got)
	}
	if st := c.Stats(); st.Spooled != 0 || st.SpoolBytes != 0 || len(spoolFiles(t, cfg.Spool)) != 0 {
		t.Errorf("afterwards: %+v, %v", st, spoolFiles(t, cfg.Spool))
	}
	if err := c.Record(t.Context(), event(100)); err != nil { // past the spool
		t.Fatal(err)
	}
	if got := s.numbers(); got != sequence(101) {
		t.Errorf("the trail has %.300s", got)
	}
	shut(t, c)
}

// Under AckServer the spool keeps the event, and Record waits all the same.
func TestSpoolIsNoAcknowledgementUnlessItIsAskedFor(t *testing.T) {
	s := newSite(t)
	s.down()
	cfg := s.quick()
	cfg.Spool, cfg.CloseTimeout = filepath.Join(t.TempDir(), "spool"), 10*time.Millisecond
	c := open(t, cfg)
	var all []Pending
	for n := range 20 {
		p, err := c.RecordAsync(t.Context(), event(n))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	await(t, "all are in the spool", func() bool { return c.Stats().Spooled == 20 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := all[0].Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acknowledged without the server: %v", err)
	}
	if err := c.Close(); err == nil {
		t.Error("Close does not tell what is left")
	}
	for _, p := range all {
		if err := p.Wait(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	c = open(t, cfg)
	p, err := c.RecordAsync(t.Context(), event(20))
	if err != nil {
		t.Fatal(err)
	}
	s.up()
	if err := p.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if leaf, ok := p.Leaf(); !ok || leaf != 20 {
		t.Errorf("leaf %d, %t", leaf, ok)
	}
	if got := s.numbers(); got != sequence(21) {
		t.Errorf("the trail has %s", got)
	}
	shut(t, c)
}

// TestSlowServerDoesNotHoldUpTheSpool: a request that hangs is cut off after a
// while, and its events are in the trail once all the same.
func TestSlowServerDoesNotHoldUpTheSpool(t *testing.T) {
	s := newSite(t)
	var slow atomic.Bool
	slow.Store(true)
	release := make(chan struct{})
	s.setFault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if slow.Load() {
			body, _ := io.ReadAll(r.Body)
			<-release
			r = r.WithContext(context.WithoutCancel(r.Context()))
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		next.ServeHTTP(w, r)
	})
	cfg := s.quick()
	cfg.Spool, cfg.Policy, cfg.Patience = filepath.Join(t.TempDir(), "spool"), AckSpool, 20*time.Millisecond
	c := open(t, cfg)
	for n := range 30 {
		if err := c.Record(t.Context(), event(n)); err != nil {
			t.Fatal(err)
		}
	}
	slow.Store(false)
	close(release)
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	if got := s.numbers(); got != sequence(30) {
		t.Errorf("the trail has %s", got)
	}
}

func TestFullSpoolRefusesEvents(t *testing.T) {
	s := newSite(t)
	s.down()
	for _, policy := range []Policy{AckSpool, AckServer} {
		cfg := s.quick()
		cfg.Spool, cfg.Policy, cfg.SpoolBytes, cfg.CloseTimeout = filepath.Join(t.TempDir(), "spool"), policy, 10_000, time.Millisecond
		c := open(t, cfg)
		kept := 0
		var err error
		for ; kept < 1000; kept++ {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if policy == AckSpool {
				err = c.Record(ctx, event(kept))
			} else {
				var p Pending
				if p, err = c.RecordAsync(ctx, event(kept)); err == nil {
					await(t, "it is spooled or refused", func() bool { return c.Stats().Spooled+c.Stats().Failed == uint64(kept+1) })
					if c.Stats().Failed > 0 {
						err = p.Wait(ctx)
					}
				}
			}
			cancel()
			if err != nil {
				break
			}
		}
		if !errors.Is(err, ErrSpoolFull) || kept < 20 || c.Stats().SpoolBytes > 10_000 {
			t.Errorf("policy %d: %d kept in %d bytes: %v", policy, kept, c.Stats().SpoolBytes, err)
		}
		var left *LeftError
		if err := c.Close(); !errors.As(err, &left) || left.Spooled != uint64(kept) || left.Failed != 1 {
			t.Errorf("policy %d: %v", policy, err)
		}
	}
}

// What the server refuses when nobody waits any more is written down.
func TestRejectedEventsFromTheSpoolAreKept(t *testing.T) {
	s := newSite(t)
	s.down()
	cfg := s.quick()
	cfg.Spool, cfg.Policy = filepath.Join(t.TempDir(), "spool"), AckSpool
	var told []string
	var mu sync.Mutex
	cfg.Rejected = func(e *RejectedError) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, e.ID)
	}
	c := open(t, cfg)
	var ids []string
	for n := range 30 {
		e := event(n)
		if n%10 == 5 {
			e.Action = "NOT.ALLOWED"
		}
		e.ID = fmt.Sprintf("0b54dd2e-6f3c-4d39-9f5a-%012x", n)
		if err := c.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if n%10 == 5 {
			ids = append(ids, e.ID)
		}
	}
	s.up()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	shut(t, c)
	f, err := os.Open(filepath.Join(cfg.Spool, rejectedFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var kept []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r struct {
			ID         string
			Violations []struct{ Path, Rule string }
			Event      veritrail.ComplianceEvent
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil || r.Event.ID != r.ID || r.Event.Action != "NOT.ALLOWED" || r.Violations[0].Path != "/act" {
			t.Errorf("%s: %v", lines.Text(), err)
		}
		kept = append(kept, r.ID)
	}
	if fmt.Sprint(kept) != fmt.Sprint(ids) || fmt.Sprint(told) != fmt.Sprint(ids) {
		t.Errorf("kept %v, told %v, want %v", kept, told, ids)
	}
	if st := c.Stats(); st.Recorded != 27 || st.Rejected != 3 || st.Spooled != 0 {
		t.Errorf("%+v", st)
	}
}

// A token that the server does not take must not cost events that are spooled.
func TestSpooledEventsOutliveAWrongToken(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := s.quick()
	cfg.Token, cfg.TokenFile, cfg.Spool, cfg.Policy = "", file, filepath.Join(t.TempDir(), "spool"), AckSpool
	c := open(t, cfg)
	for n := range 5 {
		if err := c.Record(t.Context(), event(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(testToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.numbers(); got != sequence(5) {
		t.Errorf("the trail has %q", got)
	}
}

// BenchmarkRecord is events a second through the client into a trail that is
// served in the same process, with the disk's sync in it.
func BenchmarkRecord(b *testing.B) {
	for _, goroutines := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			s := newSite(b)
			c := open(b, s.quick())
			e := event(1)
			b.SetParallelism(goroutines)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := c.Record(b.Context(), e); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
