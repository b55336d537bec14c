package veritrailzerolog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailtest"
	"github.com/veritrail/veritrail/veritrailzerolog"
)

var errDisk = errors.New("disk on fire")

func writer(t testing.TB, cfg veritrailzerolog.Config) *veritrailzerolog.Writer {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	w, err := veritrailzerolog.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func check(t *testing.T, part string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v\nwant %v", part, got, want)
	}
}

func TestLineBecomesEvent(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 7, time.UTC)
	rec := veritrailtest.New(t, veritrailtest.Config{Now: func() time.Time { return at }})
	log := zerolog.New(writer(t, veritrailzerolog.Config{Recorder: rec, ObjectKeys: []string{"table"}})).
		With().Str("user", "u1").Str("table", "ledger").Logger()
	log.Warn().Time("time", at).Str("act", "DATA.TRANSFER").Dict("obj", zerolog.Dict().Str("account", "62")).Int("amount", 100).
		Dict("req", zerolog.Dict().Str("id", "r1").Dict("size", zerolog.Dict().Float64("mb", 0.5))).
		Bool("ok", true).Err(errDisk).Strs("tags", []string{"a", `"b"`}).Interface("none", nil).Str("user", "u2").
		Str("text", "line\n<\u2028>\"").Uint64("big", 1<<63).Msg("booked")
	e := rec.One("DATA.TRANSFER")
	if e.Severity != veritrail.SeverityWarn || !e.Timestamp.Equal(at) {
		t.Errorf("severity %s at %s", e.Severity, e.Timestamp)
	}
	check(t, "sub", e.Subject, map[string]string{"user": "u2"})
	check(t, "obj", e.Object, map[string]string{"account": "62", "table": "ledger"})
	check(t, "ctx", e.Context, map[string]string{
		"msg": "booked", "amount": "100", "req.id": "r1", "req.size.mb": "0.5", "ok": "true", "error": "disk on fire", "tags": `["a","\"b\""]`,
		"none": "null", "shadowed.user": "u1", "text": "line\n<\u2028>\"", "big": "9223372036854775808", "time": "2026-03-01T09:30:00Z",
	})
}

func TestLevels(t *testing.T) {
	for level, want := range map[zerolog.Level]veritrail.Severity{
		zerolog.DebugLevel: veritrail.SeverityDebug, zerolog.InfoLevel: veritrail.SeverityInfo, zerolog.WarnLevel: veritrail.SeverityWarn,
		zerolog.ErrorLevel: veritrail.SeverityError, zerolog.FatalLevel: veritrail.SeverityCritical, zerolog.PanicLevel: veritrail.SeverityCritical,
		zerolog.NoLevel: veritrail.SeverityUnset,
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		w := writer(t, veritrailzerolog.Config{Recorder: rec})
		byLevel := zerolog.New(w)
		byLevel.WithLevel(level).Msg("m")
		// A writer that knows no levels: the line has to say.
		byLine := zerolog.New(struct{ onlyWrite }{onlyWrite{w}})
		byLine.WithLevel(level).Msg("m")
		for i, e := range rec.Wait("APP.LOG", 2) {
			// A line without a level is below none.
			if i == 1 && level == zerolog.NoLevel {
				want = veritrail.SeverityDebug
			}
			if e.Severity != want {
				t.Errorf("%s: event %d: got %s, want %s", level, i, e.Severity, want)
			}
			check(t, level.String(), e.Context, map[string]string{"msg": "m"})
		}
	}
	rec := veritrailtest.New(t, veritrailtest.Config{})
	w := writer(t, veritrailzerolog.Config{Recorder: rec, Level: zerolog.WarnLevel})
	log := zerolog.New(w)
	log.Info().Msg("below")
	if n, err := w.Write([]byte(`{"level":"info"}`)); n != 16 || err != nil {
		t.Errorf("a line below: %d, %v", n, err)
	}
	rec.None("*")
	log.Warn().Msg("not below")
	rec.One("*")
}

type onlyWrite struct{ w *veritrailzerolog.Writer }

func (o onlyWrite) Write(p []byte) (int, error) { return o.w.Write(p) }

