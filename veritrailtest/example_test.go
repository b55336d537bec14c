package veritrailtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailtest"
)

// transfer is the code under test. It takes no money that it cannot account for.
func transfer(ctx context.Context, audit veritrail.EventRecorder, user, account string) error {
	return audit.Record(ctx, &veritrail.ComplianceEvent{
		Subject: map[string]string{"user": user},
		Action:  "DATA.TRANSFER",
		Object:  map[string]string{"account": account},
	})
}

func Example() {
	test := func(t testing.TB) {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		if err := transfer(context.Background(), rec, "u1", "62"); err != nil {
			t.Fatal(err)
		}
		e := rec.One("DATA.TRANSFER")
		fmt.Println(e.Subject["user"], e.Object["account"])

		rec.FailNext(errors.New("disk full"))
		fmt.Println(transfer(context.Background(), rec, "u1", "63"))
	}
	test(new(stage)) // in a test, t comes from the testing package
	// Output:
	// u1 62
	// disk full
}
