package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

var background = context.Background()

// The lines that the targets name.
const (
	lineBuilder = "Veritrail, builder"
	lineSM3     = "Veritrail, builder, SHA-256 + SM3"
	lineMaps    = "Veritrail, ComplianceEvent"
)

// What the measured events say. A line is some 370 bytes, of which the recorder
// adds 200; the loggers write the same fields.
const (
	action  = "DATA.ACCOUNT.READ"
	table   = "core.accounts"
	level   = "internal"
	kinds   = 1024
	sdkName = "veritrail-go/" + veritrail.Version
)

var users, accounts, addresses, ids = values()

func values() (users, accounts, addresses, ids [kinds]string) {
	for i := range kinds {
		users[i] = "u" + strconv.Itoa(100_000+i)
		accounts[i] = strconv.Itoa(6_222_020_000_000_000 + i*7919)
		addresses[i] = fmt.Sprintf("10.%d.%d.%d", i%7, i/256, i%256)
		ids[i] = fmt.Sprintf("919108f7-52d1-4320-9bac-f847%08x", i*2_654_435)
	}
	return users, accounts, addresses, ids
}

func (b *bench) pipelineSeries() []*series {
	const durable = "durable (fdatasync, group commit)"
	return []*series{
		{name: lineBuilder, promise: durable, turn: b.pipeline(recorder.Config{}, sendBuilt)},
		{name: lineSM3, promise: durable, turn: b.pipeline(recorder.Config{SM3: true}, sendBuilt)},
		{name: lineMaps, promise: durable, turn: b.pipeline(recorder.Config{}, sendMaps)},
		{name: "Veritrail, builder, buffered", promise: "in the page cache; synced before a checkpoint", turn: b.pipeline(recorder.Config{Ack: recorder.AckBuffered}, sendBuilt)},
	}
}

