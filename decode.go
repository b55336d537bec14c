package veritrail

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of the text an event is read from. White space and escapes may make it longer than its canonical encoding.
const (
	maxInputBytes = 1 << 20
	maxNesting    = 32 // of values that are going to be refused anyway
)

// ParseEvent reads one event, in any field order and with any JSON white space. "act" and "sub" are required; an
// event that has not been recorded yet may lack the others. What encoding/json writes for the zero values of a
// ComplianceEvent (an empty id, the zero time, null in place of obj and ctx) is read as not set.
//
// It refuses, with an *InvalidEventError that lists what it found: text that is not JSON, duplicate keys at any level,
// unknown fields (letter case counts), values of another type, invalid UTF-8, lone surrogate escapes, anything
// after the event, and whatever Draft.Validate refuses.
func ParseEvent(data []byte) (*ComplianceEvent, error) {
	d := drafts.Get().(*Draft)
	defer d.release()
	if err := d.Parse(data); err != nil {
		return nil, err
	}
	return d.Event(), nil
}

// ParseCanonical reads one event from its canonical encoding and refuses every other spelling of it, so that the bytes
// of a leaf and the event they stand for determine each other.
func ParseCanonical(leaf []byte) (*ComplianceEvent, error) {
	d := drafts.Get().(*Draft)
	defer d.release()
	if err := d.Parse(leaf); err != nil {
		return nil, err
	}
	var f findings
	d.checkFilled(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	want := d.AppendCanonical(make([]byte, 0, len(leaf)))
	if !bytes.Equal(leaf, want) {
		at := 0
		for at < len(leaf) && at < len(want) && leaf[at] == want[at] {
			at++
		}
		f.add("", "at byte "+strconv.Itoa(at)+": not the canonical encoding", shapeAt(leaf, at))
		return nil, f.err()
	}
	return d.Event(), nil
}

// Parse replaces the content of d with the event in data, read as ParseEvent does, and leaves d as Validate would. The
// strings of d share one copy of data, the only allocation unless there are escapes. On error d is empty.
func (d *Draft) Parse(data []byte) error {
	d.Reset()
	p := parser{data: data}
	if len(data) > maxInputBytes {
		p.f.add("", "want at most "+sizeShape(maxInputBytes), sizeShape(len(data)))
	} else {
		p.text = string(data)
		if p.event(d) {
			d.check(&p.f, p.wrong)
		}
	}
	if err := p.f.err(); err != nil {
		d.Reset()
		return err
	}
	return nil
}

// A parser goes over an event's text once. Its methods return false where the text is not JSON, and the reading ends
// there; what is JSON but breaks a rule is noted in f, and the reading goes on.
type parser struct {
	data  []byte
	text  string // the same bytes, which the strings found are cut from
	pos   int
	field string   // pointer to the field being read
	key   string   // and the pair inside it, when inPair
	inKey bool     // key is set
	wrong fieldSet // fields whose value was refused
	f     findings
}

// event reads the whole text into d.
func (p *parser) event(d *Draft) bool {
	p.space()
	if p.peek() != '{' {
		if p.pos == len(p.data) {
			return p.fail(ruleObject)
		}
		shape, ok := p.skip(0)
		if ok {
			p.f.add("", ruleObject, shape)
		}
		return false
	}
	var seen fieldSet
	for first := true; ; first = false {
		p.field = ""
		name, done, ok := p.member(first)
		if !ok {
			return false
		}
		if done {
			break
		}
		field, path := fieldOf(name)
		if p.field = path; field == 0 {
			p.field = pointer("", name)
		}
		if field == 0 || seen&field != 0 {
			rule := ruleDuplicate
			if field == 0 {
				rule = ruleUnknown
			}
			if !p.refuse(rule) {
				return false
			}
			continue
		}
		seen |= field
		if !p.value(d, field) {
			return false
		}
	}
	p.space()
	if p.pos != len(p.data) {
		return p.fail("want nothing after the event")
	}
	return true
}

// fieldOf returns the field of that name and its pointer.
func fieldOf(name string) (fieldSet, string) {
	switch name {
	case "id":
		return fieldID, "/id"
	case "ts":
		return fieldTimestamp, "/ts"
	case "sev":
		return fieldSeverity, "/sev"
	case "sub":
		return fieldSubject, "/sub"
	case "act":
		return fieldAction, "/act"
	case "obj":
		return fieldObject, "/obj"
	case "ctx":
		return fieldContext, "/ctx"
	}
	return 0, ""
}

// value reads the value of field into d.
func (p *parser) value(d *Draft, field fieldSet) (ok bool) {
	switch field {
	case fieldSubject:
		d.Subject, ok = p.pairs(d.Subject, field)
		return ok
	case fieldObject:
		d.Object, ok = p.pairs(d.Object, field)
		return ok
	case fieldContext:
		d.Context, ok = p.pairs(d.Context, field)
		return ok
	}
	if p.peek() != '"' {
		p.wrong |= field
		return p.refuse(ruleString)
	}
	s, ok := p.string()
	if !ok {
		return false
	}
	switch field {
	case fieldID:
		if s != "" {
			d.ID = checkID(&p.f, s)
		}
	case fieldTimestamp:
		var rule string
		if d.Timestamp, rule = parseTimestamp(s); rule != "" {
			p.wrong |= field
			p.f.add(p.field, rule, stringShape(s))
		}
	case fieldSeverity:
		if d.Severity, ok = severityOf(s); !ok {
			p.wrong |= field
			p.f.add(p.field, ruleSeverity, stringShape(s))
		}
	case fieldAction:
		d.Action = s
	}
	return true
}

// pairs reads an object of strings. A null is a nil map of encoding/json, which only the optional ones may be.
func (p *parser) pairs(dst Pairs, field fieldSet) (Pairs, bool) {
	if p.peek() != '{' {
		if field != fieldSubject && p.literal("null") {
			return dst, true
		}
		p.wrong |= field
		return dst, p.refuse(ruleObject)
	}
	n := 0
	for first := true; ; first = false {
		key, done, ok := p.member(first)
		if !ok {
			return dst, false
		}
		if done {
			break
		}
		n++
		p.key, p.inKey = key, true
		if p.peek() != '"' {
			p.wrong |= field
			if !p.refuse(ruleString) {
				return dst, false
			}
		} else {
			value, ok := p.string()
			if !ok {
				return dst, false
			}
			if n <= MaxPairs {
				dst = append(dst, Pair{key, value})
			}
		}
		p.key, p.inKey = "", false
	}
	checkCount(&p.f, p.field, n)
	return dst, true
}

// member reads up to the value of an object's next member, or past the brace that ends the object.
func (p *parser) member(first bool) (name string, done, ok bool) {
	if first {
		p.pos++ // the opening brace
	}
	p.space()
	c := p.peek()
	switch {
	case c == '}':
		p.pos++
		return "", true, true
	case first:
	case c == ',':
		p.pos++
		p.space()
		c = p.peek()
	default:
		return "", false, p.fail(`want "," or "}"`)
	}
	if c != '"' {
		return "", false, p.fail("want a key")
	}
	if name, ok = p.string(); !ok {
		return "", false, false
	}
	p.space()
	if p.peek() != ':' {
		return "", false, p.fail(`want ":"`)
	}
	p.pos++
	p.space()
	return name, false, true
}

// refuse reads over a value that breaks rule.
func (p *parser) refuse(rule string) bool {
	shape, ok := p.skip(0)
	if ok {
		p.f.add(p.pointer(), rule, shape)
	}
	return ok
}

// skip reads over any value and returns its shape.
func (p *parser) skip(depth int) (shape string, ok bool) {
	if depth > maxNesting {
		return "", p.fail("want at most " + strconv.Itoa(maxNesting) + " levels")
	}
	shape = shapeAt(p.data, p.pos)
	switch c := p.peek(); {
	case c == '"':
		s, ok := p.string()
		return stringShape(s), ok
	case c == '{':
		for first := true; ; first = false {
			_, done, ok := p.member(first)
			if !ok || done {
				return shape, ok
			}
			if _, ok := p.skip(depth + 1); !ok {
				return "", false
			}
		}
	case c == '[':
		return shape, p.skipArray(depth)
	case c == '-' || isDigit(c):
		return shape, p.skipNumber()
	case p.literal("true"), p.literal("false"), p.literal("null"):
		return shape, true
	}
	return "", p.fail("want a value")
}

func (p *parser) skipArray(depth int) bool {
	p.pos++
	p.space()
	if p.peek() == ']' {
		p.pos++
		return true
	}
	for {
		if _, ok := p.skip(depth + 1); !ok {
			return false
		}
		p.space()
		switch p.peek() {
		case ',':
			p.pos++
			p.space()
		case ']':
			p.pos++
			return true
		default:
			return p.fail(`want "," or "]"`)
		}
	}
}

// skipNumber reads over a number of RFC 8259, section 6.
func (p *parser) skipNumber() bool {
	if p.peek() == '-' {
		p.pos++
	}
	if p.peek() == '0' {
		p.pos++
	} else if !p.digits() {
		return false
	}
	if p.peek() == '.' {
		p.pos++
		if !p.digits() {
			return false
		}
	}
	if p.peek()|0x20 == 'e' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		return p.digits()
	}
	return true
}

