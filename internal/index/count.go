package index

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/tlog"
)

// Counts are numbers of events.
type Counts struct {
	Events     uint64
	LeafBytes  uint64
	First      time.Time // of the earliest event, zero when there is none
	Last       time.Time
	Actions    map[string]uint64
	Severities map[string]uint64 // "" for none
	Kinds      map[string]uint64 // of subjects: their keys, as role+user
	Hours      map[int64]uint64  // since 1970
	Subjects   map[string]uint64 // as user=10086; nil when they were not asked for

	kind []byte // scratch
}

// maxSubjects bounds what is remembered of a trail with very many subjects.
const maxSubjects = 1 << 20

func newCounts(subjects bool) *Counts {
	c := &Counts{Actions: map[string]uint64{}, Severities: map[string]uint64{}, Kinds: map[string]uint64{}, Hours: map[int64]uint64{}}
	if subjects {
		c.Subjects = map[string]uint64{}
	}
	return c
}

// addTotals adds rows of a tally without their hours.
func (c *Counts) addTotals(t *tally, rows []row) {
	for i := range rows {
		r := &rows[i]
		c.Events += r.events
		c.LeafBytes += r.bytes
		c.Actions[t.actions[r.action]] += r.events
		c.Kinds[t.kinds[r.kind]] += r.events
		c.Severities[r.severity.String()] += r.events
	}
}

// addHours adds the hours of rows.
func (c *Counts) addHours(rows []row) {
	for i := range rows {
		c.Hours[rows[i].hour] += rows[i].events
	}
}

func (c *Counts) addSubject(key, value string, n uint64) {
	if c.Subjects == nil {
		return
	}
	name := key + "=" + value
	if _, there := c.Subjects[name]; there || len(c.Subjects) < maxSubjects {
		c.Subjects[name] += n
	}
}

func (c *Counts) addSubjects(d *veritrail.Draft) {
	if c.Subjects == nil {
		return
	}
	for i := range d.Subject {
		c.addSubject(d.Subject[i].Key, d.Subject[i].Value, 1)
	}
}

func (c *Counts) addTime(t time.Time) {
	if c.First.IsZero() || t.Before(c.First) {
		c.First = t
	}
	if t.After(c.Last) {
		c.Last = t
	}
}

func (c *Counts) addEvent(d *veritrail.Draft, leafBytes int) {
	c.addTime(d.Timestamp)
	c.addSubjects(d)
	c.Events++
	c.LeafBytes += uint64(leafBytes)
	c.Hours[hourOf(d.Timestamp.Unix())]++
	c.Severities[d.Severity.String()]++
	c.kind = appendKind(c.kind[:0], d.Subject)
	if n, there := c.Kinds[string(c.kind)]; there {
		c.Kinds[string(c.kind)] = n + 1
	} else {
		c.Kinds[string(c.kind)] = 1
	}
	if _, there := c.Actions[d.Action]; there {
		c.Actions[d.Action]++
	} else {
		c.Actions[strings.Clone(d.Action)] = 1 // not a part of the event
	}
}

// Count counts the events in [first, end) that fulfil q. Without conditions it
// adds up what the summaries hold, and reads events only where Since or Until
// divides an hour; with conditions it looks at each event that Search finds.
func (x *Index) Count(ctx context.Context, q *search.Query, first, end uint64, subjects bool) (*Counts, []search.Gap, error) {
	c := &counting{Counts: newCounts(subjects), x: x, q: q}
	c.s = &searching{x: x, q: q, conditions: q.Conditions(), hit: func(h search.Hit) error {
		c.addEvent(h.Event, len(h.Bytes))
		return nil
	}}
	for _, p := range x.pieces(first, end) {
		if err := c.piece(ctx, &p); err != nil {
			return nil, nil, err
		}
	}
	return c.Counts, c.s.gaps, c.times(ctx)
}

type counting struct {
	*Counts
	x *Index
	q *search.Query
	s *searching

	// Bundles with the earliest and the latest second of those not looked at.
	early, late edge
}

type edge struct {
	sec     int64
	bundles []bundle
}

