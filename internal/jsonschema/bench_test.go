package jsonschema

import (
	"slices"
	"testing"
	"time"

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
		// Both in turns, so that a busy machine slows both down.
		b.Run(c.name+"/ratio", func(b *testing.B) {
			const turn = 500
			var ratios []float64
			for b.Loop() {
				start := time.Now()
				for range turn {
					s.Valid(v)
				}
				middle := time.Now()
				for range turn {
					s.Reference(v)
				}
				ratios = append(ratios, float64(time.Since(middle))/float64(middle.Sub(start)))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "times")
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
