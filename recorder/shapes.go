package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/jsonschema"
	"github.com/veritrail/veritrail/schemas"
)

// Names of the shapes that are always there.
const (
	ShapeEvent  = "event"  // the event itself, as veritrail.ParseEvent reads it
	ShapeRecord = "record" // the flat record, schemas/record.schema.json
)

// A Shape is a form in which events arrive as JSON, beside the event itself: a
// JSON Schema (draft-07) that a text must satisfy, and where in the event each
// part of it goes. docs/format/schemas.md tells it in full.
type Shape struct {
	Name   string // lower-case letters, digits, "-" and "_"
	Schema []byte
	// Match recognises a text that names no shape. Without it a text must.
	Match Match
	// Map says what becomes what: from "id", "ts", "sev", "act", "sub", "obj",
	// "ctx" or a key under one of the last three ("sub.user") to a JSON Pointer
	// into the text, or to "=" and the value itself. What it does not name goes
	// into ctx, so that nothing is lost.
	Map map[string]string

	// dotted are objects whose members may also stand beside them, under both
	// names: "actor.role" for the member role of actor.
	dotted []string
}

// Match recognises an object by a member that the event does not have.
type Match struct {
	Member string // its name
	Value  string // the string that it is, when not empty
}

// ErrUnknownShape is why a text is not looked at that names a shape which is not
// configured.
var ErrUnknownShape = errors.New("unknown shape")

// recordShape is the flat record form.
func recordShape() Shape {
	return Shape{
		Name: ShapeRecord, Schema: schemas.Record(), Match: Match{Member: "event_type"},
		Map: map[string]string{
			"id": "/event_id", "ts": "/timestamp", "sev": "/severity", "act": "/event_type",
			"sub.user": "/actor/user_id", "sub.svc": "/actor/service", "sub.role": "/actor/role",
			"sub.session": "/actor/session_id", "sub.device": "/actor/device_id",
			"ctx.ip": "/actor/ip_address", "ctx.user_agent": "/actor/user_agent", "ctx.mfa": "/actor/mfa",
			"obj": "/resource",
		},
		dotted: []string{"actor", "resource", "details"},
	}
}

// form is a Shape made ready. It is only read.
type form struct {
	Shape
	schema    *jsonschema.Schema
	needle    []byte // the member to match, as text
	steps     step
	constants []constant
}

// step is a place in the text: where its value goes, and the places below.
type step struct {
	targets []target
	next    map[string]*step
}

// target is a place in the event.
type target struct {
	field string // id, ts, sev, act, sub, obj, ctx
	key   string // of the last three; what lies deeper in the text is added behind a dot
}

type constant struct {
	target target
	value  string
}

// forms are the configured ones in their order, then the flat record.
type forms []*form

// CheckShapes tells whether Open would take the shapes.
func CheckShapes(all []Shape) error {
	_, err := compileShapes(all)
	return err
}

func compileShapes(all []Shape) (forms, error) {
	all = append(slices.Clone(all), recordShape())
	// A schema may refer to the others by their "$id".
	byID := map[string][]byte{jsonschema.ID(schemas.Event()): schemas.Event()}
	for _, s := range all {
		if id := jsonschema.ID(s.Schema); id != "" {
			byID[id] = s.Schema
		}
	}
	var compiled forms
	for _, s := range all {
		if s.Name == ShapeEvent || compiled.named(s.Name) != nil || s.Name == ShapeRecord && len(compiled) < len(all)-1 {
			return nil, fmt.Errorf("shape %s: the name is taken", s.Name)
		}
		c, err := s.compile(byID)
		if err != nil {
			return nil, err
		}
		compiled = append(compiled, c)
	}
	return compiled, nil
}

func (s Shape) compile(byID map[string][]byte) (*form, error) {
	if s.Name == "" || len(s.Name) > 64 || strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return nil, fmt.Errorf("shape %.64q: want a name of a-z 0-9 - _", s.Name)
	}
	if isField(s.Match.Member) {
		return nil, fmt.Errorf("shape %s: match: the event itself has a member %s", s.Name, s.Match.Member)
	}
	if s.Match.Member == "" && s.Match.Value != "" {
		return nil, fmt.Errorf("shape %s: match: a value without a member", s.Name)
	}
	others := maps.Clone(byID)
	delete(others, jsonschema.ID(s.Schema))
	schema, err := jsonschema.Compile(s.Name, s.Schema, others)
	if err != nil {
		return nil, err
	}
	c := &form{Shape: s, schema: schema}
	if s.Match.Member != "" {
		c.needle = appendQuoted(nil, s.Match.Member)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Map)) {
		if err := c.add(name, s.Map[name]); err != nil {
			return nil, fmt.Errorf("shape %s: map: %s: %w", s.Name, name, err)
		}
	}
	return c, nil
}

func isField(name string) bool {
	return slices.Contains([]string{"id", "ts", "sev", "sub", "act", "obj", "ctx"}, name)
}

// isSingle tells whether a field of the event is one string.
func isSingle(field string) bool {
	switch field {
	case "id", "ts", "sev", "act":
		return true
	}
	return false
}

