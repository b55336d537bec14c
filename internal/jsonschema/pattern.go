package jsonschema

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	lib "github.com/santhosh-tekuri/jsonschema/v6"
)

// pattern is a regular expression of a schema.
type pattern struct {
	source string // as the schema has it
	re     *regexp.Regexp
	dfa    *dfa // nil when there is none
}

// newPattern is the library's way to a regular expression.
func newPattern(source string) (lib.Regexp, error) {
	translated, err := translate(source)
	if err != nil {
		return nil, err
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return nil, err
	}
	return &pattern{source: source, re: re}, nil
}

// String and MatchString are what the library calls. Neither knows the dfa, so that the library's verdict stays
// independent of it.
func (p *pattern) String() string { return p.source }

// MatchString implements the library's Regexp.
func (p *pattern) MatchString(s string) bool { return p.re.MatchString(s) }

func (p *pattern) match(s string) bool {
	if p.dfa != nil {
		if found, known := p.dfa.match(s); known {
			return found
		}
	}
	return p.re.MatchString(s)
}

// What ECMA-262 calls white space, and its complement, as the inside of a class.
const (
	whiteSpace    = `\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}`
	notWhiteSpace = `\x00-\x08\x0e-\x1f!-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}` +
		`\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{fefe}\x{ff00}-\x{10ffff}`
)

var (
	errLookaround = errors.New("lookaround and other (? groups are not supported: matching must take linear time")
	errBackRef    = errors.New("back-references are not supported: matching must take linear time")
)

// translate writes a regular expression of ECMA-262 (with its u flag: by code points) in the syntax of RE2.
func translate(source string) (string, error) {
	if !utf8.ValidString(source) {
		return "", errors.New("want UTF-8")
	}
	var out strings.Builder
	for s := source; s != ""; {
		var part string
		var n int
		var err error
		switch {
		case s[0] == '\\':
			part, n, err = translateEscape(s, false)
		case s[0] == '[':
			part, n, err = translateClass(s)
		case s[0] == '.':
			part, n = `[^\n\r\x{2028}\x{2029}]`, 1
		case strings.HasPrefix(s, "(?:"):
			part, n = "(?:", 3
		case strings.HasPrefix(s, "(?<") && !strings.HasPrefix(s, "(?<=") && !strings.HasPrefix(s, "(?<!"):
			part, n = "(?P<", 3
		case strings.HasPrefix(s, "(?"):
			err = errLookaround
		default:
			part, n = s[:1], 1
		}
		if err != nil {
			return "", err
		}
		out.WriteString(part)
		s = s[n:]
	}
	return out.String(), nil
}

// translateClass translates a class, which s begins with.
func translateClass(s string) (string, int, error) {
	var out strings.Builder
	at := 1
	out.WriteByte('[')
	negated := strings.HasPrefix(s[at:], "^")
	if negated {
		out.WriteByte('^')
		at++
	}
	begin := at
	for at < len(s) {
		switch s[at] {
		case ']':
			if at == begin { // in ECMA-262 nothing, or anything
				if negated {
					return `[\x00-\x{10ffff}]`, at + 1, nil
				}
				return `[^\x00-\x{10ffff}]`, at + 1, nil
			}
			out.WriteByte(']')
			return out.String(), at + 1, nil
		case '\\':
			part, n, err := translateEscape(s[at:], true)
			if err != nil {
				return "", 0, err
			}
			out.WriteString(part)
			at += n
		case '[':
			out.WriteString(`\[`)
			at++
		default:
			out.WriteByte(s[at])
			at++
		}
	}
	return "", 0, errors.New("missing closing ]")
}

