package index

import (
	"crypto/rand"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/seal"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// benchEvents is how many events the benchmarks search: five million of about
// 350 bytes, over 180 days. VERITRAIL_BENCH_EVENTS changes it.
const benchEvents = 5_000_000

const benchDays = 180

// benchTrail is made once for all benchmarks, and is the same in every run but
// for its keys.
var benchTrail = sync.OnceValues(func() (string, error) {
	n := benchEvents
	if s := os.Getenv("VERITRAIL_BENCH_EVENTS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			return "", err
		}
	}
	parent, err := os.MkdirTemp("", "veritrail-index-bench-")
	if err != nil {
		return "", err
	}
	benchDir = parent
	dir := filepath.Join(parent, "trail")
	id := trail.Identity{Origin: "bench.example/index", Instance: [16]byte{1}, Digests: suite.NewSet(), Created: base}
	if err := trail.Create(durable.OS, dir, id); err != nil {
		return "", err
	}
	private, _, err := checkpoint.GenerateEd25519(id.Origin, rand.Reader)
	if err != nil {
		return "", err
	}
	signer, err := checkpoint.ParseSigner(private)
	if err != nil {
		return "", err
	}
	log, err := seal.Open(seal.Config{Dir: dir, Signers: []checkpoint.Signer{signer}, Buffered: true, CheckpointEvery: time.Hour, CheckpointLeaves: math.MaxUint64})
	if err != nil {
		return "", err
	}
	g := newGenerator(n)
	var last seal.Pending
	for range n {
		if last, err = log.Append(background, g.next()); err != nil {
			return "", err
		}
	}
	if err := last.Wait(background); err != nil {
		return "", err
	}
	return dir, log.Close()
})

// benchDir is removed when all is done.
var benchDir string

// generator makes events of a bank: 20,000 users, 60 actions, 2,000 branches'
// addresses, a few texts, ids that occur once.
type generator struct {
	r     *mrand.Rand
	d     veritrail.Draft
	i     int
	step  time.Duration
	buf   []byte
	users []string
	acts  []string
}

func newGenerator(n int) *generator {
	g := &generator{r: mrand.New(mrand.NewPCG(20260301, 180)), step: benchDays * 24 * time.Hour / time.Duration(n)}
	for i := range 20_000 {
		g.users = append(g.users, strconv.Itoa(1_000_000+i*37))
	}
	for _, area := range []string{"AUTH.LOGIN", "AUTH.MFA", "DATA.ACCOUNT", "DATA.CARD", "DATA.CUSTOMER", "CONFIG.LIMIT", "ADMIN.ROLE", "KEY.USE", "NET.CALL", "APP.TRANSFER"} {
		for _, verb := range []string{"OK", "FAIL", "READ", "WRITE", "EXPORT", "DENY"} {
			g.acts = append(g.acts, area+"."+verb)
		}
	}
	return g
}

var benchReasons = []string{"密码错误", "余额不足", "超出限额", "账户冻结", "timeout waiting for core banking", "insufficient permission", "device not registered", "approved by second officer"}

