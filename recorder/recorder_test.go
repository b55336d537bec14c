package recorder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

var background = context.Background()

// secret stands for whatever must never be in a rejection.
const secret = "13912345678"

func dirOf(t testing.TB) string { return filepath.Join(t.TempDir(), "trail") }

// start opens a recorder whose checkpoints come only when they are asked for.
func start(t testing.TB, cfg Config) *Recorder {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = dirOf(t)
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = time.Hour
	}
	r, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

func shut(t testing.TB, r *Recorder) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func login() *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{Subject: map[string]string{"user": "u1"}, Action: "AUTH.LOGIN.OK"}
}

// leavesOf reads every leaf of the trail in dir and checks some of them against the root.
func leavesOf(t testing.TB, dir string) [][]byte {
	t.Helper()
	v, tail, err := trail.OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if tail.Err != nil {
		t.Fatal(tail.Err)
	}
	out := readLeaves(t, v, 0)
	checkProofs(t, v, out, 0)
	return out
}

func readLeaves(t testing.TB, v *trail.View, first uint64) (out [][]byte) {
	t.Helper()
	for first < v.Size() {
		n := min(tlog.TileWidth-first%tlog.TileWidth, v.Size()-first)
		leaves, err := v.Leaves().Read(first, int(n))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, leaves...)
		first += n
	}
	return out
}

// checkProofs proves some of the leaves, which begin with leaf first, in every tree of v.
func checkProofs(t testing.TB, v *trail.View, leaves [][]byte, first uint64) {
	t.Helper()
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		root, ok := v.Root(d)
		if !ok {
			continue
		}
		for i := 0; i < len(leaves); i += 1 + len(leaves)/8 {
			at := first + uint64(i)
			path, err := tlog.InclusionProof(d, v.Tiles(d), at, v.Size())
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckInclusion(d, at, v.Size(), d.LeafHash(leaves[i]), path, root); err != nil {
				t.Fatalf("%v: leaf %d: %v", d, at, err)
			}
		}
	}
}

// stored reads every event of the trail in dir; each leaf must be canonical.
func stored(t testing.TB, dir string) (out []*veritrail.ComplianceEvent) {
	t.Helper()
	for i, leaf := range leavesOf(t, dir) {
		e, err := veritrail.ParseCanonical(leaf)
		if err != nil {
			t.Fatalf("leaf %d: %v", i, err)
		}
		out = append(out, e)
	}
	return out
}

func only(t testing.TB, dir string) *veritrail.ComplianceEvent {
	t.Helper()
	events := stored(t, dir)
	if len(events) != 1 {
		t.Fatalf("got %d events, want 1", len(events))
	}
	return events[0]
}

