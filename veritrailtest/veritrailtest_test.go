package veritrailtest_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailtest"
)

var errDisk = errors.New("disk on fire")

func event(action, user string) *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{Action: action, Subject: map[string]string{"user": user}}
}

// A stage stands in for the test of a user and remembers how it failed.
type stage struct {
	testing.TB
	mu       sync.Mutex
	errors   []string
	cleanups []func()
}

func (s *stage) Helper()          {}
func (s *stage) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }
func (s *stage) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors = append(s.errors, fmt.Sprintf(format, args...))
}
func (s *stage) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}

// said runs f as a test of its own and returns its failures.
func (s *stage) said(f func()) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Join(s.errors, "\n")
	s.errors = nil
	return all
}

func (s *stage) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// What the real recorder refuses is refused here for the same reasons, and nothing else is.
func TestRefusesWhatTheRecorderRefuses(t *testing.T) {
	pairs := make(map[string]string)
	for i := range veritrail.MaxPairs + 1 {
		pairs[fmt.Sprint("k", i)] = "v"
	}
	with := func(change func(*veritrail.ComplianceEvent)) *veritrail.ComplianceEvent {
		e := event("AUTH.LOGIN.OK", "u1")
		e.Object, e.Context = map[string]string{"api": "/v1"}, map[string]string{"ip": "192.0.2.7"}
		change(e)
		return e
	}
	cases := map[string]*veritrail.ComplianceEvent{
		"good": with(func(*veritrail.ComplianceEvent) {}),
		"filled": with(func(e *veritrail.ComplianceEvent) {
			e.ID, e.Timestamp = "919108f7-52d1-4320-9bac-f847db4148a8", time.Unix(1, 0)
		}),
		"nil":                nil,
		"nobody":             with(func(e *veritrail.ComplianceEvent) { e.Subject = nil }),
		"no action":          with(func(e *veritrail.ComplianceEvent) { e.Action = "" }),
		"bad action":         with(func(e *veritrail.ComplianceEvent) { e.Action = "AUTH..LOGIN" }),
		"unknown action":     with(func(e *veritrail.ComplianceEvent) { e.Action = "LUNCH.EAT" }),
		"prefix of one":      with(func(e *veritrail.ComplianceEvent) { e.Action = "AUTH" }),
		"the trail's action": with(func(e *veritrail.ComplianceEvent) { e.Action = "TRAIL.EVENT.REJECTED" }),
		"unknown subject":    with(func(e *veritrail.ComplianceEvent) { e.Subject["branch"] = "b7" }),
		"empty subject":      with(func(e *veritrail.ComplianceEvent) { e.Subject["user"] = "" }),
		"not an id":          with(func(e *veritrail.ComplianceEvent) { e.ID = "one" }),
		"bad severity":       with(func(e *veritrail.ComplianceEvent) { e.Severity = 99 }),
		"not UTF-8":          with(func(e *veritrail.ComplianceEvent) { e.Object["api"] = "\xff" }),
		"empty key":          with(func(e *veritrail.ComplianceEvent) { e.Context[""] = "x" }),
		"too many":           with(func(e *veritrail.ComplianceEvent) { e.Context = pairs }),
		"too long": with(func(e *veritrail.ComplianceEvent) {
			e.Context["x"] = strings.Repeat("x", veritrail.MaxEventBytes)
		}),
		"key seq":      with(func(e *veritrail.ComplianceEvent) { e.Context["seq"] = "1" }),
		"key sdk":      with(func(e *veritrail.ComplianceEvent) { e.Context["sdk"] = "1" }),
		"key producer": with(func(e *veritrail.ComplianceEvent) { e.Context["producer"] = "1" }),
		"key host":     with(func(e *veritrail.ComplianceEvent) { e.Context["host"] = "h" }),
		"several": with(func(e *veritrail.ComplianceEvent) {
			e.Action, e.Subject["branch"], e.Context["seq"] = "LUNCH", "b", "1"
		}),
	}
	for _, d := range recorder.DefaultAllowlist().Actions {
		cases[d] = event(strings.Replace(d, "*", "X", 1), "u1")
	}
	for _, s := range recorder.DefaultAllowlist().Subjects {
		cases["subject "+s] = &veritrail.ComplianceEvent{Action: "APP.X", Subject: map[string]string{s: "x"}}
	}
	for _, allow := range []recorder.Allowlist{{}, {Subjects: []string{"branch", "user"},
		Actions: []string{"LUNCH.*", "AUTH.*.OK"}}} {
		real, err := recorder.Open(recorder.Config{Dir: filepath.Join(t.TempDir(), "trail"),
			Ack: recorder.AckBuffered, Allow: allow})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := real.Close(); err != nil {
				t.Error(err)
			}
		})
		rec := veritrailtest.New(t, veritrailtest.Config{Subjects: allow.Subjects, Actions: allow.Actions, Refusals: true})
		for name, e := range cases {
			want, got := real.Record(t.Context(), e), rec.Record(t.Context(), e)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: got %v, the recorder says %v", name, got, want)
			}
			if got != nil && !errors.Is(got, veritrail.ErrInvalidComplianceEvent) {
				t.Errorf("%s: %v does not match ErrInvalidComplianceEvent", name, got)
			}
		}
		if got, want := len(rec.Events())+len(rec.Refused()), len(cases); got != want {
			t.Errorf("%d events recorded or refused, want %d", got, want)
		}
	}
}

