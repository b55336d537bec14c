package tlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	xtlog "golang.org/x/mod/sumdb/tlog"

	"github.com/veritrail/veritrail/internal/suite"
)

// memory keeps the full tiles of a tree beside its right edge.
type memory struct {
	tree *Tree
	full map[Tile][]suite.Hash
}

func newMemory(d suite.Digest) *memory {
	m := &memory{full: make(map[Tile][]suite.Hash)}
	m.tree = NewTree(d, func(t Tile, hashes []suite.Hash) {
		if _, twice := m.full[t]; twice {
			panic(fmt.Sprintf("tile %v handed out twice", t))
		}
		m.full[t] = append([]suite.Hash(nil), hashes...)
	})
	return m
}

func (m *memory) ReadTile(t Tile) ([]suite.Hash, error) {
	if hashes, ok := m.full[Tile{t.Level, t.N, TileWidth}]; ok {
		return hashes, nil
	}
	for tile, hashes := range m.tree.Edge() {
		if tile.Level == t.Level && tile.N == t.N && len(hashes) >= t.Width {
			return hashes, nil
		}
	}
	return nil, fmt.Errorf("%s: no such tile", t.Path())
}

func leaf(i int) []byte { return binary.BigEndian.AppendUint64([]byte("leaf "), uint64(i)) }

// oracle is the same log kept by golang.org/x/mod/sumdb/tlog.
type oracle struct{ hashes []xtlog.Hash }

func (o *oracle) ReadHashes(indexes []int64) ([]xtlog.Hash, error) {
	out := make([]xtlog.Hash, len(indexes))
	for i, x := range indexes {
		out[i] = o.hashes[x]
	}
	return out, nil
}

func (o *oracle) append(t *testing.T, n int64, data []byte) {
	t.Helper()
	hashes, err := xtlog.StoredHashes(n, data, o)
	if err != nil {
		t.Fatal(err)
	}
	o.hashes = append(o.hashes, hashes...)
}

func TestTreeAgreesWithSumDB(t *testing.T) {
	const size = 3000
	m, o := newMemory(suite.SHA256), &oracle{}
	for i := range size {
		if i < 600 || i%97 == 0 {
			want, err := xtlog.TreeHash(int64(i), o)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && suite.Hash(want) != m.tree.Root() {
				t.Fatalf("root at size %d differs", i)
			}
		}
		m.tree.Append(suite.SHA256.LeafHash(leaf(i)))
		o.append(t, int64(i), leaf(i))
	}
	for range 400 {
		n := rand.N(int64(size)) + 1
		i := rand.N(n)
		want, err := xtlog.ProveRecord(n, i, o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := InclusionProof(suite.SHA256, m, uint64(i), uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("inclusion of %d in %d", i, n), got, want)
		wantTree, err := xtlog.ProveTree(n, i+1, o)
		if err != nil {
			t.Fatal(err)
		}
		got, err = ConsistencyProof(suite.SHA256, m, uint64(i+1), uint64(n))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("consistency of %d and %d", i+1, n), got, wantTree)
	}
}

func equal(t *testing.T, what string, got []suite.Hash, want []xtlog.Hash) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d hashes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] != suite.Hash(want[i]) {
			t.Fatalf("%s: hash %d differs", what, i)
		}
	}
}

