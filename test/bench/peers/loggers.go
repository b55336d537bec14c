package main

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	phuslu "github.com/phuslu/log"
	"github.com/rs/zerolog"
	"github.com/sirupsen/logrus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The loggers, by the names that the targets use.
const (
	lineZap    = "zap"
	lineLogrus = "logrus"
	linePhuslu = "phuslu/log"
)

func (b *bench) loggerSeries() []*series {
	const file = "in a file's page cache, no sync"
	return []*series{
		{name: lineZap, promise: file, turn: b.logger(b.events, zapLogger)},
		{name: linePhuslu, promise: file, turn: b.logger(b.events, phusluLogger)},
		{name: "zerolog", promise: file, turn: b.logger(b.events, zerologLogger)},
		{name: "log/slog", promise: file, turn: b.logger(b.events, slogLogger)},
		{name: lineLogrus, promise: file, turn: b.logger(b.events/4, logrusLogger)}, // slow enough
	}
}

// logger measures one that writes n events to w, flushed in the end, never synced.
func (b *bench) logger(n int, logger func(w *bufio.Writer) func(i int)) func(string) (result, error) {
	return func(dir string) (result, error) {
		f, err := os.Create(filepath.Join(dir, "log"))
		if err != nil {
			return result{}, err
		}
		w := bufio.NewWriterSize(f, 256<<10)
		log := logger(w)
		start := startWatch()
		for i := range n {
			log(i)
		}
		err = w.Flush()
		elapsed, cpu := start.read()
		st, serr := f.Stat()
		if err := errors.Join(err, serr, f.Close()); err != nil {
			return result{}, err
		}
		return result{events: n, elapsed: elapsed, cpu: cpu, lineSize: float64(st.Size()) / float64(n)}, nil
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

func slogLogger(w *bufio.Writer) func(int) {
	host, pid, process := self()
	log := slog.New(slog.NewJSONHandler(w, nil)).With(
		slog.String("host", host), slog.String("pid", pid), slog.String("process", process),
		slog.String("producer", "0123456789ab"), slog.String("sdk", sdkName))
	return func(i int) {
		k := i % kinds
		log.LogAttrs(context.Background(), slog.LevelInfo, action, slog.String("id", ids[k]), slog.String("user", users[k]),
			slog.String("table", table), slog.String("account", accounts[k]), slog.String("sensitivity", level),
			slog.String("ip", addresses[k]), slog.Int("seq", i))
	}
}

func zerologLogger(w *bufio.Writer) func(int) {
	host, pid, process := self()
	zerolog.TimeFieldFormat = time.RFC3339Nano
	log := zerolog.New(w).With().Timestamp().
		Str("host", host).Str("pid", pid).Str("process", process).Str("producer", "0123456789ab").Str("sdk", sdkName).Logger()
	return func(i int) {
		k := i % kinds
		log.Info().Str("id", ids[k]).Str("user", users[k]).Str("table", table).Str("account", accounts[k]).
			Str("sensitivity", level).Str("ip", addresses[k]).Int("seq", i).Msg(action)
	}
}

// phusluLogger leaves the format of the time at what that package recommends,
// milliseconds: the other formats are slower.
func phusluLogger(w *bufio.Writer) func(int) {
	host, pid, process := self()
	log := phuslu.Logger{
		Level: phuslu.InfoLevel, Writer: phuslu.IOWriter{Writer: w},
		Context: phuslu.NewContext(nil).
			Str("host", host).Str("pid", pid).Str("process", process).Str("producer", "0123456789ab").Str("sdk", sdkName).Value(),
	}
	return func(i int) {
		k := i % kinds
		log.Info().Str("id", ids[k]).Str("user", users[k]).Str("table", table).Str("account", accounts[k]).
			Str("sensitivity", level).Str("ip", addresses[k]).Int("seq", i).Msg(action)
	}
}
