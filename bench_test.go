package veritrail_test

import (
	"encoding/json"
	"testing"

	"github.com/veritrail/veritrail"
)

func BenchmarkAppendCanonical(b *testing.B) {
	var d veritrail.Draft
	if err := d.Parse([]byte(loginCanonical)); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	b.SetBytes(int64(len(loginCanonical)))
	b.ReportAllocs()
	for b.Loop() {
		buf = d.AppendCanonical(buf[:0])
	}
}

func BenchmarkSetEventValidate(b *testing.B) {
	e := login()
	var d veritrail.Draft
	b.ReportAllocs()
	for b.Loop() {
		if err := d.SetEvent(e); err != nil {
			b.Fatal(err)
		}
		if err := d.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	var d veritrail.Draft
	if err := d.Parse([]byte(loginCanonical)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Validate(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDraftParse(b *testing.B) {
	data := []byte(loginCanonical)
	var d veritrail.Draft
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseEvent(b *testing.B) {
	data := []byte(loginCanonical)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := veritrail.ParseEvent(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseCanonical(b *testing.B) {
	data := []byte(loginCanonical)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := veritrail.ParseCanonical(data); err != nil {
			b.Fatal(err)
		}
	}
}

// What encoding/json takes for the same event, without any of the checks.
func BenchmarkEncodingJSON(b *testing.B) {
	data := []byte(loginCanonical)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var e veritrail.ComplianceEvent
		if err := json.Unmarshal(data, &e); err != nil {
			b.Fatal(err)
		}
	}
}