func TestEveryRejectionIsOnRecordWithoutTheValue(t *testing.T) {
	pairs := func(n int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[fmt.Sprintf("k%d", i)] = secret
		}
		return m
	}
	event := func(change func(e *veritrail.ComplianceEvent)) func(*Recorder) error {
		return func(r *Recorder) error {
			e := login()
			e.Object = map[string]string{"name": secret}
			change(e)
			return r.Record(background, e)
		}
	}
	text := func(s string) func(*Recorder) error {
		return func(r *Recorder) error { _, err := r.RecordJSON(background, []byte(s)); return err }
	}
	build := func(change func(b *Builder) *Builder) func(*Recorder) error {
		return func(r *Recorder) error {
			return change(r.Event("AUTH.LOGIN.OK").Sub("user", "u1").Obj("name", secret)).Record(background)
		}
	}
	type E = veritrail.ComplianceEvent
	for name, c := range map[string]struct {
		record func(*Recorder) error
		path   string
		rule   string // a part of it
	}{
		"nil event":               {func(r *Recorder) error { return r.Record(background, nil) }, "", "want object"},
		"id is no UUID":           {event(func(e *E) { e.ID = secret }), "/id", "UUID"},
		"nil UUID":                {event(func(e *E) { e.ID = "00000000-0000-0000-0000-000000000000" }), "/id", "nil UUID"},
		"year out of range":       {event(func(e *E) { e.Timestamp = time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC) }), "/ts", "year"},
		"severity unknown":        {event(func(e *E) { e.Severity = 99 }), "/sev", "CRITICAL"},
		"no subject":              {event(func(e *E) { e.Subject = nil }), "/sub", "required"},
		"empty subject value":     {event(func(e *E) { e.Subject["user"] = "" }), "/sub/user", "empty"},
		"subject kind unknown":    {event(func(e *E) { e.Subject[secret] = secret }), "/sub", "allowlist"},
		"no action":               {event(func(e *E) { e.Action = "" }), "/act", "required"},
		"action is no code":       {event(func(e *E) { e.Action = "LOGIN OF " + secret }), "/act", "dotted"},
		"action unknown":          {event(func(e *E) { e.Action = "PHONE." + secret }), "/act", "allowlist"},
		"action of the trail":     {event(func(e *E) { e.Action = "TRAIL.EVENT.REJECTED" }), "/act", "allowlist"},
		"key is a value":          {event(func(e *E) { e.Object = map[string]string{secret + "\x01": secret} }), "/obj/?", "control"},
		"value is not UTF-8":      {event(func(e *E) { e.Object["name"] = secret + "\xff" }), "/obj/name", "UTF-8"},
		"too many pairs":          {event(func(e *E) { e.Object = pairs(129) }), "/obj", "pairs"},
		"too large":               {event(func(e *E) { e.Object["name"] = strings.Repeat(secret, 6000) }), "", "bytes"},
		"too large once enriched": {event(func(e *E) { e.Object["name"] = strings.Repeat("1", 65535-160) }), "", "what the recorder adds"},
		"too many once enriched":  {event(func(e *E) { e.Context = pairs(128) }), "/ctx", "what the recorder adds"},
		"producer is ours":        {event(func(e *E) { e.Context = map[string]string{"producer": secret} }), "/ctx/producer", "recorder alone"},
		"sdk is ours":             {event(func(e *E) { e.Context = map[string]string{"sdk": secret} }), "/ctx/sdk", "recorder alone"},
		"seq is ours":             {event(func(e *E) { e.Context = map[string]string{"seq": secret} }), "/ctx/seq", "recorder alone"},

		"JSON: not JSON":      {text(secret + "x"), "", ""},
		"JSON: wrong type":    {text(`{"act":"AUTH.X","sub":{"user":` + secret + `}}`), "/sub/user", "want string"},
		"JSON: unknown field": {text(`{"act":"AUTH.X","sub":{"user":"u"},"note":"` + secret + `"}`), "/note", "unknown"},
		"JSON: duplicate key": {text(`{"act":"AUTH.X","sub":{"user":"` + secret + `","user":"u"}}`), "/sub/user", "duplicate"},

		"builder: id is no UUID": {build(func(b *Builder) *Builder { return b.ID(secret) }), "/id", "UUID"},
		"builder: nil UUID": {
			build(func(b *Builder) *Builder { return b.ID("00000000-0000-0000-0000-000000000000") }), "/id", "nil UUID",
		},
		"builder: duplicate key": {build(func(b *Builder) *Builder { return b.Obj("name", secret) }), "/obj/name", "duplicate"},
		"builder: too many": {build(func(b *Builder) *Builder {
			for i := range 200 {
				b.Ctx("k"+strconv.Itoa(i), secret)
			}
			return b
		}), "/ctx", "pairs"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := dirOf(t)
			r := start(t, Config{Dir: dir})
			err := c.record(r)
			if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
				t.Fatalf("got %v, want ErrInvalidComplianceEvent", err)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the value: %v", err)
			}
			if got := r.Stats().Rejected; got != 1 {
				t.Errorf("%d rejections are counted", got)
			}
			shut(t, r)
			leaves := leavesOf(t, dir)
			if len(leaves) != 1 {
				t.Fatalf("got %d leaves, want the rejection alone", len(leaves))
			}
			if strings.Contains(string(leaves[0]), secret) {
				t.Errorf("the rejection holds the value: %s", leaves[0])
			}
			e := only(t, dir)
			if e.Action != "TRAIL.EVENT.REJECTED" || e.Severity != veritrail.SeverityWarn || e.Subject["svc"] != "veritrail" {
				t.Errorf("got %s", leaves[0])
			}
			if got := e.Object["path"]; got != c.path {
				t.Errorf("path: got %q, want %q", got, c.path)
			}
			if got := e.Object["rule"]; !strings.Contains(got, c.rule) || got == "" {
				t.Errorf("rule: got %q, want one about %q", got, c.rule)
			}
			for key := range e.Object {
				if !slices.Contains([]string{"path", "rule", "more"}, key) {
					t.Errorf("the rejection says %q too", key)
				}
			}
		})
	}
}

func TestRejectionCountsFurtherViolations(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	e := login()
	e.Action, e.Subject["passport"] = "NO.SUCH", "1"
	if err := r.Record(background, e); err == nil {
		t.Fatal("the event was taken")
	}
	shut(t, r)
	if got := only(t, dir).Object["more"]; got != "1" {
		t.Errorf("more: got %q, want 1", got)
	}
}

