package recorder

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
)

// compareWays sends the draft both ways. The quick one must make the same bytes
// as the long one, or none and leave no trace. It reports whether it was
// taken.
func compareWays(ctx context.Context, t *testing.T, r *Recorder, d veritrail.Draft) bool {
	t.Helper()
	at := time.Date(2026, 3, 1, 12, 0, 0, 987_654_321, time.UTC)
	if r.now == nil {
		r.now = func() time.Time { return at }
	}
	if d.ID.IsZero() {
		d.ID = veritrail.UUID{1, 2, 0xef, 15: 4}
	}
	fill := func() *flight {
		f := r.newFlight()
		f.leaf = append(f.leaf, "what was there before"...)
		f.draft = d
		f.draft.Subject, f.draft.Object, f.draft.Context = slices.Clone(d.Subject), slices.Clone(d.Object), slices.Clone(d.Context)
		return f
	}
	quick, long := fill(), fill()
	seq := r.seq.Load()
	taken := r.quick(ctx, quick)
	if used := r.seq.Load() - seq; taken && used != 1 || !taken && used != 0 {
		t.Fatalf("taken: %v, and %d numbers were used", taken, used)
	}
	r.seq.Store(seq)
	err := r.encode(ctx, long, false)
	r.seq.Store(seq)
	if !taken {
		again := r.encode(ctx, quick, false)
		if (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
			t.Fatalf("after the quick way was not taken: got %v, want %v", again, err)
		}
		if err == nil && string(quick.leaf) != string(long.leaf) {
			t.Fatalf("after the quick way was not taken:\ngot  %s\nwant %s", quick.leaf, long.leaf)
		}
		r.seq.Store(seq)
		return false
	}
	if err != nil {
		t.Fatalf("the quick way took what the long one refuses: %v\n%s", err, quick.leaf)
	}
	if string(quick.leaf) != string(long.leaf) {
		t.Fatalf("the quick way:\n%s\nthe long way:\n%s", quick.leaf, long.leaf)
	}
	if quick.draft.ID != long.draft.ID {
		t.Fatalf("ids %v and %v", quick.draft.ID, long.draft.ID)
	}
	// Once more, by what it remembers of this one.
	quick.draft = fill().draft
	if !r.quick(ctx, quick) || string(quick.leaf) != string(long.leaf) {
		t.Fatalf("the second time:\n%s\nwant\n%s", quick.leaf, long.leaf)
	}
	r.seq.Store(seq)
	return true
}

func traced(t testing.TB) context.Context {
	t.Helper()
	return trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x4b, 0xf9, 15: 0x36}, SpanID: trace.SpanID{0, 0xf0, 7: 0xb7}, TraceFlags: trace.FlagsSampled,
	}))
}

