package jsonschema

import (
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	lib "github.com/santhosh-tekuri/jsonschema/v6"
)

var maxLimit = big.NewRat(1<<31-1, 1)

// node is one schema, compiled. What a nil or zero field stands for puts no bound on a value.
type node struct {
	ref    *node // the schema is this one
	never  bool  // the schema false
	types  typeSet
	equal  *literal // const
	enum   []literal
	format *lib.Format
	object *objectRules
	array  *arrayRules
	text   *textRules
	number *numberRules
	logic  *logicRules
}

type objectRules struct {
	min, max     int // -1: no bound
	required     []string
	dependencies []dependency
	properties   map[string]*node
	listed       []property // properties, by name
	patterns     []patternRule
	additional   *node // of what neither properties nor patterns name
	closed       bool  // there must be no such member
	names        *node
}

type property struct {
	name string
	node *node
}

type patternRule struct {
	pattern *pattern
	node    *node
}

type dependency struct {
	name     string
	required []string
	node     *node
}

type arrayRules struct {
	min, max   int
	unique     bool
	items      *node   // of all, or
	each       []*node // of the first ones
	additional *node   // of those behind each
	closed     bool    // there must be none behind each
	contains   *node
}

type textRules struct {
	min, max int
	pattern  *pattern
	encoding *lib.Decoder
	media    *lib.MediaType
}

type numberRules struct {
	min, max, above, below, multiple *big.Rat
}

type logicRules struct {
	not               *node
	all, some, one    []*node // allOf, anyOf, oneOf
	cond, then, other *node   // if, then, else
	// someOf is what each of some requires, when that is all it says: one member.
	someOf []string
}

// literal is a value of const or enum.
type literal struct {
	value any
	text  string // of a string
	plain bool   // it is a string
}

// builder compiles what the library has resolved.
type builder struct {
	nodes  map[*lib.Schema]*node
	order  []*node
	states int // of all automata so far
}

func (b *builder) node(s *lib.Schema) (*node, error) {
	if s == nil {
		return nil, nil
	}
	if n := b.nodes[s]; n != nil {
		return n, nil
	}
	n := new(node)
	b.nodes[s] = n // before its parts, which may refer to it
	b.order = append(b.order, n)
	if err := b.fill(n, s); err != nil {
		return nil, err
	}
	return n, nil
}