func TestAllowlistsDecideWhatIsWelcome(t *testing.T) {
	custom := Allowlist{Subjects: []string{"badge"}, Actions: []string{"DOOR.OPEN", "LAB.*.ENTER", "SHIP.*"}}
	for _, c := range []struct {
		allow           Allowlist
		subject, action string
		welcome         bool
	}{
		{Allowlist{}, "user", "AUTH.LOGIN.OK", true},
		{Allowlist{}, "svc", "APP.START", true},
		{Allowlist{}, "role", "KEY.ROTATE", true},
		{Allowlist{}, "session", "NET.DENY", true},
		{Allowlist{}, "device", "BOOT.OK", true},
		{Allowlist{}, "user", "AUTH", false},
		{Allowlist{}, "user", "AUTHENTICATE.LOGIN", false},
		{Allowlist{}, "user", "auth.login", false},
		{Allowlist{}, "user", "PAY.OUT", false},
		{Allowlist{}, "badge", "AUTH.LOGIN.OK", false},
		{custom, "badge", "DOOR.OPEN", true},
		{custom, "badge", "DOOR.OPEN.WIDE", false},
		{custom, "badge", "DOOR.CLOSE", false},
		{custom, "badge", "LAB.EAST.ENTER", true},
		{custom, "badge", "LAB.EAST.LEAVE", false},
		{custom, "badge", "LAB.ENTER", false},
		{custom, "badge", "SHIP.A", true},
		{custom, "badge", "SHIP.A.B.C", true},
		{custom, "badge", "SHIP", false},
		{custom, "user", "DOOR.OPEN", false},
		{custom, "badge", "AUTH.LOGIN.OK", false},
		{Allowlist{Subjects: []string{"user"}, Actions: []string{"*.*"}}, "user", "TRAIL.RESUMED", false},
		{Allowlist{Subjects: []string{"user"}, Actions: []string{"*.LOGIN"}}, "user", "TRAIL.LOGIN", false},
		{Allowlist{Subjects: []string{"user"}, Actions: []string{"*.LOGIN"}}, "user", "SSO.LOGIN", true},
	} {
		allow, err := c.allow.compile()
		if err != nil {
			t.Fatal(err)
		}
		d := veritrail.Draft{Action: c.action, Subject: veritrail.Pairs{{Key: c.subject, Value: "1"}}}
		if err := allow.check(&d, false); (err == nil) != c.welcome {
			t.Errorf("%s by %s under %v: got %v, want welcome %v", c.action, c.subject, c.allow.Actions, err, c.welcome)
		}
	}
}

func TestAllowlistsOfTheTrailsOwnActionsAreRefused(t *testing.T) {
	for _, pattern := range []string{"TRAIL.*", "TRAIL.EVENT.REJECTED", "*", "", "A..B", "A B", "A.*x"} {
		dir := dirOf(t)
		_, err := Open(Config{Dir: dir, Allow: Allowlist{Subjects: []string{"user"}, Actions: []string{pattern}}})
		if err == nil {
			t.Errorf("pattern %q is taken", pattern)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("pattern %q: a trail was made all the same", pattern)
		}
	}
}

func TestRecordOwnTakesWhatOthersMayNotRecord(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	e := &veritrail.ComplianceEvent{Subject: map[string]string{"svc": "veritrail"}, Action: "TRAIL.STARTED"}
	if err := r.RecordOwn(background, e); err != nil {
		t.Fatal(err)
	}
	if err := r.RecordOwn(background, &veritrail.ComplianceEvent{Action: "TRAIL.STARTED"}); err == nil {
		t.Error("an own event without a subject was taken")
	}
	shut(t, r)
	if got := only(t, dir).Action; got != "TRAIL.STARTED" {
		t.Errorf("got %s", got)
	}
}

func spanContext(t *testing.T) (context.Context, string, string) {
	t.Helper()
	traceID, span := "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7" // W3C trace context, §3.2
	id, err := trace.TraceIDFromHex(traceID)
	if err != nil {
		t.Fatal(err)
	}
	spanID, err := trace.SpanIDFromHex(span)
	if err != nil {
		t.Fatal(err)
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: spanID})
	return trace.ContextWithSpanContext(background, sc), traceID, span
}

func TestEventsAreEnriched(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.UTC)
	dir := dirOf(t)
	r := start(t, Config{Dir: dir, Now: func() time.Time { return now }})
	ctx, traceID, spanID := spanContext(t)
	if err := r.Record(ctx, login()); err != nil {
		t.Fatal(err)
	}
	shut(t, r)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	e := only(t, dir)
	producer := e.Context["producer"]
	if len(producer) != 12 {
		t.Errorf("producer: got %q, want 12 hex digits", producer)
	}
	want := map[string]string{
		"host": host, "pid": strconv.Itoa(os.Getpid()), "process": strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"),
		"producer": producer, "sdk": "veritrail-go/" + veritrail.Version, "seq": "1", "trace_id": traceID, "span_id": spanID,
	}
	if !maps.Equal(e.Context, want) {
		t.Errorf("ctx: got %v, want %v", e.Context, want)
	}
	if !e.Timestamp.Equal(now) {
		t.Errorf("ts: got %v, want %v", e.Timestamp, now)
	}
}

