// Package tlog owns the Merkle tree over a trail's leaves: RFC 6962 §2.1 trees
// and proofs for any digest of package suite, and the C2SP tlog-tiles way of
// cutting a tree into tiles of height 8.
//
// A Tree takes leaf hashes one behind the other and keeps only its right edge,
// so its memory does not grow with the log. It hands out every tile the moment
// it is full. Proofs are made from tiles, wherever they come from (TileReader),
// and checked from hashes alone.
//
// It knows no disk, clock or network, and nothing of what a leaf says. Proofs
// are built and checked with transparency-dev/merkle; golang.org/x/mod's tlog,
// which is fixed to SHA-256, is the tests' oracle.
package tlog

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/veritrail/veritrail/internal/suite"
)

const (
	// TileHeight is the height of a tile, fixed by C2SP tlog-tiles.
	TileHeight = 8
	// TileWidth is the number of hashes in a full tile, and of leaves in a
	// full entry bundle.
	TileWidth = 1 << TileHeight
)

// Tree is a growing tree. It is not safe for concurrent use.
type Tree struct {
	digest suite.Digest
	size   uint64
	// stack[h] is the root of the perfect subtree of height h on the right
	// edge, where bit h of size is set.
	stack [64]suite.Hash
	// edge[l] are the hashes of the rightmost tile of level l that is not yet
	// full.
	edge [][]suite.Hash
	full func(Tile, []suite.Hash)
	// nodes is room for AppendAll: the new nodes of a height and of the one
	// above, each with a place in front for a left sibling.
	nodes *[2][1 + TileWidth]suite.Hash
}

// NewTree is an empty tree. full, when not nil, is called with each tile that
// has just been completed, in order within a level; it must copy the hashes if
// it keeps them.
func NewTree(d suite.Digest, full func(Tile, []suite.Hash)) *Tree {
	return &Tree{digest: d, full: full}
}

// RestoreTree is the tree of the given size, a multiple of TileWidth, that the
// tiles of level 1 and above describe.
func RestoreTree(d suite.Digest, size uint64, tiles TileReader, full func(Tile, []suite.Hash)) (*Tree, error) {
	if size%TileWidth != 0 {
		return nil, fmt.Errorf("tree of size %d: only a multiple of %d can be restored from tiles", size, TileWidth)
	}
	t := &Tree{digest: d, size: size, full: full, edge: [][]suite.Hash{nil}}
	for level := 1; size>>(TileHeight*level) > 0; level++ {
		at := size >> (TileHeight * level)
		tile := Tile{Level: level, N: at / TileWidth, Width: int(at % TileWidth)}
		var hashes []suite.Hash
		if tile.Width > 0 {
			var err error
			if hashes, err = tiles.ReadTile(tile); err != nil {
				return nil, err
			}
			hashes = slices.Clone(hashes[:tile.Width])
		}
		t.edge = append(t.edge, hashes)
		for h := 0; h < TileHeight; h++ {
			if at>>h&1 == 1 {
				end := int(at % TileWidth >> h << h)
				t.stack[TileHeight*level+h] = fold(d, hashes[end-1<<h:end])
			}
		}
	}
	return t, nil
}

// Append adds one leaf.
func (t *Tree) Append(leaf suite.Hash) {
	t.climb(0, leaf, t.size+1)
	t.size++
}

// AppendAll adds leaves as Append would one by one, and tells of the same tiles in
// the same order. It hashes the nodes of a level together.
func (t *Tree) AppendAll(leaves []suite.Hash) {
	for len(leaves) > 0 {
		n := min(len(leaves), TileWidth-int(t.size%TileWidth))
		if n == 1 {
			t.Append(leaves[0])
		} else {
			t.appendWithin(leaves[:n])
		}
		leaves = leaves[n:]
	}
}

// appendWithin adds leaves that stay within a tile of level 0.
func (t *Tree) appendWithin(leaves []suite.Hash) {
	size := t.size + uint64(len(leaves))
	t.push(0, size, leaves...)
	if t.nodes == nil {
		t.nodes = new([2][1 + TileWidth]suite.Hash)
	}
	nodes, above := &t.nodes[0], &t.nodes[1]
	n := copy(nodes[1:], leaves)
	for h := 0; h < TileHeight; h++ {
		children := nodes[1 : 1+n]
		if t.size>>h&1 == 1 {
			nodes[0] = t.stack[h]
			children = nodes[:1+n]
		}
		if n = len(children) / 2; len(children)%2 == 1 {
			t.stack[h] = children[2*n]
		}
		t.digest.NodeHashes(above[1:1+n], children[:2*n])
		nodes, above = above, nodes
	}
	if n == 1 {
		t.climb(TileHeight, nodes[1], size)
	}
	t.size = size
}

// climb adds a node at height h and those that it completes. size is that of the
// tree afterwards.
func (t *Tree) climb(h int, node suite.Hash, size uint64) {
	for ; ; h++ {
		if h%TileHeight == 0 {
			t.push(h/TileHeight, size, node)
		}
		if t.size>>h&1 == 0 {
			t.stack[h] = node
			return
		}
		node = t.digest.NodeHash(&t.stack[h], &node)
	}
}

// push adds hashes to the rightmost tile of a level, which they do not overrun.
func (t *Tree) push(level int, size uint64, hashes ...suite.Hash) {
	if level == len(t.edge) {
		t.edge = append(t.edge, make([]suite.Hash, 0, TileWidth))
	}
	t.edge[level] = append(t.edge[level], hashes...)
	if len(t.edge[level]) < TileWidth {
		return
	}
	if t.full != nil {
		t.full(Tile{Level: level, N: size>>(TileHeight*(level+1)) - 1, Width: TileWidth}, t.edge[level])
	}
	t.edge[level] = t.edge[level][:0]
}

// Size is the number of leaves.
func (t *Tree) Size() uint64 { return t.size }

// Digest is the tree's hash function.
func (t *Tree) Digest() suite.Digest { return t.digest }

// Root is the tree's root hash.
func (t *Tree) Root() suite.Hash {
	if t.size == 0 {
		return t.digest.EmptyRoot()
	}
	h := bits.TrailingZeros64(t.size)
	root := t.stack[h]
	for h++; h < bits.Len64(t.size); h++ {
		if t.size>>h&1 == 1 {
			root = t.digest.NodeHash(&t.stack[h], &root)
		}
	}
	return root
}

// Edge lists the tiles on the right edge that are not full, lowest level first,
// with their hashes, which are valid until the next Append.
func (t *Tree) Edge() map[Tile][]suite.Hash {
	out := make(map[Tile][]suite.Hash)
	for level, hashes := range t.edge {
		if len(hashes) > 0 {
			out[Tile{Level: level, N: t.size >> (TileHeight * (level + 1)), Width: len(hashes)}] = hashes
		}
	}
	return out
}

// Clone is an independent copy that hands out no tiles.
func (t *Tree) Clone() *Tree {
	c := *t
	c.full, c.nodes = nil, nil
	c.edge = make([][]suite.Hash, len(t.edge))
	for i, hashes := range t.edge {
		c.edge[i] = append(make([]suite.Hash, 0, TileWidth), hashes...)
	}
	return &c
}

// fold is the root of a perfect subtree over 1, 2, 4, … up to TileWidth hashes.
func fold(d suite.Digest, hashes []suite.Hash) suite.Hash {
	var one, other [TileWidth / 2]suite.Hash
	for above, next := &one, &other; len(hashes) > 1; above, next = next, above {
		n := len(hashes) / 2
		d.NodeHashes(above[:n], hashes)
		hashes = above[:n]
	}
	return hashes[0]
}
