package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
)

// Whatever is asked, the index finds what reading everything finds: from
// postings, from summaries alone, from memory, and where there is nothing.
func TestIndexAnswersLikeAScan(t *testing.T) {
	w := newTrail(t)
	w.record(6000)
	queries := 400
	if testing.Short() {
		queries = 40
	}
	hot := open(t, w.config())
	untilIndexed(t, hot)
	if st := hot.Status(); st.Segments < 5 || st.Hot != st.Segments {
		t.Fatalf("%+v", st)
	}
	r := rand.New(rand.NewPCG(3, 4))
	ask := func(x *Index) {
		t.Helper()
		for range queries {
			first, end := uint64(0), w.size()
			if r.IntN(2) == 0 {
				first = r.Uint64N(end)
				end = first + r.Uint64N(end-first+1)
			}
			if _, ok := same(t, x, randomQuery(r), first, end); !ok {
				return
			}
		}
	}
	ask(hot)
	if st := hot.Status(); st.Lies != 0 || st.Removed != 0 {
		t.Errorf("of a sound index, got %+v", st)
	}
	if err := hot.Close(); err != nil {
		t.Fatal(err)
	}
	ask(openReader(t, w.dir))

	cfg := w.config()
	cfg.HotEvents = 1500
	cool := open(t, cfg)
	untilIndexed(t, cool)
	if st := cool.Status(); st.Hot == 0 || st.Hot == st.Segments {
		t.Fatalf("want some segments without postings, got %+v", st)
	}
	ask(cool)
	if err := cool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Drop(w.dir); err != nil {
		t.Fatal(err)
	}
	none := openReader(t, w.dir)
	if st := none.Status(); st.Indexed != 0 || !st.Rebuilding() {
		t.Errorf("of no index, got %+v", st)
	}
	ask(none)
}

func TestEachIDIsFound(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	x := open(t, w.config())
	untilIndexed(t, x)
	for leaf := uint64(0); leaf < w.size(); leaf += 37 {
		line, _, err := x.leaves.ReadPlace(leaf)
		if err != nil {
			t.Fatal(err)
		}
		e, err := veritrail.ParseCanonical(line)
		if err != nil {
			t.Fatal(err)
		}
		var got []found
		used, _, err := x.SearchUsed(background, parse(t, "id="+e.ID), 0, w.size(), false, collect(&got))
		if err != nil || len(got) != 1 || got[0].leaf != leaf {
			t.Fatalf("leaf %d: got %v, %v", leaf, got, err)
		}
		if used.Bundles > 3 || used.Read > 0 {
			t.Errorf("leaf %d: looked at too much: %+v", leaf, used)
		}
	}
}

// An index looks where it has to and nowhere else.
func TestIndexLooksAtLittle(t *testing.T) {
	w := newTrail(t)
	w.record(6000)
	x := open(t, w.config())
	untilIndexed(t, x)
	for where, most := range map[string]uint64{
		"obj.api=/v1/accounts/4321": 1, "sub.user=nobody": 0, "text=/v1/accounts/4321": 1, "text=no such text": 0, "text=odd.key": 0, "ctx.nokey=1": 0,
	} {
		used, ok := same(t, x, parse(t, where), 0, w.size())
		if !ok || used.Bundles > most || used.Read > 0 {
			t.Errorf("%s: %+v, want at most %d bundles", where, used, most)
		}
	}
	q := parse(t, "sub.user=u7")
	q.Since, q.Until = base.Add(5*time.Hour), base.Add(6*time.Hour)
	if used, ok := same(t, x, q, 0, w.size()); !ok || used.PassedBy == 0 || used.Bundles > 10 {
		t.Errorf("an hour of many: %+v", used)
	}
}

