package index

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

var background = context.Background()

// base is when the events of tests happen.
var base = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

var (
	testActions = []string{"AUTH.LOGIN.OK", "AUTH.LOGIN.FAIL", "AUTH.LOGOUT", "DATA.ACCOUNT.READ", "DATA.CARD.READ", "CONFIG.LIMIT.CHANGE"}
	testNotes   = []string{"", "ok", "转账失败", "余额不足，请重试", `a "quoted" word`, "two\nlines", "back\\slash", "emoji 🙂 here", "<b>&amp;</b>", "ends with *"}
)

// event number i, about the same in every run; r varies what events are like.
func event(r *rand.Rand, i int) *veritrail.ComplianceEvent {
	e := &veritrail.ComplianceEvent{
		Timestamp: base.Add(time.Duration(i)*7*time.Second + time.Duration(r.IntN(3600))*time.Second), // not in order
		Severity:  veritrail.Severity(r.IntN(6)),
		Action:    testActions[r.IntN(len(testActions))],
		Subject:   map[string]string{"user": fmt.Sprintf("u%d", r.IntN(40))},
		Object:    map[string]string{"api": fmt.Sprintf("/v1/accounts/%d", i)},
		Context:   map[string]string{"ip": fmt.Sprintf("10.0.%d.%d", r.IntN(4), r.IntN(256)), "trace_id": fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())},
	}
	if r.IntN(3) == 0 {
		e.Subject["role"] = []string{"teller", "admin"}[r.IntN(2)]
	}
	if r.IntN(4) > 0 {
		e.Context["note"] = testNotes[r.IntN(len(testNotes))]
	}
	if r.IntN(500) == 0 {
		e.Object["blob"] = strings.Repeat("long text ", 1+r.IntN(400))
	}
	if r.IntN(50) == 0 {
		e.Object[fmt.Sprintf("odd.key %d", r.IntN(5))] = "x"
	}
	return e
}

// writer records into a new trail of small segments.
type writer struct {
	t   testing.TB
	dir string
	rec *recorder.Recorder
	r   *rand.Rand
	n   int
}

func newTrail(t testing.TB) *writer {
	t.Helper()
	w := &writer{t: t, dir: filepath.Join(t.TempDir(), "trail"), r: rand.New(rand.NewPCG(1, 2))}
	w.open()
	t.Cleanup(func() { w.rec.Close() })
	return w
}

func (w *writer) open() {
	w.t.Helper()
	var err error
	if w.rec, err = recorder.Open(recorder.Config{Dir: w.dir, SegmentBytes: 256 << 10, CheckpointEvery: time.Hour}); err != nil {
		w.t.Fatal(err)
	}
}

// record records n events in groups, so that there are several frames.
func (w *writer) record(n int) {
	w.t.Helper()
	for n > 0 {
		var last recorder.Future
		for range min(n, 97) {
			var err error
			if last, err = w.rec.RecordAsync(background, event(w.r, w.n)); err != nil {
				w.t.Fatal(err)
			}
			w.n++
		}
		if err := last.Wait(background); err != nil {
			w.t.Fatal(err)
		}
		n -= 97
	}
}

func (w *writer) size() uint64 { return w.rec.Stats().Size }

// config is for an index that goes on quickly.
func (w *writer) config() Config {
	return Config{Dir: w.dir, Durable: w.size, Every: time.Millisecond, Retry: 20 * time.Millisecond}
}