func TestWhatTheCallerSaysStays(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	const id = "919108f7-52d1-4320-9bac-f847db4148a8"
	at := time.Date(2025, 12, 31, 23, 59, 59, 1, time.FixedZone("CST", 8*3600))
	ctx, _, _ := spanContext(t)
	said := map[string]string{"host": "branch-7", "process": "teller", "pid": "9", "trace_id": "mine"}
	e := login()
	e.ID, e.Timestamp, e.Severity, e.Context = id, at, veritrail.SeverityError, maps.Clone(said)
	f, err := r.RecordAsync(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if f.ID.String() != id {
		t.Errorf("the future's id: got %v", f.ID)
	}
	if leaf, ok := f.Leaf(); leaf != 0 || !ok {
		t.Errorf("leaf: got %d, %v", leaf, ok)
	}
	shut(t, r)
	got := only(t, dir)
	if got.ID != id || !got.Timestamp.Equal(at) || got.Severity != veritrail.SeverityError {
		t.Errorf("got %+v", got)
	}
	for key, value := range said {
		if got.Context[key] != value {
			t.Errorf("ctx %s: got %q, want %q", key, got.Context[key], value)
		}
	}
	if span, there := got.Context["span_id"]; there {
		t.Errorf("span %s of another trace stands beside the caller's trace id", span)
	}
}

// TestManyRecorders also covers that ids are unique and that seq has no gap.
func TestManyRecordersLoseNothingAndRepeatNothing(t *testing.T) {
	const goroutines, each = 20, 5_000
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	var all sync.WaitGroup
	var failed atomic.Uint64
	for g := range goroutines {
		all.Go(func() {
			user := strconv.Itoa(g)
			futures := make([]Future, each)
			for i := range futures {
				var err error
				if futures[i], err = r.Event("APP.STEP").Sub("user", user).Obj("n", strconv.Itoa(i)).RecordAsync(background); err != nil {
					failed.Add(1)
					return
				}
			}
			for _, f := range futures {
				if err := f.Wait(background); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	shut(t, r)
	if n := failed.Load(); n > 0 {
		t.Fatalf("%d failures", n)
	}
	events := stored(t, dir)
	if len(events) != goroutines*each {
		t.Fatalf("got %d events, want %d", len(events), goroutines*each)
	}
	ids, seqs, next := make(map[string]bool), make([]bool, len(events)+1), make(map[string]int)
	for _, e := range events {
		if id := e.ID; ids[id] || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("id %s: not a version 4 UUID, or there twice", id)
		}
		ids[e.ID] = true
		seq, err := strconv.Atoi(e.Context["seq"])
		if err != nil || seq < 1 || seq > len(events) || seqs[seq] {
			t.Fatalf("seq %q: not a number from 1 to %d, or there twice", e.Context["seq"], len(events))
		}
		seqs[seq] = true
		user := e.Subject["user"]
		if e.Object["n"] != strconv.Itoa(next[user]) {
			t.Fatalf("goroutine %s: event %s is out of order", user, e.Object["n"])
		}
		next[user]++
	}
}

func TestCallersMapsAreNeitherChangedNorKept(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir, Redactor: redactorFunc(func(_ context.Context, d *veritrail.Draft) error {
		for i := range d.Object {
			d.Object[i].Value = "masked"
		}
		return nil
	})})
	e := login()
	e.Object, e.Context = map[string]string{"name": "before"}, map[string]string{"ip": "192.0.2.7"}
	object, contexts := maps.Clone(e.Object), maps.Clone(e.Context)
	var futures []Future
	for range 200 {
		f, err := r.RecordAsync(background, e)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(e.Object, object) || !maps.Equal(e.Context, contexts) || e.ID != "" || !e.Timestamp.IsZero() {
			t.Fatalf("the event was changed: %+v", e)
		}
		// The writer is at work on the leaf now; the race detector would see it look here.
		e.Object["name"], e.Context["ip"], e.Subject["user"] = "after", "after", "after"
		e.Object, e.Context = maps.Clone(object), maps.Clone(contexts)
		e.Subject = map[string]string{"user": "u1"}
		futures = append(futures, f)
	}
	for _, f := range futures {
		if err := f.Wait(background); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, r)
	for i, got := range stored(t, dir) {
		if got.Object["name"] != "masked" || got.Context["ip"] != "192.0.2.7" || got.Subject["user"] != "u1" {
			t.Fatalf("leaf %d: got %+v", i, got)
		}
	}
}

type redactorFunc func(context.Context, *veritrail.Draft) error

func (f redactorFunc) Redact(ctx context.Context, d *veritrail.Draft) error { return f(ctx, d) }

func TestRedactorSeesTheEnrichedEventAndItsChangesAreStored(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(background, key{}, "caller's")
	dir := dirOf(t)
	r := start(t, Config{Dir: dir, Redactor: redactorFunc(func(ctx context.Context, d *veritrail.Draft) error {
		if ctx.Value(key{}) != "caller's" {
			return errors.New("not the caller's context")
		}
		for _, k := range []string{"host", "pid", "process", "producer", "sdk", "seq"} {
			if _, there := d.Context.Get(k); !there {
				return errors.New("not enriched: " + k)
			}
		}
		if d.ID.IsZero() || d.Timestamp.IsZero() {
			return errors.New("not enriched: id, ts")
		}
		d.Object = append(d.Object[:0], veritrail.Pair{Key: "z", Value: "1"}, veritrail.Pair{Key: "a", Value: "2"}) // unsorted
		d.Context = slices.DeleteFunc(d.Context, func(p veritrail.Pair) bool { return p.Key == "host" })
		return nil
	})})
	e := login()
	e.Object = map[string]string{"phone": secret}
	if err := r.Record(ctx, e); err != nil {
		t.Fatal(err)
	}
	shut(t, r)
	got := only(t, dir) // canonical, so sorted
	if want := map[string]string{"a": "2", "z": "1"}; !maps.Equal(got.Object, want) {
		t.Errorf("object: got %v, want %v", got.Object, want)
	}
	if _, there := got.Context["host"]; there {
		t.Error("the redactor dropped the host, and it is there")
	}
}

func TestWhatTheRedactorRefusesIsNotStored(t *testing.T) {
	broken := errors.New("no key for " + secret)
	grow := func(_ context.Context, d *veritrail.Draft) error {
		if d.Action == "AUTH.LOGIN.OK" {
			d.Object = append(d.Object, veritrail.Pair{Key: "cipher", Value: strings.Repeat("x", veritrail.MaxEventBytes)})
		}
		return nil
	}
	some := func(_ context.Context, d *veritrail.Draft) error {
		if d.Action == "AUTH.LOGIN.OK" {
			return broken
		}
		return nil
	}
	for name, c := range map[string]struct {
		redact redactorFunc
		want   error
		rule   string
		hosted bool // the rejection itself went through the redactor
	}{
		"an error":          {some, broken, "refused by redaction", true},
		"an error, always":  {func(context.Context, *veritrail.Draft) error { return broken }, broken, "refused by redaction", false},
		"past the bounds":   {grow, veritrail.ErrInvalidComplianceEvent, "bytes", true},
		"an empty refusal":  {func(context.Context, *veritrail.Draft) error { return &veritrail.InvalidEventError{} }, veritrail.ErrInvalidComplianceEvent, "refused by redaction", false},
		"nobody left in it": {func(_ context.Context, d *veritrail.Draft) error { d.Subject = nil; return nil }, veritrail.ErrInvalidComplianceEvent, "required", false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := dirOf(t)
			r := start(t, Config{Dir: dir, Redactor: c.redact})
			e := login()
			e.Object = map[string]string{"phone": secret}
			if err := r.Record(background, e); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			shut(t, r)
			got := only(t, dir)
			if got.Action != "TRAIL.EVENT.REJECTED" || !strings.Contains(got.Object["rule"], c.rule) || got.Subject["svc"] != "veritrail" {
				t.Errorf("got %+v", got)
			}
			if _, hosted := got.Context["host"]; hosted != c.hosted {
				t.Errorf("ctx of the rejection: got %v", got.Context)
			}
			if got.Context["seq"] == "" || got.Context["producer"] == "" {
				t.Errorf("ctx of the rejection: got %v", got.Context)
			}
			if leaf := string(leavesOf(t, dir)[0]); strings.Contains(leaf, secret) {
				t.Errorf("the rejection holds the value: %s", leaf)
			}
		})
	}
}

func TestAcknowledgementsMeanWhatTheySay(t *testing.T) {
	for _, ack := range []Ack{AckDurable, AckBuffered} {
		t.Run(ack.String(), func(t *testing.T) {
			r := start(t, Config{Ack: ack})
			if err := r.Record(background, login()); err != nil {
				t.Fatal(err)
			}
			if s := r.Stats(); s.Size != 1 || s.Sealed != 0 {
				t.Errorf("acknowledged: size %d, sealed %d, want 1 and 0", s.Size, s.Sealed)
			}
			if err := r.Seal(background); err != nil {
				t.Fatal(err)
			}
			if s := r.Stats(); s.Sealed != 1 {
				t.Errorf("after Seal: sealed %d", s.Sealed)
			}
		})
	}
	t.Run("sealed", func(t *testing.T) {
		r := start(t, Config{Ack: AckSealed})
		f, err := r.RecordAsync(background, login())
		if err != nil {
			t.Fatal(err)
		}
		<-f.pending.Done() // durable
		ended, cancel := context.WithCancel(background)
		cancel()
		if err := f.Wait(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("durable, not sealed: got %v, want to be waiting", err)
		}
		if err := r.Seal(background); err != nil {
			t.Fatal(err)
		}
		if err := f.Wait(background); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); s.Sealed != 1 {
			t.Errorf("acknowledged: sealed %d", s.Sealed)
		}
	})
	t.Run("sealed in time", func(t *testing.T) {
		r := start(t, Config{Ack: AckSealed, CheckpointEvery: time.Millisecond})
		if err := r.Record(background, login()); err != nil {
			t.Error(err)
		}
	})
}