func (p *parser) digits() bool {
	if !isDigit(p.peek()) {
		return p.fail("want a digit")
	}
	for isDigit(p.peek()) {
		p.pos++
	}
	return true
}

func (p *parser) literal(word string) bool {
	if len(p.data)-p.pos < len(word) || p.text[p.pos:p.pos+len(word)] != word {
		return false
	}
	p.pos += len(word)
	return true
}

func (p *parser) space() {
	for p.pos < len(p.data) {
		switch p.data[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0, which starts nothing in JSON, at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.data) {
		return p.data[p.pos]
	}
	return 0
}

// string reads a string, from its opening quotation mark past its closing one.
func (p *parser) string() (string, bool) {
	start := p.pos + 1
	at := start
	var seen uint64 // or of all words read; a top bit says that UTF-8 must be looked at
	for len(p.data)-at >= 8 {
		x := binary.LittleEndian.Uint64(p.data[at:])
		seen |= x
		if marks := special(x); marks != 0 {
			at += lowest(marks)
			break
		}
		at += 8
	}
	for ; at < len(p.data) && !isSpecial(p.data[at]); at++ {
		seen |= uint64(p.data[at])
	}
	if seen&topBits != 0 && !p.checkUTF8(start, at) {
		return "", false
	}
	p.pos = at
	if p.peek() == '"' {
		p.pos++
		return p.text[start:at], true
	}
	return p.escapedString(start)
}

// escapedString goes on with a string that has an escape, or its end, at pos.
func (p *parser) escapedString(start int) (string, bool) {
	buf := append(make([]byte, 0, p.pos-start+32), p.data[start:p.pos]...)
	for {
		plain := p.pos
		for p.pos < len(p.data) && !isSpecial(p.data[p.pos]) {
			p.pos++
		}
		end := p.pos
		if !p.checkUTF8(plain, end) {
			return "", false
		}
		buf = append(buf, p.data[plain:end]...)
		switch {
		case p.pos == len(p.data):
			return "", p.fail("want the end of the string")
		case p.data[p.pos] == '"':
			p.pos++
			return string(buf), true
		case p.data[p.pos] != '\\':
			return "", p.fail("want control characters escaped")
		}
		var ok bool
		if buf, ok = p.escape(buf); !ok {
			return "", false
		}
	}
}

// escape reads one escape sequence, or the two of a surrogate pair.
func (p *parser) escape(buf []byte) ([]byte, bool) {
	start := p.pos
	p.pos++
	c := p.peek()
	p.pos++
	switch c {
	case '"', '\\', '/':
		return append(buf, c), true
	case 'b':
		return append(buf, '\b'), true
	case 't':
		return append(buf, '\t'), true
	case 'n':
		return append(buf, '\n'), true
	case 'f':
		return append(buf, '\f'), true
	case 'r':
		return append(buf, '\r'), true
	case 'u':
		r, ok := p.hex4()
		if !ok {
			break
		}
		if !utf16.IsSurrogate(r) {
			return utf8.AppendRune(buf, r), true
		}
		if p.literal(`\u`) {
			if low, ok := p.hex4(); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return utf8.AppendRune(buf, r), true
				}
			}
		}
		p.pos = start
		return nil, p.fail("want a surrogate pair")
	}
	p.pos = start
	return nil, p.fail("want an escape sequence of JSON")
}

