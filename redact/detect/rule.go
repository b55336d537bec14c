package detect

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A Rule is a user's own pattern, with the syntax of package regexp. When the pattern has a group named "value", the
// finding is that group, else the whole match.
type Rule struct {
	Name    string
	Class   Class
	Pattern string
	// Literals are strings of which a value that matches holds at least one. They are derived from Pattern when empty.
	Literals []string
	// Match and NoMatch are examples of what Pattern must and must not match; at least one of each.
	Match, NoMatch []string
}

// maxMatches bounds the matches of one rule in one value, each of which may cost a walk over the value. From the last
// one on, the rest of the value is one finding: too much is redacted, and nothing is missed.
const maxMatches = 256

type compiledRule struct {
	name     string
	class    Class
	re       *regexp.Regexp
	group    int
	literals []string
}

// Check compiles r and tries its examples. Its error names the rule and the place of the example, never its text.
func (r Rule) Check() error {
	_, err := r.compile()
	return err
}

func (r *Rule) compile() (compiledRule, error) {
	c := compiledRule{name: r.Name, class: r.Class, literals: r.Literals}
	fail := func(format string, args ...any) (compiledRule, error) {
		return c, fmt.Errorf("rule %q: %s", r.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case r.Name == "":
		return c, fmt.Errorf("rule: no name")
	case r.Class == "":
		return fail("no class")
	case len(r.Match) == 0 || len(r.NoMatch) == 0:
		return fail("examples that must match and that must not are missing")
	}
	re, err := regexp.Compile(r.Pattern)
	if err != nil {
		return fail("pattern: %v", err)
	}
	if re.MatchString("") {
		return fail("pattern matches the empty string")
	}
	c.re, c.group = re, max(re.SubexpIndex("value"), 0)
	for i, l := range r.Literals {
		if l == "" {
			return fail("literal %d: empty", i+1)
		}
	}
	if len(c.literals) == 0 {
		if tree, err := syntax.Parse(r.Pattern, syntax.Perl); err == nil {
			c.literals = required(tree.Simplify())
		}
	}
	for i, s := range r.Match {
		switch {
		case !re.MatchString(s):
			return fail("match %d (string of %d bytes): the pattern does not match it", i+1, len(s))
		case len(c.find(nil, 0, s)) == 0:
			return fail("match %d (string of %d bytes): it holds none of the literals, or the value is empty", i+1, len(s))
		}
	}
	for i, s := range r.NoMatch {
		if len(c.find(nil, 0, s)) > 0 {
			return fail("no match %d (string of %d bytes): the pattern matches it", i+1, len(s))
		}
	}
	return c, nil
}

func (c *compiledRule) find(out []Finding, base int, value string) []Finding {
	if !c.candidate(value) || !c.re.MatchString(value) {
		return out
	}
	all := c.re.FindAllStringSubmatchIndex(value, maxMatches)
	for i, m := range all {
		start, end := m[2*c.group], m[2*c.group+1]
		if start < 0 || start == end {
			start, end = m[0], m[1]
		}
		if i == maxMatches-1 {
			end = len(value)
		}
		if start < end {
			out = merge(out, base, Finding{c.class, c.name, start, end})
		}
	}
	return out
}

func (c *compiledRule) candidate(value string) bool {
	if len(c.literals) == 0 {
		return true
	}
	for _, l := range c.literals {
		if strings.Contains(value, l) {
			return true
		}
	}
	return false
}

// maxLiterals bounds the alternatives that a prefilter looks for.
const maxLiterals = 16

// required returns strings of which every match of re holds at least one; nil when none are known.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return nil
		}
		return []string{string(re.Rune)}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if l := required(sub); shortest(l) > shortest(best) {
				best = l
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			l := required(sub)
			if l == nil || len(all)+len(l) > maxLiterals {
				return nil
			}
			all = append(all, l...)
		}
		return all
	}
	return nil
}

func shortest(literals []string) int {
	if len(literals) == 0 {
		return 0
	}
	n := len(literals[0])
	for _, l := range literals {
		n = min(n, len(l))
	}
	return n
}
