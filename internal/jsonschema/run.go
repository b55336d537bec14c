package jsonschema

import (
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

// typeSet is a set of types of JSON.
type typeSet uint8

const (
	typeNull typeSet = 1 << iota
	typeBoolean
	typeNumber
	typeInteger
	typeString
	typeArray
	typeObject
)

var typeNames = []string{"null", "boolean", "number", "integer", "string", "array", "object"}

func typeNamed(name string) typeSet { return 1 << slices.Index(typeNames, name) }

func (t typeSet) names() (all []string) {
	for i, name := range typeNames {
		if t&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return all
}

// typeOf is the type of v, and 0 for what is no value of JSON.
func typeOf(v any) typeSet {
	switch v := v.(type) {
	case string:
		return typeString
	case map[string]any:
		return typeObject
	case []any:
		return typeArray
	case nil:
		return typeNull
	case bool:
		return typeBoolean
	case number:
		if !bounded(string(v)) {
			return 0
		}
		return typeNumber
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return 0
		}
		return typeNumber
	case int, int64, uint64:
		return typeNumber
	}
	return 0
}

// numberOf is the value of a number that typeOf calls one.
func numberOf(v any) *big.Rat {
	text, ok := v.(number)
	if !ok {
		text = number(fmt.Sprint(v))
	}
	r, ok := new(big.Rat).SetString(string(text))
	if !ok {
		return new(big.Rat)
	}
	return r
}

func isInteger(v any) bool {
	switch v := v.(type) {
	case number:
		if !strings.ContainsAny(string(v), ".eE") {
			return true
		}
	case int, int64, uint64:
		return true
	}
	return numberOf(v).IsInt()
}

func equal(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		return ok && maps.EqualFunc(x, y, equal)
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, equal)
	case string:
		y, ok := y.(string)
		return ok && x == y
	case bool:
		y, ok := y.(bool)
		return ok && x == y
	case nil:
		return y == nil
	}
	return typeOf(x) == typeNumber && typeOf(y) == typeNumber && numberOf(x).Cmp(numberOf(y)) == 0
}

// identity appends bytes that two values share exactly when they are equal.
func identity(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		dst = append(dst, '{')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			dst = strconv.AppendQuote(dst, key)
			dst = identity(append(dst, ':'), v[key])
			dst = append(dst, ',')
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for _, item := range v {
			dst = append(identity(dst, item), ',')
		}
		return append(dst, ']')
	case string:
		return strconv.AppendQuote(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case nil:
		return append(dst, "null"...)
	}
	return append(dst, numberOf(v).RatString()...)
}

// state is what one run over a value keeps.
type state struct {
	steps   int  // left; below zero the verdict means nothing
	telling bool // go on after the first violation, and list them
	list    []veritrail.Violation
}

// place is where in the value a run is; known only while telling.
type place struct {
	parent *place
	token  token
}

func (p *place) String() string {
	if p == nil {
		return ""
	}
	return p.token.append(p.parent.String())
}

func (st *state) member(at *place, key string) *place {
	if !st.telling {
		return nil
	}
	return &place{at, token{key, -1}}
}

func (st *state) item(at *place, i int) *place {
	if !st.telling {
		return nil
	}
	return &place{at, token{"", i}}
}

// bad notes a violation and returns false.
func (st *state) bad(at *place, keyword, rule, shape string) bool {
	if st.telling && len(st.list) < maxViolations {
		st.list = append(st.list, veritrail.Violation{Path: at.String(), Keyword: keyword, Rule: rule, Shape: shape})
	}
	return false
}

// holds is a verdict of n on v that nothing is told about.
func (st *state) holds(n *node, v any) bool {
	telling := st.telling
	st.telling = false
	ok := n.run(v, nil, st)
	st.telling = telling
	return ok
}