func (p *parser) hex4() (r rune, ok bool) {
	if len(p.data)-p.pos < 4 {
		return 0, false
	}
	for _, c := range p.data[p.pos : p.pos+4] {
		v := hexValues[c]
		if v > 0x0f {
			return 0, false
		}
		r = r<<4 | rune(v)
	}
	p.pos += 4
	return r, true
}

func (p *parser) checkUTF8(start, end int) bool {
	if utf8.Valid(p.data[start:end]) {
		return true
	}
	for p.pos = start; ; {
		r, n := utf8.DecodeRune(p.data[p.pos:end])
		if r == utf8.RuneError && n <= 1 {
			return p.fail("want UTF-8")
		}
		p.pos += n
	}
}

// fail notes that the text is not JSON at pos, and returns false.
func (p *parser) fail(rule string) bool {
	rule = "at byte " + strconv.Itoa(p.pos) + ": " + rule
	// Even after 16 other findings this one is told, since it is why the reading ended.
	if p.f.full() {
		p.f.list = p.f.list[:maxViolations-1]
	}
	p.f.add(p.pointer(), rule, shapeAt(p.data, p.pos))
	return false
}

// pointer is where in the event the parser is.
func (p *parser) pointer() string {
	if p.inKey {
		return pointer(p.field, p.key)
	}
	return p.field
}

