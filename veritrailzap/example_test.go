package veritrailzap_test

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailzap"
)

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	fmt.Println(e.Severity, e.Subject, e.Action, e.Object, e.Context)
	return nil
}

func Example() {
	core, err := veritrailzap.New(veritrailzap.Config{Recorder: printer{}, Service: "payments"})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := zap.New(core)
	ctx := context.Background() // of a request, with its span
	log.Info("transfer booked", zap.String("act", "DATA.TRANSFER"), zap.String("user", "u1"),
		zap.Dict("obj", zap.String("account", "62")), zap.Int("amount", 100), veritrailzap.Context(ctx))
	log.Warn("slow answer")
	// Output:
	// INFO map[user:u1] DATA.TRANSFER map[account:62] map[amount:100 msg:transfer booked]
	// WARN map[svc:payments] APP.LOG map[] map[msg:slow answer]
}
