package veritrailzap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailtest"
	"github.com/veritrail/veritrail/veritrailzap"
)

var errDisk = errors.New("disk on fire")

func newCore(t testing.TB, cfg veritrailzap.Config) zapcore.Core {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	core, err := veritrailzap.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return core
}

func check(t *testing.T, part string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v\nwant %v", part, got, want)
	}
}

type account struct{ number, holder string }

func (a account) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	enc.AddString("number", a.number)
	return enc.AddObject("holder", zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
		enc.AddString("name", a.holder)
		return nil
	}))
}

func TestEntryBecomesEvent(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := zap.New(newCore(t, veritrailzap.Config{Recorder: rec, ObjectKeys: []string{"table"}})).Named("pay").Named("out")
	before := time.Now()
	log.With(zap.String("user", "u1"), zap.String("table", "ledger")).Warn("booked",
		zap.String("act", "DATA.TRANSFER"), zap.Dict("obj", zap.String("account", "62")),
		zap.Int("amount", 100), zap.Namespace("req"), zap.String("id", "r1"))
	e := rec.One("DATA.TRANSFER")
	if e.Severity != veritrail.SeverityWarn || e.Timestamp.Before(before.Round(0)) || time.Since(e.Timestamp) > time.Minute {
		t.Errorf("severity %s at %s", e.Severity, e.Timestamp)
	}
	check(t, "sub", e.Subject, map[string]string{"user": "u1"})
	check(t, "obj", e.Object, map[string]string{"account": "62", "table": "ledger"})
	check(t, "ctx", e.Context, map[string]string{"msg": "booked", "amount": "100", "req.id": "r1", "logger": "pay.out"})
}

func TestEveryKindOfField(t *testing.T) {
	at := time.Date(2026, 3, 1, 17, 30, 0, 5, time.FixedZone("CST", 8*3600))
	var none *account
	for _, tt := range []struct {
		field zap.Field
		want  map[string]string
	}{
		{zap.Bool("k", true), map[string]string{"k": "true"}},
		{zap.Int8("k", -8), map[string]string{"k": "-8"}},
		{zap.Int16("k", -16), map[string]string{"k": "-16"}},
		{zap.Int32("k", -32), map[string]string{"k": "-32"}},
		{zap.Int64("k", math.MinInt64), map[string]string{"k": "-9223372036854775808"}},
		{zap.Uint8("k", 8), map[string]string{"k": "8"}},
		{zap.Uint16("k", 16), map[string]string{"k": "16"}},
		{zap.Uint32("k", 32), map[string]string{"k": "32"}},
		{zap.Uint64("k", math.MaxUint64), map[string]string{"k": "18446744073709551615"}},
		{zap.Uint("k", 1), map[string]string{"k": "1"}},
		{zap.Uintptr("k", 1), map[string]string{"k": "1"}},
		{zap.Float64("k", 0.1), map[string]string{"k": "0.1"}},
		{zap.Float32("k", 0.1), map[string]string{"k": "0.1"}},
		{zap.Float64("k", math.NaN()), map[string]string{"k": "NaN"}},
		{zap.Complex128("k", 1+2i), map[string]string{"k": "(1+2i)"}},
		{zap.Complex64("k", 1+2i), map[string]string{"k": "(1+2i)"}},
		{zap.Time("k", at), map[string]string{"k": "2026-03-01T09:30:00.000000005Z"}},
		{zap.Duration("k", time.Second), map[string]string{"k": "1s"}},
		{zap.Binary("k", []byte{0xff}), map[string]string{"k": "/w=="}},
		{zap.ByteString("k", []byte("b\xff")), map[string]string{"k": "b\uFFFD"}},
		{zap.Stringer("k", netip.MustParseAddr("192.0.2.7")), map[string]string{"k": "192.0.2.7"}},
		{zap.NamedError("k", errDisk), map[string]string{"k": "disk on fire"}},
		{zap.Error(nil), map[string]string{}},
		{zap.Skip(), map[string]string{}},
		{zap.Strings("k", []string{"a", "b"}), map[string]string{"k": `["a","b"]`}},
		{zap.Objects("k", []account{{"62", "Zhang"}}), map[string]string{"k": `[{"holder":{"name":"Zhang"},"number":"62"}]`}},
		{zap.Object("k", account{"62", "Zhang"}), map[string]string{"k.number": "62", "k.holder.name": "Zhang"}},
		{zap.Inline(account{"62", "Zhang"}), map[string]string{"number": "62", "holder.name": "Zhang"}},
		{zap.Reflect("k", map[string]int{"<a>": 1}), map[string]string{"k": `{"<a>":1}`}},
		{zap.Reflect("k", make(chan int)), map[string]string{"k": "!ERROR: chan int has no JSON"}},
		{zap.Reflect("k", none), map[string]string{"k": "null"}},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		log := zap.New(newCore(t, veritrailzap.Config{Recorder: rec}))
		log.Info("", tt.field)
		log.With(tt.field).Info("")
		for _, e := range rec.Events() {
			check(t, fmt.Sprint("field of type ", tt.field.Type), e.Context, tt.want)
		}
	}
}

