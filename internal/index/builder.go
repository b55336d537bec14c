package index

import (
	"bytes"
	"hash/crc32"
	"hash/maphash"
	"math"
	"sort"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/tlog"
)

// Fields of an event that have values, as groups are named.
const (
	groupAction   = "act"
	groupSeverity = "sev"
)

// maxGroups bounds the keys that one segment's postings are kept by. A segment
// whose events make up more is searched by reading it.
const maxGroups = 1 << 16

// builder gathers what the sidecars of one segment will hold, and answers for a
// segment that still grows. Leaves are added in order. It is not safe for
// concurrent use.
type builder struct {
	first  uint64 // leaf
	groups []group
	named  map[string]uint32
	last   [5][]uint32 // by part of an event: the groups of its pairs the last time, in order
	seed   maphash.Seed

	ids     []uint32 // a checksum of each event's id
	bundles []span
	rows    map[rowKey]rowSum
	kinds   map[string]uint32 // sets of subject keys
	names   []string          // of kinds
	leaf    uint64            // bytes of the leaves

	kind []byte // scratch
}

// group is a field of events, as act or sub.user: a column that holds for each
// event that has it the number of its value, and each value once. Each place in
// the column leads back to the place before with the same value, so that the
// events of a value can be told at any time; the lists that a sidecar holds are
// made at the end, all at once. Everything of a group lies together: what is
// looked at for each event stays in the processor's cache.
type group struct {
	name string
	key  string
	part int

	arena []byte // the values, one behind the other
	terms []term
	table []uint64 // open addressing: hash of a value, and its number plus one

	values []uint32 // by place
	events []uint32
	before []uint32 // the place before with the same value, plus one; 0 when there is none
}

// term is a value.
type term struct {
	at, size uint32 // in the arena
	last     uint32 // its newest place, plus one
}

// span is the time the events of a bundle come from, in seconds.
type span struct{ min, max int64 }

func noSpan() span { return span{math.MaxInt64, math.MinInt64} }

func (s *span) add(sec int64) { s.min, s.max = min(s.min, sec), max(s.max, sec) }

// rowKey is what events are counted by.
type rowKey struct {
	hour     int64
	action   uint32 // term
	kind     uint32
	severity veritrail.Severity
}

type rowSum struct{ events, bytes uint64 }

// newBuilder is for a segment that begins with leaf first and is likely to be
// like the one that was built before, if there was one.
func newBuilder(first uint64, before *builder) *builder {
	b := &builder{first: first, named: make(map[string]uint32), seed: maphash.MakeSeed(), rows: make(map[rowKey]rowSum), kinds: make(map[string]uint32)}
	if before == nil {
		return b
	}
	b.ids = make([]uint32, 0, len(before.ids))
	for i := range before.groups {
		g := &before.groups[i]
		b.named[g.name] = uint32(i)
		b.groups = append(b.groups, group{
			name: g.name, key: g.key, part: g.part,
			arena: make([]byte, 0, len(g.arena)), terms: make([]term, 0, len(g.terms)), table: make([]uint64, len(g.table)),
			values: make([]uint32, 0, len(g.values)), events: make([]uint32, 0, len(g.values)), before: make([]uint32, 0, len(g.values)),
		})
	}
	return b
}

// next is the leaf that comes next.
func (b *builder) next() uint64 { return b.first + uint64(len(b.ids)) }

// The parts of an event that have groups.
const (
	partAction = iota
	partSeverity
	partSubject
	partObject
	partContext
)

var partNames = [...]string{groupAction, groupSeverity, "sub.", "obj.", "ctx."}

