package trail

import (
	"slices"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// countedTiles are the tiles of a tree of numbered leaves, each made anew for
// each reading.
type countedTiles struct {
	digest suite.Digest
	levels [][]suite.Hash
	read   int
}

func newCountedTiles(d suite.Digest, size int) *countedTiles {
	c := &countedTiles{digest: d}
	hashes := make([]suite.Hash, size)
	for i := range hashes {
		hashes[i] = d.LeafHash([]byte(leafText(uint64(i))))
	}
	for ; len(hashes) > 0; hashes = c.above(hashes) {
		c.levels = append(c.levels, hashes)
	}
	return c
}

func (c *countedTiles) above(hashes []suite.Hash) []suite.Hash {
	hashes = slices.Clone(hashes[:len(hashes)/tlog.TileWidth*tlog.TileWidth])
	for range tlog.TileHeight {
		for i := range len(hashes) / 2 {
			hashes[i] = c.digest.NodeHash(&hashes[2*i], &hashes[2*i+1])
		}
		hashes = hashes[:len(hashes)/2]
	}
	return hashes
}

func (c *countedTiles) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	c.read++
	first := int(t.N) * tlog.TileWidth
	return slices.Clone(c.levels[t.Level][first : first+t.Width]), nil
}

func TestProofsFromRecentTilesAreThoseFromAllTiles(t *testing.T) {
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		for _, size := range []int{1, 2, 3, 255, 256, 257, 511, 1000, 66_000} {
			c := newCountedTiles(d, size)
			var recent recentTiles
			for index := 0; index < size; index += 1 + size/300 {
				want, err := tlog.InclusionProof(d, c, uint64(index), uint64(size))
				if err != nil {
					t.Fatal(err)
				}
				got, err := tlog.InclusionProof(d, recentReader{&recent, d, c}, uint64(index), uint64(size))
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, want) {
					t.Fatalf("%s: leaf %d of %d: another proof", d, index, size)
				}
			}
		}
	}
}

// Hits of a search come in order, in either direction, and two readers may be
// at different places.
func TestBundlesOfHitsNearEachOtherAreHashedOnce(t *testing.T) {
	const size = 20_000
	c := newCountedTiles(suite.SHA256, size)
	var recent recentTiles
	prove := func(index int) {
		if _, err := tlog.InclusionProof(suite.SHA256, recentReader{&recent, suite.SHA256, c}, uint64(index), size); err != nil {
			t.Fatal(err)
		}
	}
	for i := range size / 2 {
		prove(i)
		prove(size - 1 - i)
	}
	if tiles := size/tlog.TileWidth + 2; c.read > tiles+4 {
		t.Errorf("%d tiles were read, there are %d", c.read, tiles)
	}
	if kept := len(recent.tiles[suite.SHA256]); kept > maxRecentTiles {
		t.Errorf("%d tiles are kept, want at most %d", kept, maxRecentTiles)
	}
}

func BenchmarkProveHits(b *testing.B) {
	const size = 66_000
	c := newCountedTiles(suite.SHA256, size)
	var recent recentTiles
	i := 0
	for b.Loop() {
		i = (i + 45) % size
		if _, err := tlog.InclusionProof(suite.SHA256, recentReader{&recent, suite.SHA256, c}, uint64(i), size); err != nil {
			b.Fatal(err)
		}
	}
}
