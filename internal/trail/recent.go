package trail

import (
	"sync"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// recentTiles keeps the tile of each level that was read last. Proofs of leaves
// that lie side by side, as in an export, need the same ones.
type recentTiles struct {
	mu    sync.Mutex
	tiles map[suite.Digest]map[int]recentTile // by level
}

type recentTile struct {
	tile   tlog.Tile
	hashes []suite.Hash
}

type recentReader struct {
	recent *recentTiles
	digest suite.Digest
	tlog.TileReader
}

func (r recentReader) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	r.recent.mu.Lock()
	defer r.recent.mu.Unlock()
	if kept := r.recent.tiles[r.digest][t.Level]; kept.hashes != nil && kept.tile == t {
		return kept.hashes, nil
	}
	hashes, err := r.TileReader.ReadTile(t)
	if err != nil {
		return nil, err
	}
	if r.recent.tiles == nil {
		r.recent.tiles = make(map[suite.Digest]map[int]recentTile)
	}
	if r.recent.tiles[r.digest] == nil {
		r.recent.tiles[r.digest] = make(map[int]recentTile)
	}
	r.recent.tiles[r.digest][t.Level] = recentTile{t, hashes}
	return hashes, nil
}
