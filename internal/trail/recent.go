package trail

import (
	"fmt"
	"sync"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// recentTiles keeps the tiles that were read last, with all hashes inside them.
// Proofs of leaves that lie near each other, as in an export or among the hits of
// a search, need the same ones, and a tile of level 0 is made by hashing 256
// leaves.
type recentTiles struct {
	mu    sync.Mutex
	tiles map[suite.Digest][]recentTile // the last used last, at most maxRecentTiles
}

// maxRecentTiles are some four bundles and what is above them; with what is in
// it a tile takes 16 KiB.
const maxRecentTiles = 8

type recentTile struct {
	tile  tlog.Tile
	nodes []suite.Hash // as of tlog.Nodes
}

type recentReader struct {
	recent *recentTiles
	digest suite.Digest
	tlog.TileReader
}

var _ tlog.NodeReader = recentReader{}

func (r recentReader) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	nodes, err := r.nodes(t)
	if err != nil {
		return nil, err
	}
	return nodes[:t.Width:t.Width], nil
}

// Node implements tlog.NodeReader.
func (r recentReader) Node(t tlog.Tile, height uint, at int) (suite.Hash, error) {
	nodes, err := r.nodes(t)
	if err != nil {
		return suite.Hash{}, err
	}
	i := tlog.NodeAt(t.Width, height, at)
	if i < 0 {
		return suite.Hash{}, fmt.Errorf("%s: no subtree of height %d at %d", t.Path(), height, at)
	}
	return nodes[i], nil
}

func (r recentReader) nodes(t tlog.Tile) ([]suite.Hash, error) {
	r.recent.mu.Lock()
	defer r.recent.mu.Unlock()
	kept := r.recent.tiles[r.digest]
	for i := len(kept) - 1; i >= 0; i-- {
		if kept[i].tile == t {
			found := kept[i]
			copy(kept[i:], kept[i+1:])
			kept[len(kept)-1] = found
			return found.nodes, nil
		}
	}
	hashes, err := r.TileReader.ReadTile(t)
	if err != nil {
		return nil, err
	}
	if len(hashes) < t.Width {
		return nil, fmt.Errorf("%s: want %d hashes, got %d", t.Path(), t.Width, len(hashes))
	}
	nodes := tlog.Nodes(make([]suite.Hash, 0, 2*t.Width), r.digest, hashes[:t.Width])
	if len(kept) == maxRecentTiles {
		copy(kept, kept[1:])
		kept = kept[:len(kept)-1]
	}
	if r.recent.tiles == nil {
		r.recent.tiles = make(map[suite.Digest][]recentTile)
	}
	r.recent.tiles[r.digest] = append(kept, recentTile{t, nodes})
	return nodes, nil
}
