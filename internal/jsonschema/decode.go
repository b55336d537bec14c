package jsonschema

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

// Bounds of a value's text.
const (
	maxValueBytes  = 1 << 20
	maxValueDepth  = 32
	maxNumberBytes = 400 // of a number as it is written
	maxExponent    = 400
)

type number = json.Number

// Decode reads one JSON value (RFC 8259): objects as map[string]any, arrays as []any, numbers as json.Number, the
// others as string, bool and nil. It refuses what two readers could understand differently (a key that occurs twice,
// invalid UTF-8, lone surrogates, anything behind the value), more than 1 MiB, more than 32 levels, and numbers of more
// than 400 bytes or with an exponent beyond 400. The error is an *veritrail.InvalidEventError.
//
// Where duplicate keys are all that is wrong, the value is returned beside the error, with the first of each.
func Decode(text []byte) (any, error) {
	d := decoder{maxBytes: maxValueBytes, maxDepth: maxValueDepth}
	return d.decode(text)
}

type decoder struct {
	maxBytes, maxDepth int

	text   string
	pos    int
	values int
	path   []token // where it is
	list   []veritrail.Violation
}

func (d *decoder) decode(text []byte) (any, error) {
	if len(text) > d.maxBytes {
		return nil, &veritrail.InvalidEventError{Violations: []veritrail.Violation{{
			Rule: "want at most " + strconv.Itoa(d.maxBytes) + " bytes", Shape: strconv.Itoa(len(text)) + " bytes"}}}
	}
	d.text = string(text)
	d.space()
	v, ok := d.value(0)
	if ok {
		if d.space(); d.pos != len(d.text) {
			ok = d.fail("want nothing after the value")
		}
	}
	if !ok {
		v = nil
	}
	if len(d.list) > 0 {
		return v, &veritrail.InvalidEventError{Violations: d.list}
	}
	return v, nil
}

// value reads a value that begins at pos. It returns false where the text is not JSON, and the reading ends there.
func (d *decoder) value(depth int) (any, bool) {
	if depth > d.maxDepth {
		return nil, d.fail("want at most " + strconv.Itoa(d.maxDepth) + " levels")
	}
	d.values++
	switch c := d.peek(); {
	case c == '"':
		return d.boxed()
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.array(depth)
	case c == '-' || '0' <= c && c <= '9':
		return d.number()
	case d.literal("true"):
		return true, true
	case d.literal("false"):
		return false, true
	case d.literal("null"):
		return nil, true
	}
	return nil, d.fail("want a value")
}

func (d *decoder) boxed() (any, bool) {
	s, ok := d.string()
	return s, ok
}

func (d *decoder) object(depth int) (any, bool) {
	d.pos++
	m := make(map[string]any)
	d.space()
	if d.peek() == '}' {
		d.pos++
		return m, true
	}
	for {
		if d.peek() != '"' {
			return nil, d.fail("want a key")
		}
		key, ok := d.string()
		if !ok {
			return nil, false
		}
		d.space()
		if d.peek() != ':' {
			return nil, d.fail(`want ":"`)
		}
		d.pos++
		d.space()
		d.path = append(d.path, token{key, -1})
		at := d.pos
		v, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		if _, twice := m[key]; twice {
			d.add(d.pointer(), "duplicate key", shapeAt(d.text, at))
		} else {
			m[key] = v
		}
		d.path = d.path[:len(d.path)-1]
		d.space()
		switch d.peek() {
		case ',':
			d.pos++
			d.space()
		case '}':
			d.pos++
			return m, true
		default:
			return nil, d.fail(`want "," or "}"`)
		}
	}
}

func (d *decoder) array(depth int) (any, bool) {
	d.pos++
	list := []any{}
	d.space()
	if d.peek() == ']' {
		d.pos++
		return list, true
	}
	for {
		d.path = append(d.path, token{"", len(list)})
		v, ok := d.value(depth + 1)
		if !ok {
			return nil, false
		}
		list = append(list, v)
		d.path = d.path[:len(d.path)-1]
		d.space()
		switch d.peek() {
		case ',':
			d.pos++
			d.space()
		case ']':
			d.pos++
			return list, true
		default:
			return nil, d.fail(`want "," or "]"`)
		}
	}
}

// number reads a number of RFC 8259, section 6.
func (d *decoder) number() (any, bool) {
	start := d.pos
	d.skip("-")
	if !d.skip("0") && !d.digits() {
		return nil, false
	}
	if d.skip(".") && !d.digits() {
		return nil, false
	}
	if d.skip("eE") {
		d.skip("+-")
		if !d.digits() {
			return nil, false
		}
	}
	text := d.text[start:d.pos]
	if !bounded(text) {
		d.pos = start
		return nil, d.fail("want a number of at most 400 bytes and an exponent within 400")
	}
	return number(text), true
}

