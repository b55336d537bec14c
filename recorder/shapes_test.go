package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
)

const payment = `{
	"$id": "urn:example:payment:1",
	"type": "object", "required": ["kind", "by", "amount"], "additionalProperties": false,
	"properties": {
		"kind": {"const": "payment.v1"},
		"at": {"type": "string", "format": "date-time"},
		"by": {"$ref": "urn:example:person:1"},
		"amount": {"type": "object", "required": ["value"], "properties": {"value": {"type": "number", "minimum": 0}, "currency": {"enum": ["CNY", "EUR"]}}},
		"approvals": {"type": "array", "items": {"type": "string"}},
		"note": {"type": ["string", "null"]},
		"seq": {"type": "string"}
	}
}`

const person = `{"$id": "urn:example:person:1", "type": "object", "required": ["id"], "properties": {"id": {"type": "string", "minLength": 1}}}`

func paymentShape() Shape {
	return Shape{
		Name: "payment", Schema: []byte(payment), Match: Match{Member: "kind", Value: "payment.v1"},
		Map: map[string]string{
			"act": "=APP.PAYMENT.APPROVE", "ts": "/at", "sub.user": "/by/id", "obj.amount": "/amount/value", "obj.currency": "/amount/currency",
			"ctx.system": "=core", "obj.kind": "/kind",
		},
	}
}

func personShape() Shape {
	return Shape{Name: "person", Schema: []byte(person), Map: map[string]string{"act": "=APP.PERSON.SEEN", "sub.user": "/id"}}
}

func testForms(t testing.TB) forms {
	t.Helper()
	all, err := compileShapes([]Shape{paymentShape(), personShape()})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// line is what a draft holds, without what is filled in.
func line(d *veritrail.Draft) string {
	d.ID, _ = veritrail.ParseUUID("919108f7-52d1-4320-9bac-f847db4148a8")
	return string(d.AppendCanonical(nil))
}

func TestTextsBecomeEvents(t *testing.T) {
	const id = `{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T01:30:00.500000000Z",`
	all := testForms(t)
	for _, tc := range []struct{ name, shape, text, want string }{
		{"the event itself", "", `{"ts":"2026-03-01T09:30:00.5+08:00","sub":{"user":"u1"},"act":"APP.X"}`, `"sub":{"user":"u1"},"act":"APP.X","obj":{},"ctx":{}}`},
		{"the event, named", "event", `{"ts":"2026-03-01T09:30:00.5+08:00","sub":{"user":"u1"},"act":"APP.X"}`, `"sub":{"user":"u1"},"act":"APP.X","obj":{},"ctx":{}}`},
		{"a flat record", "", `{"event_id":"919108f7-52d1-4320-9bac-f847db4148a8","timestamp":"2026-03-01T09:30:00.5+08:00","severity":"WARN",
			"event_type":"DATA.READ","actor":{"user_id":"u1","service":"s","role":"r","session_id":"x","device_id":"d","ip_address":"2001:db8::1","user_agent":"a","mfa":"totp"},
			"resource":{"type":"table","id":"t1","rows":12.50,"cold":true},"outcome":"denied","reason":"r1","request_id":"q","host":"h",
			"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","details":{"n":1e3,"a.b":"c","ok":false}}`,
			`"sev":"WARN","sub":{"device":"d","role":"r","session":"x","svc":"s","user":"u1"},"act":"DATA.READ",` +
				`"obj":{"cold":"true","id":"t1","rows":"12.50","type":"table"},` +
				`"ctx":{"details.a.b":"c","details.n":"1e3","details.ok":"false","host":"h","ip":"2001:db8::1","mfa":"totp","outcome":"denied","reason":"r1",` +
				`"request_id":"q","span_id":"00f067aa0ba902b7","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","user_agent":"a"}}`},
		{"a flat record with dotted names", "", `{"event_id":"919108f7-52d1-4320-9bac-f847db4148a8","timestamp":"2026-03-01T09:30:00.5+08:00",
			"event_type":"DATA.READ","actor.user_id":"u1","actor.ip_address":"192.0.2.7","resource":{"type":"table"},"resource.id":"t1","details.a.b":"c"}`,
			`"sub":{"user":"u1"},"act":"DATA.READ","obj":{"id":"t1","type":"table"},"ctx":{"details.a.b":"c","ip":"192.0.2.7"}}`},
		{"an own shape, recognised", "", `{"kind":"payment.v1","at":"2026-03-01T09:30:00.5+08:00","by":{"id":"u1","team":"t"},
			"amount":{"value":10.00,"currency":"CNY","scale":2},"approvals":["a","b"],"note":null}`,
			`"sub":{"user":"u1"},"act":"APP.PAYMENT.APPROVE","obj":{"amount":"10.00","currency":"CNY","kind":"payment.v1"},` +
				`"ctx":{"amount.scale":"2","approvals.0":"a","approvals.1":"b","by.team":"t","note":"null","system":"core"}}`},
		{"an own shape, named, of nothing but its subject", "payment", `{"kind":"payment.v1","at":"2026-03-01T01:30:00.5Z","by":{"id":"u1"},"amount":{"value":0},"approvals":[]}`,
			`"sub":{"user":"u1"},"act":"APP.PAYMENT.APPROVE","obj":{"amount":"0","kind":"payment.v1"},"ctx":{"approvals":"[]","system":"core"}}`},
	} {
		var d veritrail.Draft
		if err := all.read(&d, tc.shape, []byte(tc.text)); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := line(&d); got != id+tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, id+tc.want)
		}
	}
}