func TestSearchStopsWhereItsCallerDoes(t *testing.T) {
	w := newTrail(t)
	w.record(2000)
	x := open(t, w.config())
	untilIndexed(t, x)
	enough := errors.New("enough")
	for _, newest := range []bool{false, true} {
		n := 0
		_, err := x.Search(background, parse(t, "act=AUTH.*"), 0, w.size(), newest, func(search.Hit) error {
			if n++; n == 3 {
				return enough
			}
			return nil
		})
		if err != enough || n != 3 { //nolint:errorlint // as it is
			t.Errorf("newest %v: %v after %d hits", newest, err, n)
		}
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := x.Search(ctx, parse(t), 0, w.size(), false, func(search.Hit) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// While it is recorded and segments come and go, each answer is whole.
func TestIndexFollowsAWriter(t *testing.T) {
	w := newTrail(t)
	x := open(t, w.config())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.record(5000)
	}()
	r := rand.New(rand.NewPCG(5, 6))
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if _, ok := same(t, x, randomQuery(r), 0, w.size()); !ok {
			break
		}
	}
	<-done
	untilIndexed(t, x)
	st := x.Status()
	if st.Leaves != w.size() || st.Lag != 0 || st.Segments+1 != len(segmentsOf(t, w.dir)) {
		t.Errorf("%+v of %d leaves", st, w.size())
	}
	same(t, x, parse(t, "text=转账"), 0, w.size())
}

func TestCountsAreThoseOfAScan(t *testing.T) {
	w := newTrail(t)
	w.record(6000)
	hot := open(t, w.config())
	untilIndexed(t, hot)
	r := rand.New(rand.NewPCG(7, 8))
	check := func(x *Index, q *search.Query, first, end uint64) {
		t.Helper()
		want := newCounts(true)
		leaves := trail.NewLeaves(w.dir)
		defer leaves.Close()
		if _, err := search.Scan(background, leaves, first, end, q, func(h search.Hit) error {
			want.addEvent(h.Event, len(h.Bytes))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		got, gaps, err := x.Count(background, q, first, end, true)
		if err != nil || len(gaps) > 0 {
			t.Fatalf("%v, gaps %v", err, gaps)
		}
		if got.Events != want.Events || got.LeafBytes != want.LeafBytes || !got.First.Equal(want.First) || !got.Last.Equal(want.Last) {
			t.Errorf("since %v until %v: %d events, %d bytes, %v to %v; want %d, %d, %v to %v", q.Since, q.Until,
				got.Events, got.LeafBytes, got.First, got.Last, want.Events, want.LeafBytes, want.First, want.Last)
		}
		for name, m := range map[string][2]map[string]uint64{
			"actions": {got.Actions, want.Actions}, "severities": {got.Severities, want.Severities}, "kinds": {got.Kinds, want.Kinds}, "subjects": {got.Subjects, want.Subjects},
		} {
			if !maps.Equal(m[0], m[1]) {
				t.Errorf("since %v until %v: %s: got %v, want %v", q.Since, q.Until, name, m[0], m[1])
			}
		}
		if !maps.Equal(got.Hours, want.Hours) {
			t.Errorf("hours: got %v, want %v", got.Hours, want.Hours)
		}
	}
	ask := func(x *Index) {
		t.Helper()
		check(x, parse(t), 0, w.size())
		check(x, parse(t, "act=AUTH.*"), 0, w.size())
		for range 30 {
			q := parse(t)
			q.Since = base.Add(time.Duration(r.IntN(20_000)) * time.Second)
			q.Until = q.Since.Add(time.Duration(r.IntN(30_000)) * time.Second)
			if r.IntN(3) == 0 {
				q.Since, q.Until = q.Since.Truncate(time.Hour), q.Until.Truncate(time.Hour)
			}
			check(x, q, 0, w.size())
		}
		check(x, parse(t), 100, w.size()-100)
	}
	ask(hot)
	if err := hot.Close(); err != nil {
		t.Fatal(err)
	}
	ask(openReader(t, w.dir))
	cfg := w.config()
	cfg.HotEvents = 1
	cold := open(t, cfg)
	untilIndexed(t, cold)
	ask(cold)
}

// damages are what may become of a sidecar.
func damages(r *rand.Rand, b []byte) map[string][]byte {
	out := map[string][]byte{"deleted": nil, "empty": {}, "cut in half": b[:len(b)/2], "one byte short": b[:len(b)-1], "one byte long": append(b[:len(b):len(b)], 0)}
	random := make([]byte, len(b))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	out["random bytes"] = random
	places := 12
	if testing.Short() {
		places = 4
	}
	for range places {
		at := r.IntN(len(b))
		flipped := append([]byte(nil), b...)
		flipped[at] ^= 1 << r.IntN(8)
		out[fmt.Sprintf("bit flipped at %d", at)] = flipped
		at = r.IntN(len(b))
		patch := append([]byte(nil), b...)
		copy(patch[at:], random[:100])
		out[fmt.Sprintf("random bytes at %d", at)] = patch
	}
	return out
}

func damage(t testing.TB, name string, b []byte) {
	t.Helper()
	if b == nil {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		return
	}
	write(t, name, b)
}

// A damaged sidecar costs time, never an answer: at the start and while running,
// and whoever keeps the index makes it again.
func TestDamagedSidecars(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	r := rand.New(rand.NewPCG(9, 10))
	x := open(t, w.config())
	untilIndexed(t, x)
	files := segmentsOf(t, w.dir)
	if len(files) < 4 {
		t.Fatalf("%d segments", len(files))
	}
	for _, suffix := range []string{summarySuffix, postingsSuffix} {
		name := x.path(files[1].FirstLeaf, suffix)
		good := read(t, name)
		for what, b := range damages(r, good) {
			queries := func(x *Index, n int) {
				t.Helper()
				for range n {
					if _, ok := same(t, x, randomQuery(r), 0, w.size()); !ok {
						t.Fatalf("%s, %s", suffix, what)
					}
				}
			}
			mended := func() {
				t.Helper()
				until(t, suffix+", "+what+" is made again", func() bool {
					untilIndexed(t, x)
					got, err := os.ReadFile(name)
					return err == nil && string(got) == string(good)
				})
				queries(x, 2)
			}
			damage(t, name, b)
			queries(x, 4) // comes upon it, or not
			mended()
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, name, b)
			reader := openReader(t, w.dir) // finds it damaged at the start
			queries(reader, 4)
			if got, err := os.ReadFile(name); b != nil && (err != nil || len(got) != len(b)) {
				t.Errorf("%s, %s: whoever only reads changed it", suffix, what)
			}
			x = open(t, w.config())
			queries(x, 2)
			mended()
		}
	}
	if st := x.Status(); st.Lies != 0 {
		t.Errorf("%d lies: the checksums did not hold back damage", st.Lies)
	}
}

// The same while a recorder runs under load: it is not held up, and afterwards
// everything is right.
func TestDamageUnderLoad(t *testing.T) {
	w := newTrail(t)
	w.record(1500)
	x := open(t, w.config())
	untilIndexed(t, x)
	// So many batches for each look at it: a look compares with a scan of
	// everything, and must not be left further behind each time.
	load, done := make(chan struct{}, 8), make(chan struct{})
	go func() {
		defer close(done)
		for range load {
			w.record(97)
		}
	}()
	more := func() {
		for len(load) < cap(load) {
			load <- struct{}{}
		}
	}
	r := rand.New(rand.NewPCG(11, 12))
	rounds := 60
	if testing.Short() {
		rounds = 15
	}
	for range rounds {
		more()
		var name string
		var b []byte
		until(t, "there is a sidecar to be damaged", func() bool {
			names, err := sidecars(w.dir)
			if err != nil || len(names) == 0 {
				return false // all are being made again
			}
			name = names[r.IntN(len(names))]
			b, err = os.ReadFile(name)
			return err == nil && len(b) > 0 && !strings.HasSuffix(name, ".tmp")
		})
		for _, bad := range damages(r, b) {
			if bad == nil {
				_ = os.Remove(name) // or it was removed
			} else {
				write(t, name, bad)
			}
			break
		}
		before := w.size()
		more()
		if _, ok := same(t, x, randomQuery(r), 0, before); !ok {
			break
		}
		until(t, "recording goes on", func() bool { return w.size() > before })
	}
	close(load)
	<-done
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = open(t, w.config())
	untilIndexed(t, x)
	for range 30 {
		same(t, x, randomQuery(r), 0, w.size())
	}
	if st := x.Status(); st.Removed != 0 && x.Status().Lag != 0 || st.Lies != 0 {
		t.Errorf("%+v", st)
	}
}

// Nobody searches meanwhile: the index is mended all the same, also when it is
// deleted with its directory and the lock in it.
func TestIndexIsMendedThoughNobodySearches(t *testing.T) {
	random := rand.NewChaCha8([32]byte{15})
	for name, damage := range map[string]func(dir string) error{
		"all deleted":   deleteIndex,
		"files deleted": eachSidecar(os.Remove),
		"files cut":     eachSidecar(func(name string) error { return os.Truncate(name, 60) }),
		"files emptied": eachSidecar(func(name string) error { return os.Truncate(name, 0) }),
		"random bytes": eachSidecar(func(name string) error {
			b, err := os.ReadFile(name)
			if err == nil {
				_, _ = random.Read(b[len(b)/2:])
				err = os.WriteFile(name, b, 0o600)
			}
			return err
		}),
	} {
		t.Run(name, func(t *testing.T) {
			w := newTrail(t)
			w.record(3000)
			cfg := w.config()
			cfg.Patrol = 10 * time.Millisecond
			x := open(t, cfg)
			untilIndexed(t, x)
			want := contents(t, w.dir)
			if err := damage(w.dir); err != nil {
				t.Fatal(err)
			}
			until(t, "all sidecars are as they were", func() bool { return maps.Equal(contents(t, w.dir), want) })
			until(t, "the index is kept", func() bool { return Kept(w.dir) })
			w.record(3000)
			r := rand.New(rand.NewPCG(13, 14))
			for range 30 {
				same(t, x, randomQuery(r), 0, w.size())
			}
			untilIndexed(t, x)
			if len(contents(t, w.dir)) <= len(want) {
				t.Error("no sidecar of the segments since then")
			}
		})
	}
}

func eachSidecar(damage func(name string) error) func(dir string) error {
	return func(dir string) error {
		names, err := sidecars(dir)
		for _, name := range names {
			err = errors.Join(err, damage(name))
		}
		return err
	}
}

// contents are the bytes of all sidecars that can be read just now.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	names, err := sidecars(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err == nil {
			all[name] = string(b)
		}
	}
	return all
}