// translateEscape translates an escape, which s begins with, and returns how long it was.
func translateEscape(s string, inClass bool) (string, int, error) {
	if len(s) < 2 {
		return "", 0, errors.New("trailing backslash")
	}
	switch c := s[1]; {
	case strings.IndexByte("dDwWfnrtv", c) >= 0:
		return s[:2], 2, nil
	case c == 's' || c == 'S':
		inside := whiteSpace
		if c == 'S' {
			inside = notWhiteSpace
		}
		if inClass {
			return inside, 2, nil
		}
		return "[" + inside + "]", 2, nil
	case c == 'b' && inClass:
		return `\x08`, 2, nil
	case (c == 'b' || c == 'B') && !inClass:
		return s[:2], 2, nil
	case c == '0' && (len(s) == 2 || s[2] < '0' || s[2] > '9'):
		return `\x00`, 2, nil
	case '0' <= c && c <= '9' || c == 'k':
		return "", 0, errBackRef
	case c == 'c' && len(s) > 2 && 'a' <= s[2]|0x20 && s[2]|0x20 <= 'z':
		return fmt.Sprintf(`\x%02x`, s[2]&0x1f), 3, nil
	case c == 'x' && len(s) >= 4 && unhex(s[2]) >= 0 && unhex(s[3]) >= 0:
		return s[:4], 4, nil
	case c == 'u':
		return translateUnicode(s)
	case c == 'p' || c == 'P':
		return translateProperty(s)
	case c >= utf8.RuneSelf:
		_, n := utf8.DecodeRuneInString(s[1:])
		return s[1 : 1+n], 1 + n, nil
	case c < '0' || '9' < c && c < 'A' || 'Z' < c && c < 'a' || 'z' < c:
		return s[:2], 2, nil
	}
	return "", 0, fmt.Errorf(`\%c is no escape sequence`, s[1])
}

// translateUnicode translates \uXXXX, a pair of them, or \u{X…}.
func translateUnicode(s string) (string, int, error) {
	if strings.HasPrefix(s, `\u{`) {
		hex, _, closed := strings.Cut(s[3:], "}")
		if r, err := strconv.ParseUint(hex, 16, 32); closed && err == nil && r <= utf8.MaxRune {
			return fmt.Sprintf(`\x{%x}`, r), 3 + len(hex) + 1, nil
		}
		return "", 0, errors.New(`want \u{1} to \u{10ffff}`)
	}
	unit := func(s string) rune {
		if len(s) < 6 || !strings.HasPrefix(s, `\u`) {
			return -1
		}
		r, err := strconv.ParseUint(s[2:6], 16, 16)
		if err != nil {
			return -1
		}
		return rune(r)
	}
	r := unit(s)
	if r < 0 {
		return "", 0, errors.New(`want four hexadecimal digits after \u`)
	}
	if utf16.IsSurrogate(r) {
		if pair := utf16.DecodeRune(r, unit(s[6:])); pair != utf8.RuneError {
			return fmt.Sprintf(`\x{%x}`, pair), 12, nil
		}
		return "", 0, errors.New("a lone surrogate matches nothing")
	}
	return fmt.Sprintf(`\x{%x}`, r), 6, nil
}

// translateProperty translates \p{Name}, \p{Script=Name} and their negations.
func translateProperty(s string) (string, int, error) {
	name, _, closed := strings.Cut(s[2:], "}")
	if !closed || !strings.HasPrefix(name, "{") {
		return "", 0, errors.New(`want \p{Name}`)
	}
	n := 2 + len(name) + 1
	name = name[1:]
	for _, prefix := range []string{"Script=", "sc=", "General_Category=", "gc="} {
		name = strings.TrimPrefix(name, prefix)
	}
	return s[:2] + "{" + name + "}", n, nil
}

// Bounds of the automata: instructions of a pattern, states of one, and states tried of all in a schema. A state takes
// 256 bytes.
const (
	maxInstructions = 512
	maxStates       = 256
	maxStatesOfAll  = 2048
)

// States of every dfa.
const (
	stateDead    = 0 // nothing that follows can match
	stateMatched = 1 // there is a match already
)

// dfa finds out whether an ASCII string holds a match, a table look-up a byte.
type dfa struct {
	start uint16
	next  []uint16 // by state and byte
	final []bool   // by state: the end of the string makes it a match
}

