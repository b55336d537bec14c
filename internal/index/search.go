package index

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"slices"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// Used says how a search went.
type Used struct {
	Segments int    `json:"segments"`  // looked at; those that no event can be in are not
	Postings int    `json:"postings"`  // of them by their postings
	Memory   bool   `json:"memory"`    // the segment that grows was in memory
	PassedBy int    `json:"passed_by"` // segments that their summary ruled out
	Read     int    `json:"read"`      // segments, and ends of them, that were read
	Bundles  uint64 `json:"bundles"`   // read, of 256 events
	Lies     uint64 `json:"lies"`      // events that a sidecar named and that were not what was asked for
	Distrust int    `json:"distrust"`  // sidecars given up during the search
	Named    uint64 `json:"named"`     // events that were looked at because a sidecar named them
}

// Search calls hit for every leaf in [first, end) that fulfils q, in rising
// order, or falling when newest is set, until hit returns an error, which
// Search then returns as it is. Leaves that could not be searched are returned
// as gaps.
func (x *Index) Search(ctx context.Context, q *search.Query, first, end uint64, newest bool, hit func(search.Hit) error) ([]search.Gap, error) {
	_, gaps, err := x.SearchUsed(ctx, q, first, end, newest, hit)
	return gaps, err
}

// SearchUsed is Search, and says how it went.
func (x *Index) SearchUsed(ctx context.Context, q *search.Query, first, end uint64, newest bool, hit func(search.Hit) error) (Used, []search.Gap, error) {
	s := &searching{x: x, q: q, conditions: q.Conditions(), newest: newest, hit: hit}
	pieces := x.pieces(first, end)
	if newest {
		slices.Reverse(pieces)
	}
	for i := range pieces {
		if err := s.piece(ctx, &pieces[i]); err != nil {
			return s.used, s.gaps, err
		}
	}
	return s.used, s.gaps, nil
}

// piece is some leaves of one segment, or of one that nothing is known of.
type piece struct {
	first, end uint64
	base       uint64  // where the segment begins, or any multiple of 256
	closed     *closed // nil when it is none
	live       *live   // nil when it is not
}

// pieces divides the leaves in [first, end) by what is known of them.
func (x *Index) pieces(first, end uint64) (out []piece) {
	at := first
	unknown := func(until uint64) {
		if until = min(until, end); at < until {
			out = append(out, piece{first: at, end: until, base: at / tlog.TileWidth * tlog.TileWidth})
			at = until
		}
	}
	live := x.live.Load() // before the closed ones: it may become one of them
	for _, c := range x.snapshot() {
		if c.first+c.leaves <= at || c.first >= end {
			continue
		}
		unknown(c.first)
		until := min(c.first+c.leaves, end)
		out = append(out, piece{first: at, end: until, base: c.first, closed: c})
		at = until
	}
	if live != nil {
		live.mu.RLock()
		begin, until := live.b.first, min(live.b.next(), end)
		live.mu.RUnlock()
		unknown(begin)
		if begin <= at && at < until {
			out = append(out, piece{first: at, end: until, base: begin, live: live})
			at = until
		}
	}
	unknown(end)
	return out
}

// searching is one search.
type searching struct {
	x          *Index
	q          *search.Query
	conditions []search.Condition
	newest     bool
	hit        func(search.Hit) error

	draft veritrail.Draft
	hits  uint64
	used  Used
	gaps  []search.Gap
}

func (s *searching) piece(ctx context.Context, p *piece) error {
	var found set    // the events to look at; nil: all
	var spans []span // the time of each bundle; nil: unknown
	switch {
	case p.live != nil:
		p.live.mu.RLock()
		found, _ = p.live.b.candidates(s.conditions)
		spans = slices.Clone(p.live.b.bundles)
		p.live.mu.RUnlock()
		s.used.Memory = true
		s.used.Segments++
	case p.closed != nil && p.closed.summary != nil:
		c := p.closed
		if !s.overlaps(c.span) {
			s.used.PassedBy++
			return nil
		}
		var err error
		if found, spans, err = s.ask(c); err != nil {
			s.used.Distrust++
			s.x.distrust(c, err)
			found, spans = nil, nil
		}
		if found != nil && found.empty() {
			if c.postings == nil {
				s.used.PassedBy++
			} else {
				s.used.Segments++
				s.used.Postings++
			}
			return nil
		}
		s.used.Segments++
		if found != nil {
			s.used.Postings++
		} else {
			s.used.Read++
		}
	default:
		s.used.Segments++
		s.used.Read++
	}
	hits := s.hits
	lied, passed, err := s.bundles(ctx, p, found, spans)
	if err != nil || !lied {
		return err
	}
	// From here on, and in the searches to come, the segment is read.
	if p.closed != nil {
		s.used.Distrust++
		s.x.distrust(p.closed, errLied)
	}
	s.used.Read++
	rest := *p
	if s.hits > hits { // what was found cannot be taken back, and what was not may be missing
		if s.newest {
			rest.end = passed
			s.gap(search.Gap{First: passed, End: p.end, Err: errLied})
		} else {
			rest.first = passed
			s.gap(search.Gap{First: p.first, End: passed, Err: errLied})
		}
	}
	_, _, err = s.bundles(ctx, &rest, nil, nil)
	return err
}

// errLied is why a part of a segment has to be searched again.
var errLied = fmt.Errorf("%w: it named events that are not what was asked for; search again", errSidecar)

