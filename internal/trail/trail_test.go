package trail_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/seal"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

const origin = "example.com/trail"

// newTrail makes a trail and a writer of small segments.
func newTrail(t testing.TB, segmentBytes int64, digests ...suite.Digest) *seal.Log {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "trail")
	id := trail.Identity{Origin: origin, Instance: [16]byte{9}, Digests: suite.NewSet(digests...), Created: time.Unix(1e9, 0)}
	if err := trail.Create(durable.OS, dir, id); err != nil {
		t.Fatal(err)
	}
	cfg := seal.Config{Dir: dir, SegmentBytes: segmentBytes, CheckpointEvery: time.Hour, Disk: &faulty.FS{
		FS: durable.OS, NoSync: true, Decide: func(int, faulty.Op, string) faulty.Fault { return faulty.Pass },
	}}
	private, _, err := checkpoint.GenerateEd25519(origin, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{private}
	if len(digests) > 0 {
		if private, _, err = checkpoint.GenerateSM2(origin, rand.Reader); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, private)
	}
	for _, k := range keys {
		s, err := checkpoint.ParseSigner(k)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Signers = append(cfg.Signers, s)
	}
	l, err := seal.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, seal.ErrClosed) {
			t.Error(err)
		}
		delete(dirs, l)
	})
	dirs[l] = dir
	return l
}

// dirs remembers where a test's logs are. Tests do not run in parallel.
var dirs = make(map[*seal.Log]string)

func dirOf(l *seal.Log) string { return dirs[l] }

// leafOf makes leaves of many lengths.
func leafOf(i uint64) []byte {
	return append(fmt.Appendf(nil, `{"n":"%d",`, i), bytes.Repeat([]byte{'x'}, int(i*i%61))...)
}

