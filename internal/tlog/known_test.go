package tlog

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

// The leaves and roots that implementations of RFC 6962 have tested themselves
// with since the first Certificate Transparency log.
var (
	knownLeaves = []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	knownRoots  = []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
)

func TestRootsKnownFromCertificateTransparency(t *testing.T) {
	m := newMemory(suite.SHA256)
	if got := hex.EncodeToString(func() []byte { r := m.tree.Root(); return r[:] }()); got !=
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Errorf("empty tree: %s", got)
	}
	for i, l := range knownLeaves {
		data, err := hex.DecodeString(l)
		if err != nil {
			t.Fatal(err)
		}
		m.tree.Append(suite.SHA256.LeafHash(data))
		if root := m.tree.Root(); hex.EncodeToString(root[:]) != knownRoots[i] {
			t.Errorf("%d leaves: root %x, want %s", i+1, root, knownRoots[i])
		}
	}
	for size := range knownRoots { // the same from tiles, for every size before
		root, err := RootAt(suite.SHA256, m, uint64(size)+1)
		if err != nil || hex.EncodeToString(root[:]) != knownRoots[size] {
			t.Errorf("RootAt %d: %x, %v", size+1, root, err)
		}
	}
}

func TestTilesAreHandedOutInOrder(t *testing.T) {
	const size = 3*65_536 + 300
	next := make(map[int]uint64)
	tree := NewTree(suite.SHA256, func(tile Tile, hashes []suite.Hash) {
		if tile.Width != TileWidth || len(hashes) != TileWidth || tile.N != next[tile.Level] {
			t.Fatalf("tile %+v of %d hashes, want number %d of its level", tile, len(hashes), next[tile.Level])
		}
		next[tile.Level]++
	})
	for range size {
		tree.Append(suite.Hash{})
	}
	if next[0] != size/256 || next[1] != 3 || next[2] != 0 {
		t.Errorf("full tiles by level: %v", next)
	}
	got := make(map[string]bool)
	for tile, hashes := range tree.Edge() {
		if tile.Width != len(hashes) {
			t.Errorf("%s: %d hashes", tile.Path(), len(hashes))
		}
		got[tile.Path()] = true
	}
	for _, want := range []string{"tile/0/769.p/44", "tile/1/003.p/1", "tile/2/000.p/3"} {
		if !got[want] || len(got) != 3 {
			t.Errorf("right edge %v, want %s in it", got, want)
		}
	}
	clone, root := tree.Clone(), tree.Root()
	for range 1000 {
		clone.Append(suite.Hash{1})
	}
	if next[0] != size/256 || tree.Root() != root || tree.Size() != size {
		t.Error("appending to a copy changed the tree, or handed out tiles")
	}
}

// stubborn answers with too few hashes, or not at all.
type stubborn struct {
	hashes int
	err    error
}

func (s stubborn) ReadTile(Tile) ([]suite.Hash, error) { return make([]suite.Hash, s.hashes), s.err }

func TestMissingTilesAreErrorsNotProofs(t *testing.T) {
	gone, d := errors.New("gone"), suite.SHA256
	for _, c := range []struct {
		tiles TileReader
		want  string
	}{{stubborn{err: gone}, "gone"}, {stubborn{hashes: 1}, "tile/0/000.p/10: want 2 hashes, got 1"}} {
		calls := map[string]func() error{
			"inclusion":   func() error { _, err := InclusionProof(d, c.tiles, 0, 10); return err },
			"consistency": func() error { _, err := ConsistencyProof(d, c.tiles, 3, 10); return err },
			"root":        func() error { _, err := RootAt(d, c.tiles, 10); return err },
		}
		for what, call := range calls {
			err := call()
			if err == nil || errors.Is(err, ErrProof) || c.tiles.(stubborn).err != nil && !errors.Is(err, gone) {
				t.Errorf("%s: got %v, want %s", what, err, c.want)
			}
		}
	}
	m := newMemory(d)
	for i := range 10 {
		m.tree.Append(d.LeafHash(leaf(i)))
	}
	for _, bad := range [][2]uint64{{10, 10}, {0, 0}, {1 << 63, 10}} {
		if _, err := InclusionProof(d, m, bad[0], bad[1]); err == nil {
			t.Errorf("inclusion of leaf %d in %d was proved", bad[0], bad[1])
		}
	}
	if _, err := ConsistencyProof(d, m, 11, 10); err == nil {
		t.Error("a larger tree was proved to be part of a smaller one")
	}
	if _, err := RestoreTree(d, 256*3, stubborn{err: gone}, nil); !errors.Is(err, gone) {
		t.Errorf("restoring without tiles: %v", err)
	}
}

func TestBundleBounds(t *testing.T) {
	long := []byte(strings.Repeat("x", MaxBundleEntry))
	b, err := AppendBundleEntry(nil, long)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = AppendBundleEntry(b, nil); err != nil {
		t.Fatal(err)
	}
	leaves, err := ParseBundle(b, 2)
	if err != nil || !slices.Equal(leaves[0], long) || len(leaves[1]) != 0 {
		t.Errorf("got %d leaves, %v", len(leaves), err)
	}
	if _, err := AppendBundleEntry(nil, append(long, 'x')); err == nil {
		t.Error("a leaf of 65,536 bytes fits into an entry bundle")
	}
	for _, c := range []struct {
		b     string
		width int
		want  string
	}{
		{"", 1, "entry bundle: entry 0 of 1: truncated length"},
		{"\x00\x01a\x00", 2, "entry bundle: entry 1 of 2: truncated length"},
		{"\x00\x05abc", 1, "entry bundle: entry 0 of 1: want 5 bytes, 3 are left"},
		{"\x00\x01ab", 1, "entry bundle: 1 bytes after entry 1, the last"},
	} {
		if _, err := ParseBundle([]byte(c.b), c.width); err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.b, err, c.want)
		}
	}
}

func FuzzParseTile(f *testing.F) {
	f.Add(make([]byte, 64), 2)
	f.Add(make([]byte, 63), 2)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if width < 0 || width > TileWidth {
			return
		}
		hashes, err := ParseTile(b, width)
		if (err == nil) != (len(b) == width*suite.Size) {
			t.Fatalf("%d bytes as %d hashes: %v", len(b), width, err)
		}
		if err == nil && string(MarshalTile(hashes)) != string(b) {
			t.Errorf("tile of %d hashes does not encode to itself", width)
		}
	})
}
