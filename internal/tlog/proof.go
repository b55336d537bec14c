package tlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"

	"github.com/veritrail/veritrail/internal/suite"
)

// TileReader hands out tiles of one tree. ReadTile returns at least t.Width
// hashes, or an error; what it returns is not changed afterwards. It may be
// called by several goroutines at once.
type TileReader interface {
	ReadTile(t Tile) ([]suite.Hash, error)
}

// NodeReader is a TileReader that knows the hashes inside its tiles as well, so
// that they need not be made again for each proof. Node is the root of the
// perfect subtree over the 2^height hashes of t from the one at on, which are
// within its width.
type NodeReader interface {
	TileReader
	Node(t Tile, height uint, at int) (suite.Hash, error)
}

// Nodes appends to dst the roots of all perfect subtrees over hashes, which are a
// tile's: the hashes themselves, those over two, and so on. NodeAt finds one.
func Nodes(dst []suite.Hash, d suite.Digest, hashes []suite.Hash) []suite.Hash {
	dst = append(dst, hashes...)
	for n := len(hashes) / 2; n > 0; n /= 2 {
		below := hashes[:2*n]
		dst = slices.Grow(dst, n)
		hashes = dst[len(dst) : len(dst)+n]
		d.NodeHashes(hashes, below)
		dst = dst[:len(dst)+n]
	}
	return dst
}

// NodeAt is the place among the Nodes of width hashes of the root over the
// 2^height of them from at on, -1 when it is not there.
func NodeAt(width int, height uint, at int) int {
	if at < 0 || height > TileHeight || at%(1<<height) != 0 || at+1<<height > width {
		return -1
	}
	base := 0
	for range height {
		base += width
		width /= 2
	}
	return base + at>>height
}

// ErrProof is wrapped by every error that says a proof does not hold.
var ErrProof = errors.New("proof does not hold")

// InclusionProof proves that leaf index is in the tree of the given size. The
// hashes go from the leaf to the root.
func InclusionProof(d suite.Digest, tiles TileReader, index, size uint64) ([]suite.Hash, error) {
	nodes, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, fmt.Errorf("inclusion of leaf %d in a tree of %d: %v", index, size, err)
	}
	return readNodes(d, tiles, nodes, size)
}

// ConsistencyProof proves that the tree of size older is a prefix of that of
// size newer.
func ConsistencyProof(d suite.Digest, tiles TileReader, older, newer uint64) ([]suite.Hash, error) {
	nodes, err := proof.Consistency(older, newer)
	if err != nil {
		return nil, fmt.Errorf("consistency of trees of %d and %d: %v", older, newer, err)
	}
	return readNodes(d, tiles, nodes, newer)
}

// RootAt is the root of the tree's first size leaves.
func RootAt(d suite.Digest, tiles TileReader, size uint64) (suite.Hash, error) {
	if size == 0 {
		return d.EmptyRoot(), nil
	}
	ids := compact.RangeNodes(0, size, nil)
	tiles = &readOnce{tiles: tiles}
	var root suite.Hash
	for i := len(ids) - 1; i >= 0; i-- {
		h, err := readNode(d, tiles, ids[i], size)
		if err != nil {
			return suite.Hash{}, err
		}
		if i == len(ids)-1 {
			root = h
		} else {
			root = d.NodeHash(&h, &root)
		}
	}
	return root, nil
}

func readNodes(d suite.Digest, tiles TileReader, nodes proof.Nodes, size uint64) ([]suite.Hash, error) {
	hashes := make([][]byte, len(nodes.IDs))
	if _, knows := tiles.(NodeReader); !knows {
		tiles = &readOnce{tiles: tiles}
	}
	for i, id := range nodes.IDs {
		h, err := readNode(d, tiles, id, size)
		if err != nil {
			return nil, err
		}
		hashes[i] = h[:]
	}
	hashes, err := nodes.Rehash(hashes, hasher{d}.HashChildren)
	if err != nil {
		return nil, err
	}
	out := make([]suite.Hash, len(hashes))
	for i, h := range hashes {
		copy(out[i][:], h)
	}
	return out, nil
}

// readOnce reads each tile once. Up to eight nodes of a proof are in the same
// one, and a tile of level 0 is made from 256 leaves. It is for one goroutine.
type readOnce struct {
	tiles TileReader
	read  []readTile // few
}

type readTile struct {
	tile   Tile
	hashes []suite.Hash
}

func (r *readOnce) ReadTile(t Tile) ([]suite.Hash, error) {
	for i := range r.read {
		if r.read[i].tile == t {
			return r.read[i].hashes, nil
		}
	}
	hashes, err := r.tiles.ReadTile(t)
	if err == nil {
		r.read = append(r.read, readTile{t, hashes})
	}
	return hashes, err
}

// readNode reads a perfect subtree's root out of the tile that holds it, or
// that holds the hashes it is made of.
func readNode(d suite.Digest, tiles TileReader, id compact.NodeID, size uint64) (suite.Hash, error) {
	level, h := int(id.Level)/TileHeight, id.Level%TileHeight
	first := id.Index << h
	t := Tile{Level: level, N: first / TileWidth, Width: TileWidth}
	if have := size>>(TileHeight*level) - t.N*TileWidth; have < TileWidth {
		t.Width = int(have)
	}
	at := int(first % TileWidth)
	if nodes, knows := tiles.(NodeReader); knows {
		return nodes.Node(t, h, at)
	}
	hashes, err := tiles.ReadTile(t)
	if err != nil {
		return suite.Hash{}, err
	}
	if at+1<<h > len(hashes) {
		return suite.Hash{}, fmt.Errorf("%s: want %d hashes, got %d", t.Path(), at+1<<h, len(hashes))
	}
	return fold(d, hashes[at:at+1<<h]), nil
}

// CheckInclusion checks that the leaf of that hash is leaf index of the tree of
// that size and root.
func CheckInclusion(d suite.Digest, index, size uint64, leaf suite.Hash, path []suite.Hash, root suite.Hash) error {
	if err := proof.VerifyInclusion(hasher{d}, index, size, leaf[:], byteSlices(path), root[:]); err != nil {
		return fmt.Errorf("leaf %d, tree of %d, %s: %w", index, size, d, ErrProof)
	}
	return nil
}

// CheckConsistency checks that the tree of size older with root olderRoot is a
// prefix of the newer one.
func CheckConsistency(d suite.Digest, older, newer uint64, path []suite.Hash, olderRoot, newerRoot suite.Hash) error {
	if err := proof.VerifyConsistency(hasher{d}, older, newer, byteSlices(path), olderRoot[:], newerRoot[:]); err != nil {
		return fmt.Errorf("trees of %d and %d, %s: %w", older, newer, d, ErrProof)
	}
	return nil
}

func byteSlices(hashes []suite.Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

// hasher is a suite.Digest in the shape transparency-dev/merkle takes.
type hasher struct{ d suite.Digest }

func (h hasher) EmptyRoot() []byte { r := h.d.EmptyRoot(); return r[:] }

func (h hasher) HashLeaf(leaf []byte) []byte { r := h.d.LeafHash(leaf); return r[:] }

func (h hasher) HashChildren(left, right []byte) []byte {
	var l, r suite.Hash
	copy(l[:], left)
	copy(r[:], right)
	n := h.d.NodeHash(&l, &r)
	return n[:]
}

func (h hasher) Size() int { return suite.Size }