// bundles looks at those bundles of a piece that have events to look at, until
// a sidecar turns out to be wrong. passed is how far it has come.
func (s *searching) bundles(ctx context.Context, p *piece, found set, spans []span) (lied bool, passed uint64, err error) {
	from, to := p.first/tlog.TileWidth, (p.end+tlog.TileWidth-1)/tlog.TileWidth
	for i := range to - from {
		if err := ctx.Err(); err != nil {
			return false, 0, err
		}
		n := from + i
		if s.newest {
			n = to - 1 - i
		}
		start := n * tlog.TileWidth
		b := bundle{max(start, p.first), min(start+tlog.TileWidth, p.end), nil}
		local := int(n - p.base/tlog.TileWidth)
		if spans != nil && local < len(spans) && !s.overlaps(spans[local]) {
			continue
		}
		if found != nil {
			if b.only = found.bundle(local); b.only.empty() {
				continue
			}
		}
		lied, err := s.bundle(&b)
		if err != nil {
			return false, 0, err
		}
		if passed = b.end; s.newest {
			passed = b.first
		}
		if lied {
			return true, passed, nil
		}
	}
	return false, 0, nil
}

// overlaps tells whether events of that time may be within Since and Until.
func (s *searching) overlaps(t span) bool {
	return (s.q.Since.IsZero() || t.max >= s.q.Since.Unix()) && (s.q.Until.IsZero() || t.min <= s.q.Until.Unix())
}

// ask is what the sidecars say of a segment: the events to look at, none when
// the set is empty, all when it is nil.
func (s *searching) ask(c *closed) (found set, spans []span, err error) {
	r, done, err := s.x.openSidecar(c, c.summary)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	if spans, err = r.spans(); err != nil {
		return nil, nil, err
	}
	if c.postings == nil {
		for i := range s.conditions {
			cond := &s.conditions[i]
			value, exact := cond.Exact()
			if !usable(cond) || !exact || cond.Key == "" {
				continue
			}
			if may, err := r.mayHave(groupName(cond), value); err != nil || !may {
				return set{}, spans, err
			}
		}
		return nil, spans, nil
	}
	rp, doneToo, err := s.x.openSidecar(c, c.postings.sidecar)
	if err != nil {
		return nil, nil, err
	}
	defer doneToo()
	found, _, err = c.postings.candidates(rp, s.conditions)
	return found, spans, err
}

// openSidecar opens the file of a sidecar that was read before. A file that
// was put in its place has other checksums, and is found out like a damaged
// one.
func (x *Index) openSidecar(c *closed, s *sidecar) (*reader, func(), error) {
	kind := summarySuffix
	if s != c.summary {
		kind = postingsSuffix
	}
	f, err := os.Open(x.path(c.first, kind))
	if err != nil {
		return nil, nil, err
	}
	return &reader{sidecar: s, src: f}, func() { _ = f.Close() }, nil // it was only read
}

// bundle is leaves to look at.
type bundle struct {
	first, end uint64
	only       set // of the whole bundle; nil: all
}

// bundle looks at the sealed records. lied says that one of them is not what a
// sidecar said of it.
func (s *searching) bundle(b *bundle) (lied bool, err error) {
	n := int(b.end - b.first)
	skip := int(b.first % tlog.TileWidth)
	if b.only != nil {
		if n = min(n, b.only.last()+1-skip); n <= 0 {
			return false, nil
		}
		s.used.Named += uint64(b.only.count())
	}
	s.used.Bundles++
	lines, problem := s.x.leaves.Read(b.first, n)
	if problem != nil { // no lines then
		s.gap(search.Gap{First: b.first, End: b.first + uint64(n), Err: problem})
	}
	for i := range lines {
		if s.newest {
			i = len(lines) - 1 - i
		}
		named := b.only != nil
		if named && !b.only.has(uint32(skip+i)) || !named && !s.q.MayMatch(lines[i]) {
			continue
		}
		index := b.first + uint64(i)
		if err := s.draft.Parse(lines[i]); err != nil {
			s.gap(search.Gap{First: index, End: index + 1, Err: errors.New("not an event")})
			continue
		}
		if !s.q.Match(&s.draft, lines[i]) {
			if named && !s.bornOut() {
				s.x.lies.Add(1)
				s.used.Lies++
				lied = true
			}
			continue
		}
		s.hits++
		if err := s.hit(search.Hit{Leaf: index, Bytes: lines[i], Event: &s.draft}); err != nil {
			return lied, err
		}
	}
	return lied, nil
}

// bornOut tells whether the event fulfils the conditions that an index can be
// asked. Ids are looked up by a checksum, which others may have too.
func (s *searching) bornOut() bool {
	for i := range s.conditions {
		if c := &s.conditions[i]; usable(c) && c.Field != "id" && !c.Match(&s.draft) {
			return false
		}
	}
	return true
}

// gap notes leaves that could not be searched, joined with the ones before when
// they touch and have the same cause.
func (s *searching) gap(g search.Gap) {
	if n := len(s.gaps); n > 0 {
		last := &s.gaps[n-1]
		if last.Err.Error() == g.Err.Error() || errors.Is(last.Err, trail.ErrMissing) && errors.Is(g.Err, trail.ErrMissing) {
			switch {
			case last.End == g.First:
				last.End = g.End
				return
			case last.First == g.End:
				last.First = g.First
				return
			}
		}
	}
	s.gaps = append(s.gaps, g)
}

func (s set) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}
