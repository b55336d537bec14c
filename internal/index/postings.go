package index

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
)

// The sections of the postings, the sidecar of a segment in the hot window.
const (
	sectionGroups   = 0 // the fields that have values
	sectionValues   = 1 // of each group: its values in order, and where every 64th is
	sectionPostings = 2 // of each value: the events that have it
	sectionIDs      = 3 // checksums of the events' ids, in order, and whose they are
)

const (
	valueEnd   = 0xff // stands in no UTF-8
	sparse     = 64   // values from one mark to the next
	markSize   = 8
	idSize     = 8
	shapeBytes = 32 // one bit a byte value
)

// How the events of a value are written, in the lowest two bits of the first
// number.
const (
	postAll    = 0 // every event
	postOne    = 1 // the event that the number's other bits say
	postList   = 2 // so many events; then bytes, and the events as distances
	postBitmap = 3 // so many events, as one bit an event
)

// groupEntry describes a group in a sidecar.
type groupEntry struct {
	name     string
	values   uint64
	size     uint64 // bytes of the values
	postings uint64 // bytes
	longest  uint64 // bytes of the longest value
	shape    [shapeBytes]byte

	valuesAt, postingsAt int64 // in their sections
}

// marshalPostings is the postings of what was added.
func (b *builder) marshalPostings(id identity) ([]byte, error) {
	order := make([]*group, 0, len(b.groups))
	size, places := 0, 0
	for i := range b.groups {
		if g := &b.groups[i]; len(g.terms) > 0 { // else it was of the segment before
			order = append(order, g)
			size += len(g.arena) + len(g.terms) + (len(g.terms)+sparse-1)/sparse*markSize
			places += len(g.values)
		}
	}
	slices.SortFunc(order, func(x, y *group) int { return strings.Compare(x.name, y.name) })
	directory := binary.AppendUvarint(nil, uint64(len(order)))
	values, postings := make([]byte, 0, size), make([]byte, 0, 2*places)
	var posts, starts []uint32
	for _, g := range order {
		posts, starts = g.invert(posts[:0], starts[:0])
		e := groupEntry{name: g.name, values: uint64(len(g.terms))}
		var marks []byte
		var shape [256]bool
		valuesAt, postingsAt := len(values), len(postings)
		for i, s := range g.sorted() {
			if i%sparse == 0 {
				marks = binary.BigEndian.AppendUint32(marks, uint32(len(values)-valuesAt))
				marks = binary.BigEndian.AppendUint32(marks, uint32(len(postings)-postingsAt))
			}
			value := g.value(s.value)
			for _, c := range value {
				shape[c] = true
			}
			e.longest = max(e.longest, uint64(len(value)))
			values = append(append(values, value...), valueEnd)
			postings = appendPosting(postings, posts[starts[s.value]:starts[s.value+1]], len(b.ids))
		}
		for c := range shape {
			if shape[c] {
				e.shape[c/8] |= 1 << (c % 8)
			}
		}
		e.size, e.postings = uint64(len(values)-valuesAt), uint64(len(postings)-postingsAt)
		values = append(values, marks...)
		directory = e.append(directory)
		if len(values) > math.MaxUint32 || len(postings) > math.MaxUint32 {
			return nil, sidecarError("%d bytes of values: more than the format allows", len(values))
		}
	}
	return marshalSidecar(kindPostings, id, directory, values, postings, b.sortedIDs())
}

// invert turns the events' values into the values' events: those of value v
// are posts[starts[v]:starts[v+1]]. It uses the memory of what it is given.
func (g *group) invert(posts, starts []uint32) ([]uint32, []uint32) {
	starts = slices.Grow(starts, len(g.terms)+2)[:len(g.terms)+2]
	clear(starts)
	for _, v := range g.values {
		starts[v+2]++
	}
	for i := 2; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	posts = slices.Grow(posts, len(g.values))[:len(g.values)]
	for i, v := range g.values {
		posts[starts[v+1]] = g.events[i]
		starts[v+1]++
	}
	return posts, starts
}

type sortedValue struct {
	prefix uint64 // its first bytes behind what all values of the group begin with
	value  uint32
}