func (c *counting) piece(ctx context.Context, p *piece) error {
	if len(c.s.conditions) > 0 {
		return c.s.piece(ctx, p)
	}
	switch {
	case p.closed != nil && p.closed.summary != nil && p.first == p.closed.first && p.end == p.first+p.closed.leaves:
		if !c.s.overlaps(p.closed.span) {
			return nil
		}
		t, err := c.closed(p.closed)
		if err != nil {
			c.x.distrust(p.closed, err)
			break
		}
		return c.add(t)
	case p.live != nil:
		t := c.live(p)
		if t == nil {
			break
		}
		return c.add(t)
	}
	return c.s.piece(ctx, p)
}

// counted is a segment that can be counted without reading its events.
type counted struct {
	first, leaves uint64
	*tally
	spans    []span
	within   bool              // all of it counts
	divided  map[int64]bool    // hours of which not all counts
	look     []bool            // bundles to be read: they reach into a divided hour, or out of the range
	subjects map[string]uint64 // of the other bundles that count
}

// live counts the segment that grows. It is nil when not all that is indexed of
// it was asked about.
func (c *counting) live(p *piece) *counted {
	p.live.mu.RLock()
	defer p.live.mu.RUnlock()
	b := p.live.b
	if p.first != b.first || p.end != b.next() {
		return nil
	}
	t := &counted{first: b.first, leaves: uint64(len(b.ids)), tally: b.tally(), spans: slices.Clone(b.bundles), subjects: make(map[string]uint64)}
	only := c.divide(t)
	if c.Subjects == nil {
		return t
	}
	for i := range b.groups {
		g := &b.groups[i]
		if g.part != partSubject {
			continue
		}
		counts := make([]uint64, len(g.terms))
		for at, v := range g.values {
			if only == nil || only.has(g.events[at]) {
				counts[v]++
			}
		}
		for v, n := range counts {
			if n > 0 {
				t.subjects[g.key+"\xff"+string(g.value(uint32(v)))] += n
			}
		}
	}
	return t
}

// closed counts a closed segment by its sidecars.
func (c *counting) closed(seg *closed) (*counted, error) {
	r, done, err := c.x.openSidecar(seg, seg.summary)
	if err != nil {
		return nil, err
	}
	defer done()
	t := &counted{first: seg.first, leaves: seg.leaves, subjects: make(map[string]uint64)}
	if t.tally, err = r.tally(!c.inside(seg.span)); err != nil {
		return nil, err
	}
	if t.spans, err = r.spans(); err != nil {
		return nil, err
	}
	if only := c.divide(t); c.Subjects != nil {
		err = c.subjects(seg, only, t.subjects)
	}
	return t, err
}

// divide finds what of a segment counts by its tally and what has to be read.
// It returns the events of bundles that count whole and are not read, nil when
// that is all of them.
func (c *counting) divide(t *counted) (only set) {
	t.within, t.divided, t.look = true, make(map[int64]bool), make([]bool, len(t.spans))
	for _, s := range t.spans {
		t.within = t.within && c.inside(s)
	}
	if t.within {
		return nil
	}
	for i := range t.hours {
		if all, part := c.hourInside(t.hours[i].hour); !all && part {
			t.divided[t.hours[i].hour] = true
		}
	}
	only = newSet(int(t.leaves))
	for i, s := range t.spans {
		switch {
		case !c.s.overlaps(s):
		case !c.inside(s) || reaches(s, t.divided):
			t.look[i] = true
		default:
			only.addRange(i*tlog.TileWidth, min((i+1)*tlog.TileWidth, int(t.leaves)))
		}
	}
	return only
}

// reaches tells whether events of that time may be in one of the hours.
func reaches(s span, hours map[int64]bool) bool {
	for hour := range hours {
		if s.min < (hour+1)*3600 && s.max >= hour*3600 {
			return true
		}
	}
	return false
}

// add adds a segment: by its tally, and by reading where that does not do.
func (c *counting) add(t *counted) error {
	if t.within {
		c.addTotals(t.tally, t.totals)
		c.addHours(t.hours)
	} else {
		var inside []row
		for _, r := range t.hourly {
			if all, _ := c.hourInside(r.hour); all {
				c.Hours[r.hour] += r.events
				r.hour = 0
				inside = append(inside, r)
			}
		}
		c.addTotals(t.tally, sums(inside, func(r row) row { return r }))
	}
	for name, n := range t.subjects {
		key, value, _ := strings.Cut(name, "\xff")
		c.addSubject(key, value, n)
	}
	c.edges(t)
	hits := searching{x: c.x, q: c.q, hit: func(h search.Hit) error {
		c.addTime(h.Event.Timestamp)
		if t.divided[hourOf(h.Event.Timestamp.Unix())] {
			c.addEvent(h.Event, len(h.Bytes))
			return nil
		}
		c.addSubjects(h.Event)
		return nil
	}}
	for i := range t.look {
		if !t.look[i] {
			continue
		}
		first := t.first + uint64(i)*tlog.TileWidth
		if _, err := hits.bundle(&bundle{first, min(first+tlog.TileWidth, t.first+t.leaves), nil}); err != nil {
			return err
		}
	}
	c.s.gaps = append(c.s.gaps, hits.gaps...)
	return nil
}