// next is one leaf, valid until the next call.
func (g *generator) next() []byte {
	r, d := g.r, &g.d
	d.Reset()
	for i := range d.ID {
		d.ID[i] = byte(r.Uint32())
	}
	d.ID[6], d.ID[8] = d.ID[6]&0x0f|0x40, d.ID[8]&0x3f|0x80
	d.Timestamp = base.Add(time.Duration(g.i)*g.step + time.Duration(r.IntN(2000))*time.Millisecond)
	d.Severity = veritrail.SeverityInfo
	if r.IntN(20) == 0 {
		d.Severity = veritrail.SeverityWarn + veritrail.Severity(r.IntN(3))
	}
	d.Action = g.acts[min(r.IntN(len(g.acts)), r.IntN(len(g.acts)))]
	d.Subject = append(d.Subject, veritrail.Pair{Key: "user", Value: g.users[r.IntN(len(g.users))]})
	if r.IntN(4) == 0 {
		d.Subject = append(d.Subject, veritrail.Pair{Key: "role", Value: []string{"teller", "officer", "auditor", "batch"}[r.IntN(4)]})
	}
	d.Object = append(d.Object, veritrail.Pair{Key: "api", Value: "/v1/accounts/" + strconv.Itoa(r.IntN(300_000))}, veritrail.Pair{Key: "table", Value: "account"})
	branch := r.IntN(2000)
	d.Context = append(d.Context,
		veritrail.Pair{Key: "host", Value: "core-" + strconv.Itoa(branch%8)}, veritrail.Pair{Key: "ip", Value: fmt.Sprintf("10.%d.%d.%d", branch/250, branch%250, r.IntN(8))},
		veritrail.Pair{Key: "process", Value: "teller-gw"}, veritrail.Pair{Key: "seq", Value: strconv.Itoa(g.i)},
		veritrail.Pair{Key: "trace_id", Value: fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())})
	switch {
	case g.i%100_000 == 77_777:
		d.Context = append(d.Context, veritrail.Pair{Key: "reason", Value: "反洗钱复核 case 4711"})
	case r.IntN(10) == 0:
		d.Context = append(d.Context, veritrail.Pair{Key: "reason", Value: benchReasons[r.IntN(len(benchReasons))]})
	}
	if err := d.Validate(); err != nil {
		panic(err) // the generator's fault
	}
	g.i++
	g.buf = d.AppendCanonical(g.buf[:0])
	return g.buf
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(killedDir); dir != "" {
		fmt.Fprintln(os.Stderr, indexUntilKilled(dir))
		os.Exit(1)
	}
	code := m.Run()
	if benchDir != "" {
		if err := os.RemoveAll(benchDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

func sizeOf(b *testing.B, dir string) uint64 {
	b.Helper()
	v, _, err := trail.OpenView(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	return v.Size()
}

// BenchmarkBuild indexes closed segments, whole, as fast as it goes.
func BenchmarkBuild(b *testing.B) {
	dir, err := benchTrail()
	if err != nil {
		b.Fatal(err)
	}
	size := sizeOf(b, dir)
	runtime.GC()
	for b.Loop() {
		b.StopTimer()
		if err := Drop(dir); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		start, busy := time.Now(), processorTime()
		st, err := Build(background, Config{Dir: dir, Durable: func() uint64 { return size }}, func(Status) {})
		if err != nil || st.Rebuilding() || st.Failed > 0 {
			b.Fatalf("%+v, %v", st, err)
		}
		b.ReportMetric(float64(st.Leaves)/time.Since(start).Seconds(), "events/s")
		b.ReportMetric(float64(st.Leaves)/(processorTime()-busy).Seconds(), "events/cpu-s")
		b.ReportMetric(float64(st.Bytes)/float64(st.Leaves), "index-B/event")
		b.ReportMetric(float64(st.Leaves), "events")
	}
}

// searcher is an index over the bench trail as `up` has one: with the last
// segment in memory.
var searcher = sync.OnceValues(func() (*Index, error) {
	dir, err := benchTrail()
	if err != nil {
		return nil, err
	}
	v, _, err := trail.OpenView(dir)
	if err != nil {
		return nil, err
	}
	size := v.Size()
	if err := v.Close(); err != nil {
		return nil, err
	}
	x, err := Open(Config{Dir: dir, Durable: func() uint64 { return size }})
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for x.Status().Lag > 0 {
		<-tick.C
	}
	return x, nil
})

// BenchmarkSearch asks for something else each time, and reports the median
// and the slowest.
func BenchmarkSearch(b *testing.B) {
	x, err := searcher()
	if err != nil {
		b.Fatal(err)
	}
	size := x.Status().Size
	g := newGenerator(int(size))
	end := base.Add(benchDays * 24 * time.Hour)
	r := mrand.New(mrand.NewPCG(1, 1))
	account := func() string { return "/v1/accounts/" + strconv.Itoa(r.IntN(300_000)) }
	for _, c := range []struct {
		name  string
		where func() string
		days  int // the last so many; 0: all
		limit int
	}{
		{"subject/7d", func() string { return "sub.user=" + g.users[r.IntN(len(g.users))] }, 7, 0},
		{"subject/180d", func() string { return "sub.user=" + g.users[r.IntN(len(g.users))] }, 0, 0},
		{"object/180d", func() string { return "obj.api=" + account() }, 0, 0},
		{"text/rare", func() string { return "text=反洗钱复核" }, 0, 0},
		{"text/none", func() string { return "text=hostile takeover" }, 0, 0},
		{"text/common-newest-20", func() string { return "text=余额不足" }, 0, 20},
		{"text/trace", func() string { return fmt.Sprintf("text=%016x%016x", r.Uint64(), r.Uint64()) }, 0, 0},
		{"text/account", func() string { return "text=" + account() }, 0, 0},
		{"action/newest-20", func() string { return "act=APP.TRANSFER.*" }, 0, 20},
	} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			hits, bundles := 0, uint64(0)
			ask := func() {
				q, err := search.Parse([]string{c.where()})
				if err != nil {
					b.Fatal(err)
				}
				if c.days > 0 {
					q.Since = end.Add(-time.Duration(c.days) * 24 * time.Hour)
				}
				n := 0
				start := time.Now()
				used, _, err := x.SearchUsed(background, q, 0, size, true, func(search.Hit) error {
					if n++; n == c.limit {
						return errEnough
					}
					return nil
				})
				took = append(took, time.Since(start))
				if err != nil && err != errEnough { //nolint:errorlint // as it is
					b.Fatal(err)
				}
				hits += n
				bundles += used.Bundles
			}
			busy := processorTime()
			for b.Loop() {
				for range questions {
					ask()
				}
			}
			report(b, took, hits, processorTime()-busy)
			b.ReportMetric(float64(bundles)/float64(len(took)), "bundles")
		})
	}
}