// sorted are the values of the group, in order.
func (g *group) sorted() []sortedValue {
	common := g.value(0) // what all values begin with
	for v := range uint32(len(g.terms)) {
		value := g.value(v)
		n := min(len(common), len(value))
		for !bytes.Equal(value[:n], common[:n]) {
			n--
		}
		common = common[:n]
	}
	out := make([]sortedValue, len(g.terms))
	for v := range uint32(len(g.terms)) {
		var prefix [8]byte
		copy(prefix[:], g.value(v)[len(common):])
		out[v] = sortedValue{binary.BigEndian.Uint64(prefix[:]), v}
	}
	slices.SortFunc(out, func(x, y sortedValue) int {
		if x.prefix != y.prefix {
			return cmp.Compare(x.prefix, y.prefix)
		}
		return bytes.Compare(g.value(x.value), g.value(y.value))
	})
	return out
}

func (b *builder) sortedIDs() []byte {
	ids := make([]uint64, len(b.ids))
	for i, sum := range b.ids {
		ids[i] = uint64(sum)<<32 | uint64(i)
	}
	slices.Sort(ids)
	out := make([]byte, 0, idSize*len(ids))
	for _, id := range ids {
		out = binary.BigEndian.AppendUint64(out, id)
	}
	return out
}

func (e *groupEntry) append(dst []byte) []byte {
	dst = appendText(dst, e.name)
	for _, n := range [...]uint64{e.values, e.size, e.postings, e.longest} {
		dst = binary.AppendUvarint(dst, n)
	}
	return append(dst, e.shape[:]...)
}

// parseGroups reads the directory, and works out where things are.
func parseGroups(b []byte) ([]groupEntry, error) {
	d := decoder{b: b}
	var out []groupEntry
	valuesAt, postingsAt := int64(0), int64(0)
	for range d.count(shapeBytes + 5) {
		e := groupEntry{name: d.text(), values: d.uvarint(), size: d.uvarint(), postings: d.uvarint(), longest: d.uvarint(), valuesAt: valuesAt, postingsAt: postingsAt}
		copy(e.shape[:], d.bytes(shapeBytes))
		if d.bad || e.values == 0 || e.values > e.size || e.size > math.MaxUint32 || e.values > e.postings || e.postings > math.MaxUint32 || e.longest > e.size ||
			len(out) > 0 && out[len(out)-1].name >= e.name {
			return nil, sidecarError("groups: not what is written")
		}
		valuesAt += int64(e.size) + int64(e.marks())*markSize
		postingsAt += int64(e.postings)
		out = append(out, e)
	}
	if d.bad || len(d.b) > 0 {
		return nil, sidecarError("groups: not what is written")
	}
	return out, nil
}

func (e *groupEntry) marks() uint64 { return (e.values + sparse - 1) / sparse }

// appendPosting appends the events of a value, given in order, of so many in
// the segment.
func appendPosting(dst []byte, events []uint32, of int) []byte {
	n := uint64(len(events))
	switch {
	case len(events) == of:
		return append(dst, postAll)
	case n == 1:
		return binary.AppendUvarint(dst, uint64(events[0])<<2|postOne)
	case len(events) > of/8: // where every distance takes a byte or more
		dst = binary.AppendUvarint(dst, n<<2|postBitmap)
		at := len(dst)
		dst = append(dst, make([]byte, (of+7)/8)...)
		for _, e := range events {
			dst[at+int(e/8)] |= 1 << (e % 8)
		}
		return dst
	}
	var list []byte
	next := uint32(0)
	for _, e := range events {
		list = binary.AppendUvarint(list, uint64(e-next))
		next = e + 1
	}
	dst = binary.AppendUvarint(dst, n<<2|postList)
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	return append(dst, list...)
}

