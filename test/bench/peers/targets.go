package main

import (
	"fmt"
	"io"
	"slices"
)

// target is something we want to be true, and what this run says of it.
type target struct {
	what  string
	want  float64
	got   float64 // 0 when it was not measured here
	unit  string
	below bool // want is the most, not the least
}

func (t target) line() string {
	sign, verdict := "≥", "missed"
	met := t.got >= t.want
	if t.below {
		sign, met = "≤", t.got <= t.want
	}
	switch {
	case t.got == 0:
		return fmt.Sprintf("| %s | %s %s | – | not measured here |", t.what, sign, t.figure(t.want))
	case met:
		verdict = "met"
	}
	return fmt.Sprintf("| %s | %s %s | %s | %s |", t.what, sign, t.figure(t.want), t.figure(t.got), verdict)
}

func (t target) figure(v float64) string {
	if v >= 1000 {
		return count(v) + t.unit
	}
	return fmt.Sprintf("%.3g%s", v, t.unit)
}

// printTargets says which targets this run met. It is only as good as the run:
// the machine was what it was.
func (b *bench) printTargets(w io.Writer) {
	fmt.Fprintln(w, "| target | want | got | |")
	fmt.Fprintln(w, "|---|--:|--:|---|")
	for _, t := range b.targets() {
		fmt.Fprintln(w, t.line())
	}
}

func (b *bench) targets() []target {
	pipe := func(name string) *series { return find(b.pipelines, name, 0) }
	ack := func(name string, n int) float64 { return ratio(find(b.acks, ourAcks, n), find(b.acks, name, n)) }
	ours, sm3 := pipe(lineBuilder), ratio(pipe(lineBuilder), pipe(lineSM3))
	all := []target{
		{what: "builder, durable, events/s", want: 500_000, got: median(ours.perSec)},
		{what: "builder beside zap", want: 1.2, got: ratio(ours, pipe(lineZap)), unit: " ×"},
		{what: "builder beside logrus", want: 4, got: ratio(ours, pipe(lineLogrus)), unit: " ×"},
		{what: "builder beside phuslu/log", want: 0.55, got: ratio(ours, pipe(linePhuslu)), unit: " ×"},
		{what: "ComplianceEvent beside builder", want: 0.6, got: ratio(pipe(lineMaps), ours), unit: " ×"},
		{what: "throughput that SM3 beside SHA-256 costs", want: 35, got: 100 * (1 - 1/sm3), unit: " %", below: true},
		{what: "256 recorders, beside immudb", want: 8, got: ack(immudbName, 256), unit: " ×"},
		{what: "256 recorders, beside Tessera", want: 3, got: ack(tesseraName, 256), unit: " ×"},
		{what: "one recorder, beside immudb", want: 4, got: ack(immudbName, 1), unit: " ×"},
		{what: "one recorder, beside Tessera", want: 4, got: ack(tesseraName, 1), unit: " ×"},
		{what: "SM3 of many leaves beside gmsm", want: 4.5, got: ratio(find(b.digests, lineLanes, 0), find(b.digests, lineGmsm, 0)), unit: " ×"},
		{what: "SM3 of many leaves beside OpenSSL", want: 6, got: ratio(find(b.digests, lineLanes, 0), find(b.digests, lineOpenSSL, 0)), unit: " ×"},
		{what: "inclusion proof made, p50", want: 200, got: 1e6 * median(b.proofs.made), unit: " µs", below: true},
		{what: "inclusion proof checked, p50", want: 10, got: 1e6 * median(b.proofs.checked), unit: " µs", below: true},
	}
	for _, v := range b.verified {
		want := 1.0
		if v.digests != "" {
			want = 1.6
		}
		what := fmt.Sprintf("verify, %s events%s, a million", count(float64(v.events)), v.digests)
		all = append(all, target{what: what, want: want, got: v.million(), unit: " s", below: true})
	}
	for _, s := range b.stored {
		all = append(all, target{what: "stored, " + s.name, want: 1.1, got: s.disk / s.leaf, unit: " ×", below: true})
	}
	return slices.Concat(all, b.schemaTargets())
}