// add puts one line of the map where fill finds it.
func (s *form) add(name, from string) error {
	var to target
	var keyed bool
	to.field, to.key, keyed = strings.Cut(name, ".")
	single := isSingle(to.field)
	if !isField(to.field) || single && keyed || keyed && to.key == "" {
		return errors.New("want id, ts, sev, act, sub, obj, ctx, or a key under one of the last three: sub.user")
	}
	if value, is := strings.CutPrefix(from, "="); is {
		if !single && !keyed {
			return errors.New("a value needs a key: " + to.field + ".KEY")
		}
		s.constants = append(s.constants, constant{to, value})
		return nil
	}
	at := &s.steps
	if from != "" && from[0] != '/' {
		return errors.New(`want a JSON Pointer ("/actor/id"), or "=" and a value`)
	}
	if from != "" {
		for token := range strings.SplitSeq(from[1:], "/") {
			if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(token), "~") {
				return errors.New("want a JSON Pointer: ~ is written ~0")
			}
			token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
			if at.next == nil {
				at.next = make(map[string]*step)
			}
			if at.next[token] == nil {
				at.next[token] = new(step)
			}
			at = at.next[token]
		}
	}
	at.targets = append(at.targets, to)
	return nil
}

func (all forms) named(name string) *form {
	for _, s := range all {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// matching is the first shape that recognises v.
func (all forms) matching(v any) *form {
	object, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	for _, s := range all {
		if s.Match.Member == "" {
			continue
		}
		if value, there := object[s.Match.Member]; there && (s.Match.Value == "" || value == s.Match.Value) {
			return s
		}
	}
	return nil
}

// read reads text of the named shape into d. When none is named, an event is
// what the event's parser takes; no shape can match one of these, since it has
// no members but its own. What the parser refuses belongs to the shape that
// matches it, and is a broken event when none does.
func (all forms) read(d *veritrail.Draft, name string, text []byte) error {
	if name == ShapeEvent {
		return d.Parse(text)
	}
	if name == "" {
		// The same in another order, for texts that are likely of a shape.
		if all.mayMatch(text) {
			v, twice := jsonschema.Decode(text)
			if s := all.matching(v); s != nil {
				return s.fill(d, v, twice)
			}
			return d.Parse(text)
		}
		err := d.Parse(text)
		if err == nil {
			return nil
		}
		v, twice := jsonschema.Decode(text)
		if s := all.matching(v); s != nil {
			return s.fill(d, v, twice)
		}
		return err
	}
	s := all.named(name)
	if s == nil {
		return ErrUnknownShape
	}
	v, err := jsonschema.Decode(text)
	if err != nil && v == nil {
		return err
	}
	return s.fill(d, v, err)
}

// mayMatch tells whether a member that a shape is matched by is in the text, as
// people write it.
func (all forms) mayMatch(text []byte) bool {
	for _, s := range all {
		if len(s.needle) > 0 && bytes.Contains(text, s.needle) {
			return true
		}
	}
	return false
}

// fill makes d the event that v stands for. twice is what Decode found wrong
// with v: keys that occur twice.
func (s *form) fill(d *veritrail.Draft, v any, twice error) error {
	twice = join(twice, s.unfold(v))
	if err := s.schema.Validate(v); err != nil || twice != nil {
		return join(twice, err)
	}
	var m mapping
	if err := m.fill(d, s, v); err == nil {
		return nil
	}
	m = mapping{sorted: true} // so that the reasons have one order
	return m.fill(d, s, v)
}

// unfold moves members with dotted names to where the schema has them. A member
// that then stands there twice is a violation, and stays as it is.
func (s *form) unfold(v any) error {
	object, ok := v.(map[string]any)
	if !ok || len(s.dotted) == 0 {
		return nil
	}
	var names []string
	for key := range object {
		if outer, inner, found := strings.Cut(key, "."); found && inner != "" && slices.Contains(s.dotted, outer) {
			names = append(names, key)
		}
	}
	slices.Sort(names) // so that the violations have one order
	var bad []veritrail.Violation
	for _, key := range names {
		outer, inner, _ := strings.Cut(key, ".")
		if _, there := object[outer]; !there {
			object[outer] = make(map[string]any)
		}
		within, ok := object[outer].(map[string]any)
		if !ok {
			continue // the schema refuses both
		}
		if _, twice := within[inner]; twice {
			bad = append(bad, veritrail.Violation{
				Path: veritrail.JoinPointer("/"+outer, inner), Rule: "duplicate key", Shape: "a dotted name beside the object",
			})
			continue
		}
		within[inner] = object[key]
		delete(object, key)
	}
	if len(bad) == 0 {
		return nil
	}
	return &veritrail.InvalidEventError{Violations: bad[:min(len(bad), 16)]}
}

// join lists the violations of both, nil when there are none.
func join(first, second error) error {
	var all []veritrail.Violation
	for _, err := range []error{first, second} {
		var invalid *veritrail.InvalidEventError
		if errors.As(err, &invalid) {
			all = append(all, invalid.Violations...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return &veritrail.InvalidEventError{Violations: all[:min(len(all), 16)]}
}

// mapping collects the parts of an event.
type mapping struct {
	sorted  bool // go over objects in the order of their keys
	members []member
	bad     []veritrail.Violation

	path  []pathStep // to the value being looked at
	stack []target   // where it and all that surrounds it goes
}

// member is a value in its place.
type member struct {
	target
	value string
}

// pathStep is a key, or an index that is not negative.
type pathStep struct {
	key   string
	index int
}

func (m *mapping) fill(d *veritrail.Draft, s *form, v any) error {
	m.stack = append(m.stack, target{field: "ctx"})
	m.walk(v, &s.steps, 0)
	for _, c := range s.constants {
		m.members = append(m.members, member{c.target, c.value})
	}
	if len(m.bad) > 0 {
		return &veritrail.InvalidEventError{Violations: m.bad[:min(len(m.bad), 16)]}
	}
	// All that holds for an event holds for this one, and its parser says so.
	return d.Parse(m.text())
}

// walk takes v, which lies at a place in the text, to where it goes: what its
// step says, or where all that surrounds it goes, which is on the stack behind
// from. Objects and arrays go there part by part, under their names with a dot
// between.
func (m *mapping) walk(v any, at *step, from int) {
	if at != nil && len(at.targets) > 0 {
		from = len(m.stack)
		m.stack = append(m.stack, at.targets...)
	}
	to := len(m.stack)
	switch v := v.(type) {
	case map[string]any:
		if m.sorted {
			for _, key := range slices.Sorted(maps.Keys(v)) {
				m.below(v[key], pathStep{key, -1}, at, from)
			}
		} else {
			for key, value := range v {
				m.below(value, pathStep{key, -1}, at, from)
			}
		}
		if len(v) > 0 {
			return
		}
	case []any:
		for i, item := range v {
			m.below(item, pathStep{strconv.Itoa(i), i}, at, from)
		}
		if len(v) > 0 {
			return
		}
	}
	for i := from; i < to; i++ {
		m.set(m.stack[i], v)
	}
}

// below walks on into a part of the value at at.
func (m *mapping) below(v any, part pathStep, at *step, from int) {
	height := len(m.stack)
	var next *step
	if at != nil {
		next = at.next[part.key]
	}
	if next == nil || len(next.targets) == 0 {
		for i := from; i < height; i++ {
			t := target{m.stack[i].field, part.key}
			if m.stack[i].key != "" {
				t.key = m.stack[i].key + "." + part.key
			}
			m.stack = append(m.stack, t)
		}
	}
	m.path = append(m.path, part)
	m.walk(v, next, height)
	m.path = m.path[:len(m.path)-1]
	m.stack = m.stack[:height]
}

// set puts one value into its place. Numbers stay as they are written, and all
// that is no string becomes its JSON text.
func (m *mapping) set(to target, v any) {
	single := isSingle(to.field)
	text, ok := v.(string)
	if single && (!ok || to.key != "") {
		m.refuse("want string for "+to.field, v)
		return
	}
	if to.key == "" && !single {
		// It has no name to go by. An object without members needs none.
		if object, is := v.(map[string]any); !is || len(object) > 0 {
			m.refuse("want object for "+to.field, v)
		}
		return
	}
	switch v := v.(type) {
	case bool:
		text = strconv.FormatBool(v)
	case json.Number:
		text = v.String()
	case nil:
		text = "null"
	case map[string]any:
		text = "{}"
	case []any:
		text = "[]"
	}
	m.members = append(m.members, member{to, text})
}

func (m *mapping) refuse(rule string, v any) {
	path := ""
	for _, s := range m.path {
		if s.index >= 0 {
			path += "/" + s.key
		} else {
			path = veritrail.JoinPointer(path, s.key)
		}
	}
	m.bad = append(m.bad, veritrail.Violation{Path: path, Keyword: "type", Rule: rule, Shape: kind(v)})
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return shape(v)
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// text is the event as JSON. What was set twice is there twice, for the parser
// to refuse.
func (m *mapping) text() []byte {
	text := append(make([]byte, 0, 1024), '{')
	for _, field := range []string{"id", "ts", "sev", "act"} {
		for i := range m.members {
			if m.members[i].field == field {
				text = appendQuoted(append(appendQuoted(comma(text), field), ':'), m.members[i].value)
			}
		}
	}
	for _, field := range []string{"sub", "obj", "ctx"} {
		text = append(appendQuoted(comma(text), field), `:{`...)
		for i := range m.members {
			if m.members[i].field == field {
				text = appendQuoted(append(appendQuoted(comma(text), m.members[i].key), ':'), m.members[i].value)
			}
		}
		text = append(text, '}')
	}
	return append(text, '}')
}

func comma(text []byte) []byte {
	if text[len(text)-1] == '{' {
		return text
	}
	return append(text, ',')
}

// appendQuoted appends s, which is UTF-8, as a string of JSON.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
