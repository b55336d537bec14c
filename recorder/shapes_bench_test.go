package recorder

import (
	"testing"

	"github.com/veritrail/veritrail"
)

// BenchmarkShapes reads texts of each shape into drafts.
func BenchmarkShapes(b *testing.B) {
	all := testForms(b)
	for _, c := range []struct{ name, shape, text string }{
		{"event", "", `{"ts":"2026-03-01T09:30:00.5+08:00","sev":"WARN","sub":{"user":"u1","role":"teller"},"act":"APP.X","obj":{"id":"A1","type":"account"},` +
			`"ctx":{"details.rows":"3","ip":"192.0.2.7","outcome":"denied"}}`},
		{"record", "", benchRecord}, {"record-named", "record", benchRecord},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			var d veritrail.Draft
			for b.Loop() {
				if err := all.read(&d, c.shape, []byte(c.text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const benchRecord = `{"timestamp":"2026-03-01T09:30:00.5+08:00","severity":"WARN","event_type":"APP.X","actor":{"user_id":"u1","role":"teller","ip_address":"192.0.2.7"},` +
	`"resource":{"type":"account","id":"A1"},"outcome":"denied","details":{"rows":3}}`