func TestQuickWayMakesTheSame(t *testing.T) {
	r := start(t, Config{})
	for _, c := range []struct {
		name   string
		traced bool
		draft  veritrail.Draft
		quick  bool
	}{
		{"ordinary", false, draftOf("AUTH.LOGIN.OK", "user=u1", "table=t sensitivity=internal account=6222", "ip=10.1.1.1"), true},
		{"nothing but a subject", false, draftOf("AUTH.LOGIN.OK", "user=u1", "", ""), true},
		{"keys between, before and behind what is added", false, draftOf("APP.X", "user=u1", "", "a=1 hosts=2 zone=3 sea=4 pidx=5 sdl=6 seqq=7 span_ie=8"), true},
		{"long and short values", false, draftOf("APP.X", "user=u svc=ab role=abc session=abcd device=abcdefg", "a=12345678 b=123456789 c="+strings.Repeat("x", 4000), "d="), true},
		{"traced", true, draftOf("APP.X", "user=u1", "", "ip=1 session=2 tracf=3 z=4"), true},
		{"a trace of the caller's", false, draftOf("APP.X", "user=u1", "", "trace_id=1 span_id=2"), true},
		{"traced, and a trace of the caller's", true, draftOf("APP.X", "user=u1", "", "trace_id=1"), false},
		{"a host of the caller's", false, draftOf("APP.X", "user=u1", "", "host=h"), true},
		{"a process of the caller's, and what lies around it", false, draftOf("APP.X", "user=u1", "", "ip=1 pid=2 pidx=3 process=4 prod=5"), true},
		{"all that the caller may name, traced", true, draftOf("APP.X", "user=u1", "", "host=h pid=1 process=p"), true},
		{"all that the caller may name, and more", false, draftOf("APP.X", "user=u1", "", "a=1 host=h i=2 pid=1 process=p q=3 zone=4"), true},
		{"a key of the recorder's", false, draftOf("APP.X", "user=u1", "", "seq=1"), false},
		{"an escape", false, draftOf("APP.X", "user=u1", `a=x"y`, ""), false},
		{"a control character", false, draftOf("APP.X", "user=u1", "", "a=123\x1f45678"), false},
		{"not ASCII", false, draftOf("APP.X", "user=u1", "a=张三", ""), false},
		{"not UTF-8", false, draftOf("APP.X", "user=u1", "a=\xff", ""), false},
		{"delete in a key", false, draftOf("APP.X", "user=u1", "a\x7f=1", ""), false},
		{"no subject", false, draftOf("APP.X", "", "a=1", ""), false},
		{"an empty subject", false, draftOf("APP.X", "user=", "", ""), false},
		{"an empty key", false, draftOf("APP.X", "user=u1", "=1", ""), false},
		{"a key twice", false, draftOf("APP.X", "user=u1", "b=1 a=2 b=3", ""), false},
		{"a kind of subject that is not allowed", false, draftOf("APP.X", "usr=u1", "", ""), false},
		{"an action that is not allowed", false, draftOf("NOT.X", "user=u1", "", ""), false},
		{"an action of the trail's", false, draftOf("TRAIL.X", "user=u1", "", ""), false},
		{"an action that is none", false, draftOf("APP.X..Y", "user=u1", "", ""), false},
		{"an action like a pattern", false, draftOf("APP.*", "user=u1", "", ""), false},
		{"an action with an escape", false, draftOf(`APP.X"`, "user=u1", "", ""), false},
		{"an action that is too long", false, draftOf("APP."+strings.Repeat("X", 125), "user=u1", "", ""), false},
		{"a key that is too long", false, draftOf("APP.X", "user=u1", strings.Repeat("k", 129)+"=1", ""), false},
		{"much text", false, draftOf("APP.X", "user=u1", "a="+strings.Repeat("x", 17<<10), ""), false},
	} {
		ctx := background
		if c.traced {
			ctx = traced(t)
		}
		t.Run(c.name, func(t *testing.T) {
			if got := compareWays(ctx, t, r, c.draft); got != c.quick {
				t.Errorf("the quick way was taken: %v, want %v", got, c.quick)
			}
		})
	}
}

func TestQuickWayIsNotForRedactedEvents(t *testing.T) {
	r := start(t, Config{Redactor: redactorFunc(func(context.Context, *veritrail.Draft) error { return nil })})
	if compareWays(background, t, r, draftOf("APP.X", "user=u1", "", "")) {
		t.Error("it was taken")
	}
}

func TestQuickWayWritesEveryTime(t *testing.T) {
	r := start(t, Config{})
	random := rand.New(rand.NewPCG(1, 2))
	d := draftOf("APP.X", "user=u1", "", "")
	for range 2000 {
		d.Timestamp = time.Unix(random.Int64N(253402300800+62135596800)-62135596800, random.Int64N(1e9))
		if !compareWays(background, t, r, d) {
			t.Fatalf("%v: it was not taken", d.Timestamp)
		}
	}
	for _, bad := range []time.Time{time.Unix(-62135596801, 0), time.Unix(253402300800, 0)} {
		if d.Timestamp = bad; compareWays(background, t, r, d) {
			t.Errorf("%v: it was taken", bad)
		}
	}
}