// add takes the next leaf's event. It is false when the event cannot be
// indexed.
func (b *builder) add(d *veritrail.Draft, leafBytes int) bool {
	if len(b.groups) >= maxGroups || b.leaf > math.MaxUint32-veritrail.MaxEventBytes {
		return false // places in an arena are 32 bits wide, and no arena holds more than the leaves
	}
	action := b.note(b.groupAt(partAction, 0, ""), d.Action)
	if d.Severity != veritrail.SeverityUnset {
		b.note(b.groupAt(partSeverity, 0, ""), d.Severity.String())
	}
	for i, pairs := range [...]veritrail.Pairs{d.Subject, d.Object, d.Context} {
		for j := range pairs {
			b.note(b.groupAt(partSubject+i, j, pairs[j].Key), pairs[j].Value)
		}
	}
	if len(b.ids)%tlog.TileWidth == 0 {
		b.bundles = append(b.bundles, noSpan())
	}
	b.ids = append(b.ids, idSum(d.ID))
	sec := d.Timestamp.Unix()
	b.bundles[len(b.bundles)-1].add(sec)
	b.leaf += uint64(leafBytes)

	key := rowKey{hour: hourOf(sec), action: action, kind: b.kindOf(d.Subject), severity: d.Severity}
	sum := b.rows[key]
	sum.events++
	sum.bytes += uint64(leafBytes)
	b.rows[key] = sum
	return true
}

// hourOf is the hour a second is in, counted from 1970; rounding down, before
// it too.
func hourOf(sec int64) int64 {
	h := sec / 3600
	if sec%3600 < 0 {
		h--
	}
	return h
}

// kindOf numbers the set of an event's subject keys.
func (b *builder) kindOf(subject veritrail.Pairs) uint32 {
	b.kind = appendKind(b.kind[:0], subject)
	n, ok := b.kinds[string(b.kind)]
	if !ok {
		n = uint32(len(b.names))
		b.names = append(b.names, string(b.kind))
		b.kinds[string(b.kind)] = n
	}
	return n
}

// appendKind names a kind of subject: its keys, as role+user.
func appendKind(dst []byte, subject veritrail.Pairs) []byte {
	for i := range subject {
		if i > 0 {
			dst = append(dst, '+')
		}
		dst = append(dst, subject[i].Key...)
	}
	return dst
}

// groupAt is the group of the pair number i of a part. Events resemble each
// other, so it looks first where the last one had it.
func (b *builder) groupAt(part, i int, key string) uint32 {
	last := b.last[part]
	if i < len(last) && b.groups[last[i]].key == key {
		return last[i]
	}
	name := partNames[part] + key
	g, ok := b.named[name]
	if !ok {
		g = uint32(len(b.groups))
		name = strings.Clone(name)
		b.groups = append(b.groups, group{name: name, key: name[len(partNames[part]):], part: part, table: make([]uint64, 16)})
		b.named[name] = g
	}
	if i < len(last) {
		last[i] = g
	} else if i == len(last) {
		b.last[part] = append(last, g)
	}
	return g
}

// note puts a value into the event that is being added.
func (b *builder) note(n uint32, value string) uint32 {
	g := &b.groups[n]
	v := b.intern(g, value)
	t := &g.terms[v]
	g.values = append(g.values, v)
	g.events = append(g.events, uint32(len(b.ids)))
	g.before = append(g.before, t.last)
	t.last = uint32(len(g.values))
	return v
}

// intern numbers a value of a group.
func (b *builder) intern(g *group, value string) uint32 {
	if n := len(g.values); n > 0 && g.holds(g.values[n-1], value) {
		return g.values[n-1]
	}
	h := b.hash(value)
	v, slot, ok := g.look(h, value)
	if ok {
		return v
	}
	v = uint32(len(g.terms))
	g.terms = append(g.terms, term{at: uint32(len(g.arena)), size: uint32(len(value))})
	g.arena = append(g.arena, value...)
	g.table[slot] = uint64(h)<<32 | uint64(v+1)
	if len(g.terms)*3 > len(g.table)*2 {
		g.grow()
	}
	return v
}

func (b *builder) hash(value string) uint32 {
	h := maphash.String(b.seed, value)
	return uint32(h>>32) ^ uint32(h)
}

