// Package search finds events in a trail: what a query says, and a scan of the
// sealed records for it. Every hit is read from the segments and can show its
// proof. An index (package index) may say where to look, and is never believed:
// it asks Conditions what could match, and Match whether it does.
package search

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
)

// Query chooses events: all conditions must hold.
type Query struct {
	Since, Until time.Time // of the event's own time; zero: open
	conditions   []Condition
	literals     [][]byte // bytes that every match contains
}

// Condition is one condition of a query. Its zero value is none.
type Condition struct {
	Field string // act, sev, id, text, sub, obj or ctx
	Key   string // of sub, obj and ctx
	Op    string // "=", "!=", and of sev ">="
	Value string // as it is compared: a pattern of act and of the values of sub, obj and ctx
}

// Conditions are what must hold, beside Since and Until.
func (q *Query) Conditions() []Condition { return slices.Clone(q.conditions) }

// Parse reads conditions:
//
//	act=AUTH.LOGIN.*        action; a pattern as veritrail.MatchAction has it
//	sub.user=10086          a value of sub, obj or ctx; * stands for any text
//	obj.table!=*            not, or not there
//	sev=ERROR, sev>=WARN    severity
//	id=…                    the event's id
//	text=…                  anywhere in the action, or in a value of sub, obj or ctx
func Parse(where []string) (*Query, error) {
	q := new(Query)
	for _, w := range where {
		c, err := parseCondition(w)
		if err != nil {
			return nil, err
		}
		q.conditions = append(q.conditions, c)
		if lit := c.literal(); lit != nil {
			q.literals = append(q.literals, lit)
		}
	}
	return q, nil
}

func parseCondition(w string) (Condition, error) {
	bad := func(problem string) (Condition, error) {
		return Condition{}, fmt.Errorf("condition %.100q: %s", w, problem)
	}
	at := strings.IndexAny(w, "=!>")
	if at < 1 {
		return bad("want FIELD=VALUE, as in act=AUTH.LOGIN.*")
	}
	c := Condition{Field: w[:at]}
	for _, op := range []string{"!=", ">=", "="} {
		if value, ok := strings.CutPrefix(w[at:], op); ok {
			c.Op, c.Value = op, value
			break
		}
	}
	if c.Op == "" {
		return bad("want =, != or, of sev, >=")
	}
	if part, key, ok := strings.Cut(c.Field, "."); ok {
		c.Field, c.Key = part, key
	}
	if c.Op == ">=" && c.Field != "sev" {
		return bad("only sev can be compared with >=")
	}
	switch c.Field {
	case "sub", "obj", "ctx":
		if c.Key == "" {
			return bad("want a key, as in sub.user=10086")
		}
		return c, nil
	}
	if c.Key != "" {
		return bad("only sub, obj and ctx have keys")
	}
	switch c.Field {
	case "act":
		if err := veritrail.CheckActionPattern(c.Value); err != nil {
			return bad(err.Error())
		}
	case "sev":
		if _, err := veritrail.ParseSeverity(c.Value); err != nil {
			return bad("want DEBUG, INFO, WARN, ERROR or CRITICAL")
		}
	case "id":
		id, err := veritrail.ParseUUID(c.Value)
		if err != nil {
			return bad("want a UUID")
		}
		c.Value = id.String()
	case "text":
		if c.Value == "" {
			return bad("want some text")
		}
	default:
		return bad("want a field of id, act, sev, text, sub.KEY, obj.KEY, ctx.KEY")
	}
	return c, nil
}

// literal is what the line of a match contains for certain, nil when nothing
// is.
func (c *Condition) literal() []byte {
	switch {
	case c.Op != "=" || c.Field == "sev":
		return nil
	case strings.IndexFunc(c.Value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) >= 0:
		return nil // stored escaped
	case c.Field == "text":
		return []byte(c.Value)
	case strings.Contains(c.Value, "*"):
		return nil
	}
	return []byte(`"` + c.Value + `"`)
}