// someLines are events as canonical JSON, of the size that ours have in the
// trail, for those who store bytes. Making them is not part of their turn.
var someLines = sync.OnceValues(func() (lines [][]byte, err error) {
	host, pid, process := self()
	for i := range kinds {
		e := &veritrail.ComplianceEvent{
			ID: ids[i], Timestamp: time.Unix(1_700_000_000, int64(i)), Severity: veritrail.SeverityInfo, Action: action,
			Subject: map[string]string{"user": users[i]},
			Object:  map[string]string{"table": table, "account": accounts[i], "sensitivity": level},
			Context: map[string]string{
				"ip": addresses[i], "host": host, "pid": pid, "process": process, "producer": "0123456789ab", "sdk": sdkName,
				"seq": strconv.Itoa(100_000 + i),
			},
		}
		line, err := e.Canonical()
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
})

type send func(r *recorder.Recorder, i int) (recorder.Future, error)

func sendBuilt(r *recorder.Recorder, i int) (recorder.Future, error) {
	i %= kinds
	return r.Event(action).Severity(veritrail.SeverityInfo).Sub("user", users[i]).
		Obj("table", table).Obj("account", accounts[i]).Obj("sensitivity", level).
		Ctx("ip", addresses[i]).RecordAsync(background)
}

func sendMaps(r *recorder.Recorder, i int) (recorder.Future, error) {
	i %= kinds
	return r.RecordAsync(background, &veritrail.ComplianceEvent{
		Severity: veritrail.SeverityInfo, Action: action,
		Subject: map[string]string{"user": users[i]},
		Object:  map[string]string{"table": table, "account": accounts[i], "sensitivity": level},
		Context: map[string]string{"ip": addresses[i]},
	})
}

// fill sends n events from one goroutine and returns when the last of them, and
// so all, are acknowledged.
func fill(r *recorder.Recorder, n int, send send) (elapsed, cpu time.Duration, err error) {
	start := startWatch()
	var last recorder.Future
	for i := range n {
		if last, err = send(r, i); err != nil {
			return 0, 0, err
		}
	}
	if err := last.Wait(background); err != nil {
		return 0, 0, err
	}
	elapsed, cpu = start.read()
	if s := r.Stats(); s.Lost > 0 || s.Size < uint64(n) {
		return 0, 0, fmt.Errorf("of %d events %d are in the trail, %d lost", n, s.Size, s.Lost)
	}
	return elapsed, cpu, nil
}

func (b *bench) pipeline(cfg recorder.Config, send send) func(string) (result, error) {
	return func(dir string) (result, error) {
		cfg.Dir = filepath.Join(dir, "trail")
		r, err := recorder.Open(cfg)
		if err != nil {
			return result{}, err
		}
		elapsed, cpu, err := fill(r, b.events, send)
		res := result{events: b.events, elapsed: elapsed, cpu: cpu, lineSize: float64(r.Stats().LeafBytes) / float64(b.events)}
		return res, errors.Join(err, r.Close())
	}
}

// recorderCounts are how many record at a time, each waiting for its event.
var recorderCounts = []int{256, 16, 1}

const ourAcks = "Veritrail"

func (b *bench) ackSeries() (all []*series) {
	for _, n := range recorderCounts {
		all = append(all,
			&series{name: ourAcks, recorders: n, turn: b.oneByOne(n)},
			&series{name: immudbName, recorders: n, promise: immudbSettings(n), turn: b.immudb(n)},
		)
		if turn := b.tessera(n); turn != nil {
			all = append(all, &series{name: tesseraName, recorders: n, promise: tesseraSettings(n), turn: turn})
		}
	}
	return all
}

func (b *bench) oneByOne(recorders int) func(string) (result, error) {
	return func(dir string) (result, error) {
		r, err := recorder.Open(recorder.Config{Dir: filepath.Join(dir, "trail")})
		if err != nil {
			return result{}, err
		}
		waits, elapsed, err := recordOneByOne(r, recorders, b.ackTurn)
		res := result{events: len(waits), elapsed: elapsed, waits: waits, lineSize: float64(r.Stats().LeafBytes) / float64(len(waits))}
		return res, errors.Join(err, r.Close())
	}
}

func recordOneByOne(r *recorder.Recorder, recorders int, during time.Duration) ([]time.Duration, time.Duration, error) {
	return oneByOne(recorders, during, func(i int) error {
		f, err := sendBuilt(r, i)
		if err != nil {
			return err
		}
		return f.Wait(background)
	})
}

// oneByOne lets so many goroutines record for a while, each waiting for one
// event before the next, and returns the waits.
func oneByOne(recorders int, during time.Duration, record func(i int) error) ([]time.Duration, time.Duration, error) {
	waits, errs := make([][]time.Duration, recorders), make([]error, recorders)
	var all sync.WaitGroup
	start := time.Now()
	for g := range recorders {
		all.Go(func() {
			for i := g; errs[g] == nil; i += recorders {
				began := time.Now()
				if began.Sub(start) >= during {
					return
				}
				errs[g] = record(i)
				waits[g] = append(waits[g], time.Since(began))
			}
		})
	}
	all.Wait()
	return slices.Concat(waits...), time.Since(start), errors.Join(errs...)
}

// stored is what a closed trail takes on disk, all its files together.
type stored struct {
	name       string
	events     int
	leaf, disk float64 // bytes an event
}

func (b *bench) measureStored() error {
	for _, c := range []struct {
		name   string
		cfg    recorder.Config
		record func(r *recorder.Recorder) error
	}{
		{"one goroutine, batched", recorder.Config{}, func(r *recorder.Recorder) error { _, _, err := fill(r, b.events, sendBuilt); return err }},
		{"one goroutine, batched, SHA-256 + SM3", recorder.Config{SM3: true}, func(r *recorder.Recorder) error { _, _, err := fill(r, b.events, sendBuilt); return err }},
		{"256 goroutines, one by one", recorder.Config{}, func(r *recorder.Recorder) error { _, _, err := recordOneByOne(r, 256, b.ackTurn); return err }},
	} {
		c.cfg.Dir = filepath.Join(b.dir, "stored")
		r, err := recorder.Open(c.cfg)
		if err != nil {
			return err
		}
		if err := errors.Join(c.record(r), r.Close()); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		size, err := sizeOf(c.cfg.Dir)
		if err != nil {
			return err
		}
		s := r.Stats()
		n := float64(s.Leaves)
		b.stored = append(b.stored, stored{c.name, int(s.Leaves), float64(s.LeafBytes)/n - 1, float64(size) / n})
		if err := os.RemoveAll(c.cfg.Dir); err != nil {
			return err
		}
	}
	return nil
}

// sizeOf is the sum of all files in dir.
func sizeOf(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