func (b *builder) list(all []*lib.Schema) (nodes []*node, err error) {
	for _, s := range all {
		n, err := b.node(s)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (b *builder) fill(n *node, s *lib.Schema) (err error) {
	if s.DraftVersion != 7 {
		return fmt.Errorf("%s: of another draft than 07", cut(s.Location))
	}
	if s.Bool != nil {
		n.never = !*s.Bool
		return nil
	}
	if s.Ref != nil { // draft-07: whatever stands beside it is ignored
		n.ref, err = b.node(s.Ref)
		return err
	}
	if s.Types != nil {
		for _, name := range s.Types.ToStrings() {
			n.types |= typeNamed(name)
		}
	}
	if s.Const != nil {
		l := newLiteral(*s.Const)
		n.equal = &l
	}
	if s.Enum != nil {
		n.enum = []literal{}
		for _, v := range s.Enum.Values {
			n.enum = append(n.enum, newLiteral(v))
		}
	}
	n.format = s.Format
	if n.object, err = b.object(s); err != nil {
		return err
	}
	if n.array, err = b.array(s); err != nil {
		return err
	}
	n.text = b.textOf(s)
	if s.Minimum != nil || s.Maximum != nil || s.ExclusiveMinimum != nil || s.ExclusiveMaximum != nil || s.MultipleOf != nil {
		n.number = &numberRules{s.Minimum, s.Maximum, s.ExclusiveMinimum, s.ExclusiveMaximum, s.MultipleOf}
	}
	n.logic, err = b.logic(s)
	return err
}

func newLiteral(v any) literal {
	text, plain := v.(string)
	return literal{v, text, plain}
}

func limit(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}

func (b *builder) object(s *lib.Schema) (_ *objectRules, err error) {
	r := &objectRules{min: limit(s.MinProperties), max: limit(s.MaxProperties), required: s.Required}
	for name, p := range s.Properties {
		n, err := b.node(p)
		if err != nil {
			return nil, err
		}
		r.listed = append(r.listed, property{name, n})
	}
	slices.SortFunc(r.listed, func(x, y property) int { return strings.Compare(x.name, y.name) })
	r.properties = make(map[string]*node, len(r.listed))
	for _, p := range r.listed {
		r.properties[p.name] = p.node
	}
	for re, p := range s.PatternProperties {
		n, err := b.node(p)
		if err != nil {
			return nil, err
		}
		r.patterns = append(r.patterns, patternRule{b.pattern(re), n})
	}
	slices.SortFunc(r.patterns, func(x, y patternRule) int { return strings.Compare(x.pattern.source, y.pattern.source) })
	switch additional := s.AdditionalProperties.(type) {
	case bool:
		r.closed = !additional
	case *lib.Schema:
		if r.additional, err = b.node(additional); err != nil {
			return nil, err
		}
	}
	for name, d := range s.Dependencies {
		dep := dependency{name: name}
		switch d := d.(type) {
		case []string:
			dep.required = d
		case *lib.Schema:
			if dep.node, err = b.node(d); err != nil {
				return nil, err
			}
		}
		r.dependencies = append(r.dependencies, dep)
	}
	slices.SortFunc(r.dependencies, func(x, y dependency) int { return strings.Compare(x.name, y.name) })
	if r.names, err = b.node(s.PropertyNames); err != nil {
		return nil, err
	}
	if r.min < 0 && r.max < 0 && len(r.required) == 0 && len(r.listed) == 0 && len(r.patterns) == 0 &&
		r.additional == nil && !r.closed && len(r.dependencies) == 0 && r.names == nil {
		return nil, nil
	}
	return r, nil
}

func (b *builder) array(s *lib.Schema) (_ *arrayRules, err error) {
	r := &arrayRules{min: limit(s.MinItems), max: limit(s.MaxItems), unique: s.UniqueItems}
	switch items := s.Items.(type) {
	case *lib.Schema:
		r.items, err = b.node(items)
	case []*lib.Schema:
		r.each, err = b.list(items)
	}
	if err != nil {
		return nil, err
	}
	switch additional := s.AdditionalItems.(type) {
	case bool:
		r.closed = !additional
	case *lib.Schema:
		if r.additional, err = b.node(additional); err != nil {
			return nil, err
		}
	}
	if r.contains, err = b.node(s.Contains); err != nil {
		return nil, err
	}
	if r.min < 0 && r.max < 0 && !r.unique && r.items == nil && r.each == nil && r.additional == nil && !r.closed && r.contains == nil {
		return nil, nil
	}
	return r, nil
}

func (b *builder) textOf(s *lib.Schema) *textRules {
	r := &textRules{min: limit(s.MinLength), max: limit(s.MaxLength), encoding: s.ContentEncoding, media: s.ContentMediaType}
	if s.Pattern != nil {
		r.pattern = b.pattern(s.Pattern)
	}
	if *r == (textRules{min: -1, max: -1}) {
		return nil
	}
	return r
}

// pattern gives a regular expression, which newPattern made, its automaton.
func (b *builder) pattern(re lib.Regexp) *pattern {
	p := *re.(*pattern) //nolint:forcetypeassert // the compiler's engine is newPattern
	left := maxStatesOfAll - b.states
	p.dfa = newDFA(p.re.String(), &left)
	b.states = maxStatesOfAll - left
	return &p
}

func (b *builder) logic(s *lib.Schema) (_ *logicRules, err error) {
	r := new(logicRules)
	for _, part := range []struct {
		to   **node
		from *lib.Schema
	}{{&r.not, s.Not}, {&r.cond, s.If}, {&r.then, s.Then}, {&r.other, s.Else}} {
		if *part.to, err = b.node(part.from); err != nil {
			return nil, err
		}
	}
	for _, part := range []struct {
		to   *[]*node
		from []*lib.Schema
	}{{&r.all, s.AllOf}, {&r.some, s.AnyOf}, {&r.one, s.OneOf}} {
		if *part.to, err = b.list(part.from); err != nil {
			return nil, err
		}
	}
	for _, n := range r.some {
		o := n.object
		if o == nil || len(o.required) != 1 || len(o.listed) > 0 {
			r.someOf = nil
			break
		}
		r.someOf = append(r.someOf, o.required[0])
	}
	if r.not == nil && r.cond == nil && r.all == nil && r.some == nil && r.one == nil {
		return nil, nil
	}
	return r, nil
}

var errLoop = errors.New("a schema refers to itself without going deeper into the value")

// checkLoops refuses what would go on without end for some value.
func (b *builder) checkLoops() error {
	const entered, left = 1, 2
	marks := make(map[*node]int, len(b.order))
	var visit func(n *node) error
	visit = func(n *node) error {
		switch {
		case n == nil || marks[n] == left:
			return nil
		case marks[n] == entered:
			return errLoop
		}
		marks[n] = entered
		for _, next := range n.inPlace() {
			if err := visit(next); err != nil {
				return err
			}
		}
		marks[n] = left
		return nil
	}
	for _, n := range b.order {
		if err := visit(n); err != nil {
			return err
		}
	}
	return nil
}

// inPlace lists the schemas that n applies to the same value.
func (n *node) inPlace() []*node {
	all := []*node{n.ref}
	if r := n.logic; r != nil {
		all = append(all, r.not, r.cond, r.then, r.other)
		all = slices.Concat(all, r.all, r.some, r.one)
	}
	if r := n.object; r != nil {
		for _, d := range r.dependencies {
			all = append(all, d.node)
		}
	}
	return all
}
