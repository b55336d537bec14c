// Package veritrailtest is an EventRecorder in memory, for the tests of programs that record events. It takes and
// refuses what the real recorder does, hands back what was recorded, and fails when it is told to:
//
//	rec := veritrailtest.New(t, veritrailtest.Config{})
//	transfer(ctx, rec, "u1", "62")                       // the code under test
//	e := rec.One("DATA.TRANSFER")                        // fails the test unless there is exactly one
//	if e.Subject["user"] != "u1" { … }
//
// An event that breaks a rule is a fault of the program under test, so it fails the test as well as being refused; a
// test about refusals says so with Config.Refusals. ID and timestamp are filled in, host, process and trace are not:
// what is recorded is what the program said.
package veritrailtest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

// Config says what to accept. Its zero value accepts what a recorder accepts that was not configured either.
type Config struct {
	Subjects []string // kinds of subjects; user, svc, role, session and device when empty
	Actions  []string // patterns, see veritrail.MatchAction; the catalogue to start with when empty
	Refusals bool     // refused events are what the test is about and do not fail it

	Now      func() time.Time // of events without a timestamp; time.Now when nil
	Patience time.Duration    // how long Wait waits; 10 s when 0
}

// ErrEnded is what Record returns once the test is over.
var ErrEnded = errors.New("veritrailtest: the test has ended")

// A Recorder keeps events in memory. It is safe for concurrent use; One, None and Wait may end the test and are for
// its own goroutine.
type Recorder struct {
	tb  testing.TB
	cfg Config

	mu       sync.Mutex
	ended    bool
	events   []*veritrail.ComplianceEvent
	refused  []error
	faults   []fault
	held     chan struct{} // closed when released; nil when nobody holds
	waiting  int
	changed  chan struct{} // closed and replaced when anything above changes
	previous uint64        // number of the ID given last
}

// A fault is what one Record will do in place of its work.
type fault struct {
	err  error
	kept bool // the event is recorded all the same
}

var _ veritrail.EventRecorder = (*Recorder)(nil)

// New returns a Recorder for the test tb.
func New(tb testing.TB, cfg Config) *Recorder {
	tb.Helper()
	if len(cfg.Subjects) == 0 {
		cfg.Subjects = []string{"user", "svc", "role", "session", "device"}
	}
	if len(cfg.Actions) == 0 {
		cfg.Actions = []string{
			"AUTH.*", "ACCESS.*", "DATA.*", "CONFIG.*", "ADMIN.*", "KEY.*",
			"BUILD.*", "ENV.*", "BOOT.*", "NET.*", "SYS.*", "APP.*",
		}
	}
	for _, p := range cfg.Actions {
		if err := veritrail.CheckActionPattern(p); err != nil {
			tb.Fatalf("veritrailtest: %v", err)
		}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	r := &Recorder{tb: tb, cfg: cfg, changed: make(chan struct{})}
	tb.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended = true // tb must not be spoken to any more
		r.wake()
	})
	return r
}

// Record implements veritrail.EventRecorder.
func (r *Recorder) Record(ctx context.Context, e *veritrail.ComplianceEvent) error {
	kept, err := r.check(e)

	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.pass(ctx); err != nil {
		return err
	}
	if err != nil {
		r.refused = append(r.refused, err)
		r.wake()
		if !r.cfg.Refusals {
			r.tb.Errorf("veritrailtest: event %s refused: %v", name(e), err)
		}
		return err
	}
	var f fault
	if len(r.faults) > 0 {
		f = r.faults[0]
		r.faults = r.faults[1:]
	}
	if f.err != nil && !f.kept {
		r.wake()
		return f.err
	}
	if kept.ID == "" {
		r.previous++
		kept.ID = numberedID(r.previous)
	}
	if kept.Timestamp.IsZero() {
		kept.Timestamp = r.cfg.Now().UTC().Round(0)
	}
	r.events = append(r.events, kept)
	r.wake()
	return f.err
}

// pass waits while the Recorder is held. It is called, and returns, with the lock.
func (r *Recorder) pass(ctx context.Context) error {
	r.waiting++
	r.wake()
	defer func() { r.waiting-- }()
	for r.held != nil && !r.ended && ctx.Err() == nil {
		held, changed := r.held, r.changed
		r.mu.Unlock()
		select {
		case <-held:
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
	if r.ended {
		return ErrEnded
	}
	return ctx.Err()
}

// wake lets those look again who wait for a change. The caller has the lock.
func (r *Recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// check validates e as the recorder does and returns a copy of it.
func (r *Recorder) check(e *veritrail.ComplianceEvent) (*veritrail.ComplianceEvent, error) {
	var d veritrail.Draft
	if err := d.SetEvent(e); err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	var found []veritrail.Violation
	if !r.welcome(d.Action) {
		found = append(found, veritrail.Violation{Path: "/act", Rule: "action is not in the allowlist", Shape: shape(d.Action)})
	}
	for i := range d.Subject {
		if !slices.Contains(r.cfg.Subjects, d.Subject[i].Key) {
			found = append(found, veritrail.Violation{
				Path: "/sub", Rule: "subject kind is not in the allowlist", Shape: "key, " + shape(d.Subject[i].Key),
			})
		}
	}
	for _, key := range []string{"producer", "sdk", "seq"} {
		if v, there := d.Context.Get(key); there {
			found = append(found, veritrail.Violation{Path: "/ctx/" + key,
				Rule: "key is set by the recorder alone", Shape: shape(v)})
		}
	}
	if len(found) > 0 {
		return nil, &veritrail.InvalidEventError{Violations: found[:min(len(found), 16)]}
	}
	return d.Event(), nil
}

func (r *Recorder) welcome(action string) bool {
	return !strings.HasPrefix(action, "TRAIL.") &&
		slices.ContainsFunc(r.cfg.Actions, func(p string) bool { return veritrail.MatchAction(p, action) })
}

func shape(s string) string { return fmt.Sprintf("string of %d bytes", len(s)) }

// numberedID is the nth ID: valid as a UUID of version 4, and the same in every run.
func numberedID(n uint64) string {
	var id veritrail.UUID
	id[6], id[8] = 0x40, 0x80
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], n)
	copy(id[10:], number[2:])
	return id.String()
}

// Events returns copies of all events recorded so far, in their order.
func (r *Recorder) Events() []*veritrail.ComplianceEvent { return r.Find("*") }

// Find returns copies of the events whose action is of a pattern, see veritrail.MatchAction, in their order.
func (r *Recorder) Find(pattern string) []*veritrail.ComplianceEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(pattern)
}