// questions are asked in one turn: the first that comes to a segment pays for
// opening it.
const questions = 50

var errEnough = fmt.Errorf("enough")

// report gives the median, the 95th percentile and the slowest question, and the
// processor time of one, which the machine's other users do not add to.
func report(b *testing.B, took []time.Duration, hits int, busy time.Duration) {
	slices.Sort(took)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "ms-p95")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms-most")
	b.ReportMetric(float64(busy.Microseconds())/1000/float64(len(took)), "cpu-ms")
	b.ReportMetric(float64(hits)/float64(len(took)), "hits")
}

func BenchmarkCount(b *testing.B) {
	x, err := searcher()
	if err != nil {
		b.Fatal(err)
	}
	size := x.Status().Size
	end := base.Add(benchDays * 24 * time.Hour)
	for _, c := range []struct {
		name     string
		since    time.Duration
		subjects bool
	}{{"action/180d", 0, false}, {"action/7d", 7*24*time.Hour + 17*time.Minute, false}, {"subjects/180d", 0, true}} {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			events, busy := uint64(0), processorTime()
			for b.Loop() {
				q := new(search.Query)
				if c.since > 0 {
					q.Since = end.Add(-c.since)
				}
				start := time.Now()
				counts, _, err := x.Count(background, q, 0, size, c.subjects)
				took = append(took, time.Since(start))
				if err != nil {
					b.Fatal(err)
				}
				events = counts.Events
			}
			report(b, took, int(events)*len(took), processorTime()-busy)
		})
	}
}

// BenchmarkScan is the same question without an index.
func BenchmarkScan(b *testing.B) {
	dir, err := benchTrail()
	if err != nil {
		b.Fatal(err)
	}
	size := sizeOf(b, dir)
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	q, err := search.Parse([]string{"sub.user=1000037"})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		if _, err := search.Scan(background, leaves, 0, size, q, func(search.Hit) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
