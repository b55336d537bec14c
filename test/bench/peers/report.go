package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

func (b *bench) print(w io.Writer) {
	comment := ""
	if b.comment != "" {
		comment = " (" + b.comment + ")"
	}
	fmt.Fprintf(w, "%s%s. %s, %d cores, %s, %s/%s. %d rounds, medians.\n",
		time.Now().Format(time.DateOnly), comment, processor(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, b.rounds)
	fmt.Fprintf(w, "The disk's floor, 4 KiB appended and synced: p50 %s, p99 %s.\n\n",
		duration(median(b.syncs)), duration(quantile(b.syncs, 0.99)))
	b.printTargets(w)
	b.printPipelines(w)
	b.printAcks(w)
	b.printDigests(w)
	b.printSchemas(w)
	b.printTrails(w)
}

func (b *bench) printPipelines(w io.Writer) {
	fmt.Fprintln(w, "\n| one goroutine | an event counts when it is | bytes a line | events/s | best round | CPU µs an event | of zap |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|--:|")
	for _, s := range b.pipelines {
		fmt.Fprintf(w, "| %s | %s | %.0f | %s | %s | %.2f | %.2f |\n", s.name, s.promise, s.lineSize,
			count(median(s.perSec)), count(slices.Max(s.perSec)), 1e6*median(s.cpu), ratio(s, find(b.pipelines, lineZap, 0)))
	}
}

func (b *bench) printAcks(w io.Writer) {
	fmt.Fprintln(w, "\n| one event at a time, each waited for | recorders | set up | acknowledged/s | best round | wait p50 | wait p99 | ours is |")
	fmt.Fprintln(w, "|---|--:|---|--:|--:|--:|--:|--:|")
	for _, s := range b.acks {
		if s.absent {
			fmt.Fprintf(w, "| %s | %d | could not be run here |\n", s.name, s.recorders)
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %.1f × |\n", s.name, s.recorders, s.promise,
			count(median(s.perSec)), count(slices.Max(s.perSec)), duration(median(s.p50)), duration(median(s.p99)),
			ratio(find(b.acks, ourAcks, s.recorders), s))
	}
}

func (b *bench) printDigests(w io.Writer) {
	fmt.Fprintf(w, "\n| digests of %d bytes, by processor time | messages/s | ns each | best round | ours is |\n", messageSize)
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	printRates(w, b.digests, lineLanes)
}

func printRates(w io.Writer, all []*series, ours string) {
	for _, s := range all {
		if s.absent {
			fmt.Fprintf(w, "| %s | could not be run here |\n", s.name)
			continue
		}
		fmt.Fprintf(w, "| %s | %s | %.0f | %s | %.2f × |\n", s.name, count(median(s.perSec)), 1e9/median(s.perSec),
			count(slices.Max(s.perSec)), ratio(find(all, ours, 0), s))
	}
}

func (b *bench) printTrails(w io.Writer) {
	fmt.Fprintln(w, "\n| stored | events | JSON bytes an event | bytes on disk an event | ratio |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	for _, s := range b.stored {
		fmt.Fprintf(w, "| %s | %s | %.1f | %.1f | %.3f |\n", s.name, count(float64(s.events)), s.leaf, s.disk, s.disk/s.leaf)
	}
	fmt.Fprintln(w, "\n| verify | bytes | seconds | seconds a million | peak heap in use |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	for _, v := range b.verified {
		fmt.Fprintf(w, "| %s events%s | %.0f MB | %.2f | %.2f | %.1f MB |\n", count(float64(v.events)), v.digests, float64(v.bytes)/1e6,
			v.elapsed.Seconds(), v.million(), float64(v.heap)/1e6)
	}
	fmt.Fprintln(w, "\n| inclusion proof | leaves | p50 | p99 |")
	fmt.Fprintln(w, "|---|--:|--:|--:|")
	for _, p := range []struct {
		name  string
		times []float64
	}{{"made", b.proofs.made}, {"checked", b.proofs.checked}} {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", p.name, count(float64(b.proofs.leaves)), fine(median(p.times)), fine(quantile(p.times, 0.99)))
	}
	fmt.Fprintln(w, "\n| open again after a crash | trail | read again | seconds |")
	fmt.Fprintln(w, "|---|--:|--:|--:|")
	for _, r := range b.reopened {
		fmt.Fprintf(w, "| %s events | %.0f MB | %s events | %.3f |\n", count(float64(r.events)), float64(r.bytes)/1e6, count(float64(r.replayed)), r.elapsed.Seconds())
	}
}

// find is the line of that name, nil when it is absent.
func find(all []*series, name string, recorders int) *series {
	for _, s := range all {
		if s.name == name && s.recorders == recorders && !s.absent {
			return s
		}
	}
	return nil
}

// ratio is how many times b's rate a's is: the median over the rounds, in each
// of which both had their turn. It is 0 when one is absent.
func ratio(a, b *series) float64 {
	if a == nil || b == nil {
		return 0
	}
	each := make([]float64, min(len(a.perSec), len(b.perSec)))
	for i := range each {
		each[i] = a.perSec[i] / b.perSec[i]
	}
	return median(each)
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

// count writes a number with commas.
func count(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "processor unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor unknown"
}

// fine is duration for what takes microseconds.
func fine(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Nanosecond).String()
}