// run checks v. Unless it is telling, it returns at the first thing that is wrong.
func (n *node) run(v any, at *place, st *state) bool {
	for n.ref != nil {
		n = n.ref
	}
	if st.steps--; st.steps < 0 {
		return false
	}
	if n.never {
		return st.bad(at, "false", "want nothing here", st.shape(v))
	}
	t := typeOf(v)
	if t == 0 {
		return st.bad(at, "type", "want a value of JSON, numbers of moderate size", "something else")
	}
	if n.types != 0 && n.types&t == 0 && (t != typeNumber || n.types&typeInteger == 0 || !isInteger(v)) {
		if !st.telling {
			return false
		}
		return st.bad(at, "type", "want "+choice(n.types.names()), shapeOf(v))
	}
	if !n.checkLiterals(v, at, st) {
		return false
	}
	if n.format != nil && n.format.Validate(v) != nil {
		return st.bad(at, "format", "want "+n.format.Name, st.shape(v))
	}
	var ok bool
	switch v := v.(type) {
	case string:
		ok = n.text == nil || n.text.run(v, at, st)
	case map[string]any:
		ok = n.object == nil || n.object.run(v, at, st)
	case []any:
		ok = n.array == nil || n.array.run(v, at, st)
	default:
		ok = n.number == nil || t != typeNumber || n.number.run(v, at, st)
	}
	if n.logic != nil && (ok || st.telling) {
		ok = n.logic.run(v, at, st) && ok
	}
	return ok
}

func (st *state) shape(v any) string {
	if !st.telling {
		return ""
	}
	return shapeOf(v)
}

func (l *literal) is(v any) bool {
	if s, ok := v.(string); ok && l.plain {
		return s == l.text
	}
	return equal(l.value, v)
}

func (n *node) checkLiterals(v any, at *place, st *state) bool {
	if n.equal != nil && !n.equal.is(v) {
		if !st.telling {
			return false
		}
		return st.bad(at, "const", "want "+literalText(n.equal.value), shapeOf(v))
	}
	if n.enum == nil {
		return true
	}
	for i := range n.enum {
		if n.enum[i].is(v) {
			return true
		}
	}
	if !st.telling {
		return false
	}
	var all []string
	for i := range n.enum {
		all = append(all, literalText(n.enum[i].value))
	}
	return st.bad(at, "enum", "want "+cut(choice(all)), shapeOf(v))
}

// runName checks a key as the string it is. Boxing each key would cost an allocation.
func (n *node) runName(key string, st *state) bool {
	for n.ref != nil {
		n = n.ref
	}
	if n.equal != nil || n.enum != nil || n.format != nil || n.logic != nil {
		return n.run(key, nil, st)
	}
	st.steps--
	return st.steps >= 0 && !n.never && (n.types == 0 || n.types&typeString != 0) && (n.text == nil || n.text.run(key, nil, st))
}

func (r *objectRules) run(v map[string]any, at *place, st *state) bool {
	ok := true
	if r.min >= 0 && len(v) < r.min {
		ok = st.bad(at, "minProperties", counted("want at least ", r.min, "member"), st.shape(v))
	}
	if r.max >= 0 && len(v) > r.max {
		ok = st.bad(at, "maxProperties", counted("want at most ", r.max, "member"), st.shape(v))
	}
	for _, name := range r.required {
		if _, there := v[name]; !there {
			if !st.telling {
				return false
			}
			ok = st.bad(st.member(at, name), "required", "required", "nothing")
		}
	}
	if !ok && !st.telling {
		return false
	}
	for i := range r.dependencies {
		d := &r.dependencies[i]
		if _, there := v[d.name]; !there {
			continue
		}
		for _, name := range d.required {
			if _, there := v[name]; !there {
				ok = st.bad(st.member(at, name), "dependencies", "required beside "+literalText(d.name), "nothing")
			}
		}
		if d.node != nil {
			ok = d.node.run(v, at, st) && ok
		}
		if !ok && !st.telling {
			return false
		}
	}
	if st.telling {
		for _, key := range slices.Sorted(maps.Keys(v)) {
			ok = r.member(key, v[key], at, st) && ok
		}
		return ok
	}
	if len(r.patterns) == 0 && r.names == nil && r.additional == nil {
		return r.runListed(v, st)
	}
	for key, value := range v {
		if !r.member(key, value, nil, st) {
			return false
		}
	}
	return true
}