// bounded reports whether a number, as it is written, can be computed with at little cost.
func bounded(text string) bool {
	if len(text) > maxNumberBytes {
		return false
	}
	if at := strings.IndexAny(text, "eE"); at >= 0 {
		exponent, err := strconv.Atoi(text[at+1:])
		return err == nil && -maxExponent <= exponent && exponent <= maxExponent
	}
	return true
}

func (d *decoder) digits() bool {
	start := d.pos
	for c := d.peek(); '0' <= c && c <= '9'; c = d.peek() {
		d.pos++
	}
	return d.pos > start || d.fail("want a digit")
}

// skip goes past the next byte when it is one of those.
func (d *decoder) skip(bytes string) bool {
	if d.pos < len(d.text) && strings.IndexByte(bytes, d.text[d.pos]) >= 0 {
		d.pos++
		return true
	}
	return false
}

func (d *decoder) literal(word string) bool {
	if strings.HasPrefix(d.text[d.pos:], word) {
		d.pos += len(word)
		return true
	}
	return false
}

func (d *decoder) space() {
	for d.pos < len(d.text) {
		switch d.text[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

func (d *decoder) peek() byte {
	if d.pos < len(d.text) {
		return d.text[d.pos]
	}
	return 0
}

// string reads a string from its opening quotation mark past its closing one. Without escapes it is a part of text.
func (d *decoder) string() (string, bool) {
	d.pos++
	start := d.pos
	var made []byte
	ascii := true
	for {
		plain := d.pos
		for d.pos < len(d.text) && d.text[d.pos] >= 0x20 && d.text[d.pos] != '"' && d.text[d.pos] != '\\' {
			ascii = ascii && d.text[d.pos] < utf8.RuneSelf
			d.pos++
		}
		run := d.text[plain:d.pos]
		if !ascii && !utf8.ValidString(run) {
			for i, r := range run {
				if _, n := utf8.DecodeRuneInString(run[i:]); r == utf8.RuneError && n == 1 {
					d.pos = plain + i
					break
				}
			}
			return "", d.fail("want UTF-8")
		}
		switch {
		case d.pos == len(d.text):
			return "", d.fail("want the end of the string")
		case d.text[d.pos] == '"':
			d.pos++
			if made == nil {
				return d.text[start : d.pos-1], true
			}
			return string(append(made, run...)), true
		case d.text[d.pos] != '\\':
			return "", d.fail("want control characters escaped")
		}
		if made == nil {
			made = make([]byte, 0, len(run)+32)
		}
		made = append(made, run...)
		var ok bool
		if made, ok = d.escape(made); !ok {
			return "", false
		}
	}
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads one escape sequence, or the two of a surrogate pair.
func (d *decoder) escape(made []byte) ([]byte, bool) {
	start := d.pos
	d.pos++
	c := d.peek()
	if plain, ok := escapes[c]; ok {
		d.pos++
		return append(made, plain), true
	}
	if r, ok := d.unit(); ok {
		if !utf16.IsSurrogate(r) {
			return utf8.AppendRune(made, r), true
		}
		if d.skip(`\`) {
			if low, ok := d.unit(); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return utf8.AppendRune(made, r), true
				}
			}
		}
		d.pos = start
		return nil, d.fail("want a surrogate pair")
	}
	d.pos = start
	return nil, d.fail("want an escape sequence of JSON")
}

// unit reads a "u" and four hexadecimal digits.
func (d *decoder) unit() (rune, bool) {
	if d.peek() != 'u' || len(d.text)-d.pos < 5 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(d.text[d.pos+1 : d.pos+5]) {
		digit := unhex(c)
		if digit < 0 {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	d.pos += 5
	return r, true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

func (d *decoder) add(path, rule, shape string) {
	if len(d.list) < maxViolations {
		d.list = append(d.list, veritrail.Violation{Path: path, Rule: rule, Shape: shape})
	}
}

// fail notes that the text is not JSON at pos, and returns false. It is told even after 16 others, since it is why the
// reading ended.
func (d *decoder) fail(rule string) bool {
	d.list = d.list[:min(len(d.list), maxViolations-1)]
	d.add(d.pointer(), "at byte "+strconv.Itoa(d.pos)+": "+rule, shapeAt(d.text, d.pos))
	return false
}

// token is a step into a value: an object's key, or an index that is not negative.
type token struct {
	key   string
	index int
}

func (t token) append(at string) string {
	if t.index >= 0 {
		return at + "/" + strconv.Itoa(t.index)
	}
	return veritrail.JoinPointer(at, t.key)
}

func (d *decoder) pointer() string {
	at := ""
	for _, t := range d.path {
		at = t.append(at)
	}
	return at
}
