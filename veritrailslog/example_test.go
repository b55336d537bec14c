package veritrailslog_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailslog"
)

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	fmt.Println(e.Severity, e.Subject, e.Action, e.Object, e.Context)
	return nil
}

func Example() {
	h, err := veritrailslog.New(veritrailslog.Config{Recorder: printer{}, Service: "payments"})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := slog.New(h).With("user", "u1")
	log.Info("transfer booked", "act", "DATA.TRANSFER", slog.Group("obj", "account", "62"), "amount", 100)
	log.Warn("slow answer", slog.Group("req", "path", "/v1/transfer"))
	// Output:
	// INFO map[user:u1] DATA.TRANSFER map[account:62] map[amount:100 msg:transfer booked]
	// WARN map[user:u1] APP.LOG map[] map[msg:slow answer req.path:/v1/transfer]
}

// The log goes on as before; what names an action is recorded as well.
func ExampleConfig_onlyActions() {
	h, err := veritrailslog.New(veritrailslog.Config{
		Recorder: printer{}, Service: "payments", OnlyActions: true,
		Next: slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}}),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	log := slog.New(h)
	log.Info("cache warm")
	log.Info("logged in", "act", "AUTH.LOGIN.OK", "user", "u1")
	// Output:
	// level=INFO msg="cache warm"
	// INFO map[user:u1] AUTH.LOGIN.OK map[] map[msg:logged in]
	// level=INFO msg="logged in" act=AUTH.LOGIN.OK user=u1
}
