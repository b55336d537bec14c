package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

const someID = "/v1/events/00000000-0000-4000-8000-000000000000"

func TestTokenGuardsEventsAndNothingElse(t *testing.T) {
	for _, publicTiles := range []bool{false, true} {
		s := newSite(t, func(_ *recorder.Config, c *Config) { c.PublicTiles = publicTiles })
		s.fill(300)
		guarded := map[string]int{ // and what the token opens
			"POST /v1/events": http.StatusCreated, "GET /v1/events": http.StatusOK, "HEAD /v1/events": http.StatusOK, "GET " + someID: http.StatusNotFound, "GET /metrics": http.StatusOK,
			"GET /v1/tile/entries/000": http.StatusOK, "GET /tile/entries/001.p/44": http.StatusOK, "HEAD /tile/entries/000": http.StatusOK,
		}
		for request, status := range guarded {
			method, path, _ := strings.Cut(request, " ")
			for header, ok := range map[string]bool{
				"": false, "Bearer": false, "Bearer ": false, "Bearer x": false, testToken: false, "Basic " + testToken: false,
				"Bearer " + testToken + "x": false, "Bearer " + testToken[1:]: false, "Bearer " + strings.ToUpper(testToken): false,
				"Bearer " + testToken: true, "bearer " + testToken: true,
			} {
				ok = ok || publicTiles && strings.Contains(path, "entries")
				r := s.do(method, path, strings.NewReader(event(1)), "Authorization", header)
				want := http.StatusUnauthorized
				if ok {
					want = status
				}
				if r.status != want || !ok && !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("public tiles %t: %s with %q: got %d, want %d", publicTiles, request, header, r.status, want)
				}
			}
		}
		for _, path := range []string{
			"/", "/healthz", "/readyz", "/v1/keys", "/v1/openapi.json", "/v1/checkpoint", "/checkpoint", "/v1/tile/0/000", "/tile/0/001.p/44", "/tile/1/000.p/1",
		} {
			if r := s.get(path, "Authorization", ""); r.status != http.StatusOK {
				t.Errorf("%s without a token: %d", path, r.status)
			}
		}
	}
}

func TestWrongMethodsAndPaths(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		request string
		status  int
		allow   string
	}{
		{"PUT /v1/events", 405, "GET, HEAD, POST"},
		{"DELETE /v1/events", 405, "GET, HEAD, POST"},
		{"DELETE " + someID, 405, "GET, HEAD"},
		{"POST /v1/checkpoint", 405, "GET, HEAD"},
		{"OPTIONS /readyz", 405, "GET, HEAD"},
		{"POST /", 405, "GET, HEAD"},
		{"GET /v2/events", 404, ""},
		{"GET /index.html", 404, ""},
		{"BREW /v1/coffee", 404, ""},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		r := s.do(method, path, nil)
		if r.status != c.status || r.header.Get("Allow") != c.allow || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %d, allow %q", c.request, r.status, r.header.Get("Allow"))
		}
		if method != http.MethodHead && !strings.HasPrefix(string(r.body), `{"error":{"code":"`) {
			t.Errorf("%s: body %q", c.request, r.body)
		}
	}
	if got := s.log.String(); strings.Contains(got, "BREW") || strings.Contains(got, "coffee") {
		t.Errorf("the log repeats what a client made up:\n%s", got)
	}
}

// However many paths clients think of, the number of series stays.
func TestMetricsKnowOnlyTheRoutes(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/a", "/b/c", someID, "/v1/events/x", "/v1/tile/0/000", "/v1/tile/0/001", "/v1/tile", "//x"} {
		s.get(path)
	}
	s.post(event(1)+"\n"+bad, "")
	// The note of the rejection is not waited for, nor is the count of a request
	// that has had its answer.
	await(t, "all is counted", func() bool {
		return s.rec.Stats().Leaves == 2 && strings.Contains(string(s.get("/metrics").body), `code="207"`)
	})
	text := string(s.get("/metrics").body)
	for _, want := range []string{
		`veritrail_http_requests_total{code="207",route="/v1/events"} 1`,
		`veritrail_http_requests_total{code="404",route="/v1/events/{id}"} 1`,
		`veritrail_http_requests_total{code="400",route="/v1/events/{id}"} 1`,
		`veritrail_http_requests_total{code="404",route="/v1/tile/{path...}"} 3`,
		`veritrail_events_total 2`, `veritrail_rejected_total 1`, `veritrail_leaves 2`, `veritrail_halted 0`, `veritrail_read_only 0`,
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "veritrail_http_requests_total") && (strings.Contains(line, `"/a"`) || strings.Contains(line, "0000")) {
			t.Errorf("a client's path: %s", line)
		}
	}
}

