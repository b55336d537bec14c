package veritrailslog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailslog"
	"github.com/veritrail/veritrail/veritrailtest"
)

var errDisk = errors.New("disk on fire")

func logger(t testing.TB, cfg veritrailslog.Config) *slog.Logger {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	h, err := veritrailslog.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return slog.New(h)
}

// bare keeps the last event as the handler made it, so that a time left out stays left out.
type bare struct{ last veritrail.ComplianceEvent }

func (b *bare) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	b.last = *e
	b.last.Context = maps.Clone(e.Context)
	return nil
}

// The standard library's own suite, which reads the event back as the tree of attributes that went in.
func TestSlogSuite(t *testing.T) {
	var rec *bare
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		rec = new(bare)
		h, err := veritrailslog.New(veritrailslog.Config{Recorder: rec, Service: "payments", SubjectKeys: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}, func(t *testing.T) map[string]any {
		tree := map[string]any{slog.LevelKey: rec.last.Severity.String()}
		if !rec.last.Timestamp.IsZero() {
			tree[slog.TimeKey] = rec.last.Timestamp
		}
		for name, value := range rec.last.Context {
			at := tree
			for {
				group, rest, dotted := strings.Cut(name, ".")
				if !dotted {
					break
				}
				if at[group] == nil {
					at[group] = map[string]any{}
				}
				at, name = at[group].(map[string]any), rest
			}
			at[name] = value
		}
		return tree
	})
}

type person struct{ name string }

func (p person) LogValue() slog.Value { return slog.StringValue("person " + p.name[:1]) }

func TestRecordBecomesEvent(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := logger(t, veritrailslog.Config{Recorder: rec, ObjectKeys: []string{"table"}})
	before := time.Now()
	log.With("user", "u1", "role", "teller").WithGroup("req").With("id", 7).
		Warn("read a lot", "act", "not an action inside a group", slog.Group("size", "rows", uint64(9), "took", time.Second))
	log.Info("booked", "act", "DATA.TRANSFER", slog.Group("sub", "user", "u2"), slog.Group("obj", "account", "62"),
		"table", "ledger", slog.Group("ctx", "ip", "192.0.2.7"), "who", person{"Zhang"}, "share", 0.5, "ok", true, "err", errDisk, "at", time.Unix(0, 1), "ids", []int{1, 2})

	first := rec.One("APP.LOG")
	if first.Severity != veritrail.SeverityWarn || first.Timestamp.Before(before.Round(0)) ||
		time.Since(first.Timestamp) > time.Minute {
		t.Errorf("severity %s at %s", first.Severity, first.Timestamp)
	}
	check(t, "sub", first.Subject, map[string]string{"user": "u1", "role": "teller"})
	check(t, "ctx", first.Context, map[string]string{
		"msg": "read a lot", "req.id": "7", "req.act": "not an action inside a group", "req.size.rows": "9", "req.size.took": "1s",
	})
	second := rec.One("DATA.TRANSFER")
	check(t, "sub", second.Subject, map[string]string{"user": "u2"})
	check(t, "obj", second.Object, map[string]string{"account": "62", "table": "ledger"})
	check(t, "ctx", second.Context, map[string]string{
		"msg": "booked", "ip": "192.0.2.7", "who": "person Z", "share": "0.5", "ok": "true", "err": "disk on fire",
		"at": "1970-01-01T00:00:00.000000001Z", "ids": "[1,2]",
	})
}

func check(t *testing.T, part string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v\nwant %v", part, got, want)
	}
}

func TestLevels(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := logger(t, veritrailslog.Config{Recorder: rec, Level: slog.LevelDebug})
	for level, want := range map[slog.Level]string{
		slog.LevelDebug: "DEBUG", slog.LevelInfo: "INFO", slog.LevelInfo + 2: "INFO", slog.LevelWarn: "WARN",
		slog.LevelError: "ERROR", slog.LevelError + 3: "ERROR", slog.LevelError + 4: "CRITICAL", slog.LevelError + 50: "CRITICAL",
	} {
		rec.Reset()
		log.Log(t.Context(), level, "x")
		if got := rec.One("*").Severity.String(); got != want {
			t.Errorf("%v: got %s, want %s", level, got, want)
		}
	}
	rec.Reset()
	log.Log(t.Context(), slog.LevelDebug-1, "x")
	var level slog.LevelVar
	log = logger(t, veritrailslog.Config{Recorder: rec, Level: &level})
	log.Debug("x")
	rec.None("*")
	level.Set(slog.LevelDebug)
	log.Debug("x")
	rec.One("*")
}