// posting reads the events of one value, of so many in the segment. It calls
// add for each, when there is one, in order, and returns how many they are.
func (d *decoder) posting(of uint64, add func(uint32)) uint64 {
	head := d.uvarint()
	n := head >> 2
	fail := func() uint64 {
		d.bad, d.b = true, nil
		return 0
	}
	switch {
	case d.bad || n >= of && head&3 != postOne && n != 0:
		return fail()
	case head&3 == postAll:
		if n != 0 {
			return fail()
		}
		for e := uint64(0); add != nil && e < of; e++ {
			add(uint32(e))
		}
		return of
	case head&3 == postOne:
		if n >= of {
			return fail()
		}
		if add != nil {
			add(uint32(n))
		}
		return 1
	case head&3 == postBitmap:
		bitmap := d.bytes((of + 7) / 8)
		if add == nil || d.bad {
			return n
		}
		seen := uint64(0)
		for i, c := range bitmap {
			for ; c != 0; c &= c - 1 {
				e := uint64(i)*8 + trailingZeros[c&-c]
				if e >= of {
					return fail()
				}
				add(uint32(e))
				seen++
			}
		}
		if seen != n {
			return fail()
		}
		return n
	}
	list := decoder{b: d.bytes(d.uvarint())}
	if add == nil || d.bad {
		return n
	}
	next := uint64(0)
	for range n {
		gap := list.uvarint()
		if list.bad || gap >= of || next+gap >= of {
			return fail()
		}
		add(uint32(next + gap))
		next += gap + 1
	}
	if len(list.b) > 0 {
		return fail()
	}
	return n
}

// trailingZeros is the number of the bit of a byte that has one.
var trailingZeros = [256]uint64{1: 0, 2: 1, 4: 2, 8: 3, 16: 4, 32: 5, 64: 6, 128: 7}

// postings is an opened sidecar of postings.
type postings struct {
	*sidecar
	groups []groupEntry
}

// openPostings checks what can be checked without reading all.
func openPostings(s *sidecar, r *reader) (*postings, error) {
	b, err := r.section(sectionGroups)
	if err != nil {
		return nil, err
	}
	p := &postings{sidecar: s}
	if p.groups, err = parseGroups(b); err != nil {
		return nil, err
	}
	values, posts := int64(0), int64(0)
	if n := len(p.groups); n > 0 {
		last := &p.groups[n-1]
		values = last.valuesAt + int64(last.size) + int64(last.marks())*markSize
		posts = last.postingsAt + int64(last.postings)
	}
	if values != int64(s.sections[sectionValues]) || posts != int64(s.sections[sectionPostings]) || s.leaves*idSize != uint64(s.sections[sectionIDs]) {
		return nil, sidecarError("sections are not as large as the groups say")
	}
	return p, nil
}

func (p *postings) group(name string) *groupEntry {
	i, ok := slices.BinarySearchFunc(p.groups, name, func(e groupEntry, name string) int { return strings.Compare(e.name, name) })
	if !ok {
		return nil
	}
	return &p.groups[i]
}

// candidates are the events that may fulfil the conditions; not ok when none
// of them narrows anything.
func (p *postings) candidates(r *reader, conditions []search.Condition) (all set, ok bool, err error) {
	// Those that are looked up come first: they may be all that is needed.
	for _, exact := range []bool{true, false} {
		for i := range conditions {
			c := &conditions[i]
			if _, is := c.Exact(); !usable(c) || is != exact {
				continue
			}
			s := newSet(int(p.leaves))
			if err := p.find(r, c, s); err != nil {
				return nil, false, err
			}
			if all == nil {
				all = s
			} else {
				all.intersect(s)
			}
			if all.empty() {
				return all, true, nil
			}
		}
	}
	return all, all != nil, nil
}

// find adds the events that fulfil one condition.
func (p *postings) find(r *reader, c *search.Condition, s set) error {
	if c.Field == "id" {
		return p.findID(r, c.Value, s)
	}
	if c.Field == "text" {
		for i := range p.groups {
			if p.groups[i].name == groupSeverity {
				continue
			}
			if err := p.groups[i].findText(r, p.leaves, c.Value, s); err != nil {
				return err
			}
		}
		return nil
	}
	g := p.group(groupName(c))
	if g == nil {
		return nil
	}
	if value, exact := c.Exact(); exact {
		return g.findValue(r, p.leaves, value, s)
	}
	prefix := ""
	if c.Field != "act" && c.Field != "sev" {
		prefix, _, _ = strings.Cut(c.Value, "*")
	}
	return g.findPattern(r, p.leaves, prefix, c.MatchValue, s)
}

