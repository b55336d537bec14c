package tlog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/veritrail/veritrail/internal/suite"
)

// Tile names one tile: Width hashes of nodes of height Level×8, the first of
// them node N×256 of that height.
type Tile struct {
	Level int
	N     uint64
	Width int
}

// maxLevel is the highest level a log of 2⁶⁴ leaves can have.
const maxLevel = 7

// Path is the tile's place under a log's prefix, as C2SP tlog-tiles says:
// tile/<L>/<N>[.p/<W>], N in groups of three digits.
func (t Tile) Path() string {
	return fmt.Sprintf("tile/%d/%s", t.Level, indexPath(t.N, t.Width))
}

// BundlePath is the place of the entry bundle of leaves n×256 and on.
func BundlePath(n uint64, width int) string {
	return "tile/entries/" + indexPath(n, width)
}

func indexPath(n uint64, width int) string {
	p := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		p = fmt.Sprintf("x%03d/%s", n%1000, p)
	}
	if width != TileWidth {
		p += ".p/" + strconv.Itoa(width)
	}
	return p
}

// ParsePath reads the path of a tile or, with entries true, of an entry bundle
// (Level is 0 then). It accepts exactly what Path and BundlePath write.
func ParsePath(path string) (t Tile, entries bool, err error) {
	bad := fmt.Errorf("tile path %.80q: want tile/<level>/<index>[.p/<width>]", path)
	rest, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return Tile{}, false, bad
	}
	level, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return Tile{}, false, bad
	}
	if entries = level == "entries"; !entries {
		if t.Level, err = strconv.Atoi(level); err != nil || t.Level < 0 || t.Level > maxLevel {
			return Tile{}, false, bad
		}
	}
	t.Width = TileWidth
	if index, width, ok := strings.Cut(rest, ".p/"); ok {
		rest = index
		if t.Width, err = strconv.Atoi(width); err != nil || t.Width < 1 || t.Width >= TileWidth {
			return Tile{}, false, bad
		}
	}
	for group := range strings.SplitSeq(rest, "/") {
		digits := strings.TrimPrefix(group, "x")
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || len(digits) != 3 || t.N > (1<<63)/1000 {
			return Tile{}, false, bad
		}
		t.N = t.N*1000 + n
	}
	want := t.Path()
	if entries {
		want = BundlePath(t.N, t.Width)
	}
	if want != path { // one tile, one name
		return Tile{}, false, bad
	}
	return t, entries, nil
}

// MarshalTile is a tile's content: its hashes, one behind the other.
func MarshalTile(hashes []suite.Hash) []byte {
	b := make([]byte, 0, len(hashes)*suite.Size)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

// ParseTile is the inverse of MarshalTile for a tile of the given width.
func ParseTile(b []byte, width int) ([]suite.Hash, error) {
	if len(b) != width*suite.Size {
		return nil, fmt.Errorf("tile of %d bytes: want %d", len(b), width*suite.Size)
	}
	hashes := make([]suite.Hash, width)
	for i := range hashes {
		copy(hashes[i][:], b[i*suite.Size:])
	}
	return hashes, nil
}

// MaxBundleEntry is the longest leaf an entry bundle can hold.
const MaxBundleEntry = 1<<16 - 1

// AppendBundleEntry appends a leaf to an entry bundle: its length as a 16-bit
// big-endian number, then its bytes.
func AppendBundleEntry(b, leaf []byte) ([]byte, error) {
	if len(leaf) > MaxBundleEntry {
		return nil, fmt.Errorf("leaf of %d bytes: an entry bundle holds at most %d", len(leaf), MaxBundleEntry)
	}
	b = append(b, byte(len(leaf)>>8), byte(len(leaf)))
	return append(b, leaf...), nil
}

// ParseBundle splits an entry bundle of the given number of leaves. The leaves
// share b's memory.
func ParseBundle(b []byte, width int) ([][]byte, error) {
	leaves := make([][]byte, 0, width)
	for i := range width {
		if len(b) < 2 {
			return nil, fmt.Errorf("entry bundle: entry %d of %d: truncated length", i, width)
		}
		n := int(b[0])<<8 | int(b[1])
		if len(b) < 2+n {
			return nil, fmt.Errorf("entry bundle: entry %d of %d: want %d bytes, %d are left", i, width, n, len(b)-2)
		}
		leaves = append(leaves, b[2:2+n:2+n])
		b = b[2+n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("entry bundle: %d bytes after entry %d, the last", len(b), width)
	}
	return leaves, nil
}
