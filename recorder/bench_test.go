package recorder

import (
	"context"
	"runtime"
	"strconv"
	"testing"

	"github.com/veritrail/veritrail"
)

// The events of the benchmarks: some 370 bytes, of which the recorder adds 200.
var benchUsers, benchAccounts, benchAddresses = func() (users, accounts, addresses [1024]string) {
	for i := range users {
		users[i] = "u" + strconv.Itoa(100_000+i)
		accounts[i] = strconv.Itoa(6_222_020_000_000_000 + i*7919)
		addresses[i] = "10." + strconv.Itoa(i%7) + "." + strconv.Itoa(i/256) + "." + strconv.Itoa(i%256)
	}
	return users, accounts, addresses
}()

// benchmarkPipeline records b.N events from one goroutine and waits for the
// last of them.
func benchmarkPipeline(b *testing.B, cfg Config, send func(r *Recorder, k int) (Future, error)) {
	r := start(b, cfg)
	for range 20_000 { // grow the buffers
		if _, err := send(r, 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	var last Future
	for i := range b.N {
		var err error
		if last, err = send(r, i%1024); err != nil {
			b.Fatal(err)
		}
	}
	if err := last.Wait(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	shut(b, r)
}

func sendBuilt(r *Recorder, k int) (Future, error) {
	return r.Event("DATA.ACCOUNT.READ").Severity(veritrail.SeverityInfo).Sub("user", benchUsers[k]).
		Obj("table", "core.accounts").Obj("account", benchAccounts[k]).Obj("sensitivity", "internal").
		Ctx("ip", benchAddresses[k]).RecordAsync(background)
}

func sendMaps(r *Recorder, k int) (Future, error) {
	return r.RecordAsync(background, &veritrail.ComplianceEvent{
		Severity: veritrail.SeverityInfo, Action: "DATA.ACCOUNT.READ",
		Subject: map[string]string{"user": benchUsers[k]},
		Object:  map[string]string{"table": "core.accounts", "account": benchAccounts[k], "sensitivity": "internal"},
		Context: map[string]string{"ip": benchAddresses[k]},
	})
}

func BenchmarkPipelineBuilder(b *testing.B) { benchmarkPipeline(b, Config{}, sendBuilt) }

func BenchmarkPipelineBuilderSM3(b *testing.B) { benchmarkPipeline(b, Config{SM3: true}, sendBuilt) }

func BenchmarkPipelineMaps(b *testing.B) { benchmarkPipeline(b, Config{}, sendMaps) }

// BenchmarkOneByOne waits for each event before the next.
func BenchmarkOneByOne(b *testing.B) {
	for _, recorders := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(recorders), func(b *testing.B) {
			r := start(b, Config{})
			b.SetParallelism(max(1, recorders/runtime.GOMAXPROCS(0)))
			b.ReportAllocs()
			one := func() {
				f, err := sendBuilt(r, 0)
				if err == nil {
					err = f.Wait(background)
				}
				if err != nil {
					b.Error(err)
				}
			}
			if recorders == 1 {
				for b.Loop() {
					one()
				}
			} else {
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						one()
					}
				})
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			if s := r.Stats(); s.Batches > 0 {
				b.ReportMetric(float64(s.Leaves)/float64(s.Batches), "events/sync")
			}
			shut(b, r)
		})
	}
}

// BenchmarkEncode is what the caller's goroutine does before it hands the event
// over, the quick way and the long way.
func BenchmarkEncode(b *testing.B) {
	for _, way := range []string{"quick", "long"} {
		b.Run(way, func(b *testing.B) {
			r := start(b, Config{})
			b.ReportAllocs()
			for k := 0; b.Loop(); k = (k + 1) % 1024 {
				bd := r.Event("DATA.ACCOUNT.READ").Severity(veritrail.SeverityInfo).Sub("user", benchUsers[k]).
					Obj("table", "core.accounts").Obj("account", benchAccounts[k]).Obj("sensitivity", "internal").
					Ctx("ip", benchAddresses[k])
				f := bd.flight
				if way == "quick" {
					if !r.quick(background, f) {
						b.Fatal("out of the ordinary")
					}
				} else if err := r.encode(background, f, false); err != nil {
					b.Fatal(err)
				}
				r.land(f)
			}
		})
	}
}