// appendLeaves appends n leaves as one group, or nearly.
func appendLeaves(t testing.TB, l *seal.Log, n int) {
	t.Helper()
	first := l.Stats().Size
	var last seal.Pending
	for i := range uint64(n) {
		var err error
		if last, err = l.Append(context.Background(), leafOf(first+i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := last.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func sealNow(t testing.TB, l *seal.Log) {
	t.Helper()
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// fill writes groups of many sizes with checkpoints between, until there are at
// least n leaves, and closes the log.
func fill(t testing.TB, l *seal.Log, n uint64) (size uint64) {
	t.Helper()
	for _, group := range []int{1, 1, 254, 1, 255, 2, 300, 513, 7} {
		appendLeaves(t, l, group)
		if group%2 == 0 {
			sealNow(t, l)
		}
	}
	for l.Stats().Size < n {
		appendLeaves(t, l, 97)
		if l.Stats().Size%5 == 0 {
			sealNow(t, l)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Stats().Size
}

func TestLeavesOverManySegments(t *testing.T) {
	l := newTrail(t, 3000)
	size := fill(t, l, 12_000)
	dir := dirOf(l)
	files, err := trail.Segments(dir)
	if err != nil || len(files) <= 40 {
		t.Fatalf("%d segments, %v; want more than a reader holds open", len(files), err)
	}
	leaves := trail.NewLeaves(dir)
	leaves.HoldOpen(32)
	defer leaves.Close()
	for n := uint64(0); n < size; n += tlog.TileWidth {
		width := int(min(tlog.TileWidth, size-n))
		got, err := leaves.Read(n, width)
		if err != nil || len(got) != width {
			t.Fatalf("bundle at %d: %d leaves, %v", n, len(got), err)
		}
		for i, leaf := range got {
			if !bytes.Equal(leaf, leafOf(n+uint64(i))) {
				t.Fatalf("leaf %d is %q", n+uint64(i), leaf)
			}
		}
	}
	if n := leaves.OpenFiles(); n != 32 {
		t.Errorf("%d segments are held open, want 32", n)
	}
	content := make(map[string][]byte)
	for _, f := range files {
		if content[f.Name], err = os.ReadFile(f.Path); err != nil {
			t.Fatal(err)
		}
	}
	for range 3000 {
		i := mrand.Uint64N(size)
		leaf, place, err := leaves.ReadPlace(i)
		if err != nil || !bytes.Equal(leaf, leafOf(i)) {
			t.Fatalf("leaf %d: %q, %v", i, leaf, err)
		}
		if !bytes.HasPrefix(content[place.Segment][place.Offset:], append(leaf, '\n')) || place.Time.IsZero() {
			t.Fatalf("leaf %d is not at %+v", i, place)
		}
		n := 1 + mrand.IntN(int(min(tlog.TileWidth-i%tlog.TileWidth, size-i)))
		got, err := leaves.Read(i, n)
		if err != nil || len(got) != n || !bytes.Equal(got[n-1], leafOf(i+uint64(n)-1)) {
			t.Fatalf("%d leaves from %d: %d, %v", n, i, len(got), err)
		}
	}
	if n := leaves.OpenFiles(); n != 32 {
		t.Errorf("%d segments are held open, want 32", n)
	}
	if err := leaves.Close(); err != nil {
		t.Fatal(err)
	}
	if leaf, _, err := leaves.ReadPlace(5); err != nil || !bytes.Equal(leaf, leafOf(5)) {
		t.Errorf("after Close: %q, %v", leaf, err)
	}
}

func TestLeavesThatAreNotThere(t *testing.T) {
	l := newTrail(t, 3000)
	size := fill(t, l, 3000)
	dir := dirOf(l)
	files, err := trail.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	if _, err := leaves.Read(0, 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		first uint64
		n     int
	}{{size, 1}, {size - 1, 2}, {size + 5000, 1}, {1 << 40, 256}, {1<<64 - 1, 1}, {1<<64 - 256, 256}, {1<<64 - 512, 256}} {
		if c.first/256 != (c.first+uint64(c.n)-1)/256 {
			continue
		}
		if _, err := leaves.Read(c.first, c.n); !errors.Is(err, trail.ErrMissing) {
			t.Errorf("%d leaves from %d of %d: got %v, want ErrMissing", c.n, c.first, size, err)
		}
	}
	for _, c := range []struct {
		first uint64
		n     int
	}{{0, 0}, {0, -1}, {0, 257}, {255, 2}, {1, 256}} {
		if _, err := leaves.Read(c.first, c.n); err == nil || errors.Is(err, trail.ErrMissing) {
			t.Errorf("%d leaves from %d: got %v, want a refusal", c.n, c.first, err)
		}
	}
	gone := files[len(files)/2] // known, never opened
	if err := os.Remove(gone.Path); err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*trail.Leaves{leaves, trail.NewLeaves(dir)} {
		if _, err := reader.Read(gone.FirstLeaf, 1); !errors.Is(err, trail.ErrMissing) {
			t.Errorf("a leaf of a removed segment: got %v, want ErrMissing", err)
		}
		if leaf, _, err := reader.ReadPlace(size - 1); err != nil || !bytes.Equal(leaf, leafOf(size-1)) {
			t.Errorf("a leaf of another segment: %q, %v", leaf, err)
		}
		if err := reader.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestSegmentUnderAnotherNameIsRefused(t *testing.T) {
	l := newTrail(t, 3000)
	fill(t, l, 3000)
	dir := dirOf(l)
	files, err := trail.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(files[1].Path, trail.SegmentPath(dir, files[1].FirstLeaf+256)); err != nil {
		t.Fatal(err)
	}
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	if _, err := leaves.Read(files[1].FirstLeaf+256, 1); err == nil || errors.Is(err, trail.ErrMissing) {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestSegmentsArePickedByName(t *testing.T) {
	dir := t.TempDir()
	if _, err := trail.Segments(dir); err == nil {
		t.Error("a missing directory has segments")
	}
	if err := os.Mkdir(filepath.Join(dir, trail.SegmentsDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		trail.SegmentName(512), trail.SegmentName(0), trail.SegmentName(1<<64 - 256), trail.SegmentName(1 << 40),
		"0.seg", "000000000000000000000.seg", "+0000000000000000256.seg", "99999999999999999999.seg",
		".00000000000000000256.seg.17.tmp", "00000000000000000256", "00000000000000000256.seg.bak", "0000000000000000025x.seg",
	} {
		if err := os.WriteFile(filepath.Join(dir, trail.SegmentsDir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := trail.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	for _, f := range files {
		got = append(got, f.FirstLeaf)
		if f.Path != trail.SegmentPath(dir, f.FirstLeaf) || f.Name != trail.SegmentName(f.FirstLeaf) {
			t.Errorf("%+v", f)
		}
	}
	if want := fmt.Sprint([]uint64{0, 512, 1 << 40, 1<<64 - 256}); fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// Readers of every kind run beside a writer that often goes on to a new
// segment. Each sees whole prefixes of the log and nothing else.
func TestReadersBesideAWriter(t *testing.T) {
	l := newTrail(t, 4000)
	dir := dirOf(l)
	var acknowledged atomic.Uint64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	reader := func(step func() error) {
		wg.Go(func() {
			for {
				if err := step(); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	shared := trail.NewLeaves(dir)
	defer shared.Close()
	for range 3 {
		reader(func() error {
			size := acknowledged.Load()
			if size == 0 {
				return nil
			}
			i := size - 1
			if mrand.IntN(2) == 0 {
				i = mrand.Uint64N(size)
			}
			leaf, _, err := shared.ReadPlace(i)
			if err != nil || !bytes.Equal(leaf, leafOf(i)) {
				return fmt.Errorf("leaf %d of %d: %q, %w", i, size, leaf, err)
			}
			return nil
		})
	}
	reader(func() error {
		size := acknowledged.Load()
		v, tail, err := trail.OpenView(dir)
		if err != nil {
			return err
		}
		if v.Size() < size || tail.Err != nil {
			return fmt.Errorf("view of %d leaves, %d are acknowledged; tail %+v", v.Size(), size, tail)
		}
		if v.Size() > 0 {
			if err := prove(v, mrand.Uint64N(v.Size()), v.Size()); err != nil {
				return err
			}
		}
		return v.Close()
	})
	reader(func() error {
		v := l.View()
		if v.Size() == 0 {
			return nil
		}
		return prove(v, mrand.Uint64N(v.Size()), 1+mrand.Uint64N(v.Size()))
	})
	for i := 0; acknowledged.Load() < 20_000; i++ {
		appendLeaves(t, l, 1+i%400)
		acknowledged.Store(l.Stats().Size)
		if i%3 == 0 {
			sealNow(t, l)
		}
	}
	close(stop)
	wg.Wait()
}

// prove checks a leaf's proof in the log at some size, and that the view
// continues it.
func prove(v *trail.View, leaf, size uint64) error {
	leaf = min(leaf, size-1)
	d := suite.SHA256
	older, err := tlog.RootAt(d, v.Tiles(d), size)
	if err != nil {
		return err
	}
	path, err := tlog.InclusionProof(d, v.Tiles(d), leaf, size)
	if err != nil {
		return err
	}
	if err := tlog.CheckInclusion(d, leaf, size, d.LeafHash(leafOf(leaf)), path, older); err != nil {
		return err
	}
	if path, err = tlog.ConsistencyProof(d, v.Tiles(d), size, v.Size()); err != nil {
		return err
	}
	root, _ := v.Root(d)
	return tlog.CheckConsistency(d, size, v.Size(), path, older, root)
}

func TestOpenViewStopsAtTheLastWholeFrame(t *testing.T) {
	l := newTrail(t, 1<<20, suite.SM3)
	for _, n := range []int{300, 1, 20} {
		appendLeaves(t, l, n)
	}
	sealNow(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := dirOf(l)
	name := trail.SegmentPath(dir, 0)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var ends, sizes []int64 // of the whole frames
	r, err := segment.NewReader(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	for {
		ends, sizes = append(ends, r.Offset()), append(sizes, int64(r.NextLeaf()))
		if _, err := r.Next(); err != nil {
			break
		}
	}
	at := 0
	for cut := ends[0]; cut <= int64(len(whole)); cut += 13 {
		for at+1 < len(ends) && ends[at+1] <= cut {
			at++
		}
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		v, tail, err := trail.OpenView(dir)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if int64(v.Size()) != sizes[at] || tail.Offset != ends[at] || tail.Size != cut-ends[at] || tail.Err != nil {
			t.Fatalf("cut at %d: %d leaves, tail %+v; want %d leaves up to %d", cut, v.Size(), tail, sizes[at], ends[at])
		}
		if v.Size() > 0 {
			if err := prove(v, v.Size()-1, v.Size()); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := v.Root(suite.SM3); !ok {
			t.Fatal("the view has no SM3 root")
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	damaged := bytes.Clone(whole)
	damaged[ends[1]+100] ^= 1
	if err := os.WriteFile(name, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	v, tail, err := trail.OpenView(dir)
	var damage *segment.DamageError
	if err != nil || int64(v.Size()) != sizes[1] || !errors.As(tail.Err, &damage) || damage.Offset != ends[1] {
		t.Errorf("damage at %d: %v, tail %+v", ends[1], err, tail)
	}
}

func TestOpenViewOfAnEmptyTrail(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := trail.OpenView(dir); !errors.Is(err, trail.ErrNoTrail) {
		t.Errorf("no trail: got %v", err)
	}
	id := trail.Identity{Origin: origin, Digests: suite.NewSet(), Created: time.Unix(1, 0)}
	if err := trail.Create(durable.OS, dir, id); err != nil {
		t.Fatal(err)
	}
	v, tail, err := trail.OpenView(dir)
	if err != nil || v.Size() != 0 || tail.Size != 0 {
		t.Fatalf("%v, tail %+v", err, tail)
	}
	if root, ok := v.Root(suite.SHA256); !ok || root != suite.SHA256.EmptyRoot() {
		t.Error("the root is not that of an empty tree")
	}
	if _, ok := v.Root(suite.SM3); ok {
		t.Error("there is an SM3 root")
	}
	if note, err := trail.ReadCheckpoint(dir); note != nil || err != nil {
		t.Errorf("checkpoint %q, %v", note, err)
	}
}

func TestTilesThatDoNotFitAreNoticed(t *testing.T) {
	l := newTrail(t, 3000)
	fill(t, l, 3000)
	dir := dirOf(l)
	files, err := trail.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	width := int(files[len(files)-1].FirstLeaf / 256)
	name := trail.TilePath(dir, suite.SHA256, tlog.Tile{Level: 1, Width: width})
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[5] ^= 1
	for what, b := range map[string][]byte{"flipped": flipped, "short": whole[:len(whole)-1], "long": append(whole, 0), "empty": nil} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := trail.OpenView(dir); err == nil {
			t.Errorf("%s tile: the view opens", what)
		}
	}
}

// What a view hands out for every size the log once had is what was right then.
func TestTilesOfOlderSizes(t *testing.T) {
	digests := []suite.Digest{suite.SHA256, suite.SM3}
	l := newTrail(t, 200_000, suite.SM3)
	const size = 70_000
	for l.Stats().Size < size-3000 {
		appendLeaves(t, l, 2000)
	}
	appendLeaves(t, l, int(size-l.Stats().Size))
	sealNow(t, l)
	want := make(map[suite.Digest][][]suite.Hash) // by level
	for _, d := range digests {
		level := make([]suite.Hash, size)
		for i := range level {
			level[i] = d.LeafHash(leafOf(uint64(i)))
		}
		for len(level) > 0 {
			want[d] = append(want[d], level)
			for range tlog.TileHeight {
				next := make([]suite.Hash, len(level)/2)
				for i := range next {
					next[i] = d.NodeHash(&level[2*i], &level[2*i+1])
				}
				level = next
			}
		}
	}
	opened, _, err := trail.OpenView(dirOf(l))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	for name, v := range map[string]*trail.View{"the writer's": l.View(), "opened": opened} {
		for _, d := range digests {
			check := func(tile tlog.Tile) {
				t.Helper()
				got, err := v.Tiles(d).ReadTile(tile)
				level := want[d][tile.Level]
				if err != nil || len(got) != tile.Width || got[0] != level[tile.N*256] || got[tile.Width-1] != level[int(tile.N)*256+tile.Width-1] {
					t.Fatalf("%s view, %s: %s: %d hashes, %v", name, d, tile.Path(), len(got), err)
				}
			}
			for level := range want[d] {
				have := len(want[d][level])
				for _, n := range []int{0, have/256 - 1, have / 256} {
					if n < 0 {
						continue
					}
					most := min(256, have-n*256)
					for _, width := range []int{1, 2, 17, 111, 112, most - 1, most} {
						if width >= 1 && width <= most {
							check(tlog.Tile{Level: level, N: uint64(n), Width: width})
						}
					}
					if most < 256 {
						tile := tlog.Tile{Level: level, N: uint64(n), Width: most + 1}
						if _, err := v.Tiles(d).ReadTile(tile); !errors.Is(err, trail.ErrOutside) {
							t.Errorf("%s view: %s: got %v, want ErrOutside", name, tile.Path(), err)
						}
					}
				}
			}
		}
		for _, tile := range []tlog.Tile{{Level: -1, Width: 1}, {Width: 0}, {Width: -1}, {Width: 257}, {Level: 3, Width: 1},
			{Level: 9, Width: 1}, {N: 1 << 62, Width: 256}, {N: 1<<56 - 1, Width: 256}} {
			if _, err := v.Tiles(suite.SHA256).ReadTile(tile); !errors.Is(err, trail.ErrOutside) {
				t.Errorf("%s view, %+v: got %v, want ErrOutside", name, tile, err)
			}
			if _, err := v.Bundle(tile.N, tile.Width); tile.Level == 0 && !errors.Is(err, trail.ErrOutside) {
				t.Errorf("%s view, bundle %+v: got %v, want ErrOutside", name, tile, err)
			}
		}
		for _, n := range []uint64{0, 100, size / 256} {
			width := int(min(256, size-n*256))
			b, err := v.Bundle(n, width)
			if err != nil {
				t.Fatal(err)
			}
			leaves, err := tlog.ParseBundle(b, width)
			if err != nil || !bytes.Equal(leaves[width-1], leafOf(n*256+uint64(width)-1)) {
				t.Errorf("%s view, bundle %d: %v", name, n, err)
			}
		}
		for range 50 {
			if err := prove(v, mrand.Uint64N(size), 1+mrand.Uint64N(size)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
