package recorder

import (
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
)

// The long way of an event is one stage after another, each of which goes
// through all pairs again. quick is the way of the ordinary event, in one go:
// no redactor, few pairs, strings of printable ASCII that need no escape, no key
// that the recorder would add but host, pid and process, which whoever sends the
// event for another names. What it makes is what the long way makes
// (TestQuickWayMakesTheSame and FuzzQuickWayMakesTheSame compare them), and
// whatever it finds out of the ordinary, the long way finds as well: there are
// the rules, the escapes and the errors.

// quickPairs is how many pairs a part of an ordinary event has at most, and
// quickBytes how much text it has altogether, so that no sum of it comes near a
// bound.
const (
	quickPairs = 24
	quickBytes = 16 << 10
	// quickFixed is more than all that is not a pair's: braces, names of
	// fields, id, time, severity.
	quickFixed = 256
)

// added is what the recorder adds to ctx, as it will stand there: what never
// changes is written once, and the rest behind it for each event.
type added struct {
	text []byte // pairs with commas between them, in the order of keys
	ends []int  // where each pair ends
	seq  int    // where the digits of seq begin
}

// addedKeys are in order, and those of a trace are last: not every event has
// one.
var addedKeys = []string{"host", "pid", "process", keyProducer, keySDK, keySeq, keySpan, keyTrace}

const (
	addedUntraced = 6 // of addedKeys
	addedYielding = 3 // of addedKeys: what the event says of them stays
)

func (a *added) init(f *facts) {
	for i, value := range []string{f.host, f.pid, f.process, f.producer, sdk} {
		a.text = appendPair(a.text, addedKeys[i], value)
		a.ends = append(a.ends, len(a.text))
		a.text = append(a.text, ',')
	}
	a.text = append(a.text, `"seq":"`...)
	a.seq = len(a.text)
	// Room for the rest, so that its capacity bounds what will be written.
	a.text = slices.Grow(a.text, len(`18446744073709551615","span_id":"","trace_id":""`)+16+32)
}

// appendPair writes a pair as canonical JSON, whatever it holds.
func appendPair(dst []byte, key, value string) []byte {
	d := veritrail.Draft{Context: veritrail.Pairs{{Key: key, Value: value}}}
	const before, behind = `"ctx":{`, `}}`
	text := d.AppendCanonical(nil)
	at := len(text) - len(behind)
	for string(text[at-len(before):at]) != before {
		at--
	}
	return append(dst, text[at:len(text)-len(behind)]...)
}

// number gives the event its number, and the trace that it belongs to, if any.
// It returns how many pairs there are.
func (a *added) number(seq uint64, span *trace.SpanContext) int {
	a.text = append(strconv.AppendUint(a.text[:a.seq], seq, 10), '"')
	a.ends = append(a.ends[:addedUntraced-1], len(a.text))
	if span == nil {
		return addedUntraced
	}
	spanID, traceID := span.SpanID(), span.TraceID()
	a.text = append(hex.AppendEncode(append(a.text, `,"span_id":"`...), spanID[:]), '"')
	a.ends = append(a.ends, len(a.text))
	a.text = append(hex.AppendEncode(append(a.text, `,"trace_id":"`...), traceID[:]), '"')
	a.ends = append(a.ends, len(a.text))
	return len(addedKeys)
}

// quick encodes f's draft into f.leaf, with an id and a time where it lacks
// them, and reports whether it did. If not, the draft is as it was, but for the
// order of its pairs, and no number is used up.
func (r *Recorder) quick(ctx context.Context, f *flight) bool {
	d := &f.draft
	if r.redactor != nil || d.Severity > veritrail.SeverityCritical || len(d.Subject) == 0 {
		return false
	}
	size := quickSize(d.Subject) + quickSize(d.Object) + quickSize(d.Context)
	if size > quickBytes || !f.actions.knows(&r.allow, d.Action) {
		return false
	}
	for i := range d.Subject {
		if d.Subject[i].Value == "" || !slices.Contains(r.allow.subjects, d.Subject[i].Key) {
			return false
		}
	}
	if !quickSort(d.Subject) || !quickSort(d.Object) || !quickSort(d.Context) {
		return false
	}
	span := trace.SpanContextFromContext(ctx)
	keys := addedKeys[:addedUntraced]
	if span.IsValid() {
		keys = addedKeys
	}
	// The context last, and without writing it: before it come what the
	// recorder adds, and a number that is used up must be in the trail.
	if marks := checkPairs(d.Context); marks != 0 || meet(d.Context, keys[addedYielding:]) {
		return false
	}
	size += quickFixed + len(d.Action) + cap(f.added.text)
	if cap(f.leaf) < size {
		f.leaf = make([]byte, 0, 2*size)
	}
	id := d.ID
	if id.IsZero() {
		id = f.newID()
	}
	b := f.leaf[:0]
	b = append(b, `{"id":"`...)
	b = id.Append(b)
	b = append(b, `","ts":"`...)
	t := d.Timestamp
	if t.IsZero() {
		t = r.clock(f)
	}
	b, ok := f.stamp.append(b, t)
	if !ok {
		return false
	}
	if d.Severity != veritrail.SeverityUnset {
		b = append(b, `","sev":"`...)
		b = append(b, d.Severity.String()...)
	}
	b = append(b, `","sub":{`...)
	b, marks := putPairs(b, d.Subject)
	b = append(b[:len(b)-1], `},"act":"`...) // over the last comma
	b = append(b, d.Action...)
	b = append(b, `","obj":{`...)
	b, more := putPairs(b, d.Object)
	if marks|more != 0 {
		return false
	}
	if len(d.Object) > 0 {
		b = b[:len(b)-1]
	}
	b = append(b, `},"ctx":{`...)
	seq := r.seq.Add(1)
	if len(keys) == addedUntraced {
		f.added.number(seq, nil)
	} else {
		f.added.number(seq, &span)
	}
	b = f.added.merge(b, d.Context, keys)
	b = append(b, `}}`...)
	d.ID, f.leaf = id, b
	return true
}

