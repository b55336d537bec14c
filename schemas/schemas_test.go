package schemas

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/jsonschema"
)

type schema struct {
	Schema     string                     `json:"$schema"`
	Required   []string                   `json:"required"`
	Properties map[string]json.RawMessage `json:"properties"`
	Additional bool                       `json:"additionalProperties"`
	Defs       map[string]json.RawMessage `json:"definitions"`
}

type rules struct {
	Pattern       string   `json:"pattern"`
	Enum          []string `json:"enum"`
	MaxLength     int      `json:"maxLength"`
	MinProperties int      `json:"minProperties"`
	MaxProperties int      `json:"maxProperties"`
}

func eventSchema(t *testing.T) schema {
	s := schema{Additional: true}
	if err := json.Unmarshal(Event(), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func rulesOf(t *testing.T, raw json.RawMessage) rules {
	var r rules
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEventSchemaHasTheFieldsOfTheEvent(t *testing.T) {
	s := eventSchema(t)
	if s.Schema != "http://json-schema.org/draft-07/schema#" || s.Additional {
		t.Errorf("schema %s, additional properties %v", s.Schema, s.Additional)
	}
	var want []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[veritrail.ComplianceEvent]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		want = append(want, name)
		if s.Properties[name] == nil {
			t.Errorf("the schema lacks %s", name)
		}
	}
	if len(s.Properties) != len(want) {
		t.Errorf("%d properties, want %v", len(s.Properties), want)
	}
	var severities []string
	for sev := veritrail.SeverityDebug; sev <= veritrail.SeverityCritical; sev++ {
		severities = append(severities, sev.String())
	}
	if got := rulesOf(t, s.Properties["sev"]).Enum; !slices.Equal(got, severities) {
		t.Errorf("severities %v, want %v", got, severities)
	}
	sub, pairs, key := rulesOf(t, s.Properties["sub"]), rulesOf(t, s.Defs["pairs"]), rulesOf(t, s.Defs["key"])
	if sub.MaxProperties != veritrail.MaxPairs || sub.MinProperties != 1 || pairs.MaxProperties != veritrail.MaxPairs {
		t.Errorf("pairs: %+v and %+v, want at most %d", sub, pairs, veritrail.MaxPairs)
	}
	if act := rulesOf(t, s.Properties["act"]); act.MaxLength != veritrail.MaxActionBytes || key.MaxLength != veritrail.MaxKeyBytes {
		t.Errorf("lengths: action %d, key %d", act.MaxLength, key.MaxLength)
	}
}

// The schema and the event's parser must agree on every value.
func TestEventSchemaAgreesWithTheParser(t *testing.T) {
	compiled, err := jsonschema.Compile("event", Event(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string][]any{
		"id": {"", "0f8fad5b-d9cb-469f-a165-70867728950e", "0F8FAD5B-D9CB-469F-A165-70867728950E", "0f8fad5bd9cb469fa16570867728950e",
			"{0f8fad5b-d9cb-469f-a165-70867728950e}", "0f8fad5b-d9cb-469f-a165-70867728950", "0f8fad5b-d9cb-469f-a165-70867728950g",
			"x", "00000000-0000-0000-0000-000000000000", nil, 1},
		"ts": {"2026-03-01T09:30:00Z", "2026-03-01T09:30:00.123456789Z", "2026-03-01T09:30:00.1234567891Z", "2026-03-01T09:30:00.Z",
			"2026-03-01T09:30:00+08:00", "2026-03-01T09:30:00-23:59", "2026-03-01T09:30:00+24:00", "2026-03-01t09:30:00z",
			"2026-03-01 09:30:00Z", "2026-03-01T09:30:60Z", "2016-12-31T23:59:60Z", "2026-03-01T24:00:00Z", "2026-13-01T09:30:00Z",
			"2026-03-32T09:30:00Z", "2026-02-29T09:30:00Z", "2024-02-29T09:30:00Z", "2026-03-01T09:30:00", "26-03-01T09:30:00Z", "", nil},
		"sev": {"DEBUG", "INFO", "WARN", "ERROR", "CRITICAL", "warn", "", nil, 3},
		"act": {"AUTH", "AUTH.LOGIN.FAIL", "a-b_c.9", ".AUTH", "AUTH.", "AUTH..X", "AUTH LOGIN", "认证", "AUTH.*", "", nil,
			strings.Repeat("A", 128), strings.Repeat("A", 129)},
		"sub": {nil, "u", map[string]any{}, map[string]any{"user": ""}, map[string]any{"user": "u", "role": "r"}, map[string]any{"user": 1}},
		"obj": {nil, "u", []any{}, map[string]any{}, map[string]any{"a": ""}, map[string]any{"a": nil}},
		"ctx": {nil, false, map[string]any{"a": "1"}, map[string]any{"": "x"}, map[string]any{"用户": "x", "a b": "y", "a/b": "z"},
			map[string]any{"a\tb": "x"}, map[string]any{"a\u007f": "x"}, map[string]any{"a\u0085": "x"},
			map[string]any{strings.Repeat("k", 128): "x"}, map[string]any{strings.Repeat("k", 129): "x"}},
		"other": {nil, "x"},
	}
	for name, values := range tests {
		for _, value := range values {
			fields := map[string]any{"sub": map[string]string{"user": "u"}, "act": "A"}
			fields[name] = value
			data, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			v, err := jsonschema.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			_, err = veritrail.ParseEvent(data)
			if verdict := compiled.Validate(v); (err == nil) != (verdict == nil) {
				t.Errorf("%s: the schema says %v, the parser %v", data, verdict, err)
			}
		}
	}
}

func TestRequiredFieldsAreThoseOfTheParser(t *testing.T) {
	whole := map[string]any{"id": "", "ts": "2026-03-01T09:30:00Z", "sev": "INFO", "sub": map[string]string{"user": "u"},
		"act": "A", "obj": nil, "ctx": map[string]string{}}
	s := eventSchema(t)
	for name := range s.Properties {
		event := make(map[string]any)
		for k, v := range whole {
			if k != name {
				event[k] = v
			}
		}
		data, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := veritrail.ParseEvent(data); (err != nil) != slices.Contains(s.Required, name) {
			t.Errorf("without %s: the schema requires %v, the parser says %v", name, s.Required, err)
		}
	}
}

func TestSchemasAreCopies(t *testing.T) {
	Event()[0], Record()[0] = 'x', 'x'
	if !bytes.HasPrefix(Event(), []byte("{")) || !bytes.HasPrefix(Record(), []byte("{")) {
		t.Error("a caller changed the schema")
	}
}
