package verify

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	veritrail "github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/seal"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// sealed writes a trail of n leaves of about 370 bytes with the real writer.
func sealed(t testing.TB, n int, segmentBytes int64, digests ...suite.Digest) (dir string, vkeys []string, bytesOf int64) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "trail")
	signers, vkeys := signersOf(t, origin, 7, digests...)
	if err := trail.Create(durable.OS, dir, trail.Identity{Origin: origin, Digests: suite.NewSet(digests...), Created: epoch}); err != nil {
		t.Fatal(err)
	}
	l, err := seal.Open(seal.Config{Dir: dir, Signers: signers, SegmentBytes: segmentBytes, QueueBytes: 512 << 10, Buffered: true})
	if err != nil {
		t.Fatal(err)
	}
	e := veritrail.ComplianceEvent{
		ID: idOf(0), Timestamp: epoch, Severity: veritrail.SeverityWarn, Action: "DATA.TABLE.READ",
		Subject: map[string]string{"user": "10086", "role": "auditor"}, Object: map[string]string{"table": "customers", "rows": "120"},
		Context: map[string]string{"ip": "192.0.2.7", "trace_id": strings.Repeat("ab", 16), "host": "node-17.example.com", "ua": strings.Repeat("x", 60)},
	}
	leaf, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	var last seal.Pending
	for i := range n {
		copy(leaf[len(`{"id":"`):], idOf(i))
		if last, err = l.Append(context.Background(), leaf); err != nil {
			t.Fatal(err)
		}
	}
	if err := last.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, vkeys, int64(n * len(leaf))
}

func TestTrailOfTheWriterIsIntact(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		n := 70_000 >> len(digests) // past a full tile with SHA-256
		dir, vkeys, size := sealed(t, n, 2<<20, digests...)
		rep, err := Trail(context.Background(), dir, Options{Keys: vkeys})
		if err != nil {
			t.Fatal(err)
		}
		wantFindings(t, rep)
		if rep.Size != uint64(n) || rep.Sealed != uint64(n) || rep.Bytes != uint64(size) || rep.Segments < 3 {
			t.Errorf("%+v", rep)
		}
	}
}

// peak is the most memory in use while f runs, without what is only waiting to
// be collected.
func peak(f func(progress func(done, total int64))) uint64 {
	runtime.GC()
	var most atomic.Uint64
	f(func(int64, int64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most.Store(max(most.Load(), m.HeapAlloc))
	})
	return most.Load()
}

// TestMemoryIsFlat: eight times the trail takes no more memory, but for how full
// its frames happen to be.
func TestMemoryIsFlat(t *testing.T) {
	var used [2]uint64
	for i, n := range []int{15_000, 120_000} {
		dir, vkeys, _ := sealed(t, n, 1<<20)
		used[i] = peak(func(progress func(done, total int64)) {
			rep, err := Trail(context.Background(), dir, Options{Keys: vkeys, Workers: 2, Progress: progress})
			if err != nil || rep.Outcome != Intact || rep.Events != uint64(n) {
				t.Fatalf("%v, %+v", err, rep)
			}
		})
	}
	const bound = 48 << 20
	if used[1] > used[0]+(4<<20) || used[1] > bound {
		t.Errorf("heap of %d bytes for 15,000 leaves, %d for 120,000", used[0], used[1])
	}
	t.Logf("heap: %d MiB, %d MiB", used[0]>>20, used[1]>>20)
}

func BenchmarkVerify(b *testing.B) {
	const n = 1_000_000
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		b.Run(strconv.Itoa(len(suite.NewSet(digests...).Digests()))+"-digests", func(b *testing.B) {
			dir, vkeys, size := sealed(b, n, 0, digests...)
			b.SetBytes(size)
			for b.Loop() {
				rep, err := Trail(context.Background(), dir, Options{Keys: vkeys})
				if err != nil || rep.Outcome != Intact || rep.Events != n {
					b.Fatalf("%v, %+v", err, rep)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkVerifyMemory(b *testing.B) {
	for _, n := range []int{100_000, 400_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir, vkeys, _ := sealed(b, n, 0)
			var most uint64
			for b.Loop() {
				most = max(most, peak(func(progress func(done, total int64)) {
					if rep, err := Trail(context.Background(), dir, Options{Keys: vkeys, Progress: progress}); err != nil || rep.Outcome != Intact {
						b.Fatalf("%v, %+v", err, rep)
					}
				}))
			}
			b.ReportMetric(float64(most)/(1<<20), "MiB-heap")
		})
	}
}

// FuzzSegment puts other bytes in place of a sealed segment's: nothing but those
// bytes may ever be intact.
func FuzzSegment(f *testing.F) {
	a := small(f)
	name := a.segment(0)
	intact := get(f, name)
	_, parts := takeApart(f, intact)
	f.Add(intact)
	f.Add(intact[:200])
	f.Add(bytes.Replace(intact, line(f, 6), nil, 1))
	f.Add(append(bytes.Clone(intact[:parts[1].at]), intact[parts[2].at:]...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		put(t, name, b)
		rep, err := Trail(t.Context(), a.dir, Options{Keys: a.vkeys, Workers: 1})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Outcome == Intact && !bytes.HasPrefix(b, intact) {
			t.Errorf("intact, with other bytes: %+v", rep)
		}
		for _, x := range rep.Findings {
			if x.HasLeaf && x.LastLeaf < x.Leaf {
				t.Errorf("leaves the wrong way about: %s", x)
			}
		}
	})
}

// FuzzAlign: edits never point outside of what was compared, and there are none
// exactly when nothing differs.
func FuzzAlign(f *testing.F) {
	f.Add([]byte("abcdef"), []byte("abdcef"))
	f.Add([]byte("abcdef"), []byte("abef"))
	f.Add([]byte(""), []byte("x"))
	f.Add([]byte("aaaaaaaa"), []byte("abababab"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a) > 300 || len(b) > 300 {
			return // the work grows with both
		}
		old, now := make([]uint64, len(a)), make([]uint64, len(b))
		for i := range a {
			old[i] = uint64(a[i])
		}
		for i := range b {
			now[i] = uint64(b[i])
		}
		edits := align(old, now)
		if (len(edits) == 0) != bytes.Equal(a, b) {
			t.Fatalf("%q, %q: %d edits", a, b, len(edits))
		}
		var made []uint64
		at := 0
		for _, e := range edits {
			if e.old < at || e.old+e.olds > len(old) || e.now+e.nows > len(now) {
				t.Fatalf("%q, %q: edit %+v", a, b, e)
			}
			made = append(append(made, old[at:e.old]...), now[e.now:e.now+e.nows]...)
			at = e.old + e.olds
		}
		if made = append(made, old[at:]...); fmt.Sprint(made) != fmt.Sprint(now) {
			t.Fatalf("%q with the edits is %v, want %q", a, made, b)
		}
	})
}

// FuzzBundle reads broken entry bundles.
func FuzzBundle(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 0})
	f.Add([]byte{255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for _, leaf := range entries(b) {
			n += 2 + len(leaf)
		}
		if n > len(b) {
			t.Errorf("%d bytes of entries in %d", n, len(b))
		}
	})
}
