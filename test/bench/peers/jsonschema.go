package main

import (
	"bytes"
	"fmt"
	"io"
	"regexp"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/veritrail/veritrail"
	ours "github.com/veritrail/veritrail/internal/jsonschema"
	"github.com/veritrail/veritrail/schemas"
)

const (
	lineTyped    = "Veritrail, an event's Draft"
	lineSchema   = "Veritrail's jsonschema, decoded JSON"
	lineSanthosh = "santhosh-tekuri/jsonschema, decoded JSON"
)

// schemaSeries check the events of the other lines: against the event's schema
// of draft-07, or by the rules that say the same of a typed event. Decoding is
// not part of a turn.
func (b *bench) schemaSeries() []*series {
	return []*series{
		{name: lineTyped, turn: b.checks(typedChecks)},
		{name: lineSchema, turn: b.checks(schemaChecks)},
		{name: lineSanthosh, turn: b.checks(santhoshChecks)},
	}
}

func (b *bench) schemaTargets() []target {
	return []target{{
		what: "typed event checked, beside santhosh-tekuri/jsonschema", want: 20,
		got: ratio(find(b.schemas, lineTyped, 0), find(b.schemas, lineSanthosh, 0)), unit: " ×",
	}, {
		what: "decoded event checked, beside santhosh-tekuri/jsonschema", want: 6,
		got: ratio(find(b.schemas, lineSchema, 0), find(b.schemas, lineSanthosh, 0)), unit: " ×",
	}}
}

func (b *bench) printSchemas(w io.Writer) {
	fmt.Fprintln(w, "\n| events checked, by processor time | events/s | ns each | best round | ours is |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	printRates(w, b.schemas, lineTyped)
}

// checks measures by processor time, as digest does.
func (b *bench) checks(prepare func(lines [][]byte) ([]func() error, error)) func(string) (result, error) {
	return func(string) (result, error) {
		lines, err := someLines()
		if err != nil {
			return result{}, err
		}
		each, err := prepare(lines)
		if err != nil {
			return result{}, err
		}
		n, start := 0, startWatch()
		for {
			for _, check := range each {
				if err := check(); err != nil {
					return result{}, err
				}
			}
			n += len(each)
			if used := start.used(); used >= b.digestTurn {
				return result{events: n, elapsed: used}, nil
			}
		}
	}
}

func typedChecks(lines [][]byte) (each []func() error, err error) {
	for _, line := range lines {
		d := new(veritrail.Draft)
		if err := d.Parse(line); err != nil {
			return nil, err
		}
		each = append(each, d.Validate)
	}
	return each, nil
}

func schemaChecks(lines [][]byte) (each []func() error, err error) {
	schema, err := ours.Compile(schemas.EventFile, schemas.Event(), nil)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		v, err := ours.Decode(line)
		if err != nil {
			return nil, err
		}
		each = append(each, func() error { return schema.Validate(v) })
	}
	return each, nil
}

func santhoshChecks(lines [][]byte) (each []func() error, err error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.Event()))
	if err != nil {
		return nil, err
	}
	const name = schemas.EventFile
	c := jsonschema.NewCompiler()
	c.UseRegexpEngine(pattern)
	if err := c.AddResource(name, doc); err != nil {
		return nil, err
	}
	schema, err := c.Compile(name)
	if err != nil {
		return nil, err
	}
	for _, line := range lines {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			return nil, err
		}
		each = append(each, func() error { return schema.Validate(v) })
	}
	return each, nil
}

// pattern writes the escapes of JSON Schema's patterns, which are ECMA's, as Go
// knows them.
func pattern(text string) (jsonschema.Regexp, error) {
	re, err := regexp.Compile(ecmaEscape.ReplaceAllString(text, `\x{$1}`))
	return re, err
}

var ecmaEscape = regexp.MustCompile(`\\u([0-9a-fA-F]{4})`)
