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
//
// It keeps an event as the numbers of its values, and a value once. Each place
// in the events leads back to the place before with the same value, so that the
// events of a value can be told at any time; the lists that a sidecar holds are
// made at the end, all at once.
type builder struct {
	first  uint64 // leaf
	groups []group
	named  map[string]uint32
	last   [5][]uint32 // by part of an event: the groups of its pairs the last time, in order

	arena []byte // the values, one behind the other
	terms []term
	table []uint64 // open addressing: hash of a term, and its number plus one
	seed  maphash.Seed

	forward []uint32 // the terms of all events
	before  []uint32 // for each of them: its place plus one in forward the last time, 0 the first time
	ends    []uint32 // where each event's end in forward
	ids     []uint32 // a checksum of each event's id
	bundles []span
	rows    map[rowKey]rowSum
	kinds   map[string]uint32 // sets of subject keys
	names   []string          // of kinds
	leaf    uint64            // bytes of the leaves

	kind []byte // scratch
}

// group is a field of events, as act or sub.user.
type group struct {
	name string
	key  string
	part int
}

type term struct {
	at, size uint32 // in the arena
	group    uint32
	last     uint32 // its newest place in forward, plus one
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
	slots := 1 << 12
	if before != nil {
		slots = len(before.table)
		b.arena, b.terms = make([]byte, 0, len(before.arena)), make([]term, 0, len(before.terms))
		b.forward, b.before = make([]uint32, 0, len(before.forward)), make([]uint32, 0, len(before.forward))
		b.ends, b.ids = make([]uint32, 0, len(before.ends)), make([]uint32, 0, len(before.ids))
	}
	b.table = make([]uint64, slots)
	return b
}

// next is the leaf that comes next.
func (b *builder) next() uint64 { return b.first + uint64(len(b.ends)) }

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
	// Numbers of values and places in the arena are 32 bits wide.
	if len(b.groups) >= maxGroups || len(b.arena) > math.MaxUint32-veritrail.MaxEventBytes || len(b.forward) > math.MaxUint32-3*veritrail.MaxPairs {
		return false
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
	if len(b.ends)%tlog.TileWidth == 0 {
		b.bundles = append(b.bundles, noSpan())
	}
	b.ends = append(b.ends, uint32(len(b.forward)))
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
		b.groups = append(b.groups, group{name: name, key: name[len(partNames[part]):], part: part})
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
func (b *builder) note(g uint32, value string) uint32 {
	n := b.intern(g, value)
	t := &b.terms[n]
	b.forward = append(b.forward, n)
	b.before = append(b.before, t.last)
	t.last = uint32(len(b.forward))
	return n
}

// intern numbers a value of a group.
func (b *builder) intern(g uint32, value string) uint32 {
	h := b.hash(g, value)
	mask := uint32(len(b.table) - 1)
	at := h & mask
	for ; b.table[at] != 0; at = (at + 1) & mask {
		if n, ok := b.holds(b.table[at], h, g, value); ok {
			return n
		}
	}
	n := uint32(len(b.terms))
	b.terms = append(b.terms, term{at: uint32(len(b.arena)), size: uint32(len(value)), group: g})
	b.arena = append(b.arena, value...)
	b.table[at] = uint64(h)<<32 | uint64(n+1)
	if len(b.terms)*2 > len(b.table) {
		b.grow()
	}
	return n
}

// holds tells whether a slot of the table is that of a value, and which number
// it has.
func (b *builder) holds(slot uint64, h, g uint32, value string) (uint32, bool) {
	if uint32(slot>>32) != h {
		return 0, false
	}
	n := uint32(slot) - 1
	t := &b.terms[n]
	return n, t.group == g && string(b.value(t)) == value
}

func (b *builder) hash(g uint32, value string) uint32 {
	h := maphash.String(b.seed, value) + uint64(g)*0x9e3779b97f4a7c15
	return uint32(h>>32) ^ uint32(h)
}

func (b *builder) grow() {
	old := b.table
	b.table = make([]uint64, 2*len(old))
	mask := uint32(len(b.table) - 1)
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		at := uint32(slot>>32) & mask
		for b.table[at] != 0 {
			at = (at + 1) & mask
		}
		b.table[at] = slot
	}
}

// find is the number of a value, if it occurs.
func (b *builder) find(g uint32, value string) (uint32, bool) {
	h := b.hash(g, value)
	mask := uint32(len(b.table) - 1)
	for at := h & mask; b.table[at] != 0; at = (at + 1) & mask {
		if n, ok := b.holds(b.table[at], h, g, value); ok {
			return n, true
		}
	}
	return 0, false
}

func (b *builder) value(t *term) []byte { return b.arena[t.at : t.at+t.size] }

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
		s := newSet(len(b.ends))
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
		b.findText(s, []byte(c.Value))
		return
	}
	g, ok := b.named[groupName(c)]
	if !ok {
		return
	}
	if value, exact := c.Exact(); exact {
		if n, ok := b.find(g, value); ok {
			b.addEvents(s, n)
		}
		return
	}
	for n := range b.terms {
		if t := &b.terms[n]; t.group == g && c.MatchValue(string(b.value(t))) {
			b.addEvents(s, uint32(n))
		}
	}
}

// findText looks for text in all values at once, as they lie one behind the
// other.
func (b *builder) findText(s set, text []byte) {
	for from := 0; ; {
		i := bytes.Index(b.arena[from:], text)
		if i < 0 {
			return
		}
		from += i
		n := sort.Search(len(b.terms), func(n int) bool { return int(b.terms[n].at)+int(b.terms[n].size) > from })
		t := &b.terms[n]
		if end := int(t.at + t.size); from+len(text) > end {
			from++ // it reaches into the next value
			continue
		} else {
			from = end
		}
		if b.groups[t.group].part != partSeverity {
			b.addEvents(s, uint32(n))
		}
	}
}

// addEvents adds the events that have a value.
func (b *builder) addEvents(s set, n uint32) {
	event := len(b.ends)
	for at := b.terms[n].last; at != 0; at = b.before[at-1] {
		// Down from the event before: near when the value is frequent.
		if event > 0 && b.ends[event-1] >= at {
			event--
		}
		if event == 0 || b.ends[event-1] < at {
			s.add(uint32(event))
			continue
		}
		event = sort.Search(event, func(e int) bool { return b.ends[e] >= at })
		s.add(uint32(event))
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