func TestEventsAreFilledInAndCopied(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	rec := veritrailtest.New(t, veritrailtest.Config{Now: func() time.Time { return at }})
	e := event("AUTH.LOGIN.OK", "u1")
	if err := rec.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if e.ID != "" || !e.Timestamp.IsZero() {
		t.Error("the caller's event was changed")
	}
	e.Subject["user"] = "u2"
	if err := rec.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	rec.Events()[0].Subject["user"] = "u3"
	got := rec.Events()
	if len(got) != 2 || got[0].Subject["user"] != "u1" || got[1].Subject["user"] != "u2" {
		t.Errorf("got %v, want u1 and u2", got)
	}
	if got[0].ID != "00000000-0000-4000-8000-000000000001" || got[1].ID != "00000000-0000-4000-8000-000000000002" || !got[0].Timestamp.Equal(at) {
		t.Errorf("filled in: %s at %s, %s", got[0].ID, got[0].Timestamp, got[1].ID)
	}
	if _, err := got[0].Canonical(); err != nil {
		t.Error(err)
	}
}

func TestRefusalFailsTheTest(t *testing.T) {
	s := &stage{}
	rec := veritrailtest.New(s, veritrailtest.Config{})
	var err error
	said := s.said(func() { err = rec.Record(context.Background(), event("LUNCH.EAT", "4711")) })
	want := `veritrailtest: event "LUNCH.EAT" refused: invalid compliance event: /act: action is not in the allowlist, got string of 9 bytes`
	if said != want {
		t.Errorf("the test was told %q, want %q", said, want)
	}
	if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
		t.Errorf("got %v", err)
	}
}

func TestOneAndNoneShowWhatWasRecorded(t *testing.T) {
	s := &stage{}
	rec := veritrailtest.New(s, veritrailtest.Config{})
	for _, action := range []string{"AUTH.LOGIN.OK", "DATA.READ", "DATA.WRITE"} {
		if err := rec.Record(t.Context(), event(action, "u1")); err != nil {
			t.Fatal(err)
		}
	}
	if said := s.said(func() {
		if got := rec.One("AUTH.*"); got.Action != "AUTH.LOGIN.OK" {
			t.Errorf("got %s", got.Action)
		}
		rec.None("KEY.*")
	}); said != "" {
		t.Error(said)
	}
	for want, f := range map[string]func(){
		"2 events of DATA.*, want 1":    func() { rec.One("DATA.*") },
		"0 events of KEY.*, want 1":     func() { rec.One("KEY.*") },
		"1 events of AUTH.*, want none": func() { rec.None("AUTH.*") },
	} {
		said := s.said(func() { f(); t.Errorf("%s: the test went on", want) })
		if !strings.Contains(said, want) || !strings.Contains(said, "AUTH.LOGIN.OK sub=map[user:u1]") {
			t.Errorf("told %q, want %q and a list", said, want)
		}
	}
}