func TestLevels(t *testing.T) {
	for level, want := range map[zapcore.Level]veritrail.Severity{
		zapcore.DebugLevel: veritrail.SeverityDebug, zapcore.InfoLevel: veritrail.SeverityInfo, zapcore.WarnLevel: veritrail.SeverityWarn,
		zapcore.ErrorLevel: veritrail.SeverityError, zapcore.DPanicLevel: veritrail.SeverityCritical,
		zapcore.PanicLevel: veritrail.SeverityCritical, zapcore.FatalLevel: veritrail.SeverityCritical,
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		if err := newCore(t, veritrailzap.Config{Recorder: rec}).Write(zapcore.Entry{Level: level}, nil); err != nil {
			t.Fatal(err)
		}
		if got := rec.One("APP.LOG").Severity; got != want {
			t.Errorf("%s: got %s, want %s", level, got, want)
		}
	}
	rec := veritrailtest.New(t, veritrailtest.Config{})
	level := zap.NewAtomicLevel()
	log := zap.New(newCore(t, veritrailzap.Config{Recorder: rec, Level: level}))
	log.Debug("below")
	rec.None("*")
	level.SetLevel(zap.DebugLevel)
	log.Debug("not any more")
	rec.One("*")
	zap.New(newCore(t, veritrailzap.Config{Recorder: rec})).Debug("below the default")
	rec.One("*")
}

// The event of a panic is durable before the program goes on to die.
func TestPanicIsRecordedFirst(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := zap.New(newCore(t, veritrailzap.Config{Recorder: rec}))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
			rec.One("*")
		}()
		log.Panic("out of money")
	}()
}

func TestCallerAndNoStack(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	zap.New(newCore(t, veritrailzap.Config{Recorder: rec}), zap.AddCaller(), zap.AddStacktrace(zap.DebugLevel)).Info("m")
	got := rec.One("*").Context
	if !strings.HasPrefix(got["caller"], "veritrailzap/veritrailzap_test.go:") || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

func TestOnlyActionsBesideAnOrdinaryCore(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var out bytes.Buffer
	ordinary := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "msg"}),
		zapcore.AddSync(&out), zap.DebugLevel)
	log := zap.New(zapcore.NewTee(newCore(t, veritrailzap.Config{Recorder: rec, OnlyActions: true}), ordinary))
	log.Info("ordinary", zap.String("k", "v"), veritrailzap.Context(t.Context()))
	log.Info("of the record", zap.String("act", "AUTH.LOGIN.OK"))
	log.With(zap.String("act", "AUTH.LOGOUT")).Info("of the logger")
	if got := len(rec.Events()); got != 2 {
		t.Errorf("%d events, want 2", got)
	}
	want := `{"msg":"ordinary","k":"v"}
{"msg":"of the record","act":"AUTH.LOGIN.OK"}
{"msg":"of the logger","act":"AUTH.LOGOUT"}
`
	if out.String() != want {
		t.Errorf("the log has:\n%swant:\n%s", out.String(), want)
	}
}

type key struct{}

// seen keeps what the recorder finds in its context.
type seen struct{ values []any }

func (s *seen) Record(ctx context.Context, _ *veritrail.ComplianceEvent) error {
	s.values = append(s.values, ctx.Value(key{}))
	return ctx.Err()
}

