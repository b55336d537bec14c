package index

import (
	"math/bits"

	"github.com/veritrail/veritrail/internal/tlog"
)

// set holds numbers below a bound: of a segment's events, or of its values.
type set []uint64

func newSet(bound int) set { return make(set, (bound+63)/64) }

func (s set) add(n uint32) { s[n/64] |= 1 << (n % 64) }

func (s set) has(n uint32) bool { return s[n/64]&(1<<(n%64)) != 0 }

// addRange adds the numbers from first to before end.
func (s set) addRange(first, end int) {
	for n := first; n < end; {
		if n%64 == 0 && n+64 <= end {
			s[n/64] = ^uint64(0)
			n += 64
			continue
		}
		s.add(uint32(n))
		n++
	}
}

func (s set) intersect(other set) {
	for i := range s {
		s[i] &= other[i]
	}
}

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

const wordsInBundle = tlog.TileWidth / 64

// bundle is the part of a set of events that is in bundle n of their segment.
func (s set) bundle(n int) set {
	from := min(n*wordsInBundle, len(s))
	return s[from:min(from+wordsInBundle, len(s))]
}

// last is the largest number, -1 when there is none.
func (s set) last() int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != 0 {
			return i*64 + 63 - bits.LeadingZeros64(s[i])
		}
	}
	return -1
}