// runListed checks the members that have names in the schema, and that there are no others where there must be none.
// It looks names up rather than going over the members, which takes longer.
func (r *objectRules) runListed(v map[string]any, st *state) bool {
	known := 0
	for i := range r.listed {
		value, there := v[r.listed[i].name]
		if !there {
			continue
		}
		known++
		if !r.listed[i].node.run(value, nil, st) {
			return false
		}
	}
	return !r.closed || known == len(v)
}

func (r *objectRules) member(key string, value any, at *place, st *state) bool {
	ok, known := true, false
	var here *place
	if st.telling {
		here = st.member(at, key)
	}
	if r.names != nil && !r.runNames(key, here, st) {
		ok = false
	}
	if n := r.properties[key]; n != nil {
		known = true
		ok = n.run(value, here, st) && ok
	}
	for i := range r.patterns {
		st.steps -= len(key) / 32
		if r.patterns[i].pattern.match(key) {
			known = true
			ok = r.patterns[i].node.run(value, here, st) && ok
		}
	}
	switch {
	case known:
	case r.closed:
		ok = st.bad(here, "additionalProperties", "unknown field", st.shape(value))
	case r.additional != nil:
		ok = r.additional.run(value, here, st) && ok
	}
	return ok
}

func (r *objectRules) runNames(key string, at *place, st *state) bool {
	if !st.telling {
		return r.names.runName(key, st)
	}
	sub := state{steps: st.steps, telling: true}
	ok := r.names.run(key, nil, &sub)
	st.steps = sub.steps
	rule := "want another name"
	if len(sub.list) > 0 {
		rule = "key: " + sub.list[0].Rule
	}
	return ok || st.bad(at, "propertyNames", rule, counted("string of ", len(key), "byte"))
}

func (r *arrayRules) run(v []any, at *place, st *state) bool {
	ok := true
	if r.min >= 0 && len(v) < r.min {
		ok = st.bad(at, "minItems", counted("want at least ", r.min, "item"), st.shape(v))
	}
	if r.max >= 0 && len(v) > r.max {
		ok = st.bad(at, "maxItems", counted("want at most ", r.max, "item"), st.shape(v))
	}
	if !ok && !st.telling {
		return false
	}
	if r.unique && len(v) > 1 {
		if twice := duplicate(v); twice > 0 {
			ok = st.bad(st.item(at, twice), "uniqueItems", "want items that differ", st.shape(v[twice]))
		}
	}
	for i, item := range v {
		n := r.items
		switch {
		case n != nil:
		case i < len(r.each):
			n = r.each[i]
		case r.closed && r.each != nil:
			ok = st.bad(st.item(at, i), "additionalItems", counted("want at most ", len(r.each), "item"), st.shape(item))
		case r.each != nil:
			n = r.additional
		}
		if n != nil {
			ok = n.run(item, st.item(at, i), st) && ok
		}
		if !ok && !st.telling {
			return false
		}
	}
	if r.contains != nil && !slices.ContainsFunc(v, func(item any) bool { return st.holds(r.contains, item) }) {
		ok = st.bad(at, "contains", "want an item as contains describes it", st.shape(v))
	}
	return ok
}

// duplicate is the index of the first item that is equal to one before it, or 0.
func duplicate(v []any) int {
	seen := make(map[string]bool, len(v))
	var buf []byte
	for i, item := range v {
		buf = identity(buf[:0], item)
		if seen[string(buf)] {
			return i
		}
		seen[string(buf)] = true
	}
	return 0
}

func (r *textRules) run(s string, at *place, st *state) bool {
	ok := true
	shape := func() string { return counted("string of ", len(s), "byte") }
	// A string has no more characters than bytes, and no less than a quarter of them.
	if r.min > 0 && (len(s) < r.min || len(s) < r.min*utf8.UTFMax && utf8.RuneCountInString(s) < r.min) {
		ok = st.telling && st.bad(at, "minLength", counted("want at least ", r.min, "character"), shape())
	}
	if r.max >= 0 && len(s) > r.max && utf8.RuneCountInString(s) > r.max {
		ok = st.telling && st.bad(at, "maxLength", counted("want at most ", r.max, "character"), shape())
	}
	if !ok && !st.telling {
		return false
	}
	st.steps -= len(s) / 256
	if r.pattern != nil && !r.pattern.match(s) {
		ok = st.telling && st.bad(at, "pattern", "want a match of "+cut(r.pattern.source), shape())
	}
	if r.encoding != nil || r.media != nil {
		ok = r.content(s, at, st) && ok
	}
	return ok
}