func TestWaitSeesEventsOfOtherGoroutines(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	const writers, each = 8, 50
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				if err := rec.Record(t.Context(), event("DATA.READ", fmt.Sprint(w, "-", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if got := len(rec.Wait("DATA.*", writers*each)); got != writers*each {
		t.Errorf("got %d", got)
	}
	all.Wait()
	// Those of one goroutine are in its order.
	last := make(map[string]int)
	for _, e := range rec.Events() {
		var w, i int
		if _, err := fmt.Sscanf(e.Subject["user"], "%d-%d", &w, &i); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprint(w)
		if i != last[key] {
			t.Fatalf("writer %d: event %d where %d was due", w, i, last[key])
		}
		last[key]++
	}
}

func TestWaitGivesUp(t *testing.T) {
	s := &stage{}
	rec := veritrailtest.New(s, veritrailtest.Config{Patience: time.Millisecond})
	if said := s.said(func() { rec.Wait("DATA.*", 1) }); !strings.Contains(said, "0 events of DATA.* after 1ms, want 1") {
		t.Errorf("told %q", said)
	}
	if said := s.said(func() { rec.WaitHeld(1) }); !strings.Contains(said, "0 events held after 1ms, want 1") {
		t.Errorf("told %q", said)
	}
}

func TestFaultsComeInTurn(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	rec.FailNext(errDisk)
	rec.FailNext(nil)
	rec.LoseAnswerNext(errDisk)
	var got []error
	for _, user := range []string{"not recorded", "recorded", "recorded without an answer", "recorded again"} {
		got = append(got, rec.Record(t.Context(), event("DATA.READ", user)))
	}
	if want := []error{errDisk, nil, errDisk, nil}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	var users []string
	for _, e := range rec.Events() {
		users = append(users, e.Subject["user"])
	}
	if want := []string{"recorded", "recorded without an answer", "recorded again"}; !slices.Equal(users, want) {
		t.Errorf("recorded %q, want %q", users, want)
	}
	rec.FailNext(errDisk)
	rec.Reset()
	if err := rec.Record(t.Context(), event("DATA.READ", "u")); err != nil || len(rec.Events()) != 1 {
		t.Errorf("after Reset: %v, %d events", err, len(rec.Events()))
	}
}

func TestHoldStopsRecordUntilReleased(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	release := rec.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	gone, done := make(chan error), make(chan error)
	go func() { gone <- rec.Record(ctx, event("DATA.READ", "leaves")) }()
	go func() { done <- rec.Record(context.Background(), event("DATA.READ", "stays")) }()
	rec.WaitHeld(2)
	if n := len(rec.Events()); n != 0 {
		t.Fatalf("%d events recorded while held", n)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context has ended", err)
	}
	release()
	release() // twice does nothing
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := rec.One("*").Subject["user"]; got != "stays" {
		t.Errorf("recorded %q", got)
	}
}

func TestRecordAfterTheTestIsRefused(t *testing.T) {
	s := &stage{}
	rec := veritrailtest.New(s, veritrailtest.Config{})
	rec.Hold()
	held := make(chan error)
	go func() { held <- rec.Record(context.Background(), event("DATA.READ", "u1")) }()
	rec.WaitHeld(1)
	s.end()
	if err := <-held; !errors.Is(err, veritrailtest.ErrEnded) {
		t.Errorf("held: got %v", err)
	}
	// An event that is not valid must not fail a test that is over: testing panics then.
	if said := s.said(func() {
		if err := rec.Record(context.Background(), event("", "u1")); !errors.Is(err, veritrailtest.ErrEnded) {
			t.Errorf("got %v", err)
		}
	}); said != "" {
		t.Errorf("the test was told %q", said)
	}
}

func TestPatternsAreChecked(t *testing.T) {
	s := &stage{}
	if said := s.said(func() { veritrailtest.New(s, veritrailtest.Config{Actions: []string{"A..B"}}) }); !strings.Contains(said, "action pattern") {
		t.Errorf("told %q", said)
	}
}

func BenchmarkRecord(b *testing.B) {
	rec := veritrailtest.New(b, veritrailtest.Config{})
	e := event("DATA.READ", "u1")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := rec.Record(b.Context(), e); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 0 {
			rec.Reset()
		}
	}
}
