package search

import (
	"context"
	"errors"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// Hit is an event that fulfils a query.
type Hit struct {
	Leaf  uint64
	Bytes []byte // the leaf
	// Event is only valid during the call it is given to.
	Event *veritrail.Draft
}

// Gap is a range of leaves that could not be searched.
type Gap struct {
	First, End uint64
	Err        error
}

// Scan goes through the leaves from first to before end, in order, and calls
// hit for each that fulfils the query, until it returns an error. Leaves that
// cannot be read, because their segment is missing or damaged, are gaps in the
// answer, and are returned.
func Scan(ctx context.Context, leaves *trail.Leaves, first, end uint64, q *Query, hit func(Hit) error) ([]Gap, error) {
	return NewScanner(leaves).Search(ctx, q, first, end, false, hit)
}

// Scanner finds events by reading through the leaves. It needs nothing but
// them, and takes as long as reading takes. It is safe for concurrent use.
type Scanner struct {
	leaves *trail.Leaves
}

// NewScanner reads through these leaves.
func NewScanner(leaves *trail.Leaves) *Scanner { return &Scanner{leaves} }

// Search calls hit for every leaf in [first, end) that fulfils q, in rising
// order, or falling when newest is set, until hit returns an error, which it
// then returns as it is. Leaves that could not be searched are returned as
// gaps, in the order they were met.
func (s *Scanner) Search(ctx context.Context, q *Query, first, end uint64, newest bool, hit func(Hit) error) ([]Gap, error) {
	var gaps []Gap
	var d veritrail.Draft
	for first < end {
		if err := ctx.Err(); err != nil {
			return gaps, err
		}
		// A bundle at a time: that is how leaves can be found.
		at, next := first, min(end, (first/tlog.TileWidth+1)*tlog.TileWidth)
		if newest {
			at, next = max(first, (end-1)/tlog.TileWidth*tlog.TileWidth), end
		}
		lines, err := s.leaves.Read(at, int(next-at))
		if err != nil {
			gaps = addGap(gaps, Gap{at, next, err})
		}
		for i := range lines {
			if newest {
				i = len(lines) - 1 - i
			}
			index, leaf := at+uint64(i), lines[i]
			if !q.MayMatch(leaf) {
				continue
			}
			if err := d.Parse(leaf); err != nil {
				gaps = addGap(gaps, Gap{index, index + 1, errNoEvent})
				continue
			}
			if !q.Match(&d, leaf) {
				continue
			}
			if err := hit(Hit{Leaf: index, Bytes: leaf, Event: &d}); err != nil {
				return gaps, err
			}
		}
		if newest {
			end = at
		} else {
			first = next
		}
	}
	return gaps, nil
}

var errNoEvent = errors.New("not an event")

// addGap joins gaps that touch and have the same cause.
func addGap(gaps []Gap, g Gap) []Gap {
	if n := len(gaps); n > 0 && sameCause(gaps[n-1].Err, g.Err) {
		switch last := &gaps[n-1]; {
		case last.End == g.First:
			last.End = g.End
			return gaps
		case last.First == g.End:
			last.First = g.First
			return gaps
		}
	}
	return append(gaps, g)
}

func sameCause(a, b error) bool {
	return a.Error() == b.Error() || errors.Is(a, trail.ErrMissing) && errors.Is(b, trail.ErrMissing)
}
