package veritrail_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/veritrail/veritrail"
)

func ExampleComplianceEvent_Canonical() {
	e := &veritrail.ComplianceEvent{
		ID:        "919108f7-52d1-4320-9bac-f847db4148a8",
		Timestamp: time.Date(2026, 3, 1, 17, 30, 0, 0, time.FixedZone("CST", 8*3600)),
		Severity:  veritrail.SeverityWarn,
		Subject:   map[string]string{"user": "10086", "role": "teller"},
		Action:    "AUTH.LOGIN.FAIL",
	}
	leaf, err := e.Canonical()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s\n", leaf)
	// Output:
	// {"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00.000000000Z","sev":"WARN","sub":{"role":"teller","user":"10086"},"act":"AUTH.LOGIN.FAIL","obj":{},"ctx":{}}
}

func ExampleParseEvent() {
	_, err := veritrail.ParseEvent([]byte(`{"act": "AUTH.LOGIN.FAIL", "sub": {"user": 10086}, "ts": "yesterday"}`))

	var invalid *veritrail.InvalidEventError
	if errors.As(err, &invalid) {
		for _, v := range invalid.Violations {
			fmt.Printf("%s | %s | %s\n", v.Path, v.Rule, v.Shape)
		}
	}
	// Output:
	// /sub/user | want string | number
	// /ts | not an RFC 3339 timestamp | string of 9 bytes
}

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(ctx context.Context, e *veritrail.ComplianceEvent) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var d veritrail.Draft
	if err := d.SetEvent(e); err != nil {
		return err
	}
	if err := d.Validate(); err != nil {
		return err
	}
	fmt.Println(d.Action, "by", d.Subject)
	return nil
}

func ExampleEventRecorder() {
	var rec veritrail.EventRecorder = printer{}
	ctx := context.Background()

	err := rec.Record(ctx, &veritrail.ComplianceEvent{
		Action:  "DATA.EXPORT",
		Subject: map[string]string{"user": "10086", "role": "analyst"},
		Object:  map[string]string{"table": "accounts"},
	})
	fmt.Println(err)

	err = rec.Record(ctx, &veritrail.ComplianceEvent{Action: "DATA.EXPORT"})
	fmt.Println(errors.Is(err, veritrail.ErrInvalidComplianceEvent), err)
	// Output:
	// DATA.EXPORT by [{role analyst} {user 10086}]
	// <nil>
	// true invalid compliance event: /sub: required, got nothing
}

func ExampleDraft() {
	var d veritrail.Draft // kept and used again for every event
	var leaf []byte
	for _, line := range []string{
		`{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00Z","act":"KEY.USE","sub":{"svc":"signer"}}`,
		`{"act":"KEY.USE","sub":{}}`,
	} {
		if err := d.Parse([]byte(line)); err != nil {
			fmt.Println(err)
			continue
		}
		leaf = d.AppendCanonical(leaf[:0])
		fmt.Printf("%d bytes\n", len(leaf))
	}
	// Output:
	// 140 bytes
	// invalid compliance event: /sub: required, got nothing
}
