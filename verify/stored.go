package verify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// storedTiles are the tiles of level 1 and above in a trail's directory. A tile
// that is not yet full lies there at some width, not always the one asked for:
// any that is as wide will do.
type storedTiles struct {
	dir    string
	digest suite.Digest
}

func (s storedTiles) path(t tlog.Tile) string { return trail.TilePath(s.dir, s.digest, t) }

// name is the tile's path within the trail, as findings give it.
func (s storedTiles) name(t tlog.Tile) string {
	if s.digest == suite.SM3 {
		return s.digest.String() + "/" + t.Path()
	}
	return t.Path()
}

func (s storedTiles) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	if t.Level == 0 {
		return nil, fmt.Errorf("%s: %w", t.Path(), fs.ErrNotExist)
	}
	for _, width := range append([]int{tlog.TileWidth}, s.partial(t)...) {
		if width < t.Width {
			continue
		}
		hashes, err := s.read(tlog.Tile{Level: t.Level, N: t.N, Width: width})
		if !errors.Is(err, fs.ErrNotExist) {
			return hashes, err
		}
	}
	return nil, fmt.Errorf("%s: %w", s.name(t), fs.ErrNotExist)
}

func (s storedTiles) read(t tlog.Tile) ([]suite.Hash, error) {
	b, err := os.ReadFile(s.path(t))
	if err != nil {
		return nil, err
	}
	hashes, err := tlog.ParseTile(b, t.Width)
	if err != nil {
		return nil, &badTile{s.name(t), err}
	}
	return hashes, nil
}

// badTile is a file that is there and can't be that tile.
type badTile struct {
	name string
	err  error
}

func (e *badTile) Error() string { return e.name + ": " + e.err.Error() }