// A sidecar whose checksums hold but that lies is found out by the record.
func TestLiesAreLeftOut(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	x := open(t, w.config())
	untilIndexed(t, x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x = openReader(t, w.dir)
	c := x.closed[1]
	// The postings of another segment under this one's name.
	b := newBuilder(c.first, nil)
	other := x.closed[0]
	for leaf := other.first; b.next() < c.first+c.leaves; leaf++ {
		line, _, err := x.leaves.ReadPlace(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.add(b, [][]byte{line}); err != nil {
			t.Fatal(err)
		}
	}
	forged, err := b.marshalPostings(c.identity)
	if err != nil {
		t.Fatal(err)
	}
	write(t, x.path(c.first, postingsSuffix), forged)
	x = open(t, w.config())
	q := parse(t, "sub.user=u7")
	var got []found
	used, gaps, err := x.SearchUsed(background, q, 0, w.size(), false, collect(&got))
	if err != nil || used.Lies == 0 {
		t.Fatalf("%+v, %v", used, err)
	}
	missed := func(leaf uint64) bool {
		for _, g := range gaps {
			if g.First <= leaf && leaf < g.End {
				return true
			}
		}
		return false
	}
	// Nothing that was not asked for, and nothing missing without a word.
	want := scanned(t, w.dir, q, 0, w.size())
	for _, f := range want {
		if !slices.Contains(got, f) && !missed(f.leaf) {
			t.Errorf("leaf %d is missing, gaps %+v", f.leaf, gaps)
		}
	}
	for _, f := range got {
		if !slices.Contains(want, f) {
			t.Errorf("leaf %d was given out: %s", f.leaf, f.text)
		}
	}
	untilIndexed(t, x)
	same(t, x, parse(t, "sub.user=u7"), 0, w.size())
	if st := x.Status(); st.Removed == 0 {
		t.Errorf("%+v: it was not removed", st)
	}
}

// What is beside the segments may be of another trail, or of what this one was.
func TestSidecarsOfSomethingElse(t *testing.T) {
	a, b := newTrail(t), newTrail(t)
	b.r = rand.New(rand.NewPCG(99, 99))
	a.record(3000)
	b.record(3000)
	xa, xb := open(t, a.config()), open(t, b.config())
	untilIndexed(t, xa)
	untilIndexed(t, xb)
	for _, x := range []*Index{xa, xb} {
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
	names, err := sidecars(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		write(t, filepath.Join(b.dir, Dir, filepath.Base(name)), read(t, name))
	}
	stray := filepath.Join(b.dir, Dir, "00000000000099999744.sum")
	left := filepath.Join(b.dir, Dir, ".00000000000000000000.sum.123.tmp")
	kept := filepath.Join(b.dir, Dir, "notes.txt")
	for _, name := range []string{stray, left, kept} {
		write(t, name, []byte("x"))
	}
	x := open(t, b.config())
	untilIndexed(t, x)
	if st := x.Status(); st.Removed == 0 || st.Lies != 0 {
		t.Errorf("%+v", st)
	}
	same(t, x, parse(t, "sub.user=u7"), 0, b.size())
	for name, want := range map[string]bool{stray: false, left: false, kept: true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: there is %v", filepath.Base(name), err == nil)
		}
	}
}

func TestSidecarsGoWithTheirSegment(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	x := open(t, w.config())
	untilIndexed(t, x)
	files := segmentsOf(t, w.dir)
	if err := os.Remove(files[0].Path); err != nil {
		t.Fatal(err)
	}
	w.record(2000) // until segments are listed again
	until(t, "the sidecars are gone", func() bool {
		_, err := os.Stat(x.path(files[0].FirstLeaf, summarySuffix))
		_, err2 := os.Stat(x.path(files[0].FirstLeaf, postingsSuffix))
		return os.IsNotExist(err) && os.IsNotExist(err2)
	})
	var got []found
	_, gaps, err := x.SearchUsed(background, parse(t, "act=*"), 0, w.size(), true, collect(&got))
	if err != nil || len(gaps) != 1 || gaps[0].First != 0 || gaps[0].End != files[1].FirstLeaf || !errors.Is(gaps[0].Err, trail.ErrMissing) {
		t.Errorf("%v, gaps %+v", err, gaps)
	}
	if uint64(len(got)) != w.size()-files[1].FirstLeaf {
		t.Errorf("%d events, want %d", len(got), w.size()-files[1].FirstLeaf)
	}
}

// A segment that cannot be read cannot be indexed. It is tried again, and says
// so; the rest is found.
func TestADamagedSegment(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	files := segmentsOf(t, w.dir)
	good := read(t, files[1].Path)
	bad := append([]byte(nil), good...)
	bad[len(bad)/2] ^= 1
	write(t, files[1].Path, bad)
	x := open(t, w.config())
	until(t, "the others are indexed", func() bool { st := x.Status(); return st.Failed == 1 && !st.Rebuilding() })
	if st := x.Status(); !strings.Contains(st.Problem, files[1].Name) {
		t.Errorf("problem %q", st.Problem)
	}
	var got []found
	_, gaps, err := x.SearchUsed(background, parse(t, "act=*"), 0, w.size(), false, collect(&got))
	if err != nil || len(gaps) == 0 || gaps[0].First < files[1].FirstLeaf || gaps[len(gaps)-1].End > files[2].FirstLeaf {
		t.Errorf("%v, gaps %+v", err, gaps)
	}
	write(t, files[1].Path, good)
	untilIndexed(t, x)
}

func TestOneKeepsAnIndex(t *testing.T) {
	w := newTrail(t)
	w.record(1000)
	x := open(t, w.config())
	if _, err := Open(w.config()); !errors.Is(err, ErrLocked) {
		t.Errorf("a second: got %v", err)
	}
	if err := Drop(w.dir); !errors.Is(err, ErrLocked) {
		t.Errorf("dropping it meanwhile: got %v", err)
	}
	untilIndexed(t, x)
	same(t, openReader(t, w.dir), parse(t, "sub.user=u1"), 0, w.size())
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := Build(background, w.config(), func(Status) {})
	if err != nil || st.Indexed != st.Segments {
		t.Errorf("%+v, %v", st, err)
	}
	if err := Drop(w.dir); err != nil {
		t.Error(err)
	}
	if names, err := sidecars(w.dir); len(names) > 0 || err != nil {
		t.Errorf("left: %v, %v", names, err)
	}
	if st, err = Build(background, w.config(), func(Status) {}); err != nil || st.Indexed != st.Segments || st.Segments == 0 {
		t.Errorf("%+v, %v", st, err)
	}
	info, err := os.Stat(x.path(0, postingsSuffix))
	if err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A disk that fails costs the index, not the answer, and not the recording. When
// it works again, so does the index.
func TestDiskFails(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	var failing atomic.Bool
	failing.Store(true)
	for _, fault := range []faulty.Fault{faulty.Before, faulty.After} {
		failing.Store(true)
		cfg := w.config()
		cfg.Disk = &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(_ int, op faulty.Op, _ string) faulty.Fault {
			if failing.Load() && op == "writelazy" {
				return fault
			}
			return faulty.Pass
		}}
		var told atomic.Uint64
		cfg.Problem = func(error) { told.Add(1) }
		if err := Drop(w.dir); err != nil {
			t.Fatal(err)
		}
		x := open(t, cfg)
		until(t, "everything failed", func() bool { st := x.Status(); return st.Failed == st.Segments && st.Segments > 0 })
		if told.Load() == 0 {
			t.Error("nobody was told")
		}
		before := w.size()
		w.record(500)
		if w.size() != before+500 {
			t.Errorf("%d events, want %d", w.size(), before+500)
		}
		same(t, x, parse(t, "sub.user=u7"), 0, w.size())
		failing.Store(false)
		untilIndexed(t, x)
		same(t, x, parse(t, "sub.user=u7"), 0, w.size())
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOldEventsLeaveTheHotWindow(t *testing.T) {
	w := newTrail(t)
	w.record(3000)
	now := base.Add(3000 * 7 * time.Second)
	cfg := w.config()
	cfg.HotFor = 3 * time.Hour
	cfg.Now = func() time.Time { return now }
	x := open(t, cfg)
	untilIndexed(t, x)
	st := x.Status()
	if st.Hot == 0 || st.Hot == st.Segments {
		t.Fatalf("want some in the window: %+v", st)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	now = now.Add(24 * time.Hour)
	x = open(t, cfg)
	if st = x.Status(); st.Hot != 0 || st.Indexed != st.Segments {
		t.Errorf("a day later: %+v", st)
	}
	names, err := sidecars(w.dir)
	if err != nil || len(names) != st.Segments {
		t.Errorf("%d files for %d segments, %v", len(names), st.Segments, err)
	}
	same(t, x, parse(t, "sub.user=u7"), 0, w.size())
}
