package trail

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// View is a log at one size: its roots, tiles, proofs and leaves do not change
// while the trail grows behind it. It is safe for concurrent use.
type View struct {
	dir    string
	leaves *Leaves
	size   uint64
	roots  map[suite.Digest]suite.Hash
	tiles  map[suite.Digest]map[tlog.Tile][]suite.Hash // by place, Width left at 0
}

// NewView is the view of a log whose trees are given; they are read here and
// not kept.
func NewView(dir string, leaves *Leaves, trees Trees) *View {
	v := &View{
		dir: dir, leaves: leaves, size: trees.Size(),
		roots: make(map[suite.Digest]suite.Hash), tiles: make(map[suite.Digest]map[tlog.Tile][]suite.Hash),
	}
	for _, tree := range trees {
		d := tree.Digest()
		v.roots[d] = tree.Root()
		v.tiles[d] = make(map[tlog.Tile][]suite.Hash)
		for t, hashes := range tree.Edge() {
			v.keep(d, t, hashes)
		}
	}
	return v
}

func (v *View) keep(d suite.Digest, t tlog.Tile, hashes []suite.Hash) {
	t.Width = 0
	v.tiles[d][t] = append([]suite.Hash(nil), hashes...)
}

// OpenView reads a trail as it is now, and says how its last segment ends. What
// is behind the last whole frame, because it is being written or was torn, is
// not part of the view.
func OpenView(dir string) (*View, segment.Tail, error) {
	id, err := ReadIdentity(dir)
	if err != nil {
		return nil, segment.Tail{}, err
	}
	var before SegmentFile
	for {
		files, err := Segments(dir)
		if err != nil {
			return nil, segment.Tail{}, err
		}
		if len(files) == 0 {
			return NewView(dir, NewLeaves(dir), NewTrees(id.Digests, nil)), segment.Tail{}, nil
		}
		last := files[len(files)-1]
		v, tail, err := openView(dir, last)
		// A writer that goes on to another segment removes the partial tiles
		// that the last one began with.
		if err == nil || last == before {
			return v, tail, err
		}
		before = last
	}
}

// openView is the view at the end of the last segment.
func openView(dir string, last SegmentFile) (*View, segment.Tail, error) {
	var tail segment.Tail
	f, err := durable.Open(last.Path)
	if err != nil {
		return nil, tail, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, tail, err
	}
	type kept struct {
		digest suite.Digest
		tile   tlog.Tile
		hashes []suite.Hash
	}
	var full []kept
	keepFull := func(d suite.Digest, t tlog.Tile, hashes []suite.Hash) {
		if t.Level > 0 {
			full = append(full, kept{d, t, append([]suite.Hash(nil), hashes...)})
		}
	}
	r, err := segment.NewReader(f, st.Size())
	if err != nil {
		return nil, tail, fmt.Errorf("segment %s: %w", last.Name, err)
	}
	trees, err := RestoreTrees(dir, &r.Header, keepFull)
	if err != nil {
		return nil, tail, err
	}
	var hasher Hasher
	_, tail, err = segment.Recover(f, st.Size(), func(fr *segment.Frame) error {
		if err := hasher.Replay(trees, fr); err != nil {
			return &segment.DamageError{Offset: fr.Offset, Leaf: fr.FirstLeaf, Problem: err}
		}
		return nil
	})
	if err != nil {
		return nil, tail, fmt.Errorf("segment %s: %w", last.Name, err)
	}
	v := NewView(dir, NewLeaves(dir), trees)
	for _, k := range full {
		v.keep(k.digest, k.tile, k.hashes)
	}
	return v, tail, nil
}

// Close closes the files the view reads from, which views of one log share.
func (v *View) Close() error { return v.leaves.Close() }

// Size is the number of leaves.
func (v *View) Size() uint64 { return v.size }

// Root is the root hash, and whether the log has a tree of that digest.
func (v *View) Root(d suite.Digest) (suite.Hash, bool) {
	root, ok := v.roots[d]
	return root, ok
}

// Leaves reads leaves, also those newer than the view.
func (v *View) Leaves() *Leaves { return v.leaves }

// Bundle is the content of the entry bundle of the leaves from n×256 on.
func (v *View) Bundle(n uint64, width int) ([]byte, error) {
	if err := v.inside(tlog.Tile{N: n, Width: width}); err != nil {
		return nil, err
	}
	leaves, err := v.leaves.Read(n*tlog.TileWidth, width)
	if err != nil {
		return nil, err
	}
	var b []byte
	for _, leaf := range leaves {
		if b, err = tlog.AppendBundleEntry(b, leaf); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// ErrOutside says that a tile is not part of the log at a view's size.
var ErrOutside = errors.New("not in the log at this size")

func (v *View) inside(t tlog.Tile) error {
	if t.Level < 0 || t.Width < 1 || t.Width > tlog.TileWidth {
		return fmt.Errorf("%s: %w", t.Path(), ErrOutside)
	}
	have := v.size >> (tlog.TileHeight * t.Level)
	if t.N > have/tlog.TileWidth || t.N*tlog.TileWidth+uint64(t.Width) > have {
		return fmt.Errorf("%s: %w", t.Path(), ErrOutside)
	}
	return nil
}

// Tiles hands out the tiles of one of the log's trees.
func (v *View) Tiles(d suite.Digest) tlog.TileReader { return viewTiles{v, d} }

type viewTiles struct {
	v      *View
	digest suite.Digest
}

func (r viewTiles) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	if err := r.v.inside(t); err != nil {
		return nil, err
	}
	if hashes := r.v.tiles[r.digest][tlog.Tile{Level: t.Level, N: t.N}]; len(hashes) >= t.Width {
		return hashes[:t.Width], nil
	}
	kept := func() ([]suite.Hash, error) {
		hashes, err := Files(r.v.dir, r.digest).ReadTile(tlog.Tile{Level: t.Level, N: t.N, Width: tlog.TileWidth})
		if err != nil {
			return nil, err
		}
		return hashes[:t.Width], nil
	}
	if t.Level > 0 {
		return kept()
	}
	leaves, err := r.v.leaves.Read(t.N*tlog.TileWidth, t.Width)
	if errors.Is(err, ErrMissing) { // whoever expired the segment may have kept its leaves' hashes
		if hashes, keptErr := kept(); !errors.Is(keptErr, fs.ErrNotExist) {
			return hashes, keptErr
		}
	}
	if err != nil {
		return nil, err
	}
	lines, ends := suite.Lines(leaves)
	hashes := make([]suite.Hash, len(leaves))
	r.digest.LeafHashes(hashes, lines, ends)
	return hashes, nil
}

// ReadCheckpoint reads the newest checkpoint's note, nil when there is none.
func ReadCheckpoint(dir string) ([]byte, error) {
	b, err := durable.ReadFile(filepath.Join(dir, CheckpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