func TestAckNames(t *testing.T) {
	for _, a := range []Ack{AckDurable, AckSealed, AckBuffered} {
		if got, err := ParseAck(a.String()); got != a || err != nil {
			t.Errorf("ParseAck(%v) = %v, %v", a, got, err)
		}
	}
	if _, err := ParseAck("maybe"); err == nil {
		t.Error("ParseAck takes maybe")
	}
}

func TestBatchSaysWhichEventsFailed(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	bad := login()
	bad.Action = "NO.SUCH"
	errs, err := r.RecordBatch(background, []*veritrail.ComplianceEvent{login(), bad, login(), nil})
	if err == nil || len(errs) != 4 {
		t.Fatalf("got %v, %v", errs, err)
	}
	for i, want := range []bool{false, true, false, true} {
		if (errs[i] != nil) != want || want && !errors.Is(errs[i], veritrail.ErrInvalidComplianceEvent) {
			t.Errorf("event %d: got %v", i, errs[i])
		}
	}
	if errs, err := r.RecordBatch(background, []*veritrail.ComplianceEvent{login(), login()}); err != nil || errs != nil {
		t.Errorf("a good batch: got %v, %v", errs, err)
	}
	if errs, err := r.RecordBatch(background, nil); err != nil || errs != nil {
		t.Errorf("an empty batch: got %v, %v", errs, err)
	}
	shut(t, r)
	var actions []string
	for _, e := range stored(t, dir) {
		actions = append(actions, e.Action)
	}
	const ok, no = "AUTH.LOGIN.OK", "TRAIL.EVENT.REJECTED"
	if want := []string{ok, no, ok, no, ok, ok}; !slices.Equal(actions, want) {
		t.Errorf("stored %v, want %v", actions, want)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	r := start(t, Config{Ack: AckSealed})
	ctx, cancel := context.WithCancel(background)
	waiting := make(chan error)
	go func() { waiting <- r.Record(ctx, login()) }()
	for r.Stats().Size == 0 { // durable, so it can only be waiting for a checkpoint
		runtime.Gosched()
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestCloseKeepsWhatItAcknowledged(t *testing.T) {
	for round := range 8 {
		dir := dirOf(t)
		r := start(t, Config{Dir: dir})
		var mu sync.Mutex
		acknowledged := make(map[veritrail.UUID]bool)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					f, err := r.RecordAsync(background, login())
					if err == nil {
						err = f.Wait(background)
					}
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("while closing: %v", err)
						}
						return
					}
					mu.Lock()
					acknowledged[f.ID] = true
					mu.Unlock()
				}
			})
		}
		for r.Stats().Size < uint64(50*round+1) {
			runtime.Gosched()
		}
		shut(t, r)
		all.Wait()
		events := stored(t, dir)
		for _, e := range events {
			id, err := veritrail.ParseUUID(e.ID)
			if err != nil {
				t.Fatal(err)
			}
			delete(acknowledged, id)
		}
		if len(acknowledged) > 0 {
			t.Fatalf("%d acknowledged events are not in the trail", len(acknowledged))
		}
		if err := r.Record(background, login()); !errors.Is(err, ErrClosed) {
			t.Errorf("Record after Close: got %v", err)
		}
		if err := r.Event("AUTH.X").Sub("user", "u").Record(background); !errors.Is(err, ErrClosed) {
			t.Errorf("Builder after Close: got %v", err)
		}
		if err := r.Seal(background); !errors.Is(err, ErrClosed) {
			t.Errorf("Seal after Close: got %v", err)
		}
		if err := r.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("second Close: got %v", err)
		}
	}
}