func TestPostsFromPagesOfOtherOriginsAreRefused(t *testing.T) {
	s := newSite(t)
	host := strings.TrimPrefix(s.url, "http://")
	for origin, want := range map[string]int{
		"": 201, "http://" + host: 201,
		"https://" + host: 403, "http://evil.example": 403, "http://" + host + ".evil.example": 403, "null": 403, "http://": 403, "http://127.0.0.1:1": 403,
	} {
		if r := s.do(http.MethodPost, "/v1/events", strings.NewReader(event(1)), "Origin", origin); r.status != want {
			t.Errorf("origin %q: got %d, want %d", origin, r.status, want)
		}
	}
}

// listening is a Server that serves until stop is called.
type listening struct {
	addr string
	end  context.CancelFunc
	done chan error
}

func (s *site) listen(t testing.TB, tlsConfig *tls.Config) *listening {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &listening{ln.Addr().String(), cancel, make(chan error, 1)}
	go func() { l.done <- s.srv.Serve(ctx, ln, tlsConfig) }()
	t.Cleanup(cancel)
	return l
}

func (l *listening) stop(t testing.TB) {
	t.Helper()
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

func TestLoopbackAnswersToLocalNamesOnly(t *testing.T) {
	s := newSite(t)
	l := s.listen(t, nil)
	_, port, err := net.SplitHostPort(l.addr)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"localhost": 200, "LocalHost:" + port: 200, "127.0.0.1:" + port: 200, "127.0.0.1:1": 200, "[::1]": 200, "[::1]:" + port: 200,
		"evil.example": 421, "evil.example:" + port: 421, "localhost.evil.example": 421, "127.0.0.1.evil.example:" + port: 421,
		"localhost:x": 421, "0.0.0.0": 421, "[::2]:80": 421,
	} {
		req, err := http.NewRequest(http.MethodGet, "http://"+l.addr+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %q: got %d, want %d", host, resp.StatusCode, want)
		}
	}
	l.stop(t)
}

// elsewhere is a listener that says it is not on loopback.
type elsewhere struct{ net.Listener }

func (elsewhere) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80} }

func TestPlainHTTPIsForLoopbackOnly(t *testing.T) {
	s := newSite(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.srv.Serve(t.Context(), elsewhere{ln}, nil); err == nil || !strings.Contains(err.Error(), "192.0.2.1:80: not a loopback address") {
		t.Errorf("got %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener was left open: %v", err)
	}
}

func TestServeWithTLS(t *testing.T) {
	s := newSite(t)
	borrowed := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer borrowed.Close()
	l := s.listen(t, &tls.Config{Certificates: borrowed.TLS.Certificates, MinVersion: tls.VersionTLS13})
	pool := x509.NewCertPool()
	pool.AddCert(borrowed.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	req, err := http.NewRequest(http.MethodPost, "https://"+l.addr+"/v1/events", strings.NewReader(event(1)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	req.Header.Set("Origin", "https://"+l.addr)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated || resp.ProtoMajor != 2 {
		t.Errorf("got %d over HTTP/%d", resp.StatusCode, resp.ProtoMajor)
	}
	if resp, err := http.Get("http://" + l.addr + "/healthz"); err == nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("answered without TLS")
		}
	}
	l.stop(t)
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) issue(t testing.TB, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, KeyUsage: x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func TestClientCertificateIsAsGoodAsTheToken(t *testing.T) {
	s := newSite(t)
	ours, others := newAuthority(t, "ours"), newAuthority(t, "others")
	l := s.listen(t, &tls.Config{
		Certificates: []tls.Certificate{ours.issue(t, x509.ExtKeyUsageServerAuth)}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ours.pool(),
	})
	for name, c := range map[string]struct {
		certs  []tls.Certificate
		token  string
		status int // 0: no connection
	}{
		"nothing":                          {nil, "", 401},
		"a wrong token":                    {nil, "wrong", 401},
		"the token":                        {nil, testToken, 201},
		"a certificate":                    {[]tls.Certificate{ours.issue(t, x509.ExtKeyUsageClientAuth)}, "", 201},
		"a certificate and a wrong token":  {[]tls.Certificate{ours.issue(t, x509.ExtKeyUsageClientAuth)}, "wrong", 201},
		"a certificate of others":          {[]tls.Certificate{others.issue(t, x509.ExtKeyUsageClientAuth)}, testToken, 0},
		"a certificate for something else": {[]tls.Certificate{ours.issue(t, x509.ExtKeyUsageServerAuth)}, testToken, 0},
	} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ours.pool(), MinVersion: tls.VersionTLS12}}
		if c.certs != nil { // sent whatever the server asks for
			transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c.certs[0], nil }
		}
		req, err := http.NewRequest(http.MethodPost, "https://"+l.addr+"/v1/events", strings.NewReader(event(1)))
		if err != nil {
			t.Fatal(err)
		}
		if c.token != "" {
			req.Header.Set("Authorization", "Bearer "+c.token)
		}
		resp, err := (&http.Client{Transport: transport}).Do(req)
		got := 0
		if err == nil {
			got = resp.StatusCode
			resp.Body.Close()
		}
		if got != c.status {
			t.Errorf("with %s: got %d, want %d (%v)", name, got, c.status, err)
		}
		transport.CloseIdleConnections()
	}
	l.stop(t)
}