func TestOnlyActionsBesideAnOrdinaryWriter(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var out bytes.Buffer
	log := zerolog.New(zerolog.MultiLevelWriter(writer(t, veritrailzerolog.Config{Recorder: rec, OnlyActions: true}), &out))
	log.Info().Msg("ordinary")
	log.Info().Str("act", "AUTH.LOGIN.OK").Msg("of the record")
	rec.One("AUTH.LOGIN.OK")
	rec.One("*")
	want := `{"level":"info","message":"ordinary"}
{"level":"info","act":"AUTH.LOGIN.OK","message":"of the record"}
`
	if out.String() != want {
		t.Errorf("the log has:\n%swant:\n%s", out.String(), want)
	}
}

func TestTraceHook(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := zerolog.New(writer(t, veritrailzerolog.Config{Recorder: rec})).Hook(veritrailzerolog.TraceHook{})
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}})
	ctx := trace.ContextWithSpanContext(t.Context(), span)
	log.Info().Ctx(ctx).Msg("")
	log.Info().Ctx(t.Context()).Msg("")
	log.Info().Msg("")
	ofLogger := log.With().Ctx(ctx).Logger()
	ofLogger.Info().Msg("")
	traced := map[string]string{"trace_id": "00000000000000000000000000000001", "span_id": "0000000000000002"}
	for i, want := range []map[string]string{traced, {}, {}, traced} {
		check(t, fmt.Sprint("line ", i), rec.Events()[i].Context, want)
	}
}

func TestBrokenLineIsTold(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var told []string
	w := writer(t, veritrailzerolog.Config{Recorder: rec, OnError: func(_ context.Context, e *veritrail.ComplianceEvent, err error) {
		if e != nil {
			t.Errorf("told of %v", e)
		}
		told = append(told, err.Error())
	}})
	for line, want := range map[string]string{
		"":                                "line of 0 bytes: want one JSON object",
		"4711":                            "line of 4 bytes: want one JSON object",
		`{"pin":4711`:                     "line of 11 bytes: want one JSON object",
		`{"pin":47x11}`:                   "line of 13 bytes: want one JSON object",
		`{"pin"}`:                         "line of 7 bytes: want one JSON object",
		`{"a":{"pin":}}`:                  "line of 14 bytes: want one JSON object",
		`{"pin":1}{"pin":2}`:              "line of 18 bytes: want one JSON object",
		"{\"pin\":1}\n{\"pin\":2}\n":      "line of 20 bytes: want one JSON object",
		strings.Repeat(" ", 1<<20) + "{}": "line of 1048578 bytes: want at most 1048576",
	} {
		told = nil
		n, err := w.Write([]byte(line))
		if n != 0 || err == nil || err.Error() != "veritrailzerolog: "+want || len(told) != 1 || told[0] != err.Error() {
			t.Errorf("%.20q: got %d, %v, told %q; want %s", line, n, err, told, want)
		}
	}
	rec.None("*")
}

func TestFailureIsToldAndReturned(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{Refusals: true})
	var told []*veritrail.ComplianceEvent
	w := writer(t, veritrailzerolog.Config{
		Recorder: rec,
		OnError:  func(_ context.Context, e *veritrail.ComplianceEvent, _ error) { told = append(told, e) },
	})
	rec.FailNext(errDisk)
	if n, err := w.WriteLevel(zerolog.InfoLevel, []byte(`{"user":"u1"}`)); n != 0 || !errors.Is(err, errDisk) {
		t.Errorf("got %d, %v", n, err)
	}
	if len(told) != 1 || told[0].Subject["user"] != "u1" || told[0].ID == "" {
		t.Errorf("told of %v", told)
	}
	long := `{"long":"` + strings.Repeat("x", veritrail.MaxEventBytes) + `"}`
	if _, err := w.Write([]byte(long)); !errors.Is(err, veritrail.ErrInvalidComplianceEvent) || len(told) != 2 {
		t.Errorf("got %v, told of %d", err, len(told))
	}
}