func open(t testing.TB, cfg Config) *Index {
	t.Helper()
	x, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func openReader(t testing.TB, dir string) *Index {
	t.Helper()
	x, err := OpenReader(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func untilIndexed(t testing.TB, x *Index) {
	t.Helper()
	until(t, "everything is indexed", func() bool {
		st := x.Status()
		return st.Lag == 0 && st.Indexed == st.Segments
	})
}

func parse(t testing.TB, where ...string) *search.Query {
	t.Helper()
	q, err := search.Parse(where)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// found is a hit that may be kept.
type found struct {
	leaf uint64
	text string
}

func collect(into *[]found) func(search.Hit) error {
	return func(h search.Hit) error {
		*into = append(*into, found{h.Leaf, string(h.Bytes)})
		return nil
	}
}

// scanned is the answer without any index.
func scanned(t testing.TB, dir string, q *search.Query, first, end uint64) []found {
	t.Helper()
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	var out []found
	gaps, err := search.Scan(background, leaves, first, end, q, collect(&out))
	if err != nil || len(gaps) > 0 {
		t.Fatalf("scan: %v, gaps %v", err, gaps)
	}
	return out
}

// same compares the index's answer with the scan's, in both orders.
func same(t testing.TB, x *Index, q *search.Query, first, end uint64) (Used, bool) {
	t.Helper()
	want := scanned(t, x.cfg.Dir, q, first, end)
	var used Used
	for _, newest := range []bool{false, true} {
		var got []found
		var gaps []search.Gap
		var err error
		if used, gaps, err = x.SearchUsed(background, q, first, end, newest, collect(&got)); err != nil || len(gaps) > 0 {
			t.Fatalf("search: %v, gaps %v", err, gaps)
		}
		if newest {
			slices.Reverse(got)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q since %v until %v, leaves %d to %d, newest %v: %d events, the scan has %d; %+v",
				q.Conditions(), q.Since, q.Until, first, end, newest, len(got), len(want), used)
			return used, false
		}
	}
	return used, true
}

// randomQuery asks for something that may be there.
func randomQuery(r *rand.Rand) *search.Query {
	texts := []string{"转账", "不足", "账", "quoted", `"`, "\n", "\\", "LOGIN", "u1", "1", "10.0.1.", "/v1/accounts/12", "/v1/accounts/1234", "text long", "🙂", "e", "zzz", "teller", "x", "&", "a1"}
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	condition := func() string {
		switch r.IntN(12) {
		case 0:
			return "act=" + pick(append(testActions, "AUTH.*", "*.LOGIN.FAIL", "DATA.*.READ", "*", "NO.SUCH")...)
		case 1:
			return "act!=" + pick(append(testActions, "AUTH.*")...)
		case 2:
			return pick("sev=", "sev>=", "sev!=") + pick("DEBUG", "info", "WARN", "ERROR", "CRITICAL")
		case 3, 4:
			return fmt.Sprintf("sub.user=u%d", r.IntN(45))
		case 5:
			return pick("sub.user=u1*", "sub.user=*", "sub.user=*7", "sub.user=u*1", "sub.role=teller", "sub.role=*", "sub.none=x", "sub.user=")
		case 6:
			return pick("sub.role!=admin", "sub.user!=u3", "ctx.note!=*", "obj.api!=/v1/accounts/1*")
		case 7:
			return pick("ctx.note=", "ctx.note=*失败", "ctx.note=*\n*", `ctx.note=a "quoted" word`, "ctx.note=ends with *", "obj.odd.key 3=x", "obj.blob=*")
		case 8:
			return fmt.Sprintf("obj.api=/v1/accounts/%d%s", r.IntN(4000), pick("", "*"))
		case 9:
			return fmt.Sprintf("ctx.ip=10.0.%d.%s", r.IntN(5), pick("1", "2*", "*", "17"))
		default:
			return pick("text=", "text=", "text!=") + pick(texts...)
		}
	}
	var where []string
	for range r.IntN(4) {
		where = append(where, condition())
	}
	q, err := search.Parse(where)
	if err != nil {
		panic(fmt.Sprint(where, err))
	}
	if r.IntN(3) == 0 {
		q.Since = base.Add(time.Duration(r.IntN(40_000)) * time.Second)
	}
	if r.IntN(3) == 0 {
		q.Until = base.Add(time.Duration(r.IntN(40_000))*time.Second + time.Duration(r.IntN(2))*time.Millisecond)
	}
	return q
}

func segmentsOf(t testing.TB, dir string) []trail.SegmentFile {
	t.Helper()
	files, err := trail.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