func TestContextReachesTheRecorder(t *testing.T) {
	rec := new(seen)
	core := newCore(t, veritrailzap.Config{Recorder: rec, OnError: func(_ context.Context, _ *veritrail.ComplianceEvent, err error) {
		t.Error(err)
	}})
	of := func(name string) context.Context {
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, name))
		cancel() // the end of it does not matter
		return ctx
	}
	log := zap.New(core)
	log.Info("m")
	log.Info("m", veritrailzap.Context(of("entry")))
	derived := log.With(veritrailzap.Context(of("logger")))
	derived.Info("m")
	derived.With(zap.Int("n", 1)).Info("m", veritrailzap.Context(of("entry")))
	derived.Info("m", zap.Skip())
	if got, want := fmt.Sprint(rec.values), "[<nil> entry logger entry logger]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestDerivedCoresShareNothing(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	base := zap.New(newCore(t, veritrailzap.Config{Recorder: rec})).With(zap.Int("a", 1), zap.Int("b", 2), zap.Int("c", 3))
	one, two := base.With(zap.String("d", "one"), zap.Namespace("n")), base.With(zap.String("d", "two"))
	one.Info("", zap.String("k", "v"))
	two.Info("", zap.String("k", "v"))
	events := rec.Events()
	check(t, "one", events[0].Context, map[string]string{"a": "1", "b": "2", "c": "3", "d": "one", "n.k": "v"})
	check(t, "two", events[1].Context, map[string]string{"a": "1", "b": "2", "c": "3", "d": "two", "k": "v"})
}

func TestFailureIsToldAndPrintedByZap(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{Refusals: true})
	var told []*veritrail.ComplianceEvent
	var zapSays bytes.Buffer
	log := zap.New(newCore(t, veritrailzap.Config{
		Recorder: rec,
		OnError:  func(_ context.Context, e *veritrail.ComplianceEvent, _ error) { told = append(told, e) },
	}), zap.ErrorOutput(zapcore.AddSync(&zapSays)))
	rec.FailNext(errDisk)
	log.Info("m", zap.String("user", "u1"))
	if len(told) != 1 || told[0].Subject["user"] != "u1" || told[0].ID == "" ||
		!strings.Contains(zapSays.String(), "disk on fire") {
		t.Errorf("told of %v, zap says %q", told, zapSays.String())
	}
	log.Info("m", zap.String("long", strings.Repeat("x", veritrail.MaxEventBytes)))
	if len(told) != 2 || len(rec.Refused()) != 1 {
		t.Errorf("told of %d, refused %v", len(told), rec.Refused())
	}
}

func TestConcurrentUse(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := zap.New(newCore(t, veritrailzap.Config{Recorder: rec})).With(zap.String("svc", "payments"))
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			mine := log.With(zap.String("user", fmt.Sprint("u", w)))
			for range 50 {
				mine.Info("m", zap.Int("w", w))
			}
		})
	}
	all.Wait()
	events := rec.Events()
	if len(events) != 400 {
		t.Errorf("%d events, want 400", len(events))
	}
	for _, e := range events {
		if e.Subject["user"] != "u"+e.Context["w"] || len(e.Context) != 2 || len(e.Subject) != 2 {
			t.Fatalf("mixed up: %v %v", e.Subject, e.Context)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	for want, cfg := range map[string]veritrailzap.Config{
		"veritrailzap: Recorder is not set": {Service: "s"},
		"veritrailzap: Service is not set":  {Recorder: rec},
	} {
		if _, err := veritrailzap.New(cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

type nowhere struct{}

func (nowhere) Record(context.Context, *veritrail.ComplianceEvent) error { return nil }

// What the adapter costs without the trail, and zap's own JSON core beside it.
func BenchmarkCore(b *testing.B) {
	discard := zapcore.AddSync(writer{})
	for name, core := range map[string]zapcore.Core{
		"veritrail": newCore(b, veritrailzap.Config{Recorder: nowhere{}}),
		"json":      zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), discard, zap.InfoLevel),
	} {
		log := zap.New(core).With(zap.String("user", "u1"), zap.String("role", "teller"))
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Info("transfer booked", zap.String("act", "DATA.TRANSFER"), zap.String("obj.account", "62"),
					zap.Int("amount", 100))
			}
		})
	}
}

type writer struct{}

func (writer) Write(p []byte) (int, error) { return len(p), nil }