func TestConcurrentUse(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	log := zerolog.New(writer(t, veritrailzerolog.Config{Recorder: rec}))
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			mine := log.With().Str("user", fmt.Sprint("u", w)).Logger()
			for range 50 {
				mine.Info().Int("w", w).Msg("m")
			}
		})
	}
	all.Wait()
	events := rec.Events()
	if len(events) != 400 {
		t.Errorf("%d events, want 400", len(events))
	}
	for _, e := range events {
		if e.Subject["user"] != "u"+e.Context["w"] || len(e.Context) != 2 {
			t.Fatalf("mixed up: %v %v", e.Subject, e.Context)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	for want, cfg := range map[string]veritrailzerolog.Config{
		"veritrailzerolog: Recorder is not set": {Service: "s"},
		"veritrailzerolog: Service is not set":  {Recorder: rec},
	} {
		if _, err := veritrailzerolog.New(cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// Any line is either told to be broken or becomes an event.
func FuzzWrite(f *testing.F) {
	f.Add([]byte(`{"level":"info","act":"AUTH.LOGIN.OK","user":"u1","obj":{"a":{"b":[1,{"c":null}]}},"message":"m"}`))
	f.Add([]byte(`{"a":1,"a":2,"sub":{"user":""},"seq":1}` + "\n"))
	f.Add([]byte(strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40)))
	f.Add([]byte("{\"a\":\"\xff\\ud800\"}"))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		rec := veritrailtest.New(t, veritrailtest.Config{Refusals: true})
		told := 0
		w := writer(t, veritrailzerolog.Config{
			Recorder: rec, OnError: func(context.Context, *veritrail.ComplianceEvent, error) { told++ },
		})
		n, err := w.Write(line)
		switch recorded := len(rec.Events()); {
		case err != nil && (n != 0 || told != 1 || recorded != 0):
			t.Errorf("%v: %d bytes taken, told %d times, %d recorded", err, n, told, recorded)
		case err == nil && (n != len(line) || told != 0):
			t.Errorf("%d of %d bytes taken, told %d times", n, len(line), told)
		case err == nil && recorded != 1 && !bytes.Contains(line, []byte("trace")) && !bytes.Contains(line, []byte("-")):
			t.Errorf("not recorded") // level trace, or a number below it, is below Config.Level
		}
	})
}

type nowhere struct{}

func (nowhere) Record(context.Context, *veritrail.ComplianceEvent) error { return nil }

// What the adapter costs without the trail, and zerolog alone beside it.
func BenchmarkWriter(b *testing.B) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	for name, log := range map[string]zerolog.Logger{
		"veritrail": zerolog.New(writer(b, veritrailzerolog.Config{Recorder: nowhere{}})), "alone": zerolog.New(null),
	} {
		log = log.With().Str("user", "u1").Str("role", "teller").Logger()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				log.Info().Str("act", "DATA.TRANSFER").Str("obj.account", "62").Int("amount", 100).Msg("transfer booked")
			}
		})
	}
}

// The walk over a line finds what encoding/json finds, however it is spelled.
func FuzzWalk(f *testing.F) {
	f.Add(`a`, `x"y\`, " \t\r\n")
	f.Add("sub", "{[", "")
	f.Add("]}", "\\u0041}", "\n")
	f.Fuzz(func(t *testing.T, inner, value, space string) {
		if strings.Trim(space, " \t\r\n") != "" {
			return
		}
		quote := func(s string) string {
			b, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		tokens := []string{"{", `"g"`, ":", "{", `"k"`, ":", quote(value), ",", `"n"`, ":",
			"[", "{", `"]"`, ":", quote(inner), "}", ",", "-1e5", "]", "}", ",", `"last"`, ":", "null", "}"}
		line := space + strings.Join(tokens, space) + space
		rec := veritrailtest.New(t, veritrailtest.Config{Refusals: true})
		w := writer(t, veritrailzerolog.Config{Recorder: rec, OnError: func(context.Context, *veritrail.ComplianceEvent, error) {}})
		if _, err := w.Write([]byte(line)); err != nil {
			if len(line) < 10_000 {
				t.Errorf("%q: %v", line, err)
			}
			return
		}
		var want struct{ G struct{ K string } }
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		var n []any
		e := rec.One("*")
		if err := json.Unmarshal([]byte(e.Context["g.n"]), &n); err != nil || len(n) != 2 {
			t.Errorf("%q: g.n is %q", line, e.Context["g.n"])
		}
		if e.Context["g.k"] != want.G.K || e.Context["last"] != "null" || len(e.Context) != 3 {
			t.Errorf("%q: got %q", line, e.Context)
		}
	})
}