// TestShutdownLosesNothing ends the server while events are on their way. Every
// answer that arrives must be true, and what was being sent is taken.
func TestShutdownLosesNothing(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.CheckpointEvery = time.Millisecond })
	settled := checkNoLeak(t)
	l := s.listen(t, nil)
	s.url = "http://" + l.addr

	// One client is in the middle of its body when the server is told to stop.
	r, w := io.Pipe()
	slow := make(chan posted, 1)
	go func() { slow <- s.postFrom(r, "application/x-ndjson") }()
	if _, err := io.WriteString(w, events(0, 10)); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []posted
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				req, err := http.NewRequest(http.MethodPost, s.url+"/v1/events", strings.NewReader(events(1000*c+i, 5)))
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+testToken)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return // the server is gone
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusCreated {
					t.Errorf("status %d, %s: %v", resp.StatusCode, b, err)
					return
				}
				mu.Lock()
				all = append(all, parsePosted(t, reply{resp.StatusCode, resp.Header, b}))
				mu.Unlock()
			}
		})
	}
	await(t, "some posts were answered", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(all) > 8
	})
	l.end()
	wg.Wait()
	select {
	case err := <-l.done:
		t.Fatalf("did not wait for the request that runs: %v", err)
	default:
	}
	if _, err := io.WriteString(w, events(10, 10)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	p := <-slow
	if p.status != http.StatusCreated || p.Accepted != 20 {
		t.Errorf("the slow client got %d: %s", p.status, p.body)
	}
	if err := <-l.done; err != nil {
		t.Error(err)
	}
	settled()
	s.checkRecorded(append(all, p)...)
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	s := newSite(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.srv.Serve(t.Context(), ln, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestNewChecksItsConfig(t *testing.T) {
	s := newSite(t)
	good := Config{
		Dir: s.dir, Recorder: s.rec, View: s.rec.Trail().View, Origin: "example.com/test", VKeys: s.rec.Keys(), Token: testToken,
	}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"Dir is not set":          func(c *Config) { c.Dir = "" },
		"View is not set":         func(c *Config) { c.View = nil },
		"Origin is not set":       func(c *Config) { c.Origin = "" },
		"VKeys is not set":        func(c *Config) { c.VKeys = nil },
		"Token is not set":        func(c *Config) { c.Token = "" },
		"MaxBody is -1":           func(c *Config) { c.MaxBody = -1 },
		"RememberFor is -1s":      func(c *Config) { c.RememberFor = -time.Second },
		"public key 1":            func(c *Config) { c.VKeys = []string{"x"} },
		"want either a Recorder ": func(c *Config) { c.Recorder = nil },
		"want either a Recorder":  func(c *Config) { c.Problem = trail.ErrNoTrail },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}