// quickSize is how much room the pairs take, quotes and all, and past all
// bounds when there are too many or a key of a length that is not allowed.
func quickSize(pairs veritrail.Pairs) int {
	if len(pairs) > quickPairs {
		return quickBytes + 1
	}
	size := 0
	for i := range pairs {
		if n := len(pairs[i].Key); n == 0 || n > veritrail.MaxKeyBytes {
			return quickBytes + 1
		}
		size += len(`"":"",`) + len(pairs[i].Key) + len(pairs[i].Value)
	}
	return size
}

// quickSort sorts and reports whether no key is there twice. No key is empty.
func quickSort(p veritrail.Pairs) bool {
	for i := 1; i < len(p); i++ {
		for j := i; j > 0; j-- {
			a, b := p[j-1].Key, p[j].Key
			if a[0] < b[0] || a[0] == b[0] && a < b {
				break
			}
			if a == b {
				return false
			}
			p[j], p[j-1] = p[j-1], p[j]
		}
	}
	return true
}

// meet reports whether a key of the sorted pairs is among the sorted keys.
func meet(p veritrail.Pairs, keys []string) bool {
	for i := range p {
		for len(keys) > 0 && keys[0] < p[i].Key {
			keys = keys[1:]
		}
		if len(keys) > 0 && keys[0] == p[i].Key {
			return true
		}
	}
	return false
}

// merge appends the context, with the pairs of a, which have these keys, between
// its own; where the context has the same key, its own stays.
func (a *added) merge(b []byte, pairs veritrail.Pairs, keys []string) []byte {
	from, next := 0, 0 // of a.text, of keys
	for i := range pairs {
		key := pairs[i].Key
		at := next
		for at < len(keys) && keys[at] < key {
			at++
		}
		if at > next {
			b = append(b, a.text[from:a.ends[at-1]]...)
			b = append(b, ',')
			next, from = at, a.ends[at-1]+1
		}
		if next < len(keys) && keys[next] == key {
			from = a.ends[next] + 1
			next++
		}
		b, _ = putPair(b, &pairs[i])
	}
	if next == len(keys) {
		return b[:len(b)-1] // without the last comma
	}
	return append(b, a.text[from:a.ends[len(keys)-1]]...)
}

func putPairs(b []byte, pairs veritrail.Pairs) (_ []byte, marks uint64) {
	for i := range pairs {
		var m uint64
		b, m = putPair(b, &pairs[i])
		marks |= m
	}
	return b, marks
}

// putPair appends a pair and a comma to b, which has room for them. The marks
// are not zero when it would have taken more than that.
func putPair(b []byte, p *veritrail.Pair) (_ []byte, marks uint64) {
	key, value := p.Key, p.Value
	n := len(b)
	b = b[:n+len(key)+len(value)+len(`"":"",`)]
	b[n] = '"'
	n++
	marks = put(b[n:], key)
	n += len(key)
	b[n], b[n+1], b[n+2] = '"', ':', '"'
	n += 3
	marks |= put(b[n:], value)
	n += len(value)
	b[n], b[n+1] = '"', ','
	return b, marks
}

