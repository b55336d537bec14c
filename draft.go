package veritrail

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Pair is one entry of Subject, Object or Context.
type Pair struct {
	Key, Value string
}

// Pairs holds the entries of Subject, Object or Context in a slice, which can be used again without allocating.
type Pairs []Pair

// Get returns the value of key and whether it is there.
func (p Pairs) Get(key string) (string, bool) {
	for i := range p {
		if p[i].Key == key {
			return p[i].Value, true
		}
	}
	return "", false
}

// Sort orders the pairs by the bytes of their keys.
func (p Pairs) Sort() {
	// Events carry a handful of pairs, mostly in order already; there insertion is the faster way.
	if len(p) > 16 {
		slices.SortFunc(p, func(a, b Pair) int { return cmp.Compare(a.Key, b.Key) })
		return
	}
	for i := 1; i < len(p); i++ {
		for j := i; j > 0 && p[j].Key < p[j-1].Key; j-- {
			p[j], p[j-1] = p[j-1], p[j]
		}
	}
}

func (p Pairs) reset() Pairs {
	// Up to the capacity, not the length: a stage may have shortened the slice to drop a sensitive pair.
	clear(p[:cap(p)])
	return p[:0]
}

func (p Pairs) setMap(m map[string]string) Pairs {
	for k, v := range m {
		p = append(p, Pair{k, v})
	}
	return p
}

func (p Pairs) toMap() map[string]string {
	m := make(map[string]string, len(p))
	for i := range p {
		m[p[i].Key] = p[i].Value
	}
	return m
}

// A Draft is an event on its way through the pipeline: the parts of a ComplianceEvent with pairs in place of maps, so
// that a Draft used again costs no allocation. Stages may change its fields freely between SetEvent or Parse and
// AppendCanonical, as long as Validate comes last. Its zero value is ready for use. It is not safe for concurrent use.
type Draft struct {
	ID                       UUID
	Timestamp                time.Time
	Severity                 Severity
	Action                   string
	Subject, Object, Context Pairs
}

// drafts serves the functions that take and return whole events.
var drafts = sync.Pool{New: func() any { return new(Draft) }}

func (d *Draft) release() {
	d.Reset()
	drafts.Put(d)
}

// Reset empties d. It keeps the capacity of the pairs and no reference to their strings.
func (d *Draft) Reset() {
	*d = Draft{Subject: d.Subject.reset(), Object: d.Object.reset(), Context: d.Context.reset()}
}

// SetEvent replaces the content of d with e's. It refuses what a Draft cannot hold, which is an ID that is not a UUID
// and more than MaxPairs pairs, and then leaves d empty; the other rules are Validate's. e is neither modified nor kept.
func (d *Draft) SetEvent(e *ComplianceEvent) error {
	d.Reset()
	var f findings
	if e == nil {
		f.add("", ruleObject, "nil")
		return f.err()
	}
	if e.ID != "" {
		d.ID = checkID(&f, e.ID)
	}
	checkCount(&f, "/sub", len(e.Subject))
	checkCount(&f, "/obj", len(e.Object))
	checkCount(&f, "/ctx", len(e.Context))
	if err := f.err(); err != nil {
		d.Reset()
		return err
	}
	d.Timestamp = e.Timestamp.UTC().Round(0) // without its monotonic reading, which is no part of the event
	d.Severity = e.Severity
	d.Action = e.Action
	d.Subject = d.Subject.setMap(e.Subject)
	d.Object = d.Object.setMap(e.Object)
	d.Context = d.Context.setMap(e.Context)
	return nil
}

// Event returns the content of d as an event with maps of its own. The ID is empty when d's is zero.
func (d *Draft) Event() *ComplianceEvent {
	e := &ComplianceEvent{
		Timestamp: d.Timestamp,
		Severity:  d.Severity,
		Subject:   d.Subject.toMap(),
		Action:    d.Action,
		Object:    d.Object.toMap(),
		Context:   d.Context.toMap(),
	}
	if !d.ID.IsZero() {
		e.ID = d.ID.String()
	}
	return e
}

// Validate sorts the pairs and checks the shape and bounds of every part, as docs/format/event.md lists them. ID and
// Timestamp may be zero, for they are filled in later. Which actions and keys are welcome is not its business. The
// error is an *InvalidEventError.
func (d *Draft) Validate() error {
	var f findings
	d.check(&f, 0)
	return f.err()
}

// A fieldSet is a set of an event's fields.
type fieldSet uint8