func (r *textRules) content(s string, at *place, st *state) bool {
	decoded := []byte(s)
	if r.encoding != nil {
		var err error
		if decoded, err = r.encoding.Decode(s); err != nil {
			return st.bad(at, "contentEncoding", "want "+r.encoding.Name, counted("string of ", len(s), "byte"))
		}
	}
	if r.media != nil && r.media.Validate(decoded) != nil {
		return st.bad(at, "contentMediaType", "want "+r.media.Name, counted("string of ", len(s), "byte"))
	}
	return true
}

func (r *numberRules) run(v any, at *place, st *state) bool {
	ok := true
	x := numberOf(v)
	for _, c := range []struct {
		keyword, rule string
		bound         *big.Rat
		holds         func(cmp int) bool
	}{
		{"minimum", "want at least ", r.min, func(cmp int) bool { return cmp >= 0 }},
		{"maximum", "want at most ", r.max, func(cmp int) bool { return cmp <= 0 }},
		{"exclusiveMinimum", "want more than ", r.above, func(cmp int) bool { return cmp > 0 }},
		{"exclusiveMaximum", "want less than ", r.below, func(cmp int) bool { return cmp < 0 }},
	} {
		if c.bound != nil && !c.holds(x.Cmp(c.bound)) {
			ok = st.bad(at, c.keyword, c.rule+ratText(c.bound), "number")
		}
	}
	if r.multiple != nil && !new(big.Rat).Quo(x, r.multiple).IsInt() {
		ok = st.bad(at, "multipleOf", "want a multiple of "+ratText(r.multiple), "number")
	}
	return ok
}

func (r *logicRules) run(v any, at *place, st *state) bool {
	ok := true
	if r.not != nil && st.holds(r.not, v) {
		rule := "want what the schema of not refuses"
		if r.not.equal != nil {
			rule = "want anything but " + literalText(r.not.equal.value)
		}
		ok = st.bad(at, "not", rule, st.shape(v))
	}
	for _, n := range r.all {
		ok = n.run(v, at, st) && ok
		if !ok && !st.telling {
			return false
		}
	}
	if r.some != nil && !slices.ContainsFunc(r.some, func(n *node) bool { return st.holds(n, v) }) {
		if r.someOf != nil {
			ok = st.bad(at, "anyOf", "want at least one of "+cut(strings.Join(r.someOf, ", ")), st.shape(v))
		} else {
			ok = st.none(r.some, v, at, "anyOf")
		}
	}
	if r.one != nil {
		held := 0
		for _, n := range r.one {
			if st.holds(n, v) {
				held++
			}
		}
		switch {
		case held == 0:
			ok = st.none(r.one, v, at, "oneOf")
		case held > 1:
			ok = st.bad(at, "oneOf", fmt.Sprintf("want exactly one of %d schemas to hold, %d do", len(r.one), held), st.shape(v))
		}
	}
	if r.cond != nil {
		branch := r.other
		if st.holds(r.cond, v) {
			branch = r.then
		}
		if branch != nil {
			ok = branch.run(v, at, st) && ok
		}
	}
	return ok
}

// none tells that no schema of all holds, and what is wrong under the one that is nearest: it has the fewest violations.
func (st *state) none(all []*node, v any, at *place, keyword string) bool {
	if !st.telling {
		return false
	}
	var nearest []veritrail.Violation
	for _, n := range all {
		sub := state{steps: st.steps, telling: true}
		n.run(v, at, &sub)
		st.steps = sub.steps
		if nearest == nil || len(sub.list) < len(nearest) {
			nearest = sub.list
		}
	}
	st.bad(at, keyword, fmt.Sprintf("want one of %d schemas to hold", len(all)), shapeOf(v))
	for _, w := range nearest {
		if len(st.list) < maxViolations {
			st.list = append(st.list, w)
		}
	}
	return false
}