// The record in docs/format/schemas.md becomes the event there.
func TestExampleOfTheDocumentation(t *testing.T) {
	doc, err := os.ReadFile("../docs/format/schemas.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(doc), "```json\n")
	if len(parts) != 3 {
		t.Fatalf("%d blocks of JSON, want 2", len(parts)-1)
	}
	record, _, _ := strings.Cut(parts[1], "```")
	want, _, _ := strings.Cut(parts[2], "\n```")
	var d veritrail.Draft
	if err := testForms(t).read(&d, "", []byte(record)); err != nil {
		t.Fatal(err)
	}
	if got := string(d.AppendCanonical(nil)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestTextsAreRefusedWithReasons(t *testing.T) {
	all := testForms(t)
	for _, tc := range []struct{ name, shape, text, want string }{
		{"a broken event", "", `{"act":"APP.X","sub":{"user":1}}`, "/sub/user: type: want string, got number"},
		{"neither", "", `{"kind":"payment.v2"}`, "/kind: additionalProperties: unknown field, got string of 10 bytes"},
		{"not JSON", "", `{"event_type":"A",`, "at byte 18: want a key, got end of input"},
		{"not JSON, named", "payment", `{"kind":`, "/kind: at byte 8: want a value, got end of input"},
		{"an array", "", `[]`, "type: want object, got array"},
		{"a record without an actor", "", `{"event_type":"APP.X"}`, "/actor: required, got nothing"},
		{"a record of nobody", "", `{"event_type":"APP.X","actor":{"ip_address":"192.0.2.1"}}`,
			"/actor: anyOf: want at least one of user_id, service, role, session_id, device_id, got object of 1 member"},
		{"a record with a bad address", "", `{"event_type":"APP.X","actor":{"user_id":"u","ip_address":"192.0.2.256"}}`,
			"/actor/ip_address: format: want ip, got string of 11 bytes"},
		{"a record with a key too many", "", `{"event_type":"APP.X","actor":{"user_id":"u"},"details":{"13912345678":[]}}`,
			"/details/?: type: want boolean, number or string, got array of 0 items"},
		{"an unknown key of a record", "", `{"event_type":"APP.X","actor":{"user_id":"u"},"colour":1}`, "/colour: additionalProperties: unknown field, got number"},
		{"a key twice in a record", "", `{"event_type":"APP.X","actor":{"user_id":"u","user_id":"v"}}`, "/actor/user_id: duplicate key, got string"},
		{"a key under both of its names", "", `{"event_type":"APP.X","actor":{"user_id":"u"},"actor.user_id":"v"}`,
			"/actor/user_id: duplicate key, got a dotted name beside the object"},
		{"a dotted name under what is no object", "", `{"event_type":"APP.X","actor":"u","actor.user_id":"v"}`, "/actor: type: want object, got string of 1 byte"},
		{"a dotted name of nothing", "", `{"event_type":"APP.X","actor":{"user_id":"u"},"actor.":"v"}`, "/actor.: additionalProperties: unknown field, got string of 1 byte"},
		{"a bad value under a dotted name", "", `{"event_type":"APP.X","actor.user_id":"u","actor.ip_address":"192.0.2.256"}`,
			"/actor/ip_address: format: want ip, got string of 11 bytes"},
		{"a record with the nil id", "", `{"event_id":"00000000-0000-0000-0000-000000000000","event_type":"APP.X","actor":{"user_id":"u"}}`,
			"/event_id: not: want anything but 00000000-0000-0000-0000-000000000000, got string of 36 bytes"},
		{"a bad part of another schema", "", `{"kind":"payment.v1","by":{"id":""},"amount":{"value":1}}`, "/by/id: minLength: want at least 1 character, got string of 0 bytes"},
		{"an outcome of its own", "", `{"event_type":"APP.X","actor":{"user_id":"u"},"details":{"a":1},"host":"h","reason":"x","outcome":"won"}`,
			"/outcome: enum: want success, failure, denied or unknown, got string of 3 bytes"},
		{"a named shape that it is not", "payment", `{"act":"APP.X","sub":{"user":"u"}}`, "/kind: required, got nothing"},
		{"the event, named, and a record", "event", `{"event_type":"APP.X","actor":{"user_id":"u"}}`, "/event_type: additionalProperties: unknown field, got string of 5 bytes"},
		{"two keys that become one", "person", `{"id":"u","a.b":"1","a":{"b":"2"}}`, "/ctx/a.b: duplicate key, got string of 1 byte"},
	} {
		var d veritrail.Draft
		err := all.read(&d, tc.shape, []byte(tc.text))
		var invalid *veritrail.InvalidEventError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", tc.name, err)
			continue
		}
		if got := invalid.Violations[0].String(); got != tc.want && !slices.ContainsFunc(invalid.Violations, func(v veritrail.Violation) bool { return v.String() == tc.want }) {
			t.Errorf("%s:\n got %v\nwant %s", tc.name, invalid.Violations, tc.want)
		}
	}
	var d veritrail.Draft
	if err := all.read(&d, "nothing", []byte(`{}`)); !errors.Is(err, ErrUnknownShape) {
		t.Errorf("got %v, want ErrUnknownShape", err)
	}
}

func TestOpenRefusesShapesThatMakeNoSense(t *testing.T) {
	with := func(change func(*Shape)) []Shape {
		s := personShape()
		s.Match = Match{Member: "id2"}
		change(&s)
		return []Shape{s}
	}
	for want, shapes := range map[string][]Shape{
		"want a name of":            with(func(s *Shape) { s.Name = "a b" }),
		"shape event: the name":     with(func(s *Shape) { s.Name = "event" }),
		"shape record: the name":    with(func(s *Shape) { s.Name = "record" }),
		"shape person: the name":    {personShape(), personShape()},
		"itself has a member act":   with(func(s *Shape) { s.Match.Member = "act" }),
		"a value without a member":  with(func(s *Shape) { s.Match = Match{Value: "x"} }),
		"map: user: want id":        with(func(s *Shape) { s.Map = map[string]string{"user": "/id"} }),
		"map: act.x: want id":       with(func(s *Shape) { s.Map = map[string]string{"act.x": "/id"} }),
		"map: sub.: want id":        with(func(s *Shape) { s.Map = map[string]string{"sub.": "/id"} }),
		"a value needs a key":       with(func(s *Shape) { s.Map = map[string]string{"sub": "=u"} }),
		"want a JSON Pointer (":     with(func(s *Shape) { s.Map = map[string]string{"act": "id"} }),
		"~ is written ~0":           with(func(s *Shape) { s.Map = map[string]string{"act": "/i~d"} }),
		"not a schema of draft-07":  with(func(s *Shape) { s.Schema = []byte(`{"type":"text"}`) }),
		"nothing is fetched":        with(func(s *Shape) { s.Schema = []byte(`{"$ref":"http://192.0.2.1/s.json"}`) }),
		"at byte 1: want a key":     with(func(s *Shape) { s.Schema = []byte(`{`) }),
		"of another draft than 07":  with(func(s *Shape) { s.Schema = []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema"}`) }),
		"lookaround":                with(func(s *Shape) { s.Schema = []byte(`{"pattern":"(?=a)"}`) }),
		"without going deeper into": with(func(s *Shape) { s.Schema = []byte(`{"allOf":[{"$ref":"#"}]}`) }),
	} {
		dir := filepath.Join(t.TempDir(), "trail")
		_, err := Open(Config{Dir: dir, Shapes: shapes})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Every leaf of a text is in the event that it becomes, whatever the text is.
func TestNothingOfATextIsLost(t *testing.T) {
	all, err := compileShapes([]Shape{{
		Name: "any", Schema: []byte(`{"type":"object"}`),
		Map: map[string]string{"act": "=APP.X", "sub.svc": "=s", "obj": "/o", "obj.deep": "/c/d", "ctx.moved": "/o/x"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	n := 0
	var value func(depth int) any
	value = func(depth int) any {
		n++
		switch k := rng.IntN(7); {
		case k < 2 && depth < 4:
			object := make(map[string]any)
			for range rng.IntN(4) {
				object[string(rune('a'+rng.IntN(26)))] = value(depth + 1)
			}
			return object
		case k == 2 && depth < 4:
			return []any{value(depth + 1), value(depth + 1)}
		case k == 3:
			return json.Number(fmt.Sprint(n, ".50"))
		}
		return fmt.Sprint("v", n)
	}
	var leaves func(v any) []string
	leaves = func(v any) (found []string) {
		switch v := v.(type) {
		case map[string]any:
			for _, member := range v {
				found = append(found, leaves(member)...)
			}
			return found
		case []any:
			for _, item := range v {
				found = append(found, leaves(item)...)
			}
			return found
		}
		return []string{fmt.Sprint(v)}
	}
	for range 2000 {
		text, err := json.Marshal(map[string]any{"o": map[string]any{"x": value(1), "y": value(1)}, "c": map[string]any{"d": value(1)}, "r": value(1)})
		if err != nil {
			t.Fatal(err)
		}
		var v any
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		var d veritrail.Draft
		if err := all.read(&d, "any", text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		e := d.Event()
		values := slices.Concat(slices.Collect(maps.Values(e.Object)), slices.Collect(maps.Values(e.Context)))
		for _, leaf := range leaves(v) {
			at := slices.Index(values, leaf)
			if at < 0 {
				t.Fatalf("%s: lost %s: %+v", text, leaf, e)
			}
			values = slices.Delete(values, at, at+1)
		}
	}
}

func FuzzShapes(f *testing.F) {
	for _, text := range []string{
		`{"event_type":"APP.X","actor":{"user_id":"u"},"details":{"a":1}}`, `{"kind":"payment.v1","by":{"id":"u"},"amount":{"value":1}}`,
		`{"id":"u","x":[{},[],null,{"a":{"b":1e2}}]}`, `{"act":"A","sub":{"user":"u"}}`, `{"event_type":1,"event_type":2}`, `[`, `5`, `{}`,
	} {
		for _, name := range []string{"", "event", "record", "payment", "person"} {
			f.Add(name, []byte(text))
		}
	}
	all := testForms(f)
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		var d veritrail.Draft
		err := all.read(&d, name, text)
		if err == nil {
			if err := d.Validate(); err != nil {
				t.Fatalf("%q became an event that is none: %v", text, err)
			}
			return
		}
		var invalid *veritrail.InvalidEventError
		switch {
		case errors.Is(err, ErrUnknownShape):
		case !errors.As(err, &invalid), len(invalid.Violations) == 0, len(invalid.Violations) > 16:
			t.Fatalf("%q: got %v, want 1 to 16 violations", text, err)
		}
	})
}