const (
	fieldID fieldSet = 1 << iota
	fieldTimestamp
	fieldSeverity
	fieldSubject
	fieldAction
	fieldObject
	fieldContext
)

// check is Validate for the fields not in skip, of which something worse is known already.
func (d *Draft) check(f *findings, skip fieldSet) {
	if skip&fieldTimestamp == 0 && !d.Timestamp.IsZero() && !yearFits(d.Timestamp) {
		f.add("/ts", ruleYear, "timestamp")
	}
	if skip&fieldSeverity == 0 && d.Severity > SeverityCritical {
		f.add("/sev", ruleSeverity, "number")
	}
	if skip&fieldSubject == 0 && len(d.Subject) == 0 {
		f.add("/sub", ruleRequired, "nothing")
	}
	d.Subject.check(f, "/sub")
	for i := range d.Subject {
		if d.Subject[i].Value == "" {
			f.add(pointer("/sub", d.Subject[i].Key), ruleEmpty, "string of 0 bytes")
		}
	}
	if skip&fieldAction == 0 {
		checkAction(f, d.Action)
	}
	d.Object.check(f, "/obj")
	d.Context.check(f, "/ctx")
	// No escape is longer than six bytes; only an event that comes near the bound needs an exact count.
	if 6*d.textLen() > MaxEventBytes-512 {
		if n := d.canonicalLen(); n > MaxEventBytes {
			f.add("", ruleSize, sizeShape(n))
		}
	}
}

// checkFilled finds what a recorder would have filled in.
func (d *Draft) checkFilled(f *findings) {
	if d.ID.IsZero() {
		f.add("/id", ruleRequired, "nothing")
	}
	if d.Timestamp.IsZero() {
		f.add("/ts", ruleRequired, "nothing")
	}
}

func (p Pairs) check(f *findings, path string) {
	checkCount(f, path, len(p))
	p.Sort()
	for i := range p {
		if f.full() {
			return
		}
		key, value := p[i].Key, p[i].Value
		if rule := keyRule(key); rule != "" {
			f.add(pointer(path, key), rule, stringShape(key))
		}
		if i > 0 && key == p[i-1].Key {
			f.add(pointer(path, key), ruleDuplicate, stringShape(value))
		}
		if !utf8.ValidString(value) {
			f.add(pointer(path, key), ruleUTF8, stringShape(value))
		}
	}
}

func checkCount(f *findings, path string, n int) {
	if n > MaxPairs {
		f.add(path, rulePairs, pairsShape(n))
	}
}

// keyRule returns the rule that key breaks, if any.
func keyRule(key string) string {
	switch {
	case key == "":
		return ruleKeyEmpty
	case len(key) > MaxKeyBytes:
		return ruleKeyLong
	}
	for i := range len(key) {
		if key[i]-0x20 >= 0x5f { // a control character or not ASCII
			return keyTextRule(key)
		}
	}
	return ""
}

func keyTextRule(key string) string {
	switch {
	case !utf8.ValidString(key):
		return ruleKeyUTF8
	case strings.ContainsFunc(key, unicode.IsControl):
		return ruleKeyText
	}
	return ""
}

func checkAction(f *findings, action string) {
	if action == "" {
		f.add("/act", ruleRequired, "nothing")
		return
	}
	if len(action) > MaxActionBytes {
		f.add("/act", ruleLong, stringShape(action))
		return
	}
	last := byte('.')
	for i := range len(action) {
		c := action[i]
		if c == '.' && last == '.' || c != '.' && c != '_' && c != '-' && !isLetter(c) && !isDigit(c) {
			f.add("/act", ruleAction, stringShape(action))
			return
		}
		last = c
	}
	if last == '.' {
		f.add("/act", ruleAction, stringShape(action))
	}
}

// checkID reads the text of an ID that was given. The nil UUID is refused: it stands for "not set", and
// replacing an ID somebody wrote down would lose the event to him.
func checkID(f *findings, text string) UUID {
	id, ok := parseUUID(text)
	switch {
	case !ok:
		f.add("/id", ruleUUID, stringShape(text))
	case id.IsZero():
		f.add("/id", ruleNilUUID, stringShape(text))
	}
	return id
}

// The first second of year 1 and of year 10000, UTC.
const (
	minUnix = -62135596800
	maxUnix = 253402300800
)

func yearFits(t time.Time) bool {
	sec := t.Unix()
	return minUnix <= sec && sec < maxUnix
}
