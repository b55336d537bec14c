package recorder

import (
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
	}
}

// form is a Shape made ready. It is only read.
type form struct {
	Shape
	schema    *jsonschema.Schema
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

// add puts one line of the map where fill finds it.
func (s *form) add(name, from string) error {
	var to target
	var keyed bool
	to.field, to.key, keyed = strings.Cut(name, ".")
	single := slices.Contains([]string{"id", "ts", "sev", "act"}, to.field)
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
	if name == "" || name == ShapeEvent {
		err := d.Parse(text)
		if err == nil || name == ShapeEvent {
			return err
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

// fill makes d the event that v stands for. twice is what Decode found wrong
// with v: keys that occur twice.
func (s *form) fill(d *veritrail.Draft, v any, twice error) error {
	if err := s.schema.Validate(v); err != nil || twice != nil {
		return join(twice, err)
	}
	m := mapping{fields: make(map[string][]member)}
	m.walk(v, &s.steps, []target{{field: "ctx"}}, "")
	for _, c := range s.constants {
		m.put(c.target, c.value)
	}
	if len(m.bad) > 0 {
		return &veritrail.InvalidEventError{Violations: m.bad[:min(len(m.bad), 16)]}
	}
	text, err := m.text()
	if err != nil {
		return err
	}
	// All that holds for an event holds for this one, and its parser says so.
	return d.Parse(text)
}

// join lists the violations of both.
func join(first, second error) error {
	var all []veritrail.Violation
	for _, err := range []error{first, second} {
		var invalid *veritrail.InvalidEventError
		if errors.As(err, &invalid) {
			all = append(all, invalid.Violations...)
		}
	}
	return &veritrail.InvalidEventError{Violations: all[:min(len(all), 16)]}
}

// mapping collects the parts of an event.
type mapping struct {
	fields map[string][]member
	bad    []veritrail.Violation
}

type member struct{ key, value string }

// walk takes v, which lies at a place in the text, to where it goes: what its
// step says, or where all that surrounds it goes. Objects and arrays go there
// part by part, under their names with a dot between.
func (m *mapping) walk(v any, at *step, to []target, path string) {
	if at != nil && len(at.targets) > 0 {
		to = at.targets
	}
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			m.below(v[key], key, at, to, veritrail.JoinPointer(path, key))
		}
		if len(v) > 0 {
			return
		}
	case []any:
		for i, item := range v {
			m.below(item, strconv.Itoa(i), at, to, path+"/"+strconv.Itoa(i))
		}
		if len(v) > 0 {
			return
		}
	}
	for _, t := range to {
		m.set(t, v, path)
	}
}

func (m *mapping) below(v any, key string, at *step, to []target, path string) {
	var next *step
	if at != nil {
		next = at.next[key]
	}
	deeper := make([]target, len(to))
	for i, t := range to {
		deeper[i] = target{t.field, key}
		if t.key != "" {
			deeper[i].key = t.key + "." + key
		}
	}
	m.walk(v, next, deeper, path)
}

// set puts one value into its place. Numbers stay as they are written, and all
// that is no string becomes its JSON text.
func (m *mapping) set(to target, v any, path string) {
	single := slices.Contains([]string{"id", "ts", "sev", "act"}, to.field)
	text, ok := v.(string)
	if single && (!ok || to.key != "") {
		m.bad = append(m.bad, veritrail.Violation{Path: path, Keyword: "type", Rule: "want string for " + to.field, Shape: kind(v)})
		return
	}
	if object, is := v.(map[string]any); is && to.key == "" && !single && len(object) == 0 {
		return // no members, so nothing to name
	}
	if to.key == "" && !single {
		// A value beside the fields, mapped to a whole part: it has no name to go by.
		m.bad = append(m.bad, veritrail.Violation{Path: path, Keyword: "type", Rule: "want object for " + to.field, Shape: kind(v)})
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
	m.put(to, text)
}

func (m *mapping) put(to target, value string) {
	m.fields[to.field] = append(m.fields[to.field], member{to.key, value})
}

func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return fmt.Sprintf("string of %d bytes", len(v))
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// text is the event as JSON. What was set twice is there twice, for the parser
// to refuse.
func (m *mapping) text() ([]byte, error) {
	text := []byte{'{'}
	quote := func(s string) error {
		quoted, err := json.Marshal(s)
		text = append(text, quoted...)
		return err
	}
	comma := func() {
		if last := text[len(text)-1]; last != '{' {
			text = append(text, ',')
		}
	}
	for _, field := range []string{"id", "ts", "sev", "act"} {
		for _, member := range m.fields[field] {
			comma()
			text = append(text, `"`+field+`":`...)
			if err := quote(member.value); err != nil {
				return nil, err
			}
		}
	}
	for _, field := range []string{"sub", "obj", "ctx"} {
		if len(m.fields[field]) == 0 {
			continue
		}
		comma()
		text = append(text, `"`+field+`":{`...)
		for _, member := range m.fields[field] {
			comma()
			if err := quote(member.key); err != nil {
				return nil, err
			}
			text = append(text, ':')
			if err := quote(member.value); err != nil {
				return nil, err
			}
		}
		text = append(text, '}')
	}
	return append(text, '}'), nil
}
