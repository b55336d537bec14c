package jsonschema

import (
	"slices"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/schemas"
)

// BenchmarkValidate validates a decoded event of ordinary size.
func BenchmarkValidate(b *testing.B) {
	for _, c := range []struct {
		name         string
		schema, text string
	}{{"event", string(schemas.Event()), nativeEvent}, {"record", string(schemas.Record()), flatRecord}} {
		s := mustCompile(b, c.name, []byte(c.schema))
		v, err := Decode([]byte(c.text))
		if err != nil {
			b.Fatal(err)
		}
		if !s.Valid(v) || !s.Reference(v) {
			b.Fatalf("%s: %v", c.name, s.Validate(v))
		}
		b.Run(c.name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Valid(v)
			}
		})
		b.Run(c.name+"/library", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Reference(v)
			}
		})
		b.Run(c.name+"/ratio", func(b *testing.B) {
			inTurns(b, func() { s.Valid(v) }, func() { s.Reference(v) })
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	text := []byte(flatRecord)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(text); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTyped is the same rules on an event that is one already, as callers of the SDK have it.
func BenchmarkTyped(b *testing.B) {
	s := compileEvent(b)
	v, err := Decode([]byte(nativeEvent))
	if err != nil {
		b.Fatal(err)
	}
	var d veritrail.Draft
	if err := d.Parse([]byte(nativeEvent)); err != nil {
		b.Fatal(err)
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := d.Validate(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ratio", func(b *testing.B) {
		inTurns(b, func() { _ = d.Validate() }, func() { s.Reference(v) })
	})
}

// inTurns runs both in turns, so that a busy machine slows both down, and reports how many times longer the second takes.
func inTurns(b *testing.B, first, second func()) {
	const turn = 500
	var ratios []float64
	for b.Loop() {
		start := time.Now()
		for range turn {
			first()
		}
		middle := time.Now()
		for range turn {
			second()
		}
		ratios = append(ratios, float64(time.Since(middle))/float64(middle.Sub(start)))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "times")
}
