// Command client records what a program does into the trail of another, and goes
// on while that is away:
//
//	veritrail up &
//	cd examples && go run ./client -token-file "$HOME/.local/state/veritrail/trail/token"
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/client"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8790", "where `veritrail up` listens")
	tokenFile := flag.String("token-file", "token", "file with its API token")
	spool := flag.String("spool", "spool", "directory for events that can't be sent now")
	events := flag.Int("events", 0, "end after so many events (0: when it is interrupted)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *url, *tokenFile, *spool, *events); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // the signal handler ends with the process
	}
}

func run(ctx context.Context, url, tokenFile, spool string, events int) (err error) {
	c, err := client.New(client.Config{
		URL: url, TokenFile: tokenFile, Spool: spool,
		Policy: client.AckSpool, // this program must not stop because the audit server does
		Log:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer func() {
		var left *client.LeftError
		if closed := c.Close(); errors.As(closed, &left) {
			fmt.Println(left) // the next run sends them
		} else {
			err = errors.Join(err, closed)
		}
	}()
	return work(ctx, c, events)
}

// work is business code: it knows an EventRecorder, and not how it records.
func work(ctx context.Context, trail veritrail.EventRecorder, events int) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		err := trail.Record(ctx, &veritrail.ComplianceEvent{
			Severity: veritrail.SeverityInfo, Action: "DATA.ACCOUNT.READ",
			Subject: map[string]string{"user": "10086"}, Object: map[string]string{"table": "account", "row": fmt.Sprint(n)},
		})
		if err != nil && ctx.Err() == nil {
			return err // no access without its record
		}
		if n == events {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