// shapeAt says what starts at a byte of JSON text, without saying what it is.
func shapeAt(data []byte, at int) string {
	if at >= len(data) {
		return "end of input"
	}
	switch c := data[at]; {
	case c == '"':
		return "string"
	case c == '-' || isDigit(c):
		return "number"
	case c == '{':
		return "object"
	case c == '[':
		return "array"
	case c == '}' || c == ']' || c == ',' || c == ':':
		return `"` + string(rune(c)) + `"`
	case c == '\\':
		return "backslash"
	case c < 0x20 || c == 0x7f:
		return "control character"
	case c >= 0x80:
		return "byte beyond ASCII"
	}
	switch rest := data[at:]; {
	case bytes.HasPrefix(rest, []byte("true")), bytes.HasPrefix(rest, []byte("false")):
		return "boolean"
	case bytes.HasPrefix(rest, []byte("null")):
		return "null"
	}
	return "text"
}

// parseTimestamp reads RFC 3339, section 5.6, with at most nine fraction digits, and returns the time in UTC or the
// rule s breaks. Leap seconds are refused: a time.Time cannot hold them.
func parseTimestamp(s string) (time.Time, string) {
	if len(s) < len("2006-01-02T15:04:05Z") ||
		s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return time.Time{}, ruleTimestamp
	}
	year := 100*number2(s[0:]) + number2(s[2:])
	month, day := number2(s[5:]), number2(s[8:])
	hour, minute, second := number2(s[11:]), number2(s[14:]), number2(s[17:])
	if uint(year) > 9999 || uint(month-1) > 11 || day < 1 || day > daysIn(year, month) ||
		uint(hour) > 23 || uint(minute) > 59 || uint(second) > 59 {
		return time.Time{}, ruleTimestamp
	}
	s = s[len("2006-01-02T15:04:05"):]

	ns := 0
	if s[0] == '.' {
		digits, unit := 0, 1_000_000_000
		for s = s[1:]; s != "" && isDigit(s[0]); s = s[1:] {
			unit /= 10
			ns += unit * int(s[0]-'0')
			digits++
		}
		if digits == 0 || digits > 9 {
			return time.Time{}, ruleTimestamp
		}
	}

	offset := 0 // in minutes
	switch {
	case s == "Z":
	case len(s) == len("+00:00") && (s[0] == '+' || s[0] == '-') && s[3] == ':':
		h, m := number2(s[1:]), number2(s[4:])
		if uint(h) > 23 || uint(m) > 59 {
			return time.Time{}, ruleTimestamp
		}
		offset = 60*h + m
		if s[0] == '-' {
			offset = -offset
		}
	default:
		return time.Time{}, ruleTimestamp
	}
	t := time.Date(year, time.Month(month), day, hour, minute-offset, second, ns, time.UTC)
	if !yearFits(t) {
		return time.Time{}, ruleYear
	}
	return t, ""
}

// number2 reads two digits; anything else gives a number no field of a timestamp can have, alone or as a century.
func number2(s string) int {
	if !isDigit(s[0]) || !isDigit(s[1]) {
		return -1 << 16
	}
	return 10*int(s[0]-'0') + int(s[1]-'0')
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}