func TestProofsHoldForTheirTreeOnly(t *testing.T) {
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		m := newMemory(d)
		var roots []suite.Hash
		for i := range 700 {
			roots = append(roots, m.tree.Root())
			m.tree.Append(d.LeafHash(leaf(i)))
		}
		root := m.tree.Root()
		for _, i := range []uint64{0, 1, 255, 256, 511, 512, 699} {
			path, err := InclusionProof(d, m, i, 700)
			if err != nil {
				t.Fatal(err)
			}
			h := d.LeafHash(leaf(int(i)))
			if err := CheckInclusion(d, i, 700, h, path, root); err != nil {
				t.Errorf("%s: %v", d, err)
			}
			for what, err := range map[string]error{
				"another leaf":  CheckInclusion(d, i, 700, d.LeafHash(leaf(701)), path, root),
				"another place": CheckInclusion(d, (i+1)%700, 700, h, path, root),
				"another root":  CheckInclusion(d, i, 700, h, path, roots[500]),
				"a short path":  CheckInclusion(d, i, 700, h, path[1:], root),
			} {
				if !errors.Is(err, ErrProof) {
					t.Errorf("%s: leaf %d with %s: got %v, want ErrProof", d, i, what, err)
				}
			}
		}
		for _, n := range []uint64{1, 2, 255, 256, 257, 512, 699} {
			path, err := ConsistencyProof(d, m, n, 700)
			if err != nil {
				t.Fatal(err)
			}
			if err := CheckConsistency(d, n, 700, path, roots[n], root); err != nil {
				t.Errorf("%s: %v", d, err)
			}
			if err := CheckConsistency(d, n, 700, path, roots[n-1], root); !errors.Is(err, ErrProof) {
				t.Errorf("%s: size %d with another root: got %v, want ErrProof", d, n, err)
			}
		}
	}
}