// match returns whether s holds a match, and whether that can be known here: beyond ASCII it cannot.
func (d *dfa) match(s string) (found, known bool) {
	state := d.start
	for i := 0; i < len(s) && state > stateMatched; i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return false, false
		}
		state = d.next[int(state)<<7|int(c)]
	}
	return d.final[state], true
}

// newDFA makes the automaton of an RE2 expression by subset construction, and takes its states from what is left. It
// returns nil where there would be too many, or a word boundary.
func newDFA(expr string, left *int) *dfa {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil
	}
	prog, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(prog.Inst) > maxInstructions {
		return nil
	}
	for i := range prog.Inst {
		if in := &prog.Inst[i]; in.Op == syntax.InstEmptyWidth &&
			syntax.EmptyOp(in.Arg)&^(syntax.EmptyBeginText|syntax.EmptyEndText) != 0 {
			return nil
		}
	}
	c := subsets{prog: prog, known: make(map[string]uint16), dfa: &dfa{next: make([]uint16, 2*128), final: []bool{false, true}}}
	for i := range 128 {
		c.dfa.next[stateMatched<<7|i] = stateMatched
	}
	c.dfa.start = c.state(c.closure([]uint32{uint32(prog.Start)}, true, false), true)
	defer func() { *left -= min(len(c.sets), *left) }() // what was given up has cost as much
	for at := 0; at < len(c.sets); at++ {
		if len(c.sets) > min(maxStates, *left) {
			return nil
		}
		for b := range rune(128) {
			var out []uint32
			for _, pc := range c.sets[at] {
				if in := &prog.Inst[pc]; in.Op != syntax.InstEmptyWidth && in.MatchRune(b) {
					out = append(out, in.Out)
				}
			}
			out = append(out, uint32(prog.Start)) // a match may begin behind b
			c.dfa.next[(at+2)<<7|int(b)] = c.state(c.closure(out, false, false), false)
		}
	}
	return c.dfa
}

type subsets struct {
	prog  *syntax.Prog
	dfa   *dfa
	sets  [][]uint32 // of the states from 2 on
	known map[string]uint16
}

// closure is where pcs lead without reading on: instructions that read, that wait for the end, and the match.
func (c *subsets) closure(pcs []uint32, atStart, atEnd bool) []uint32 {
	var found []uint32
	seen := make(map[uint32]bool)
	for todo := slices.Clone(pcs); len(todo) > 0; {
		pc := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[pc] {
			continue
		}
		seen[pc] = true
		switch in := &c.prog.Inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			todo = append(todo, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			todo = append(todo, in.Out)
		case syntax.InstEmptyWidth:
			op := syntax.EmptyOp(in.Arg)
			switch {
			case op&syntax.EmptyBeginText != 0 && !atStart:
			case op&syntax.EmptyEndText != 0 && !atEnd:
				found = append(found, pc)
			default:
				todo = append(todo, in.Out)
			}
		case syntax.InstFail:
		default:
			found = append(found, pc)
		}
	}
	slices.Sort(found)
	return found
}

func (c *subsets) matches(set []uint32) bool {
	return slices.ContainsFunc(set, func(pc uint32) bool { return c.prog.Inst[pc].Op == syntax.InstMatch })
}

// state is the number of the state that stands for set, a closure.
func (c *subsets) state(set []uint32, atStart bool) uint16 {
	if c.matches(set) {
		return stateMatched
	}
	if len(set) == 0 {
		return stateDead
	}
	key := fmt.Sprint(atStart, set)
	if n, ok := c.known[key]; ok {
		return n
	}
	n := uint16(len(c.dfa.final))
	c.known[key] = n
	c.sets = append(c.sets, set)
	c.dfa.next = append(c.dfa.next, make([]uint16, 128)...)
	c.dfa.final = append(c.dfa.final, c.matches(c.closure(set, atStart, true)))
	return n
}
