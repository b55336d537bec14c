// Package detect finds sensitive values: by what a value is, and by what the key beside it says.
//
// Find looks for the built-in classes with scanners written by hand, which walk over a value once and stop only at bytes
// that a sensitive value could begin with or must contain. What stops them is checked in full: check digits, dates,
// assigned ranges, the grammar of an address. Full-width characters, unusual spaces and dashes, and characters without
// width are understood, and a finding is always given in offsets of the original value. A number that is longer than its
// class allows is no finding, nor is a part of it.
//
// Label tells what the path of a key alone says: sub.phone, *.id_card. Keys are compared without case and separators,
// so that idCard, id_card and ID-CARD are one key.
//
// Users' own rules are regular expressions with the syntax of package regexp, behind a literal prefilter.
//
// A clean value costs no allocation; one that has to be folded borrows memory from a pool. The work is linear in the
// length of a value, whatever it holds. The package knows neither events nor policies, and imports the standard library
// only.
//
// BUG(detect): How much it finds, and how much of that is right, has not been measured. It is known to miss a number
// behind a hyphen and a hexadecimal letter (card-4111…), a password of one kind of characters behind a colon, and an
// IPv4 address shortly behind the word version.
package detect

import (
	"fmt"
	"slices"
	"sync"
)

// A Finding is a sensitive part of a value: value[Start:End].
type Finding struct {
	Class      Class
	Rule       string // which scanner or rule found it
	Start, End int
}

// A Config says what a Detector looks for. Its zero value means every built-in class and label.
type Config struct {
	Disabled []Class // built-in classes whose patterns are not looked for; labels of these still hold
	Rules    []Rule
	Labels   []Label // before the built-in ones
	// NoBuiltinLabels leaves only Labels.
	NoBuiltinLabels bool
}

// A Detector finds sensitive values. It is safe for concurrent use.
type Detector struct {
	off    uint32 // bit per classID
	rules  []compiledRule
	labels labels
}

// New checks cfg, with the examples of its rules, and returns a Detector for it.
func New(cfg Config) (*Detector, error) {
	d := &Detector{}
	for _, c := range cfg.Disabled {
		id := slices.IndexFunc(classes[:], func(i ClassInfo) bool { return i.Class == c })
		if id < 0 {
			return nil, fmt.Errorf("disabled class %q: no such class", c)
		}
		d.off |= 1 << id
	}
	names := map[string]bool{}
	for i := range cfg.Rules {
		r, err := cfg.Rules[i].compile()
		if err != nil {
			return nil, err
		}
		if names[r.name] {
			return nil, fmt.Errorf("rule %q: two rules of this name", r.name)
		}
		names[r.name] = true
		d.rules = append(d.rules, r)
	}
	if err := d.labels.compile(cfg.Labels, !cfg.NoBuiltinLabels); err != nil {
		return nil, err
	}
	return d, nil
}

// Find appends what it finds in value to dst: sorted, not overlapping. Where two findings overlap, the more certain one
// names the class, else the longer one, and the finding covers both.
func (d *Detector) Find(dst []Finding, value string) []Finding {
	dst, _ = d.find(dst, value)
	return dst
}

// find is Find that also returns how many bytes were looked at, again and again counted.
func (d *Detector) find(dst []Finding, value string) ([]Finding, int) {
	s := scan{text: value, off: d.off, out: dst, base: len(dst)}
	steps := 0
	if !s.run() {
		steps = s.steps
		n := folded.Get().(*folding)
		n.fold(value)
		s = scan{text: n.string(), off: d.off, out: dst, base: len(dst), folded: true}
		s.run()
		n.unfold(s.out[s.base:], value)
		n.wipe()
		folded.Put(n)
	}
	steps += s.steps
	for i := range d.rules {
		s.out = d.rules[i].find(s.out, s.base, value)
		steps += len(value)
	}
	return s.out, steps
}

// merge inserts f among the sorted findings out[base:].
func merge(out []Finding, base int, f Finding) []Finding {
	at := len(out)
	for at > base && out[at-1].Start >= f.Start {
		at--
	}
	if at > base && out[at-1].End > f.Start {
		at--
	}
	end := at
	for end < len(out) && out[end].Start < f.End {
		f = join(out[end], f)
		end++
	}
	return slices.Replace(out, at, end, f)
}

func join(a, b Finding) Finding {
	start, end := min(a.Start, b.Start), max(a.End, b.End)
	if ra, rb := rank(a.Class), rank(b.Class); rb > ra || rb == ra && b.End-b.Start > a.End-a.Start {
		a = b
	}
	a.Start, a.End = start, end
	return a
}

var folded = sync.Pool{New: func() any { return new(folding) }}
