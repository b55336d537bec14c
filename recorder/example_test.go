package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

// open makes a trail in a directory of its own, and removes it in the end.
func open(cfg recorder.Config) (*recorder.Recorder, func()) {
	dir, err := os.MkdirTemp("", "veritrail-example-")
	if err != nil {
		panic(err)
	}
	cfg.Dir = filepath.Join(dir, "trail")
	rec, err := recorder.Open(cfg)
	if err != nil {
		panic(err)
	}
	return rec, func() {
		if err := errors.Join(rec.Close(), os.RemoveAll(dir)); err != nil {
			panic(err)
		}
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "veritrail-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	rec, err := recorder.Open(recorder.Config{Dir: filepath.Join(dir, "trail"), Origin: "example.com/bank"})
	if err != nil {
		fmt.Println(err)
		return
	}
	// nil means: on stable storage.
	err = rec.Event("AUTH.LOGIN.FAIL").Sub("user", "10086").Ctx("ip", "192.0.2.7").Record(context.Background())
	fmt.Println("recorded:", err)
	fmt.Println("closed:", rec.Close())
	// Output:
	// recorded: <nil>
	// closed: <nil>
}

// Business code takes the interface, which costs it no dependency.
func ExampleRecorder_Record() {
	rec, done := open(recorder.Config{})
	defer done()

	transfer := func(ctx context.Context, audit veritrail.EventRecorder, from, to string) error {
		return audit.Record(ctx, &veritrail.ComplianceEvent{
			Subject: map[string]string{"user": from},
			Action:  "DATA.TRANSFER",
			Object:  map[string]string{"account": to},
		})
	}
	fmt.Println(transfer(context.Background(), rec, "u1", "6222"))
	// Output: <nil>
}

// One goroutine reaches the disk's full speed by waiting later.
func ExampleRecorder_RecordAsync() {
	rec, done := open(recorder.Config{})
	defer done()

	ctx := context.Background()
	var futures []recorder.Future
	for _, user := range []string{"u1", "u2", "u3"} {
		f, err := rec.RecordAsync(ctx, &veritrail.ComplianceEvent{
			Subject: map[string]string{"user": user}, Action: "AUTH.LOGOUT",
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		futures = append(futures, f)
	}
	for _, f := range futures {
		if err := f.Wait(ctx); err != nil {
			fmt.Println(err)
			return
		}
		leaf, _ := f.Leaf()
		fmt.Println("durable as leaf", leaf)
	}
	// Output:
	// durable as leaf 0
	// durable as leaf 1
	// durable as leaf 2
}

// A refusal says where and which rule; the value stays out of logs and trail.
func ExampleRecorder_RecordJSON() {
	rec, done := open(recorder.Config{})
	defer done()

	_, err := rec.RecordJSON(context.Background(), []byte(`{"act": "PAYROLL.READ", "sub": {"user": "u1"}}`))
	fmt.Println(errors.Is(err, veritrail.ErrInvalidComplianceEvent))
	fmt.Println(err)
	// Output:
	// true
	// invalid compliance event: /act: action is not in the allowlist, got string of 12 bytes
}

func ExampleAllowlist() {
	rec, done := open(recorder.Config{Allow: recorder.Allowlist{
		Subjects: []string{"badge"},
		Actions:  []string{"DOOR.*", "LAB.*.ENTER"},
	}})
	defer done()

	ctx := context.Background()
	fmt.Println(rec.Event("LAB.EAST.ENTER").Sub("badge", "7").Record(ctx))
	fmt.Println(rec.Event("LAB.EAST.BURN").Sub("badge", "7").Record(ctx))
	// Output:
	// <nil>
	// invalid compliance event: /act: action is not in the allowlist, got string of 13 bytes
}

// masking keeps the last two digits of account numbers.
type masking struct{}

func (masking) Redact(_ context.Context, d *veritrail.Draft) error {
	for i, p := range d.Object {
		if n := len(p.Value); p.Key == "account" && n > 2 {
			d.Object[i].Value = strings.Repeat("*", n-2) + p.Value[n-2:]
		}
	}
	return nil
}

func ExampleRedactor() {
	rec, done := open(recorder.Config{Redactor: masking{}})
	defer done()

	ctx := context.Background()
	err := rec.Event("DATA.READ").Sub("user", "u1").Obj("account", "6222021234567890").Record(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	leaf, _, err := rec.Trail().View().Leaves().ReadPlace(0)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := veritrail.ParseCanonical(leaf)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Object["account"])
	// Output: **************90
}
