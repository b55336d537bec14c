// Package search finds events in a trail: what a query says, and a scan of the
// sealed records for it. Every hit is read from the segments and can show its
// proof; there is no index to trust.
package search

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
)

// Query chooses events: all conditions must hold.
type Query struct {
	Since, Until time.Time // of the event's own time; zero: open
	conditions   []condition
	literals     [][]byte // bytes that every match contains
}

type condition struct {
	field, key, op, value string
}

// Parse reads conditions:
//
//	act=AUTH.LOGIN.*        action; a pattern as veritrail.MatchAction has it
//	sub.user=10086          a value of sub, obj or ctx; * stands for any text
//	obj.table!=*            not, or not there
//	sev=ERROR, sev>=WARN    severity
//	id=…                    the event's id
//	text=…                  anywhere in the event, as it is stored
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

func parseCondition(w string) (condition, error) {
	bad := func(problem string) (condition, error) {
		return condition{}, fmt.Errorf("condition %.100q: %s", w, problem)
	}
	at := strings.IndexAny(w, "=!>")
	if at < 1 {
		return bad("want FIELD=VALUE, as in act=AUTH.LOGIN.*")
	}
	c := condition{field: w[:at]}
	for _, op := range []string{"!=", ">=", "="} {
		if value, ok := strings.CutPrefix(w[at:], op); ok {
			c.op, c.value = op, value
			break
		}
	}
	if c.op == "" {
		return bad("want =, != or, of sev, >=")
	}
	if part, key, ok := strings.Cut(c.field, "."); ok {
		c.field, c.key = part, key
	}
	if c.op == ">=" && c.field != "sev" {
		return bad("only sev can be compared with >=")
	}
	switch c.field {
	case "sub", "obj", "ctx":
		if c.key == "" {
			return bad("want a key, as in sub.user=10086")
		}
		return c, nil
	}
	if c.key != "" {
		return bad("only sub, obj and ctx have keys")
	}
	switch c.field {
	case "act":
		if err := veritrail.CheckActionPattern(c.value); err != nil {
			return bad(err.Error())
		}
	case "sev":
		if _, err := veritrail.ParseSeverity(c.value); err != nil {
			return bad("want DEBUG, INFO, WARN, ERROR or CRITICAL")
		}
	case "id":
		id, err := veritrail.ParseUUID(c.value)
		if err != nil {
			return bad("want a UUID")
		}
		c.value = id.String()
	case "text":
		if c.value == "" {
			return bad("want some text")
		}
	default:
		return bad("want a field of id, act, sev, text, sub.KEY, obj.KEY, ctx.KEY")
	}
	return c, nil
}

// literal is what the line of a match contains for certain, nil when nothing
// is.
func (c *condition) literal() []byte {
	switch {
	case c.op != "=" || c.field == "sev" || c.field == "text" || strings.Contains(c.value, "*"):
		return nil
	case strings.IndexFunc(c.value, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) >= 0:
		return nil // stored escaped
	}
	return []byte(`"` + c.value + `"`)
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
	if !q.Since.IsZero() && d.Timestamp.Before(q.Since) || !q.Until.IsZero() && !d.Timestamp.Before(q.Until) {
		return false
	}
	for i := range q.conditions {
		if !q.conditions[i].match(d, leaf) {
			return false
		}
	}
	return true
}

func (c *condition) match(d *veritrail.Draft, leaf []byte) bool {
	var holds bool
	switch c.field {
	case "act":
		holds = veritrail.MatchAction(c.value, d.Action)
	case "sev":
		want, _ := veritrail.ParseSeverity(c.value) // Parse checked it
		if c.op == ">=" {
			return d.Severity >= want
		}
		holds = d.Severity == want
	case "id":
		holds = d.ID.String() == c.value
	case "text":
		holds = bytes.Contains(leaf, []byte(c.value))
	case "sub":
		holds = matchPair(d.Subject, c)
	case "obj":
		holds = matchPair(d.Object, c)
	case "ctx":
		holds = matchPair(d.Context, c)
	}
	return holds == (c.op == "=")
}

func matchPair(pairs veritrail.Pairs, c *condition) bool {
	value, there := pairs.Get(c.key)
	return there && matchGlob(c.value, value)
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