// put copies s to b and marks what is not plain in it. It goes by words, which
// overlap where the length of s is no multiple of theirs.
func put(b []byte, s string) (marks uint64) {
	n := len(s)
	switch {
	case n >= 8:
		b = b[:n]
		last := word(s[n-8:])
		putWord(b[n-8:], last)
		marks = unusual(last)
		for ; len(s) > 8; s, b = s[8:], b[8:] {
			w := word(s)
			putWord(b, w)
			marks |= unusual(w)
		}
		return marks
	case n >= 4:
		b = b[:n]
		first, last := halfWord(s), halfWord(s[n-4:])
		putHalfWord(b, first)
		putHalfWord(b[n-4:], last)
		return unusual(uint64(first) | uint64(last)<<32)
	case n > 0:
		b[0], b[n/2], b[n-1] = s[0], s[n/2], s[n-1]
		return unusual(uint64(s[0]) | uint64(s[n/2])<<8 | uint64(s[n-1])<<16 | 0x2020202020<<24)
	}
	return 0
}

// checkPairs is the marks of putPairs without writing.
func checkPairs(pairs veritrail.Pairs) (marks uint64) {
	for i := range pairs {
		marks |= check(pairs[i].Key) | check(pairs[i].Value)
	}
	return marks
}

func check(s string) (marks uint64) {
	n := len(s)
	switch {
	case n >= 8:
		marks = unusual(word(s[n-8:]))
		for ; len(s) > 8; s = s[8:] {
			marks |= unusual(word(s))
		}
		return marks
	case n >= 4:
		return unusual(uint64(halfWord(s)) | uint64(halfWord(s[n-4:]))<<32)
	case n > 0:
		return unusual(uint64(s[0]) | uint64(s[n/2])<<8 | uint64(s[n-1])<<16 | 0x2020202020<<24)
	}
	return 0
}

const (
	eachByte = 0x0101010101010101
	topBits  = 0x8080808080808080
)

// unusual is not zero when a byte of x is a control character, a quotation mark,
// a reverse solidus, or not ASCII.
func unusual(x uint64) uint64 {
	quote := x ^ '"'*eachByte
	slash := x ^ '\\'*eachByte
	return ((x - 0x20*eachByte) | x | (x + eachByte) | (quote-eachByte)&^quote | (slash-eachByte)&^slash) & topBits
}

// word reads eight bytes of s, the first one lowest. The compiler makes it one
// load, and of putWord one store.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func halfWord(s string) uint32 {
	_ = s[3]
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

func putWord(b []byte, w uint64) {
	_ = b[7]
	b[0], b[1], b[2], b[3] = byte(w), byte(w>>8), byte(w>>16), byte(w>>24)
	b[4], b[5], b[6], b[7] = byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56)
}

func putHalfWord(b []byte, w uint32) {
	_ = b[3]
	b[0], b[1], b[2], b[3] = byte(w), byte(w>>8), byte(w>>16), byte(w>>24)
}

// stamp writes times, and remembers the text of the second.
type stamp struct {
	second int64
	text   [20]byte // empty when there is none yet
}

// append appends t as RFC 3339 with nine digits, or tells that it is a time that
// no event may have.
func (s *stamp) append(b []byte, t time.Time) ([]byte, bool) {
	if second := t.Unix(); second != s.second || s.text[0] == 0 {
		t = t.UTC()
		if year := t.Year(); year < 1 || year > 9999 {
			return b, false
		}
		s.second = second
		t.AppendFormat(s.text[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, s.text[:]...)
	ns := uint32(t.Nanosecond())
	high, low := ns/100_000, ns%100_000
	return append(b, digit(high/1000), digit(high/100%10), digit(high/10%10), digit(high%10),
		digit(low/10_000), digit(low/1000%10), digit(low/100%10), digit(low/10%10), digit(low%10), 'Z'), true
}

func digit(v uint32) byte { return byte('0' + v) }

// actions remembers actions that the rules and the allowlist let pass, so that
// they are looked up once and not for each event. It holds copies, in a fixed
// room: an action may be part of something large.
type actions struct {
	text [16][veritrail.MaxActionBytes]byte
	size [16]uint8
}

func (a *actions) knows(list *allowlist, action string) bool {
	n := len(action)
	if n == 0 || n > veritrail.MaxActionBytes {
		return false
	}
	slot := (n ^ int(action[n-1]) ^ int(action[n/2])<<2) & 15
	if int(a.size[slot]) == n && string(a.text[slot][:n]) == action {
		return true
	}
	if !list.action(action) || strings.Contains(action, "*") || veritrail.CheckActionPattern(action) != nil {
		return false
	}
	copy(a.text[slot][:], action)
	a.size[slot] = uint8(n)
	return true
}

// clock is the recorder's clock, which is time.Now unless Config says otherwise.
// Of time.Now it reads only the monotonic half, and adds what has passed to a
// reading of both that is at most a millisecond old. So a step of the wall clock
// is followed within that time, and until then, the events of one goroutine do
// not go back in time.
func (r *Recorder) clock(f *flight) time.Time {
	if r.now != nil {
		return r.now()
	}
	passed := time.Since(f.read)
	if passed < 0 || passed >= time.Millisecond {
		f.read = time.Now()
		return f.read
	}
	return f.read.Add(passed)
}
