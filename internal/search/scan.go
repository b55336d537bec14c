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
	var gaps []Gap
	var d veritrail.Draft
	for at := first; at < end; {
		if err := ctx.Err(); err != nil {
			return gaps, err
		}
		n := min(end, (at/tlog.TileWidth+1)*tlog.TileWidth) - at
		lines, err := leaves.Read(at, int(n))
		if err != nil {
			gaps = addGap(gaps, Gap{at, at + n, err})
		}
		for i, leaf := range lines {
			if !q.MayMatch(leaf) {
				continue
			}
			index := at + uint64(i)
			if err := d.Parse(leaf); err != nil {
				gaps = addGap(gaps, Gap{index, index + 1, errors.New("not an event")})
				continue
			}
			if !q.Match(&d, leaf) {
				continue
			}
			if err := hit(Hit{Leaf: index, Bytes: leaf, Event: &d}); err != nil {
				return gaps, err
			}
		}
		at += n
	}
	return gaps, nil
}

// addGap joins gaps that touch and have the same cause.
func addGap(gaps []Gap, g Gap) []Gap {
	if n := len(gaps); n > 0 && gaps[n-1].End == g.First && sameCause(gaps[n-1].Err, g.Err) {
		gaps[n-1].End = g.End
		return gaps
	}
	return append(gaps, g)
}

func sameCause(a, b error) bool {
	return a.Error() == b.Error() || errors.Is(a, trail.ErrMissing) && errors.Is(b, trail.ErrMissing)
}