func TestRestoredTreeGrowsLikeTheOriginal(t *testing.T) {
	const size = 70_000 // a full level-1 tile and a part of the next
	m := newMemory(suite.SHA256)
	restored := make(map[int]*Tree)
	for i := range size {
		switch i {
		case 0, 256, 512, 65_280, 65_536, 65_792, 69_888:
			tree, err := RestoreTree(suite.SHA256, uint64(i), m, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Root() != m.tree.Root() {
				t.Fatalf("root restored at %d differs", i)
			}
			restored[i] = tree
		}
		h := suite.SHA256.LeafHash(leaf(i))
		m.tree.Append(h)
		for _, tree := range restored {
			tree.Append(h)
		}
	}
	for at, tree := range restored {
		if tree.Root() != m.tree.Root() || len(tree.Edge()) != len(m.tree.Edge()) {
			t.Errorf("tree restored at %d grew differently", at)
		}
	}
	got, err := RootAt(suite.SHA256, m, size)
	if err != nil || got != m.tree.Root() {
		t.Errorf("RootAt: %v, differs: %v", err, got != m.tree.Root())
	}
	if _, err := RestoreTree(suite.SHA256, 300, m, nil); err == nil {
		t.Error("a tree of 300 leaves was restored without its level-0 tile")
	}
}

func TestPathsFollowTlogTiles(t *testing.T) {
	for _, c := range []struct {
		tile Tile
		want string
	}{
		{Tile{0, 0, 256}, "tile/0/000"},
		{Tile{0, 1234067, 256}, "tile/0/x001/x234/067"},
		{Tile{1, 1000, 3}, "tile/1/x001/000.p/3"},
	} {
		if got := c.tile.Path(); got != c.want {
			t.Errorf("path of %v: got %s, want %s", c.tile, got, c.want)
		}
		if got, _, err := ParsePath(c.want); err != nil || got != c.tile {
			t.Errorf("%s: got %v, %v", c.want, got, err)
		}
	}
	if got, entries, err := ParsePath(BundlePath(70, 17)); err != nil || !entries || got != (Tile{0, 70, 17}) {
		t.Errorf("bundle path: got %v, %v, %v", got, entries, err)
	}
	for _, bad := range []string{"", "tile", "tile/0", "tile/0/0", "tile/8/000", "tile/-1/000", "tile/00/000", "tile/0/1000",
		"tile/0/x000/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/../000", "tile/entries/",
		"tile/0/x999/x999/x999/x999/x999/x999/x999/x999/999"} {
		if got, _, err := ParsePath(bad); err == nil {
			t.Errorf("%q: accepted as %v", bad, got)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	b, _ := AppendBundleEntry(nil, []byte("one"))
	b, _ = AppendBundleEntry(b, nil)
	f.Add(b, 2)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if width < 0 || width > TileWidth {
			return
		}
		leaves, err := ParseBundle(b, width)
		if err != nil {
			return
		}
		var again []byte
		for _, l := range leaves {
			if again, err = AppendBundleEntry(again, l); err != nil {
				t.Fatal(err)
			}
		}
		if string(again) != string(b) {
			t.Errorf("bundle of %d leaves does not encode to itself", width)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	f.Add("tile/0/x001/234.p/7")
	f.Add("tile/entries/000")
	f.Fuzz(func(t *testing.T, path string) {
		tile, entries, err := ParsePath(path)
		if err != nil {
			return
		}
		if got := tile.Path(); !entries && got != path || entries && BundlePath(tile.N, tile.Width) != path {
			t.Errorf("%q parses to %v, which writes %q", path, tile, got)
		}
	})
}

func BenchmarkTreeAppend(b *testing.B) {
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		b.Run(d.String(), func(b *testing.B) {
			tree := NewTree(d, nil)
			for b.Loop() {
				tree.Append(suite.Hash{1})
			}
		})
	}
}

// counting counts how often each tile is read.
type counting struct {
	TileReader
	reads map[Tile]int
}

func (c counting) ReadTile(t Tile) ([]suite.Hash, error) {
	c.reads[t]++
	return c.TileReader.ReadTile(t)
}

func TestEachTileIsReadOnceForAProof(t *testing.T) {
	const size = 70_001
	d := suite.SHA256
	tiles := newMemory(d)
	for i := range size {
		tiles.tree.Append(d.LeafHash(leaf(i)))
	}
	for name, prove := range map[string]func(TileReader) error{
		"inclusion":   func(r TileReader) error { _, err := InclusionProof(d, r, 777, size); return err },
		"consistency": func(r TileReader) error { _, err := ConsistencyProof(d, r, 1001, size); return err },
		"root": func(r TileReader) error {
			root, err := RootAt(d, r, size)
			if err == nil && root != tiles.tree.Root() {
				t.Error("another root")
			}
			return err
		},
	} {
		c := counting{tiles, make(map[Tile]int)}
		if err := prove(c); err != nil {
			t.Fatal(err)
		}
		if len(c.reads) < 2 {
			t.Errorf("%s: only %d tiles were read", name, len(c.reads))
		}
		for tile, n := range c.reads {
			if n > 1 {
				t.Errorf("%s: %s was read %d times", name, tile.Path(), n)
			}
		}
	}
}

// told is what a tree's full function was told.
type told struct {
	tile   Tile
	hashes []suite.Hash
}

func TestAppendAllGrowsTheTreeOfAppend(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		var want, got []told
		one := NewTree(d, func(tile Tile, hashes []suite.Hash) { want = append(want, told{tile, slices.Clone(hashes)}) })
		all := NewTree(d, func(tile Tile, hashes []suite.Hash) { got = append(got, told{tile, slices.Clone(hashes)}) })
		same := func() {
			t.Helper()
			if one.Size() != all.Size() || one.Root() != all.Root() {
				t.Fatalf("%s: sizes %d and %d, roots %x and %x", d, one.Size(), all.Size(), one.Root(), all.Root())
			}
			if !reflect.DeepEqual(one.Edge(), all.Edge()) {
				t.Fatalf("%s, size %d: the edges differ", d, one.Size())
			}
			if !reflect.DeepEqual(want, got) {
				t.Fatalf("%s, size %d: the tiles differ, or their order", d, one.Size())
			}
			want, got = nil, nil
		}
		all.AppendAll(nil)
		same()
		for one.Size() < 70_000 { // past the first tile of level 1
			n := random.IntN(20)
			if random.IntN(4) == 0 {
				n = random.IntN(3000)
			}
			leaves := make([]suite.Hash, n)
			for i := range leaves {
				leaves[i][0], leaves[i][1] = byte(random.Uint32()), byte(random.Uint32())
				one.Append(leaves[i])
			}
			all.AppendAll(leaves)
			same()
		}
	}
}

func BenchmarkAppendAll(b *testing.B) {
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		for _, n := range []int{1, 16, 100, 512} {
			b.Run(fmt.Sprintf("%s/%d", d, n), func(b *testing.B) { benchmarkAppendAll(b, d, n) })
		}
	}
}

func benchmarkAppendAll(b *testing.B, d suite.Digest, n int) {
	leaves := make([]suite.Hash, n)
	tree := NewTree(d, nil)
	b.ReportAllocs()
	for b.Loop() {
		tree.AppendAll(leaves)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(leaves)), "ns/leaf")
}