// inside tells whether all events of that time count.
func (c *counting) inside(s span) bool {
	return c.q.InTime(time.Unix(s.min, 0)) && c.q.InTime(time.Unix(s.max, 999_999_999))
}

// hourInside tells whether all of an hour counts, and part whether some of it
// may.
func (c *counting) hourInside(hour int64) (all, part bool) {
	s := span{hour * 3600, hour*3600 + 3599}
	return c.inside(s), c.s.overlaps(s)
}

// subjects counts the subjects of some events of a segment, of all when only is
// nil.
func (c *counting) subjects(seg *closed, only set, counts map[string]uint64) error {
	if seg.postings == nil {
		return c.readSubjects(seg, only, counts)
	}
	r, done, err := c.x.openSidecar(seg, seg.postings.sidecar)
	if err != nil {
		return err
	}
	defer done()
	for i := range seg.postings.groups {
		g := &seg.postings.groups[i]
		key, ok := strings.CutPrefix(g.name, "sub.")
		if !ok {
			continue
		}
		if err := g.count(r, seg.leaves, only, func(value []byte, n uint64) { counts[key+"\xff"+string(value)] += n }); err != nil {
			return err
		}
	}
	return nil
}

// readSubjects counts them where there are no postings any more.
func (c *counting) readSubjects(seg *closed, only set, counts map[string]uint64) error {
	if only == nil {
		only = newSet(int(seg.leaves))
		only.addRange(0, int(seg.leaves))
	}
	hits := searching{x: c.x, q: new(search.Query), hit: func(h search.Hit) error {
		for i := range h.Event.Subject {
			counts[h.Event.Subject[i].Key+"\xff"+h.Event.Subject[i].Value]++
		}
		return nil
	}}
	for at := uint64(0); at < seg.leaves; at += tlog.TileWidth {
		b := bundle{seg.first + at, min(seg.first+at+tlog.TileWidth, seg.first+seg.leaves), only.bundle(int(at / tlog.TileWidth))}
		if b.only.empty() {
			continue
		}
		if _, err := hits.bundle(&b); err != nil {
			return err
		}
	}
	c.s.gaps = append(c.s.gaps, hits.gaps...)
	return nil
}

// edges remembers the bundles that may hold the earliest and the latest event,
// of those that count whole and are not read anyway.
func (c *counting) edges(t *counted) {
	for i, s := range t.spans {
		if t.look[i] || !c.inside(s) {
			continue
		}
		at := t.first + uint64(i)*tlog.TileWidth
		b := bundle{at, min(at+tlog.TileWidth, t.first+t.leaves), nil}
		c.early.keep(s.min, b, func(x, y int64) bool { return x < y })
		c.late.keep(s.max, b, func(x, y int64) bool { return x > y })
	}
}

func (e *edge) keep(sec int64, b bundle, before func(x, y int64) bool) {
	switch {
	case len(e.bundles) == 0 || before(sec, e.sec):
		e.sec, e.bundles = sec, append(e.bundles[:0], b)
	case sec == e.sec:
		e.bundles = append(e.bundles, b)
	}
}

// times reads the events that may be the earliest and the latest.
func (c *counting) times(ctx context.Context) error {
	hits := searching{x: c.x, q: c.q, hit: func(h search.Hit) error {
		c.addTime(h.Event.Timestamp)
		return nil
	}}
	if !c.First.IsZero() && c.First.Unix() < c.early.sec {
		c.early.bundles = nil
	}
	if !c.Last.IsZero() && c.Last.Unix() > c.late.sec {
		c.late.bundles = nil
	}
	for _, b := range append(slices.Clone(c.early.bundles), c.late.bundles...) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := hits.bundle(&b); err != nil {
			return err
		}
	}
	return nil
}
