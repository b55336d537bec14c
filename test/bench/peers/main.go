// Command peers measures what recording and verifying cost, on the machine and
// the disk it runs on, beside the programs that others use for parts of the
// same. test/bench builds it and runs it:
//
//	go run ./test/bench [-short] [-dir DIR] [-out FILE]
//
// It goes in rounds in which every line has its turn, so that a machine that
// slows down slows them all; a figure is the median of its rounds.
// docs/benchmarks.md says what each line means, and holds the last results.
// Nothing here passes or fails: whether a target was met is said in words, and a
// timed test fails on a busy machine.
//
// This is a module of its own: the peers are no part of the product.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
)

// sizes say how much is measured.
type sizes struct {
	rounds     int
	events     int           // of one turn of the pipeline or of a logger
	ackTurn    time.Duration // of so many recorders that wait for each event
	digestTurn time.Duration
	verify     int // events of the long trail; the short one has a fifth
	syncs      int
	comment    string
}

var (
	full  = sizes{rounds: 7, events: 400_000, ackTurn: 2 * time.Second, digestTurn: 500 * time.Millisecond, verify: 1_000_000, syncs: 300}
	brief = sizes{rounds: 3, events: 100_000, ackTurn: 500 * time.Millisecond, digestTurn: 100 * time.Millisecond, verify: 100_000, syncs: 100, comment: "short run"}
)

func main() {
	short := flag.Bool("short", false, "measure less, for a first look")
	dir := flag.String("dir", os.TempDir(), "the disk to measure: a `directory` on it")
	out := flag.String("out", "", "also write the results to this `file`, as markdown")
	immudb := flag.String("immudb", "", "the `program` that test/bench/immudb builds; no such lines without it")
	flag.Parse()
	n := full
	if *short {
		n = brief
	}
	if err := run(n, *dir, *out, *immudb); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(n sizes, parent, out, immudb string) (err error) {
	dir, err := os.MkdirTemp(parent, "veritrail-bench-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil {
			err = rerr
		}
	}()
	b := &bench{sizes: n, dir: dir, immudbProgram: immudb}
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
	dir           string
	immudbProgram string

	syncs     []float64 // seconds
	pipelines []*series
	acks      []*series
	digests   []*series
	schemas   []*series
	stored    []stored
	verified  []verified
	proofs    proofs
	reopened  []reopened
}

// series is one line: a measured function and what its rounds gave.
type series struct {
	name      string
	promise   string // what an event that counts is, or how the peer was set up
	recorders int    // that wait for each event, where they do
	turn      func(dir string) (result, error)
	absent    bool // the peer is not here
	perSec    []float64
	cpu       []float64 // seconds an event
	lineSize  float64
	p50, p99  []float64 // seconds, where each event is waited for
}

type result struct {
	events   int
	elapsed  time.Duration
	cpu      time.Duration // 0 when not known
	lineSize float64
	waits    []time.Duration
	p50, p99 time.Duration // in place of waits
}

// errAbsent says that a peer cannot be run here. Its line then says so.
var errAbsent = errors.New("not here")

func (s *series) run(parent string) error {
	if s.absent {
		return nil
	}
	dir, err := os.MkdirTemp(parent, "turn-")
	if err != nil {
		return err
	}
	runtime.GC()
	res, err := s.turn(dir)
	if errors.Is(err, errAbsent) {
		s.absent = true
		return os.RemoveAll(dir)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	s.perSec = append(s.perSec, float64(res.events)/res.elapsed.Seconds())
	s.cpu = append(s.cpu, res.cpu.Seconds()/float64(res.events))
	s.lineSize = res.lineSize
	if len(res.waits) > 0 {
		slices.Sort(res.waits)
		res.p50, res.p99 = res.waits[len(res.waits)/2], res.waits[len(res.waits)*99/100]
	}
	s.p50, s.p99 = append(s.p50, res.p50.Seconds()), append(s.p99, res.p99.Seconds())
	name := s.name
	if s.recorders > 0 {
		name = fmt.Sprintf("%s, %d recorders", name, s.recorders)
	}
	fmt.Fprintf(os.Stderr, "%-44s %10.0f/s\n", name, s.perSec[len(s.perSec)-1])
	return os.RemoveAll(dir)
}

func (b *bench) measure() error {
	b.pipelines = append(b.pipelineSeries(), b.loggerSeries()...)
	b.acks, b.digests, b.schemas = b.ackSeries(), b.digestSeries(), b.schemaSeries()
	for range b.rounds {
		if err := b.timeSyncs(); err != nil {
			return err
		}
		for _, s := range slices.Concat(b.pipelines, b.acks, b.digests, b.schemas) {
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
