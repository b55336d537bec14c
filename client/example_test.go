package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/client"
)

// A program that must go on while the audit server is away keeps its events in a
// spool until the server has them.
func Example() {
	dir, err := os.MkdirTemp("", "example-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	c, err := client.New(client.Config{
		URL:   "http://127.0.0.1:1", // where nobody listens
		Token: "…", Spool: filepath.Join(dir, "spool"), Policy: client.AckSpool, CloseTimeout: 1,
	})
	if err != nil {
		panic(err)
	}
	var trail veritrail.EventRecorder = c
	err = trail.Record(context.Background(), &veritrail.ComplianceEvent{
		Action: "AUTH.LOGIN.FAIL", Subject: map[string]string{"user": "10086"}, Context: map[string]string{"ip": "192.0.2.7"},
	})
	fmt.Println("recorded:", err == nil)

	var left *client.LeftError
	if errors.As(c.Close(), &left) {
		fmt.Println("for the next run:", left.Spooled)
	}
	// Output:
	// recorded: true
	// for the next run: 1
}