// partial lists the widths at which tile t lies in its directory.
func (s storedTiles) partial(t tlog.Tile) []int {
	t.Width = 1
	entries, err := os.ReadDir(filepath.Dir(s.path(t)))
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if w, err := strconv.Atoi(e.Name()); err == nil && w > 0 && w < tlog.TileWidth && strconv.Itoa(w) == e.Name() {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// treeState is one digest's tree while the leaves go by.
type treeState struct {
	stored storedTiles
	tree   *tlog.Tree // nil when leaves are missing in it
	// off: the last root compared was another, or leaves before are missing.
	off bool
	// other is a second try while off: the tree at a later place, from stored
	// tiles, which the next root decides about.
	other *tlog.Tree
	tried uint64 // where a tile was looked for in vain
	// level1 are the hashes last computed of a full tile of level 1.
	level1  []suite.Hash
	level1N uint64
	// wrong are stored tiles that are not what the leaves give. The next
	// checkpoint tells which of the two was changed.
	wrong []wrongTile
}

type wrongTile struct {
	tile    tlog.Tile
	first   int // the first hash that differs
	last    int
	problem string
}

// maxWrong bounds what is remembered of wrong tiles.
const maxWrong = maxFindings

func (s *treeState) digest() suite.Digest { return s.stored.digest }

// lose gives the tree up: the leaves to come can't be added to it.
func (s *treeState) lose() { s.tree, s.other, s.off = nil, nil, true }

// add appends leaves first, first+1, …
func (c *trailCheck) add(s *treeState, first uint64, hashes []suite.Hash) {
	if s.tree != nil {
		if s.tree.Size() != first {
			s.lose()
		} else {
			s.tree.AppendAll(hashes)
		}
	}
	if !s.off {
		return
	}
	for i := range hashes {
		at := first + uint64(i)
		if s.other == nil {
			s.other = c.restore(s, at)
		}
		if s.other != nil {
			s.other.Append(hashes[i])
		}
	}
}

// restore is the tree at a place between two bundles as the stored tiles have
// it, nil when they do not reach there.
func (c *trailCheck) restore(s *treeState, size uint64) *tlog.Tree {
	if size%tlog.TileWidth != 0 || size == 0 || s.tried == size {
		return nil
	}
	tree, err := tlog.RestoreTree(s.digest(), size, s.stored, c.full(s))
	if err != nil {
		s.tried = size
		return nil
	}
	return tree
}

// full is called with every tile that a tree completes.
func (c *trailCheck) full(s *treeState) func(tlog.Tile, []suite.Hash) {
	return func(t tlog.Tile, hashes []suite.Hash) {
		if t.Level == 0 {
			return
		}
		if t.Level == 1 {
			s.level1, s.level1N = append(s.level1[:0], hashes...), t.N
		}
		if !s.off {
			c.compareTile(s, t, hashes)
		}
	}
}

// compareTile compares what is stored of a tile, at whatever width, with its
// hashes.
func (c *trailCheck) compareTile(s *treeState, t tlog.Tile, hashes []suite.Hash) {
	widths := s.stored.partial(t)
	if t.Width == tlog.TileWidth {
		widths = append(widths, tlog.TileWidth)
	}
	for _, width := range widths {
		if width > t.Width {
			continue
		}
		at := tlog.Tile{Level: t.Level, N: t.N, Width: width}
		got, err := s.stored.read(at)
		var bad *badTile
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// What was completed since the last segment began need not be on
			// disk yet: opening the trail makes it again.
			if (t.N+1)<<(tlog.TileHeight*(t.Level+1)) <= c.lastFirst() {
				c.tileFinding(s, CouldNotCheck, tileMissing, at, "the tile is missing; it can be made again from the leaves")
			}
		case errors.As(err, &bad):
			if c.unsynced(s, at) {
				continue
			}
			s.remember(wrongTile{tile: at, last: width - 1, problem: bad.err.Error()})
		case err != nil:
			c.tileFinding(s, CouldNotCheck, tileMissing, at, err.Error())
		default:
			w := wrongTile{tile: at, first: -1}
			for i := range got {
				if got[i] != hashes[i] {
					if w.first < 0 {
						w.first = i
					}
					w.last = i
				}
			}
			if w.first >= 0 {
				s.remember(w)
			}
		}
	}
}

// unsynced tells whether a tile is empty because a crash came before its sync,
// which only those of the last segment can be.
func (c *trailCheck) unsynced(s *treeState, t tlog.Tile) bool {
	st, err := os.Stat(s.stored.path(t))
	return err == nil && st.Size() == 0 && t.Width == tlog.TileWidth &&
		(t.N+1)<<(tlog.TileHeight*(t.Level+1)) > c.lastFirst()
}

func (s *treeState) remember(w wrongTile) {
	if len(s.wrong) < maxWrong {
		s.wrong = append(s.wrong, w)
	}
}

// leaves are those below the hashes first to last of a tile.
func (w *wrongTile) leaves() (first, last uint64) {
	shift := tlog.TileHeight * w.tile.Level
	base := w.tile.N * tlog.TileWidth
	return (base + uint64(w.first)) << shift, (base+uint64(w.last)+1)<<shift - 1
}

func (c *trailCheck) tileFinding(s *treeState, o Outcome, check string, t tlog.Tile, detail string) {
	w := wrongTile{tile: t, last: t.Width - 1}
	first, last := w.leaves()
	c.rep.add(Finding{Outcome: o, Check: check, Segment: s.stored.name(t), Leaf: first, LastLeaf: last, HasLeaf: true, Detail: detail})
}

// tilesAreWrong reports the stored tiles that differ from leaves which a
// checkpoint has confirmed.
func (c *trailCheck) tilesAreWrong(s *treeState) {
	for i := range s.wrong {
		w := &s.wrong[i]
		first, last := w.leaves()
		detail := w.problem
		if detail == "" {
			detail = "the stored tile is not what the leaves below it give"
		}
		c.rep.add(Finding{Outcome: Contradicted, Check: tileChanged, Segment: s.stored.name(w.tile), Offset: int64(w.first) * suite.Size,
			Leaf: first, LastLeaf: last, HasLeaf: true, Detail: detail})
	}
	s.wrong = s.wrong[:0]
}

// bundles lists the bundles with leaves in [first, end) whose stored root is not
// that of their leaves, as far as the tree passed them a little while ago.
func (s *treeState) bundles(first, end uint64) []uint64 {
	if s.tree == nil {
		return nil
	}
	var out []uint64
	compare := func(n uint64, computed []suite.Hash) {
		if len(computed) == 0 {
			return
		}
		stored, err := s.stored.ReadTile(tlog.Tile{Level: 1, N: n, Width: 1})
		if err != nil {
			return
		}
		for i := range min(len(stored), len(computed)) {
			at := n*tlog.TileWidth + uint64(i)
			if stored[i] != computed[i] && (at+1)*tlog.TileWidth > first && at*tlog.TileWidth < end {
				out = append(out, at)
			}
		}
	}
	if len(s.level1) > 0 {
		compare(s.level1N, s.level1)
	}
	for t, hashes := range s.tree.Edge() {
		if t.Level == 1 {
			compare(t.N, hashes)
		}
	}
	return out
}

// checkGap compares the tiles over leaves whose segment is gone with each
// other: each is below one of a higher level, and the uppermost give the root
// the next segment begins with.
func (c *trailCheck) checkGap(s *treeState, from, to uint64) {
	for level := 1; ; level++ {
		shift := tlog.TileHeight * (level + 1)
		if to>>shift == 0 {
			return
		}
		for n := from >> shift; (n+1)<<shift <= to; n++ {
			t := tlog.Tile{Level: level, N: n, Width: tlog.TileWidth}
			hashes, err := s.stored.read(t)
			var bad *badTile
			if errors.As(err, &bad) {
				c.tileFinding(s, Contradicted, tileChanged, t, bad.err.Error())
				continue
			}
			if err != nil {
				c.tileFinding(s, CouldNotCheck, tileMissing, t, "the tile is missing, and so are the leaves it could be made from")
				continue
			}
			above := tlog.Tile{Level: level + 1, N: n / tlog.TileWidth, Width: int(n%tlog.TileWidth) + 1}
			parents, err := s.stored.ReadTile(above)
			if err != nil {
				continue // the root decides
			}
			fold := tlog.NewTree(s.digest(), nil)
			fold.AppendAll(hashes)
			if fold.Root() != parents[n%tlog.TileWidth] {
				c.tileFinding(s, Contradicted, tileChanged, t, "the tile and the one above it contradict each other")
			}
		}
	}
}