// look is the number of a value, or the slot that it would get.
func (g *group) look(h uint32, value string) (v, slot uint32, ok bool) {
	mask := uint32(len(g.table) - 1)
	for slot = h & mask; g.table[slot] != 0; slot = (slot + 1) & mask {
		if uint32(g.table[slot]>>32) == h {
			if v = uint32(g.table[slot]) - 1; g.holds(v, value) {
				return v, slot, true
			}
		}
	}
	return 0, slot, false
}

func (g *group) holds(v uint32, value string) bool { return string(g.value(v)) == value }

func (g *group) value(v uint32) []byte {
	t := &g.terms[v]
	return g.arena[t.at : t.at+t.size]
}

func (g *group) grow() {
	old := g.table
	g.table = make([]uint64, 2*len(old))
	mask := uint32(len(g.table) - 1)
	for _, entry := range old {
		if entry == 0 {
			continue
		}
		slot := uint32(entry>>32) & mask
		for g.table[slot] != 0 {
			slot = (slot + 1) & mask
		}
		g.table[slot] = entry
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// idSum is what an event's id is looked up by.
func idSum(id veritrail.UUID) uint32 { return crc32.Checksum(id[:], castagnoli) }

// candidates are the events added so far that may fulfil the conditions.
func (b *builder) candidates(conditions []search.Condition) (set, bool) {
	var all set
	for i := range conditions {
		c := &conditions[i]
		if !usable(c) {
			continue
		}
		s := newSet(len(b.ids))
		if c.Field == "id" {
			b.findID(s, c)
		} else {
			b.findTerms(s, c)
		}
		if all == nil {
			all = s
		} else {
			all.intersect(s)
		}
	}
	return all, all != nil
}

func (b *builder) findID(s set, c *search.Condition) {
	id, err := veritrail.ParseUUID(c.Value)
	if err != nil {
		return // Parse checked it
	}
	sum := idSum(id)
	for i, have := range b.ids {
		if have == sum {
			s.add(uint32(i))
		}
	}
}

func (b *builder) findTerms(s set, c *search.Condition) {
	if c.Field == "text" {
		for i := range b.groups {
			if b.groups[i].part != partSeverity {
				b.groups[i].findText(s, []byte(c.Value))
			}
		}
		return
	}
	n, ok := b.named[groupName(c)]
	if !ok {
		return
	}
	g := &b.groups[n]
	if value, exact := c.Exact(); exact {
		if v, _, ok := g.look(b.hash(value), value); ok {
			g.addEvents(s, v)
		}
		return
	}
	for v := range uint32(len(g.terms)) {
		if c.MatchValue(string(g.value(v))) {
			g.addEvents(s, v)
		}
	}
}

// findText looks for text in all values at once, as they lie one behind the
// other.
func (g *group) findText(s set, text []byte) {
	for from := 0; ; {
		i := bytes.Index(g.arena[from:], text)
		if i < 0 {
			return
		}
		from += i
		v := sort.Search(len(g.terms), func(v int) bool { return int(g.terms[v].at)+int(g.terms[v].size) > from })
		t := &g.terms[v]
		if end := int(t.at + t.size); from+len(text) <= end {
			g.addEvents(s, uint32(v))
			from = end
		} else {
			from++ // it reaches into the next value
		}
	}
}

// addEvents adds the events that have a value.
func (g *group) addEvents(s set, v uint32) {
	for at := g.terms[v].last; at != 0; at = g.before[at-1] {
		s.add(g.events[at-1])
	}
}

// usable tells whether an index can say which events may fulfil a condition.
// Of one that rules something out it can't.
func usable(c *search.Condition) bool { return c.Op != "!=" }

// groupName is the group with the values that a condition is about.
func groupName(c *search.Condition) string {
	switch c.Field {
	case "sub", "obj", "ctx":
		return c.Field + "." + c.Key
	}
	return c.Field
}