func TestOpeningAgainGoesOn(t *testing.T) {
	dir := dirOf(t)
	var vkeys []string
	for n := range 5 {
		r := start(t, Config{Dir: dir, Origin: "example.com/on"})
		if n == 0 {
			vkeys = r.Keys()
		}
		if got := r.Keys(); !slices.Equal(got, vkeys) || !strings.HasPrefix(got[0], "example.com/on+") {
			t.Errorf("keys: got %v, want %v", got, vkeys)
		}
		for range 100 {
			if err := r.Record(background, login()); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, r)
	}
	events := stored(t, dir)
	if len(events) != 500 {
		t.Fatalf("got %d events, want 500", len(events))
	}
	producers := make(map[string]int)
	for _, e := range events {
		producers[e.Context["producer"]]++
	}
	if len(producers) != 5 {
		t.Errorf("got %d producers, want one each time", len(producers))
	}
}

func TestSecondOpenIsLockedOut(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := r.Record(background, login()); err != nil {
		t.Errorf("the first one afterwards: %v", err)
	}
}

func TestOpenNeedsADirectory(t *testing.T) {
	if _, err := Open(Config{}); err == nil {
		t.Error("Open without Dir succeeds")
	}
	if _, err := Open(Config{Dir: dirOf(t), Origin: "has+plus"}); err == nil {
		t.Error("Open takes an origin that no checkpoint can have")
	}
}