// MayMatch is a quick look at a leaf: false means that it does not match.
func (q *Query) MayMatch(leaf []byte) bool {
	for _, lit := range q.literals {
		if !bytes.Contains(leaf, lit) {
			return false
		}
	}
	return true
}

// Match tells whether an event, whose leaf is given, fulfils the query.
func (q *Query) Match(d *veritrail.Draft, leaf []byte) bool {
	if !q.InTime(d.Timestamp) || !q.MayMatch(leaf) {
		return false
	}
	for i := range q.conditions {
		if !q.conditions[i].Match(d) {
			return false
		}
	}
	return true
}

// InTime tells whether an event of that time is within Since and Until.
func (q *Query) InTime(t time.Time) bool {
	return (q.Since.IsZero() || !t.Before(q.Since)) && (q.Until.IsZero() || t.Before(q.Until))
}

// Match tells whether an event fulfils the condition.
func (c *Condition) Match(d *veritrail.Draft) bool {
	var holds bool
	switch c.Field {
	case "act":
		holds = c.MatchValue(d.Action)
	case "sev":
		holds = c.MatchValue(d.Severity.String())
	case "id":
		holds = d.ID.String() == c.Value
	case "text":
		holds = c.MatchValue(d.Action) || c.matchAny(d.Subject) || c.matchAny(d.Object) || c.matchAny(d.Context)
	case "sub":
		holds = c.matchPair(d.Subject)
	case "obj":
		holds = c.matchPair(d.Object)
	case "ctx":
		holds = c.matchPair(d.Context)
	}
	return holds != (c.Op == "!=")
}

// MatchValue tells whether one text of the condition's field (an action, a
// severity's name, a value) is of its pattern, whether it is asked for or ruled
// out.
func (c *Condition) MatchValue(text string) bool {
	switch c.Field {
	case "act":
		return veritrail.MatchAction(c.Value, text)
	case "sev":
		want, _ := veritrail.ParseSeverity(c.Value) // Parse checked it
		got, err := veritrail.ParseSeverity(text)
		return err == nil && (got == want || c.Op == ">=" && got > want)
	case "id":
		return text == c.Value
	case "text":
		return strings.Contains(text, c.Value)
	}
	return matchGlob(c.Value, text)
}

// Exact is the only text that MatchValue accepts, and whether there is only
// one.
func (c *Condition) Exact() (string, bool) {
	switch {
	case c.Field == "sev" && c.Op == ">=", c.Field == "text", strings.Contains(c.Value, "*"):
		return "", false
	case c.Field == "sev":
		want, _ := veritrail.ParseSeverity(c.Value) // Parse checked it
		return want.String(), true
	}
	return c.Value, true
}

func (c *Condition) matchPair(pairs veritrail.Pairs) bool {
	value, there := pairs.Get(c.Key)
	return there && matchGlob(c.Value, value)
}

func (c *Condition) matchAny(pairs veritrail.Pairs) bool {
	for i := range pairs {
		if strings.Contains(pairs[i].Value, c.Value) {
			return true
		}
	}
	return false
}

// matchGlob matches text with a pattern in which * stands for any text.
func matchGlob(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for {
		var part string
		part, rest, wild = strings.Cut(rest, "*")
		if !wild {
			return strings.HasSuffix(text, part)
		}
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
}

// ParseTime reads a point in time: RFC 3339, a date in UTC, or how long ago it
// was, as in 90m, 24h, 7d.
func ParseTime(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	text, times := s, 1
	if days, ok := strings.CutSuffix(s, "d"); ok {
		text, times = days+"h", 24
	}
	ago, err := time.ParseDuration(text)
	if err != nil || ago < 0 {
		return time.Time{}, fmt.Errorf("time %.60q: want 2006-01-02, 2006-01-02T15:04:05Z, or how long ago, as 24h or 7d", s)
	}
	for range times {
		now = now.Add(-ago)
	}
	return now, nil
}