// TestActionsAreRememberedNotMistaken fills every slot with actions that differ
// only in the middle.
func TestActionsAreRememberedNotMistaken(t *testing.T) {
	r := start(t, Config{Allow: Allowlist{Actions: []string{"APP.*"}}})
	var known actions
	for range 3 {
		for c := 'A'; c <= 'Z'; c++ {
			good, bad := "APP.X"+string(c)+"Y.Z", "NOT.X"+string(c)+"Y.Z"
			if !known.knows(&r.allow, good) || known.knows(&r.allow, bad) || known.knows(&r.allow, good+".") {
				t.Fatalf("%s: mistaken", good)
			}
		}
	}
	if known.knows(&r.allow, "") {
		t.Error("no action at all is welcome")
	}
}

// draftOf makes a draft of "key=value" words.
func draftOf(action, sub, obj, ctx string) veritrail.Draft {
	pairs := func(text string) (p veritrail.Pairs) {
		if text == "" {
			return nil
		}
		for word := range strings.SplitSeq(text, " ") {
			key, value, _ := strings.Cut(word, "=")
			p = append(p, veritrail.Pair{Key: key, Value: value})
		}
		return p
	}
	return veritrail.Draft{Action: action, Subject: pairs(sub), Object: pairs(obj), Context: pairs(ctx)}
}

func FuzzQuickWayMakesTheSame(f *testing.F) {
	f.Add("AUTH.LOGIN.OK", "user", "u1", "table", "core.accounts", "ip", "10.1.2.3", uint8(2), int64(1e9), int64(5), false)
	f.Add("APP.X", "user", "x\"y", "svc", "张三", "session", "\x00", uint8(0), int64(0), int64(0), true)
	f.Add("APP..X", "", "", "\x7f", "\xff", "trace_id", "12345678", uint8(9), int64(-1e12), int64(-1), true)
	f.Add("TRAIL.X", "seq", "1234", "host", "\\", "seq", "1234567\x1f8", uint8(5), int64(1e12), int64(1e10), false)
	f.Add("AUTH.LOGIN.OK", "host", "h", "user", "u1", "process", "p", uint8(2), int64(1e9), int64(5), true)
	r := start(f, Config{})
	with := traced(f)
	f.Fuzz(func(t *testing.T, action, k1, v1, k2, v2, k3, v3 string, sev uint8, sec, nsec int64, span bool) {
		d := veritrail.Draft{
			Action: action, Severity: veritrail.Severity(sev), Timestamp: time.Unix(sec, nsec),
			Subject: veritrail.Pairs{{Key: k1, Value: v1}},
			Object:  veritrail.Pairs{{Key: k2, Value: v2}, {Key: k3, Value: v1}, {Key: k1, Value: v3}},
			Context: veritrail.Pairs{{Key: k3, Value: v3}, {Key: k1, Value: v2}},
		}
		if len(v2) > 100 { // a part without pairs
			d.Object = nil
		}
		ctx := background
		if span {
			ctx = with
		}
		compareWays(ctx, t, r, d)
	})
}

// TestClockFollowsTheOtherOne compares the times that the recorder gives with
// those around them, for longer than it goes without looking.
func TestClockFollowsTheOtherOne(t *testing.T) {
	r := start(t, Config{})
	f := r.newFlight()
	var last time.Time
	for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
		before := time.Now()
		got := r.clock(f)
		after := time.Now()
		if got.Before(before) || got.After(after) || got.Before(last) {
			t.Fatalf("between %v and %v, behind %v: got %v", before, after, last, got)
		}
		last = got
	}
	// A step of the wall clock is only seen in a new reading.
	f.read = time.Now().Add(-time.Millisecond)
	old := f.read
	if r.clock(f); f.read.Equal(old) {
		t.Error("a reading of a millisecond ago is still used")
	}
}

func TestOwnClockIsAsked(t *testing.T) {
	at := time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
	r := start(t, Config{Now: func() time.Time { return at }})
	d := draftOf("APP.X", "user=u1", "", "")
	f := r.newFlight()
	f.draft = d
	if !r.quick(background, f) || !strings.Contains(string(f.leaf), `"ts":"2001-02-03T04:05:06.000000007Z"`) {
		t.Errorf("got %s", f.leaf)
	}
}
