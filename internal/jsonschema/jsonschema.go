// Package jsonschema checks JSON values against JSON Schema, draft-07 (draft-handrews-json-schema-01 and its
// validation vocabulary), and says in words what is wrong where, without repeating a value.
//
//	schema, err := jsonschema.Compile("payment", text, nil)
//	…
//	v, err := jsonschema.Decode(line)   // strict: duplicate keys, invalid UTF-8 and lone surrogates are refused
//	…
//	err = schema.Validate(v)            // *veritrail.InvalidEventError: path, keyword, what is expected, shape of what is there
//
// A schema is read, checked against its metaschema and its references are resolved by
// github.com/santhosh-tekuri/jsonschema; what that resolves is compiled once more into a tree of checks that do not
// allocate while a value is in order. Both give the same verdict, which the tests show with the official test suite and
// with mutated events; [Schema.Reference] is the library's.
//
// Everything is bounded, since schemas come from configuration and values from anybody. A "$ref" reaches the schema
// itself, the metaschema and the schemas given to Compile, never a file or the network. Patterns are ECMA-262's as far
// as RE2 has them, so none takes more than linear time; lookaround and back-references are refused. A schema that
// refers to itself without going deeper into the value is refused, and one that needs too many steps for one value
// refuses that value.
//
// "format" is asserted: uuid, date-time and ip (IPv4 or IPv6, ours) are implemented here, the others by the library.
// contentEncoding base64 and contentMediaType application/json are asserted too. A format that nobody knows is
// ignored, as the standard says.
//
// The package knows no disk, no clock and no network.
package jsonschema

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	lib "github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/veritrail/veritrail"
)

// Bounds of a schema and of the work on one value.
const (
	maxSchemaBytes  = 1 << 20
	maxSchemaValues = 10_000 // values of JSON in one schema
	maxSchemaDepth  = 64
	maxSteps        = 250_000 // schemas applied to one value and its parts
	maxViolations   = 16      // listed of one value
)

// Schema is a compiled schema. It is only read, and safe for concurrent use.
type Schema struct {
	root      *node
	reference *lib.Schema
}

// Compile compiles a schema without "$schema", or with draft-07's. name stands for it in errors, and for its place
// when it has no "$id". others are the schemas that a "$ref" may reach besides, by absolute URI.
func Compile(name string, text []byte, others map[string][]byte) (*Schema, error) {
	s, err := compile(name, text, others)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	return s, nil
}

func compile(name string, text []byte, others map[string][]byte) (*Schema, error) {
	doc, err := decodeSchema(text)
	if err != nil {
		return nil, err
	}
	c := lib.NewCompiler()
	c.DefaultDraft(lib.Draft7)
	c.AssertFormat()
	c.AssertContent()
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(newPattern)
	for _, f := range ownFormats {
		c.RegisterFormat(f)
	}
	for uri, text := range others {
		other, err := decodeSchema(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", uri, err)
		}
		if err := c.AddResource(uri, other); err != nil {
			return nil, compileError(err)
		}
	}
	uri := "veritrail:///" + url.PathEscape(name)
	if err := c.AddResource(uri, doc); err != nil {
		return nil, compileError(err)
	}
	reference, err := c.Compile(uri)
	if err != nil {
		return nil, compileError(err)
	}
	b := builder{nodes: make(map[*lib.Schema]*node)}
	root, err := b.node(reference)
	if err == nil {
		err = b.checkLoops()
	}
	if err != nil {
		return nil, err
	}
	return &Schema{root, reference}, nil
}

// ID returns the "$id" of a schema, without an empty fragment, or "".
func ID(text []byte) string {
	doc, err := decodeSchema(text)
	if err != nil {
		return ""
	}
	object, _ := doc.(map[string]any)
	id, _ := object["$id"].(string)
	return strings.TrimSuffix(id, "#")
}

// decodeSchema reads a schema as strictly as a value, with wider bounds.
func decodeSchema(text []byte) (any, error) {
	d := decoder{maxBytes: maxSchemaBytes, maxDepth: maxSchemaDepth}
	v, err := d.decode(text)
	if err != nil {
		return nil, schemaError(err)
	}
	if d.values > maxSchemaValues {
		return nil, fmt.Errorf("want at most %d values, got %d", maxSchemaValues, d.values)
	}
	return v, checkLimits(v)
}

// schemaError is what is wrong with a schema's text, which is no event.
func schemaError(err error) error {
	var invalid *veritrail.InvalidEventError
	if errors.As(err, &invalid) && len(invalid.Violations) > 0 {
		return errors.New(invalid.Violations[0].String())
	}
	return err
}

// checkLimits refuses bounds that no value comes near and that do not fit an int.
func checkLimits(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"} {
			if n, ok := v[key].(number); ok && numberOf(n).Cmp(maxLimit) > 0 {
				return fmt.Errorf("%s: want at most %s", key, maxLimit.RatString())
			}
		}
		for _, member := range v {
			if err := checkLimits(member); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if err := checkLimits(item); err != nil {
				return err
			}
		}
	}
	return nil
}

// noLoader refuses every schema that was not registered.
type noLoader struct{}

var errNotRegistered = errors.New("not a registered schema; nothing is fetched")

func (noLoader) Load(string) (any, error) { return nil, errNotRegistered }

// compileError is a library's error in one line.
func compileError(err error) error {
	var meta *lib.SchemaValidationError
	var load *lib.LoadURLError
	var invalid *lib.ValidationError
	switch {
	case errors.As(err, &load):
		return fmt.Errorf("$ref to %s: %v", load.URL, errNotRegistered)
	case errors.As(err, &meta) && errors.As(meta.Err, &invalid):
		for len(invalid.Causes) > 0 {
			invalid = invalid.Causes[0]
		}
		place := "/" + strings.Join(invalid.InstanceLocation, "/")
		if format, ok := invalid.ErrorKind.(*kind.Format); ok {
			return fmt.Errorf("%s: not a %s: %v", place, format.Want, format.Err)
		}
		return fmt.Errorf("%s: not a schema of draft-07: %s", place, strings.Join(invalid.ErrorKind.KeywordPath(), "/"))
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}

// Valid reports whether v, as Decode returns it, is valid. It does not allocate.
func (s *Schema) Valid(v any) bool {
	st := state{steps: maxSteps}
	return s.root.run(v, nil, &st) && st.steps >= 0
}

// Validate is Valid with reasons: an *veritrail.InvalidEventError of up to 16 violations, in the order of the keys.
func (s *Schema) Validate(v any) error {
	if s.Valid(v) {
		return nil
	}
	st := state{steps: maxSteps, telling: true}
	s.root.run(v, nil, &st)
	if st.steps < 0 {
		st.list = append(st.list[:min(len(st.list), maxViolations-1)], veritrail.Violation{
			Rule: fmt.Sprintf("want a value that the schema checks within %d steps", maxSteps), Shape: shapeOf(v)})
	}
	return &veritrail.InvalidEventError{Violations: st.list}
}

// Reference is the library's verdict on v, some times slower and without a bound. Tests and benchmarks compare with it.
func (s *Schema) Reference(v any) bool { return s.reference.Validate(v) == nil }
