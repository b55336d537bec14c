// Command bench measures what recording and verifying cost, on the machine and
// the disk it runs on, beside two loggers that promise nothing:
//
//	go -C test/bench run . [-short] [-dir DIR] [-out FILE]
//
// All of it runs in one process, in rounds in which every line has its turn, so
// that a machine that slows down slows them all; a figure is the median of its
// rounds. docs/benchmarks.md says what each line means, and holds the last
// results. Nothing here passes or fails: a timed test fails on a busy machine.
//
// This is a module of its own: the loggers are no part of the product.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
)

// sizes say how much is measured.
type sizes struct {
	rounds  int
	events  int // of one turn of the pipeline or of a logger
	acks    int // of one turn of 256 recorders; fewer recorders do less
	verify  int // events of the long trail; the short one has a fifth
	syncs   int
	comment string
}

var (
	full  = sizes{rounds: 5, events: 400_000, acks: 200_000, verify: 1_000_000, syncs: 500}
	brief = sizes{rounds: 3, events: 50_000, acks: 20_000, verify: 100_000, syncs: 100, comment: "short run"}
)

func main() {
	short := flag.Bool("short", false, "measure less, for a first look")
	dir := flag.String("dir", os.TempDir(), "the disk to measure: a `directory` on it")
	out := flag.String("out", "", "also write the results to this `file`, as markdown")
	flag.Parse()
	n := full
	if *short {
		n = brief
	}
	if err := run(n, *dir, *out); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(n sizes, parent, out string) (err error) {
	dir, err := os.MkdirTemp(parent, "veritrail-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	b := &bench{sizes: n, dir: dir}
	if err := b.measure(); err != nil {
		return err
	}
	var text bytes.Buffer
	b.print(&text)
	if _, err := os.Stdout.Write(text.Bytes()); err != nil || out == "" {
		return err
	}
	return os.WriteFile(out, text.Bytes(), 0o600)
}

type bench struct {
	sizes
	dir       string
	syncs     []float64 // seconds
	pipelines []*series
	acks      []*series
	stored    []stored
	verified  []verified
	reopened  []reopened
}

// series is one line: a measured function and what its rounds gave.
type series struct {
	name     string
	promise  string // what an event that counts is
	turn     func(dir string) (result, error)
	perSec   []float64
	lineSize float64
	p50, p99 []float64 // seconds, where each event is waited for
}

type result struct {
	events   int
	elapsed  time.Duration
	lineSize float64
	waits    []time.Duration
}

func (s *series) run(parent string) error {
	dir, err := os.MkdirTemp(parent, "turn-")
	if err != nil {
		return err
	}
	runtime.GC()
	res, err := s.turn(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.perSec = append(s.perSec, float64(res.events)/res.elapsed.Seconds())
	s.lineSize = res.lineSize
	if len(res.waits) > 0 {
		slices.Sort(res.waits)
		s.p50 = append(s.p50, res.waits[len(res.waits)/2].Seconds())
		s.p99 = append(s.p99, res.waits[len(res.waits)*99/100].Seconds())
	}
	fmt.Fprintf(os.Stderr, "%-44s %10.0f/s\n", s.name, s.perSec[len(s.perSec)-1])
	return os.RemoveAll(dir)
}

func (b *bench) measure() error {
	b.pipelines, b.acks = b.pipelineSeries(), b.ackSeries()
	for range b.rounds {
		if err := b.timeSyncs(); err != nil {
			return err
		}
		for _, s := range slices.Concat(b.pipelines, b.acks) {
			if err := s.run(b.dir); err != nil {
				return err
			}
		}
	}
	if err := b.measureStored(); err != nil {
		return err
	}
	return b.measureTrails()
}

// timeSyncs measures the floor under every acknowledgement: one small append
// and its sync, the way a trail does it.
func (b *bench) timeSyncs() error {
	name := filepath.Join(b.dir, "sync")
	if err := durable.OS.WriteFileLazy(name, nil); err != nil {
		return err
	}
	f, err := durable.OS.OpenFile(name)
	if err != nil {
		return err
	}
	block := bytes.Repeat([]byte("x"), 4096)
	for i := range b.sizes.syncs {
		if _, err := f.WriteAt(block, int64(i*len(block))); err != nil {
			return err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return err
		}
		b.syncs = append(b.syncs, time.Since(start).Seconds())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(name)
}

func median(values []float64) float64 { return quantile(values, 0.5) }

func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[int(q*float64(len(sorted)-1))]
}

func (b *bench) print(w io.Writer) {
	comment := ""
	if b.comment != "" {
		comment = " (" + b.comment + ")"
	}
	fmt.Fprintf(w, "%s%s. %s, %d cores, %s, %s/%s. %d rounds, medians.\n",
		time.Now().Format(time.DateOnly), comment, processor(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, b.rounds)
	fmt.Fprintf(w, "The disk's floor, 4 KiB appended and synced: p50 %s, p99 %s.\n\n",
		duration(median(b.syncs)), duration(quantile(b.syncs, 0.99)))

	zap := b.pipelines[len(b.pipelines)-2]
	fmt.Fprintln(w, "| one goroutine | an event counts when it is | bytes a line | events/s | best round | of zap |")
	fmt.Fprintln(w, "|---|---|--:|--:|--:|--:|")
	for _, s := range b.pipelines {
		fmt.Fprintf(w, "| %s | %s | %.0f | %s | %s | %.2f |\n", s.name, s.promise, s.lineSize,
			count(median(s.perSec)), count(slices.Max(s.perSec)), median(s.perSec)/median(zap.perSec))
	}
	fmt.Fprintln(w, "\n| one event at a time, each waited for | bytes a line | acknowledged/s | best round | wait p50 | wait p99 |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|--:|")
	for _, s := range b.acks {
		fmt.Fprintf(w, "| %s | %.0f | %s | %s | %s | %s |\n", s.name, s.lineSize,
			count(median(s.perSec)), count(slices.Max(s.perSec)), duration(median(s.p50)), duration(median(s.p99)))
	}
	fmt.Fprintln(w, "\n| stored | events | JSON bytes an event | bytes on disk an event | ratio |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	for _, s := range b.stored {
		fmt.Fprintf(w, "| %s | %s | %.1f | %.1f | %.3f |\n", s.name, count(float64(s.events)), s.leaf, s.disk, s.disk/s.leaf)
	}
	fmt.Fprintln(w, "\n| verify | bytes | seconds | seconds a million | peak heap in use |")
	fmt.Fprintln(w, "|---|--:|--:|--:|--:|")
	for _, v := range b.verified {
		fmt.Fprintf(w, "| %s events%s | %.0f MB | %.2f | %.2f | %.1f MB |\n", count(float64(v.events)), v.digests, float64(v.bytes)/1e6,
			v.elapsed.Seconds(), v.elapsed.Seconds()*1e6/float64(v.events), float64(v.heap)/1e6)
	}
	fmt.Fprintln(w, "\n| open again after a crash | trail | read again | seconds |")
	fmt.Fprintln(w, "|---|--:|--:|--:|")
	for _, r := range b.reopened {
		fmt.Fprintf(w, "| %s events | %.0f MB | %s events | %.3f |\n", count(float64(r.events)), float64(r.bytes)/1e6, count(float64(r.replayed)), r.elapsed.Seconds())
	}
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