func (r *Recorder) find(pattern string) []*veritrail.ComplianceEvent {
	var found []*veritrail.ComplianceEvent
	for _, e := range r.events {
		if veritrail.MatchAction(pattern, e.Action) {
			found = append(found, clone(e))
		}
	}
	return found
}

func clone(e *veritrail.ComplianceEvent) *veritrail.ComplianceEvent {
	var d veritrail.Draft
	if err := d.SetEvent(e); err != nil {
		panic("veritrailtest: a recorded event is invalid: " + err.Error())
	}
	return d.Event()
}

// Refused returns the errors of the events that broke a rule, in their order.
func (r *Recorder) Refused() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.refused)
}

// One returns the event whose action is of a pattern. It ends the test when there is none, or more than one.
func (r *Recorder) One(pattern string) *veritrail.ComplianceEvent {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.find(pattern)
	if len(found) != 1 {
		r.tb.Fatalf("veritrailtest: %d events of %s, want 1\n%s", len(found), pattern, r.list())
	}
	return found[0]
}

// None ends the test when the action of an event is of a pattern.
func (r *Recorder) None(pattern string) {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if found := r.find(pattern); len(found) != 0 {
		r.tb.Fatalf("veritrailtest: %d events of %s, want none\n%s", len(found), pattern, r.list())
	}
}

// Wait waits until n events have an action of a pattern, and returns all that have. It ends the test when Patience is
// over before.
func (r *Recorder) Wait(pattern string, n int) []*veritrail.ComplianceEvent {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	patience := time.NewTimer(r.cfg.Patience)
	defer patience.Stop()
	for over := false; ; {
		found := r.find(pattern)
		if len(found) >= n {
			return found
		}
		if over {
			r.tb.Fatalf("veritrailtest: %d events of %s after %v, want %d\n%s", len(found), pattern,
				r.cfg.Patience, n, r.list())
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-patience.C:
			over = true
		}
		r.mu.Lock()
	}
}

// list tells what there is, for a test that fails.
func (r *Recorder) list() string {
	var b strings.Builder
	fmt.Fprintf(&b, "recorded, in order: %d", len(r.events))
	for i, e := range r.events {
		if i == 50 {
			fmt.Fprintf(&b, "\n  and %d more", len(r.events)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s sub=%v obj=%v ctx=%v", e.Action, e.Subject, e.Object, e.Context)
	}
	for _, err := range r.refused {
		fmt.Fprintf(&b, "\n  refused: %v", err)
	}
	return b.String()
}

func name(e *veritrail.ComplianceEvent) string {
	if e == nil {
		return "(nil)"
	}
	return fmt.Sprintf("%q", e.Action)
}

// FailNext lets the next valid event fail with err and be not recorded. Called more than once, it is for the events
// after that; a nil err lets one through.
func (r *Recorder) FailNext(err error) { r.addFault(fault{err: err}) }

// LoseAnswerNext lets the next valid event be recorded and its Record return err all the same, as when a machine dies
// between the two: after an error an event may or may not be in the trail. It takes turns with FailNext.
func (r *Recorder) LoseAnswerNext(err error) { r.addFault(fault{err: err, kept: true}) }

func (r *Recorder) addFault(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, f)
}

// Hold makes every Record wait, as a disk does that hangs, until release is called or its context ends.
func (r *Recorder) Hold() (release func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := make(chan struct{})
	r.held = held
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.held == held {
			r.held = nil
		}
		close(held)
	})
}

// WaitHeld waits until n calls of Record wait because of Hold. It ends the test when Patience is over before.
func (r *Recorder) WaitHeld(n int) {
	r.tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	patience := time.NewTimer(r.cfg.Patience)
	defer patience.Stop()
	for over := false; r.held == nil || r.waiting < n; {
		if over {
			r.tb.Fatalf("veritrailtest: %d events held after %v, want %d", r.waiting, r.cfg.Patience, n)
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-patience.C:
			over = true
		}
		r.mu.Lock()
	}
}

// Reset forgets all events, refusals and faults to come.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events, r.refused, r.faults = nil, nil, nil
	r.wake()
}