func (p *postings) findID(r *reader, text string, s set) error {
	id, err := veritrail.ParseUUID(text)
	if err != nil {
		return err // search.Parse lets none through
	}
	want := idSum(id)
	low, high := int64(0), int64(p.leaves)
	for low < high {
		mid := (low + high) / 2
		b, err := r.read(sectionIDs, mid*idSize, idSize)
		if err != nil {
			return err
		}
		if binary.BigEndian.Uint32(b) < want {
			low = mid + 1
		} else {
			high = mid
		}
	}
	for ; low < int64(p.leaves); low++ {
		b, err := r.read(sectionIDs, low*idSize, idSize)
		if err != nil {
			return err
		}
		event := binary.BigEndian.Uint32(b[4:])
		if binary.BigEndian.Uint32(b) != want {
			break
		}
		if uint64(event) >= p.leaves {
			return sidecarError("ids: event %d of %d", event, p.leaves)
		}
		s.add(event)
	}
	return nil
}

// mark says where the values from number 64·i on, and their events, begin.
func (e *groupEntry) mark(r *reader, i uint64) (value, posting int64, err error) {
	if i == e.marks() {
		return int64(e.size), int64(e.postings), nil
	}
	b, err := r.read(sectionValues, e.valuesAt+int64(e.size)+int64(i)*markSize, markSize)
	if err != nil {
		return 0, 0, err
	}
	value, posting = int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	if value >= int64(e.size) || posting >= int64(e.postings) {
		return 0, 0, sidecarError("group: a mark points outside")
	}
	return value, posting, nil
}

// stretch is the values from number 64·from on up to 64·to, and their events.
func (e *groupEntry) stretch(r *reader, from, to uint64) (values, posts []byte, err error) {
	v0, p0, err := e.mark(r, from)
	if err != nil {
		return nil, nil, err
	}
	v1, p1, err := e.mark(r, to)
	if err != nil {
		return nil, nil, err
	}
	if v1 < v0 || p1 < p0 {
		return nil, nil, sidecarError("group: marks out of order")
	}
	b, err := r.read(sectionValues, e.valuesAt+v0, v1-v0)
	if err != nil {
		return nil, nil, err
	}
	values = bytes.Clone(b)
	posts, err = r.read(sectionPostings, e.postingsAt+p0, p1-p0)
	return values, posts, err
}

