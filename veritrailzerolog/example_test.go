package veritrailzerolog_test

import (
	"context"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailzerolog"
)

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	fmt.Println(e.Severity, e.Subject, e.Action, e.Object, e.Context)
	return nil
}

func Example() {
	w, err := veritrailzerolog.New(veritrailzerolog.Config{Recorder: printer{}, Service: "payments"})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := zerolog.New(w).Hook(veritrailzerolog.TraceHook{})
	ctx := context.Background() // of a request, with its span
	log.Info().Ctx(ctx).Str("act", "DATA.TRANSFER").Str("user", "u1").
		Dict("obj", zerolog.Dict().Str("account", "62")).Int("amount", 100).Msg("transfer booked")
	log.Warn().Msg("slow answer")
	// Output:
	// INFO map[user:u1] DATA.TRANSFER map[account:62] map[amount:100 msg:transfer booked]
	// WARN map[svc:payments] APP.LOG map[] map[msg:slow answer]
}
