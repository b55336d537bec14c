package verify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/verify"
)

// An auditor checks a trail with the key that the bank handed out beforehand,
// and then once more after somebody edited the record.
func ExampleTrail() {
	dir, err := os.MkdirTemp("", "trail-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	rec, err := recorder.Open(recorder.Config{Dir: dir, Origin: "bank.example/payments"})
	if err != nil {
		panic(err)
	}
	handedOut := rec.Keys()
	for _, user := range []string{"10086", "10087"} {
		if err := rec.Event("AUTH.LOGIN.OK").Sub("user", user).Record(ctx); err != nil {
			panic(err)
		}
	}
	if err := rec.Close(); err != nil {
		panic(err)
	}

	report, err := verify.Trail(ctx, dir, verify.Options{Keys: handedOut})
	if err != nil {
		panic(err)
	}
	fmt.Println(report.Outcome, report.Size, "events of", report.Origin)

	name := filepath.Join(dir, "segments", "00000000000000000000.seg")
	content, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	for i := range content { // 10087 becomes 10086
		if string(content[i:min(i+5, len(content))]) == "10087" {
			content[i+4] = '6'
		}
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		panic(err)
	}
	report, err = verify.Trail(ctx, dir, verify.Options{Keys: handedOut})
	if err != nil {
		panic(err)
	}
	for _, finding := range report.Findings {
		fmt.Println(report.Outcome, finding.Check, "leaf", finding.Leaf)
	}
	// Output:
	// intact 2 events of bank.example/payments
	// contradicted leaf-changed leaf 1
}