// before is the number of the last mark whose value is not behind value, 0
// when there is none.
func (e *groupEntry) before(r *reader, value string) (uint64, error) {
	low, high := uint64(0), e.marks()
	for high-low > 1 {
		mid := (low + high) / 2
		at, _, err := e.mark(r, mid)
		if err != nil {
			return 0, err
		}
		b, err := r.read(sectionValues, e.valuesAt+at, min(int64(len(value))+1, int64(e.size)-at))
		if err != nil {
			return 0, err
		}
		if end := bytes.IndexByte(b, valueEnd); end >= 0 {
			b = b[:end]
		}
		if bytes.Compare(b, []byte(value)) <= 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return low, nil
}

// findValue adds the events that have a value.
func (e *groupEntry) findValue(r *reader, of uint64, value string, s set) error {
	if uint64(len(value)) > e.longest || !e.fits(value) {
		return nil
	}
	mark, err := e.before(r, value)
	if err != nil {
		return err
	}
	values, posts, err := e.stretch(r, mark, mark+1)
	if err != nil {
		return err
	}
	_, err = walk(values, posts, of, func(v []byte) verdict {
		switch bytes.Compare(v, []byte(value)) {
		case -1:
			return pass
		case 0:
			return take
		}
		return stop
	}, s)
	return err
}

// findPattern adds the events with a value that begins with prefix and that
// match accepts.
func (e *groupEntry) findPattern(r *reader, of uint64, prefix string, match func(string) bool, s set) error {
	mark, err := e.before(r, prefix)
	if err != nil {
		return err
	}
	for stopped := false; mark < e.marks() && !stopped; mark++ {
		values, posts, err := e.stretch(r, mark, mark+1)
		if err != nil {
			return err
		}
		stopped, err = walk(values, posts, of, func(v []byte) verdict {
			switch {
			case bytes.HasPrefix(v, []byte(prefix)):
				if match(string(v)) {
					return take
				}
			case bytes.Compare(v, []byte(prefix)) > 0:
				return stop
			}
			return pass
		}, s)
		if err != nil {
			return err
		}
	}
	return nil
}

// fits tells whether a text has only bytes that the group's values have.
func (e *groupEntry) fits(text string) bool {
	for i := range len(text) {
		if c := text[i]; e.shape[c/8]&(1<<(c%8)) == 0 {
			return false
		}
	}
	return true
}

// findText adds the events with a value that contains text. It looks through
// the values with the fastest search there is, and only around what it finds
// for the value and its events.
func (e *groupEntry) findText(r *reader, of uint64, text string, s set) error {
	switch n := uint64(len(text)); {
	case n > e.longest || !e.fits(text):
		return nil
	case n == e.longest: // then it is all of a value
		return e.findValue(r, of, text, s)
	}
	const step = 1 << 20
	want := []byte(text)
	tail := reader{sidecar: r.sidecar, src: r.src} // r's bytes are being looked through meanwhile
	lastMark := uint64(math.MaxUint64)
	for at := int64(0); at < int64(e.size); {
		b, err := r.read(sectionValues, e.valuesAt+at, min(step, int64(e.size)-at))
		if err != nil {
			return err
		}
		for from := 0; ; {
			i := bytes.Index(b[from:], want)
			if i < 0 {
				break
			}
			mark, end, err := e.markAt(&tail, at+int64(from+i))
			if err != nil {
				return err
			}
			if mark != lastMark {
				lastMark = mark
				values, posts, err := e.stretch(&tail, mark, mark+1)
				if err != nil {
					return err
				}
				if _, err := walk(values, posts, of, func(v []byte) verdict {
					if bytes.Contains(v, want) {
						return take
					}
					return pass
				}, s); err != nil {
					return err
				}
			}
			if from = int(end - at); from >= len(b) {
				break // all of the stretch was looked at
			}
		}
		if int64(len(b)) < step {
			break
		}
		at += step - int64(len(want)) + 1
	}
	return nil
}

// markAt is the number of the stretch that a place in the values is in, and
// where it ends.
func (e *groupEntry) markAt(r *reader, place int64) (mark uint64, end int64, err error) {
	low, high := uint64(0), e.marks()
	end = int64(e.size)
	for high-low > 1 {
		mid := (low + high) / 2
		at, _, err := e.mark(r, mid)
		if err != nil {
			return 0, 0, err
		}
		if at <= place {
			low = mid
		} else {
			high, end = mid, at
		}
	}
	if end <= place {
		return 0, 0, sidecarError("group: marks out of order")
	}
	return low, end, nil
}

// verdict is what becomes of a value that walk comes by.
type verdict int

const (
	pass verdict = iota
	take         // its events are added
	stop         // it, and those behind it, are of no interest
)

// walk goes through values and the events beside them.
func walk(values, posts []byte, of uint64, judge func(value []byte) verdict, s set) (stopped bool, err error) {
	d := decoder{b: posts}
	for len(values) > 0 {
		end := bytes.IndexByte(values, valueEnd)
		if end < 0 {
			return false, sidecarError("group: a value has no end")
		}
		switch judge(values[:end]) {
		case take:
			d.posting(of, s.add)
		case pass:
			d.posting(of, nil)
		case stop:
			return true, nil
		}
		if d.bad {
			return false, sidecarError("group: postings are not what is written")
		}
		values = values[end+1:]
	}
	return false, nil
}

// count calls tell with each value of the group and how many of the events in
// only have it, all of them when only is nil.
func (e *groupEntry) count(r *reader, of uint64, only set, tell func(value []byte, n uint64)) error {
	const stretches = 256
	for mark := uint64(0); mark < e.marks(); mark += stretches {
		values, posts, err := e.stretch(r, mark, min(mark+stretches, e.marks()))
		if err != nil {
			return err
		}
		d := decoder{b: posts}
		for len(values) > 0 {
			end := bytes.IndexByte(values, valueEnd)
			if end < 0 {
				return sidecarError("group: a value has no end")
			}
			n := uint64(0)
			if only == nil {
				n = d.posting(of, nil)
			} else {
				d.posting(of, func(event uint32) {
					if only.has(event) {
						n++
					}
				})
			}
			if d.bad {
				return sidecarError("group: postings are not what is written")
			}
			if n > 0 {
				tell(values[:end], n)
			}
			values = values[end+1:]
		}
	}
	return nil
}
