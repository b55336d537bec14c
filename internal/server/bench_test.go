package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkPostWithIDs posts events as a client does that may have to send them
// again: each has an id, 5,000 go together.
func BenchmarkPostWithIDs(b *testing.B) {
	s := newSite(b)
	const each = 5000
	n := 0
	body := func() string {
		var t strings.Builder
		for range each {
			n++
			fmt.Fprintf(&t, `{"id":"0f8fad5b-d9cb-469f-a165-%012x","ts":"2026-03-01T08:00:00Z","sev":"INFO","sub":{"role":"teller","user":"u1"},"act":"AUTH.LOGIN.OK",`+
				`"obj":{"id":"acct-%08d","type":"account"},"ctx":{"branch":"b-1","host":"h","ip":"192.0.2.7","pid":"1","process":"p"}}`+"\n", n, n)
		}
		return t.String()
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r := httptest.NewRequest(http.MethodPost, "/v1/events", strings.NewReader(body()))
		r.Header.Set("Content-Type", "application/x-ndjson")
		r.Header.Set("Authorization", "Bearer "+testToken)
		r.Host = "127.0.0.1"
		w := httptest.NewRecorder()
		b.StartTimer()
		s.srv.Handler().ServeHTTP(w, r)
		if w.Code != http.StatusCreated {
			b.Fatalf("got %d: %.200s", w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(b.N)*each/b.Elapsed().Seconds(), "events/s")
}