func TestOnlyActionsAreRecordedAndAllIsPassedOn(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var out bytes.Buffer
	next := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})
	log := logger(t, veritrailslog.Config{Recorder: rec, OnlyActions: true, Next: next})
	log.Debug("far below")
	log.With("user", "u1").WithGroup("g").Info("ordinary", "k", "v")
	log.With("act", "AUTH.LOGIN.OK").Info("of the handler")
	log.Info("of the record", "act", "AUTH.LOGIN.FAIL")
	if n := len(rec.Events()); n != 2 {
		t.Errorf("%d events recorded, want 2", n)
	}
	rec.One("AUTH.LOGIN.OK")
	rec.One("AUTH.LOGIN.FAIL")
	want := `level=DEBUG msg="far below"
level=INFO msg=ordinary user=u1 g.k=v
level=INFO msg="of the handler" act=AUTH.LOGIN.OK
level=INFO msg="of the record" act=AUTH.LOGIN.FAIL
`
	if out.String() != want {
		t.Errorf("passed on:\n%swant:\n%s", out.String(), want)
	}
}

// Handlers derived from one must not write into each other's attributes.
func TestDerivedHandlersShareNothing(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	base := logger(t, veritrailslog.Config{Recorder: rec}).With("a", 1, "b", 2, "c", 3)
	one, two := base.With("d", "one"), base.With("d", "two")
	one.Info("x", "user", "one")
	two.Info("x", "user", "two")
	base.Info("x", "user", "none")
	for _, e := range rec.Events() {
		want := map[string]string{"a": "1", "b": "2", "c": "3", "msg": "x", "d": e.Subject["user"]}
		if e.Subject["user"] == "none" {
			delete(want, "d")
		}
		check(t, "ctx", e.Context, want)
	}
}

func TestFailureIsReturnedAndTold(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{Refusals: true})
	var told []*veritrail.ComplianceEvent
	h, err := veritrailslog.New(veritrailslog.Config{
		Recorder: rec, Service: "payments",
		OnError: func(_ context.Context, e *veritrail.ComplianceEvent, err error) {
			if err == nil {
				t.Error("told of nothing")
			}
			told = append(told, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)
	record.Add("user", "u1")

	rec.FailNext(errDisk)
	if err := h.Handle(t.Context(), record); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the recorder's error", err)
	}
	rec.LoseAnswerNext(errDisk)
	if err := h.Handle(t.Context(), record); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the recorder's error", err)
	}
	if got := rec.One("*").ID; len(told) != 2 || told[1].ID != got {
		t.Errorf("told of %v, recorded %s: whoever was told cannot look for it", told, got)
	}
	tooLong := record.Clone()
	tooLong.Add("long", strings.Repeat("x", veritrail.MaxEventBytes))
	if err := h.Handle(t.Context(), tooLong); !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
		t.Errorf("got %v, want a refusal", err)
	}
	if len(told) != 3 || len(told[2].Context["long"]) != veritrail.MaxEventBytes {
		t.Error("the refused event was not told whole")
	}
	// What was told must not be used again for the next event.
	if err := h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "other", 0)); err != nil {
		t.Fatal(err)
	}
	if told[0].Context["msg"] != "m" || told[0].Subject["user"] != "u1" {
		t.Errorf("the event told first became %v", told[0])
	}
}

func TestFailureOfNextIsReturned(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	h, err := veritrailslog.New(veritrailslog.Config{Recorder: rec, Service: "s", Next: slog.NewTextHandler(broken{}, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Handle(t.Context(), slog.NewRecord(time.Now(), slog.LevelInfo, "m", 0)); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	rec.One("*")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errDisk }

func TestEndOfTheCallersContextDoesNotKeepTheEventOut(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	logger(t, veritrailslog.Config{Recorder: rec}).InfoContext(ctx, "m")
	rec.One("*")
}

func TestConcurrentUse(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := logger(t, veritrailslog.Config{Recorder: rec}).With("svc", "payments")
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			mine := log.With("user", fmt.Sprint("u", w))
			for i := range 50 {
				mine.Info("m", "n", i, "w", w)
			}
		})
	}
	all.Wait()
	events := rec.Events()
	if len(events) != 400 {
		t.Errorf("%d events, want 400", len(events))
	}
	for _, e := range events {
		if e.Subject["user"] != "u"+e.Context["w"] || len(e.Context) != 3 || len(e.Subject) != 2 {
			t.Fatalf("mixed up: %v %v", e.Subject, e.Context)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	for want, cfg := range map[string]veritrailslog.Config{
		"veritrailslog: Recorder is not set": {Service: "s"},
		"veritrailslog: Service is not set":  {Recorder: rec},
	} {
		if _, err := veritrailslog.New(cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

type nowhere struct{}

func (nowhere) Record(context.Context, *veritrail.ComplianceEvent) error { return nil }

// What the adapter costs without the trail, and slog's own JSON handler beside it.
func BenchmarkHandler(b *testing.B) {
	h, err := veritrailslog.New(veritrailslog.Config{Recorder: nowhere{}, Service: "payments"})
	if err != nil {
		b.Fatal(err)
	}
	for name, handler := range map[string]slog.Handler{"veritrail": h, "json": slog.NewJSONHandler(discard{}, nil)} {
		log := slog.New(handler).With("user", "u1", "role", "teller")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.LogAttrs(context.Background(), slog.LevelInfo, "transfer booked",
					slog.String("act", "DATA.TRANSFER"), slog.String("obj.account", "62"), slog.Int("amount", 100))
			}
		})
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
