//go:build !race

// The race detector makes sync.Pool drop items on purpose, so there is nothing
// to measure under it.

package recorder

import (
	"runtime"
	"testing"

	"github.com/veritrail/veritrail"
)

func TestBuilderCostsNoAllocation(t *testing.T) {
	r := start(t, Config{})
	record := func() {
		_, err := r.Event("AUTH.LOGIN.OK").Sub("user", "10086").Obj("api", "/v1/login").Ctx("ip", "192.0.2.7").
			Severity(veritrail.SeverityInfo).RecordAsync(background)
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 50_000 { // grow the buffers
		record()
	}
	const runs = 50_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		record()
	}
	runtime.ReadMemStats(&after)
	per := float64(after.Mallocs-before.Mallocs) / runs // the writer's batches included
	t.Logf("%.4f allocations an event", per)
	if per > 0.1 {
		t.Errorf("got %.3f allocations an event, want less than 0.1", per)
	}
}
