package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

var background = context.Background()

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
	const durable, file = "durable (fdatasync, group commit)", "in a file's page cache, no sync"
	return []*series{
		{name: "Veritrail, builder", promise: durable, turn: b.pipeline(recorder.Config{}, sendBuilt)},
		{name: "Veritrail, builder, SHA-256 + SM3", promise: durable, turn: b.pipeline(recorder.Config{SM3: true}, sendBuilt)},
		{name: "Veritrail, ComplianceEvent", promise: durable, turn: b.pipeline(recorder.Config{}, sendMaps)},
		{name: "Veritrail, builder, buffered", promise: "in the page cache; synced before a checkpoint", turn: b.pipeline(recorder.Config{Ack: recorder.AckBuffered}, sendBuilt)},
		{name: "zap, JSON, 256 KiB buffer", promise: file, turn: b.logger(zapLogger)},
		{name: "logrus, JSON, 256 KiB buffer", promise: file, turn: b.logger(logrusLogger)},
	}
}

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
func fill(r *recorder.Recorder, n int, send send) (time.Duration, error) {
	start := time.Now()
	var last recorder.Future
	for i := range n {
		var err error
		if last, err = send(r, i); err != nil {
			return 0, err
		}
	}
	if err := last.Wait(background); err != nil {
		return 0, err
	}
	elapsed := time.Since(start)
	if s := r.Stats(); s.Lost > 0 || s.Size < uint64(n) {
		return 0, fmt.Errorf("of %d events %d are in the trail, %d lost", n, s.Size, s.Lost)
	}
	return elapsed, nil
}

func (b *bench) pipeline(cfg recorder.Config, send send) func(string) (result, error) {
	return func(dir string) (result, error) {
		cfg.Dir = filepath.Join(dir, "trail")
		r, err := recorder.Open(cfg)
		if err != nil {
			return result{}, err
		}
		elapsed, err := fill(r, b.events, send)
		res := result{events: b.events, elapsed: elapsed, lineSize: float64(r.Stats().LeafBytes) / float64(b.events)}
		return res, errors.Join(err, r.Close())
	}
}

// logger measures one that writes to w, flushed in the end, never synced.
func (b *bench) logger(logger func(w *bufio.Writer) func(i int)) func(string) (result, error) {
	return func(dir string) (result, error) {
		f, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			return result{}, err
		}
		w := bufio.NewWriterSize(f, 256<<10)
		log := logger(w)
		start := time.Now()
		for i := range b.events {
			log(i)
		}
		err = w.Flush()
		elapsed := time.Since(start)
		st, serr := f.Stat()
		if err := errors.Join(err, serr, f.Close()); err != nil {
			return result{}, err
		}
		return result{events: b.events, elapsed: elapsed, lineSize: float64(st.Size()) / float64(b.events)}, nil
	}
}

func zapLogger(w *bufio.Writer) func(int) {
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.EncodeTime = "ts", zapcore.RFC3339NanoTimeEncoder
	host, pid, process := self()
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoding), zapcore.AddSync(w), zapcore.InfoLevel)).With(
		zap.String("host", host), zap.String("pid", pid), zap.String("process", process),
		zap.String("producer", "0123456789ab"), zap.String("sdk", sdkName))
	return func(i int) {
		k := i % kinds
		log.Info(action, zap.String("id", ids[k]), zap.String("user", users[k]),
			zap.String("table", table), zap.String("account", accounts[k]), zap.String("sensitivity", level),
			zap.String("ip", addresses[k]), zap.Int("seq", i))
	}
}

func logrusLogger(w *bufio.Writer) func(int) {
	host, pid, process := self()
	l := logrus.New()
	l.SetOutput(w)
	l.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	log := l.WithFields(logrus.Fields{"host": host, "pid": pid, "process": process, "producer": "0123456789ab", "sdk": sdkName})
	return func(i int) {
		k := i % kinds
		log.WithFields(logrus.Fields{
			"id": ids[k], "user": users[k], "table": table, "account": accounts[k],
			"sensitivity": level, "ip": addresses[k], "seq": i,
		}).Info(action)
	}
}

func self() (host, pid, process string) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host, strconv.Itoa(os.Getpid()), filepath.Base(os.Args[0])
}

func (b *bench) ackSeries() []*series {
	return []*series{
		{name: "256 goroutines", turn: b.oneByOne(256, b.sizes.acks)},
		{name: "16 goroutines", turn: b.oneByOne(16, b.sizes.acks/5)},
		{name: "1 goroutine", turn: b.oneByOne(1, b.sizes.acks/40)},
	}
}

func (b *bench) oneByOne(goroutines, events int) func(string) (result, error) {
	return func(dir string) (result, error) {
		r, err := recorder.Open(recorder.Config{Dir: filepath.Join(dir, "trail")})
		if err != nil {
			return result{}, err
		}
		waits, elapsed, err := recordOneByOne(r, goroutines, events)
		res := result{events: len(waits), elapsed: elapsed, waits: waits, lineSize: float64(r.Stats().LeafBytes) / float64(len(waits))}
		return res, errors.Join(err, r.Close())
	}
}

func recordOneByOne(r *recorder.Recorder, goroutines, events int) ([]time.Duration, time.Duration, error) {
	each := events / goroutines
	waits := make([]time.Duration, each*goroutines)
	errs := make([]error, goroutines)
	var all sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		all.Go(func() {
			for i := g * each; i < (g+1)*each; i++ {
				began := time.Now()
				f, err := sendBuilt(r, i)
				if err == nil {
					err = f.Wait(background)
				}
				if err != nil {
					errs[g] = err
					return
				}
				waits[i] = time.Since(began)
			}
		})
	}
	all.Wait()
	return waits, time.Since(start), errors.Join(errs...)
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
		{"one goroutine, batched", recorder.Config{}, func(r *recorder.Recorder) error { _, err := fill(r, b.events, sendBuilt); return err }},
		{"one goroutine, batched, SHA-256 + SM3", recorder.Config{SM3: true}, func(r *recorder.Recorder) error { _, err := fill(r, b.events, sendBuilt); return err }},
		{"256 goroutines, one by one", recorder.Config{}, func(r *recorder.Recorder) error { _, _, err := recordOneByOne(r, 256, b.sizes.acks); return err }},
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
