package detect

import (
	"unicode/utf8"
	"unsafe"
)

// A folding is a value with look-alikes in their plain form, and where each byte of it came from. Full-width ASCII
// becomes ASCII, unusual spaces become a space, dashes a hyphen, middle dots a full stop; what has no width is left out.
type folding struct {
	text []byte
	at   []int // at[i] is the offset in the value of what text[i] came from
}

func (n *folding) fold(value string) {
	n.text, n.at = n.text[:0], n.at[:0]
	for i := 0; i < len(value); {
		if value[i] < utf8.RuneSelf {
			n.text, n.at = append(n.text, value[i]), append(n.at, i)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(value[i:])
		if plain := foldRune(r); plain > 0 {
			n.text, n.at = append(n.text, byte(plain)), append(n.at, i)
		} else if plain == 0 {
			for j := range size {
				n.text, n.at = append(n.text, value[i+j]), append(n.at, i+j)
			}
		} // else of no width
		i += size
	}
}

const noWidth = -1

// foldRune returns the plain form of r, 0 when r has none, and noWidth when r is to be left out.
func foldRune(r rune) rune {
	switch {
	case r >= 0xff01 && r <= 0xff5e:
		return r - 0xff01 + '!'
	case r == 0x3000 || r == 0xa0 || r >= 0x2000 && r <= 0x200a || r == 0x202f || r == 0x205f:
		return ' '
	case r >= 0x2010 && r <= 0x2015 || r == 0x2212:
		return '-'
	case r == 0xb7 || r == 0x2022 || r == 0x2027 || r == 0x30fb:
		return '.'
	case r == 0xad || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2060 && r <= 0x2064 || r == 0xfeff:
		return noWidth
	}
	return 0
}

// string is the folded text. It shares memory with n and must not outlive the scan.
func (n *folding) string() string {
	return unsafe.String(unsafe.SliceData(n.text), len(n.text)) //nolint:gosec // not modified while the scan runs
}

// unfold turns offsets of the folded text into those of value.
func (n *folding) unfold(found []Finding, value string) {
	for i := range found {
		f := &found[i]
		last := n.at[f.End-1]
		size := 1
		if n.text[f.End-1] < utf8.RuneSelf {
			_, size = utf8.DecodeRuneInString(value[last:])
		}
		f.Start, f.End = n.at[f.Start], last+size
	}
}

// maxKept bounds what a folding keeps for the next value.
const maxKept = 64 << 10

// wipe leaves nothing of the value behind.
func (n *folding) wipe() {
	clear(n.text)
	if cap(n.text) > maxKept {
		n.text, n.at = nil, nil
	}
}
