// Package suite owns the digests a trail can be sealed with: SHA-256 (FIPS
// 180-4), always, and SM3 (GB/T 32905-2016), on request.
//
// It hashes leaves and nodes as RFC 6962 §2.1 says: a leaf is H(0x00 ‖ data),
// a node H(0x01 ‖ left ‖ right), the empty tree H(""). Leaves are independent
// messages, and so are the nodes of one level, so LeafHashes and NodeHashes take
// many at once: where the processor can, they go through parallel lanes (package
// lanes), which costs a fraction of hashing them one by one.
//
// It knows nothing of events, files or signatures.
package suite

import (
	"crypto/sha256"
	"fmt"
	"unsafe"

	"github.com/emmansun/gmsm/sm3"

	"github.com/veritrail/veritrail/internal/suite/lanes"
)

// Size is the length in bytes of every digest a trail uses.
const Size = 32

// Hash is one digest, of a leaf, a node or a whole tree.
type Hash [Size]byte

// Digest names a hash function. Its value is its bit in a Set and in the
// formats that store one.
type Digest uint8

// The digests. New ones take the next bit; a bit never changes its meaning.
const (
	SHA256 Digest = 1 << iota
	SM3
)

// Domain separation of RFC 6962 §2.1.
const (
	leafPrefix = 0x00
	nodePrefix = 0x01
)

func (d Digest) String() string {
	switch d {
	case SHA256:
		return "sha256"
	case SM3:
		return "sm3"
	}
	return fmt.Sprintf("digest-%d", uint8(d))
}

// ParseDigest is the inverse of String.
func ParseDigest(name string) (Digest, error) {
	switch name {
	case "sha256":
		return SHA256, nil
	case "sm3":
		return SM3, nil
	}
	return 0, fmt.Errorf("digest %q: want sha256 or sm3", name)
}

// EmptyRoot is the root of a tree without leaves.
func (d Digest) EmptyRoot() Hash { return d.Sum(nil) }

// Sum is the plain digest of data, without a prefix.
func (d Digest) Sum(data []byte) Hash {
	if d == SM3 {
		return sm3.Sum(data)
	}
	return sha256.Sum256(data)
}

// NodeHash is the hash of an inner node.
func (d Digest) NodeHash(left, right *Hash) Hash {
	var b [1 + 2*Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+Size:], right[:])
	return d.Sum(b[:])
}

// LeafHash is the hash of one leaf.
func (d Digest) LeafHash(leaf []byte) Hash {
	var small [4096]byte
	return d.prefixed(small[:], leaf)
}

// prefixed is the hash of a leaf by way of buf, or of a larger buffer.
func (d Digest) prefixed(buf, leaf []byte) Hash {
	if 1+len(leaf) > len(buf) {
		buf = make([]byte, 1+len(leaf))
	}
	buf[0] = leafPrefix
	n := 1 + copy(buf[1:], leaf)
	return d.Sum(buf[:n])
}

// kernel hashes in lanes, nil where this machine cannot.
func (d Digest) kernel() *lanes.Kernel {
	if d == SM3 {
		return lanes.SM3()
	}
	return lanes.SHA256()
}

// plain is hashes without our name for them.
func plain(hashes []Hash) [][Size]byte {
	return unsafe.Slice((*[Size]byte)(unsafe.SliceData(hashes)), len(hashes)) //nolint:gosec // a Hash is a [Size]byte
}

// LeafHashes hashes the leaves that stand one behind the other in lines, each
// followed by one terminator byte that is not part of it: leaf i ends before
// ends[i], and leaf i+1 begins at ends[i]+1. It fills dst, which is as long as
// ends and does not overlap lines.
func (d Digest) LeafHashes(dst []Hash, lines []byte, ends []int) {
	if k := d.kernel(); k != nil && len(ends) > 1 {
		k.Lines(plain(dst[:len(ends)]), leafPrefix, lines, ends)
		return
	}
	var small [4096]byte
	start := 0
	for i, end := range ends {
		dst[i] = d.prefixed(small[:], lines[start:end])
		start = end + 1
	}
}

// Lines puts leaves one behind the other, as LeafHashes takes them.
func Lines(leaves [][]byte) (lines []byte, ends []int) {
	size := 0
	for _, leaf := range leaves {
		size += len(leaf) + 1
	}
	lines, ends = make([]byte, 0, size), make([]int, 0, len(leaves))
	for _, leaf := range leaves {
		lines = append(lines, leaf...)
		ends = append(ends, len(lines))
		lines = append(lines, '\n')
	}
	return lines, ends
}

// NodeHashes hashes children by twos: dst[i] is the node over children 2i and
// 2i+1. It fills dst, which is half as long as children and does not overlap
// them.
func (d Digest) NodeHashes(dst, children []Hash) {
	children = children[:2*len(dst)]
	if k := d.kernel(); k != nil && len(dst) > 1 {
		data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(children))), Size*len(children)) //nolint:gosec // a Hash is a [Size]byte
		k.Records(plain(dst), nodePrefix, data, 2*Size)
		return
	}
	for i := range dst {
		dst[i] = d.NodeHash(&children[2*i], &children[2*i+1])
	}
}

// Set is a set of digests, one bit each.
type Set uint8

// NewSet collects digests; SHA-256 is in every set.
func NewSet(digests ...Digest) Set {
	s := Set(SHA256)
	for _, d := range digests {
		s |= Set(d)
	}
	return s
}

// Has tells whether d is in s.
func (s Set) Has(d Digest) bool { return s&Set(d) != 0 }

// Digests lists the members of s, SHA-256 first.
func (s Set) Digests() []Digest {
	var out []Digest
	for _, d := range []Digest{SHA256, SM3} {
		if s.Has(d) {
			out = append(out, d)
		}
	}
	return out
}

// Check refuses sets this version cannot compute, and sets without SHA-256.
func (s Set) Check() error {
	if !s.Has(SHA256) || s&^Set(SHA256|SM3) != 0 {
		return fmt.Errorf("digest set %#02x: want sha256 or sha256+sm3", uint8(s))
	}
	return nil
}