// A crash between the keys and trail.json leaves keys that nobody has signed with.
func TestKeysOfATrailThatWasNotMadeAreKept(t *testing.T) {
	dir := dirOf(t)
	set := suite.NewSet(suite.SM3)
	ring, err := keys.Create(filepath.Join(dir, trail.KeysDir), "example.com/first", set)
	if err != nil {
		t.Fatal(err)
	}
	r := start(t, Config{Dir: dir, SM3: true})
	if !slices.Equal(r.Keys(), ring.VKeys()) {
		t.Errorf("keys: got %v, want %v", r.Keys(), ring.VKeys())
	}
	if got := r.Trail().Identity().Origin; got != "example.com/first" {
		t.Errorf("origin: got %s", got)
	}
	if err := r.Record(background, login()); err != nil {
		t.Fatal(err)
	}
}

func TestRemainsOfATrailAreNotBuiltUpon(t *testing.T) {
	dir := dirOf(t)
	shut(t, start(t, Config{Dir: dir}))
	if err := os.Remove(filepath.Join(dir, "trail.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, trail.ErrNoTrail) {
		t.Errorf("got %v, want ErrNoTrail", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "trail.json")); err == nil {
		t.Error("a new identity was made beside old segments")
	}
}

func TestBothTreesGrowWithSM3(t *testing.T) {
	dir := dirOf(t)
	var note []byte
	for range 2 {
		r := start(t, Config{Dir: dir, SM3: true, Published: func(n []byte) { note = n }})
		for range 300 {
			if _, err := r.RecordAsync(background, login()); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(r.Keys()); got != 2 {
			t.Errorf("got %d keys, want 2", got)
		}
		shut(t, r)
	}
	if n := len(leavesOf(t, dir)); n != 600 { // checks proofs of both trees
		t.Errorf("got %d leaves, want 600", n)
	}
	if n := strings.Count(string(note), "\n\u2014 "); n != 2 {
		t.Errorf("the checkpoint has %d signatures, want 2:\n%s", n, note)
	}
}

func TestWhatRecoveryCutIsOnRecord(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	if err := r.Record(background, login()); err != nil {
		t.Fatal(err)
	}
	shut(t, r)
	segment := trail.SegmentPath(dir, 0)
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	torn := slices.Concat(whole, []byte("VTF\x01\x01"))
	if err := os.WriteFile(segment, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, Config{Dir: dir})
	shut(t, r)
	events := stored(t, dir)
	if len(events) != 2 {
		t.Fatalf("got %d events, want 2", len(events))
	}
	e := events[1]
	kept := e.Object["kept"]
	want := map[string]string{
		"segment": filepath.Base(segment), "offset": strconv.Itoa(len(whole)), "bytes": "5", "kept": kept,
	}
	if e.Action != "TRAIL.RECOVERY.CUT" || !maps.Equal(e.Object, want) {
		t.Errorf("got %+v", e)
	}
	if b, err := os.ReadFile(filepath.Join(dir, trail.RecoveredDir, kept)); err != nil || string(b) != "VTF\x01\x01" {
		t.Errorf("what was cut: got %q, %v", b, err)
	}
}

func TestDamagedTrailIsNotWritten(t *testing.T) {
	dir := dirOf(t)
	r := start(t, Config{Dir: dir})
	for range 10 {
		if err := r.Record(background, login()); err != nil {
			t.Fatal(err)
		}
	}
	shut(t, r)
	segment := trail.SegmentPath(dir, 0)
	b, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(segment, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
	if after, err := os.ReadFile(segment); err != nil || string(after) != string(b) {
		t.Errorf("the evidence was changed, %v", err)
	}
}

func TestCloseEndsEveryGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		r := start(t, Config{SM3: true, Ack: AckSealed, CheckpointEvery: time.Millisecond})
		for range 100 {
			if _, err := r.RecordAsync(background, login()); err != nil {
				t.Fatal(err)
			}
		}
		shut(t, r)
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
		runtime.Gosched()
	}
}

func TestDraftsAreRecordedAsTheirTextIs(t *testing.T) {
	texts := []string{
		`{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","ts":"2026-03-01T08:00:00Z","sev":"INFO","sub":{"user":"u2","role":"r"},"act":"AUTH.LOGIN.OK","obj":{"b":"1","a":"2"},"ctx":{"ip":"192.0.2.7","host":"h","pid":"1","process":"p"}}`,
		`{"ts":"2026-03-01T08:00:00Z","sub":{"user":"\u4e00"},"act":"AUTH.LOGIN.OK","ctx":{"z":"\n"}}`,
		`{"event_id":"0f8fad5b-d9cb-469f-a165-70867728950f","event_type":"AUTH.LOGIN.OK","timestamp":"2026-03-01T08:00:00Z","actor":{"user_id":"u1"}}`,
	}
	var recorded [2][]*veritrail.ComplianceEvent
	for way := range recorded {
		cfg := Config{Dir: dirOf(t)}
		r := start(t, cfg)
		for i, text := range texts {
			var d, before veritrail.Draft
			if err := errors.Join(r.ReadJSON(&d, "", []byte(text)), r.ReadJSON(&before, "", []byte(text))); err != nil {
				t.Fatalf("text %d: %v", i, err)
			}
			var err error
			if way == 0 {
				_, err = r.RecordJSON(background, []byte(text))
			} else {
				_, err = r.RecordDraft(background, &d)
			}
			if err != nil {
				t.Fatalf("text %d: %v", i, err)
			}
			for _, pairs := range [][2]veritrail.Pairs{{d.Subject, before.Subject}, {d.Object, before.Object}, {d.Context, before.Context}} {
				if !slices.Equal(pairs[0], pairs[1]) {
					t.Errorf("text %d: the caller's draft was changed", i)
				}
			}
		}
		shut(t, r)
		recorded[way] = stored(t, cfg.Dir)
	}
	if len(recorded[0]) != len(texts) || len(recorded[1]) != len(texts) {
		t.Fatalf("got %d and %d events, want %d", len(recorded[0]), len(recorded[1]), len(texts))
	}
	for i := range texts {
		a, b := recorded[0][i], recorded[1][i]
		for _, e := range []*veritrail.ComplianceEvent{a, b} {
			delete(e.Context, keyProducer) // the two recorders differ in it
			if i == 1 {
				e.ID = "" // made by the recorder
			}
		}
		if a.ID != b.ID || !a.Timestamp.Equal(b.Timestamp) || a.Severity != b.Severity || a.Action != b.Action ||
			!maps.Equal(a.Subject, b.Subject) || !maps.Equal(a.Object, b.Object) || !maps.Equal(a.Context, b.Context) {
			t.Errorf("text %d: got %v, want %v", i, b, a)
		}
	}
}

func TestDraftsThatBreakARuleAreRejectedOnRecord(t *testing.T) {
	tests := map[string]*veritrail.Draft{
		"nothing":        nil,
		"empty":          {},
		"no subject":     {Action: "AUTH.LOGIN.OK"},
		"trail's own":    {Action: "TRAIL.RESUMED", Subject: veritrail.Pairs{{Key: "user", Value: secret}}},
		"key twice":      {Action: "AUTH.LOGIN.OK", Subject: veritrail.Pairs{{Key: "user", Value: secret}, {Key: "user", Value: secret}}},
		"too many pairs": {Action: "AUTH.LOGIN.OK", Subject: make(veritrail.Pairs, veritrail.MaxPairs+1)},
	}
	for name, d := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: dirOf(t)}
			r := start(t, cfg)
			if _, err := r.RecordDraft(background, d); !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
				t.Errorf("got %v, want an invalid event", err)
			}
			shut(t, r)
			if e := only(t, cfg.Dir); e.Action != "TRAIL.EVENT.REJECTED" || strings.Contains(fmt.Sprint(e), secret) {
				t.Errorf("on record is %v", e)
			}
		})
	}
}
