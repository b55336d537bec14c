package metrics

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func scrape(t *testing.T, s *Set) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours are the lines of the exposition that are about Veritrail.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "veritrail_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestEveryNumberOfTheTrailIsShown(t *testing.T) {
	s := New("1.2.3", func() Trail {
		return Trail{
			Leaves: 1, Sealed: 2, ReadOnly: true, Halted: true, Events: 3, Rejected: 4, Lost: 5, Batches: 6, Checkpoints: 7,
			Repairs: 8, LeafBytes: 9, StoredBytes: 10, SyncTime: 1500 * time.Millisecond, Waiting: 11, IndexLag: 12, IndexRebuilding: true,
		}
	})
	s.Begin() // and not ended
	s.Begin()("/v1/events", 201)
	s.Begin()("/v1/events", 201)
	s.Begin()("/readyz", 503)
	got := scrape(t, s)
	for _, want := range []string{
		"veritrail_leaves 1", "veritrail_sealed_leaves 2", "veritrail_read_only 1", "veritrail_halted 1",
		"veritrail_events_total 3", "veritrail_rejected_total 4", "veritrail_lost_total 5", "veritrail_batches_total 6",
		"veritrail_checkpoints_total 7", "veritrail_repairs_total 8", "veritrail_leaf_bytes_total 9",
		"veritrail_stored_bytes_total 10", "veritrail_sync_seconds_total 1.5", "veritrail_waiting 11",
		"veritrail_index_lag 12", "veritrail_index_rebuilding 1",
		`veritrail_http_requests_total{code="201",route="/v1/events"} 2`,
		`veritrail_http_requests_total{code="503",route="/readyz"} 1`,
		`veritrail_http_request_duration_seconds_count{code="201",route="/v1/events"} 2`,
		"veritrail_http_requests_in_flight 1",
		fmt.Sprintf(`veritrail_build_info{arch=%q,goversion=%q,os=%q,version="1.2.3"} 1`, runtime.GOARCH, runtime.Version(), runtime.GOOS),
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("%s is missing in\n%s", want, ours(got))
		}
	}
}

func TestNumbersFollowTheTrail(t *testing.T) {
	var now Trail
	s := New("1.2.3", func() Trail { return now })
	if got := scrape(t, s); !strings.Contains(got, "\nveritrail_halted 0\n") || !strings.Contains(got, "\nveritrail_events_total 0\n") {
		t.Errorf("at rest:\n%s", ours(got))
	}
	now = Trail{Events: 12, Halted: true}
	if got := scrape(t, s); !strings.Contains(got, "\nveritrail_halted 1\n") || !strings.Contains(got, "\nveritrail_events_total 12\n") {
		t.Errorf("later:\n%s", ours(got))
	}
}

func TestNamesPassThePrometheusLinter(t *testing.T) {
	s := New("1.2.3", func() Trail { return Trail{} })
	s.Begin()("/v1/events", 201)
	text := scrape(t, s)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "veritrail_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	// The linter is at work: it finds fault with a counter that is not called one.
	problems, err = promlint.New(bytes.NewBufferString("# HELP veritrail_x X.\n# TYPE veritrail_x counter\nveritrail_x 1\n")).Lint()
	if err != nil || len(problems) == 0 {
		t.Errorf("linter: %v, %v", problems, err)
	}
}

func TestSetsAreIndependent(t *testing.T) {
	a, b := New("1", func() Trail { return Trail{Leaves: 1} }), New("2", func() Trail { return Trail{Leaves: 2} })
	a.Begin()("/", 200)
	if got := scrape(t, b); !strings.Contains(got, "\nveritrail_leaves 2\n") || strings.Contains(got, `code="200"`) {
		t.Errorf("second set shows\n%s", ours(got))
	}
}
