// Package recorder is the pipeline that puts events into a sealed trail on
// disk. An event travels
//
//	validate → enrich → redact → encode        in the caller's goroutine
//	         → append → sync → acknowledge     in the trail's one writer
//
// and there is no way past a stage. Record returns nil when the event is
// durable under the chosen Ack, and not before.
//
//	rec, err := recorder.Open(recorder.Config{Dir: "trail"})
//	…
//	err = rec.Event("AUTH.LOGIN.FAIL").Sub("user", "10086").Ctx("ip", "192.0.2.7").Record(ctx)
//
// Its users are main programs; business code takes a veritrail.EventRecorder.
// It knows nothing of what follows the trail: sinks, archives and indexes read
// the files on their own.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/seal"
)

// Ack says what an acknowledgement means.
type Ack int

// The acknowledgements, from the strictest default to what it can be traded
// for.
const (
	// AckDurable: the event is on stable storage.
	AckDurable Ack = iota
	// AckSealed: a signed checkpoint covers the event, too.
	AckSealed
	// AckBuffered: the operating system has the event. A crash of the machine,
	// not of the program, can lose up to CheckpointEvery of them.
	AckBuffered
)

func (a Ack) String() string {
	switch a {
	case AckDurable:
		return "durable"
	case AckSealed:
		return "sealed"
	case AckBuffered:
		return "buffered"
	}
	return fmt.Sprintf("ack-%d", int(a))
}

// ParseAck is the inverse of String.
func ParseAck(name string) (Ack, error) {
	for _, a := range []Ack{AckDurable, AckSealed, AckBuffered} {
		if a.String() == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("ack %q: want durable, sealed or buffered", name)
}

// Redactor changes what must not enter the trail in the clear.
type Redactor interface {
	// Redact masks, encrypts or drops values of d in place, before anything of
	// the event is stored. An error refuses the event. It must not keep d or
	// its strings after it returns, and runs in many goroutines at once.
	Redact(ctx context.Context, d *veritrail.Draft) error
}

// PassThrough is the Redactor that changes nothing.
type PassThrough struct{}

// Redact returns nil.
func (PassThrough) Redact(context.Context, *veritrail.Draft) error { return nil }

// Config says where and how to record. Only Dir is required.
type Config struct {
	Dir string // the trail's directory, made when it does not exist

	// Of a trail that is made: its name, unique among all logs (host name and
	// some hex digits when empty), and whether it has an SM3 tree and SM2
	// signatures as well.
	Origin string
	SM3    bool

	Allow    Allowlist // what may be recorded; DefaultAllowlist when empty
	Shapes   []Shape   // forms of JSON besides the event and the flat record
	Ack      Ack
	Redactor Redactor // PassThrough when nil

	CheckpointEvery  time.Duration // 1 s when 0
	CheckpointLeaves int           // 65,536 when 0
	SegmentBytes     int64         // 64 MiB when 0

	Now func() time.Time // time.Now when nil
	// Published is called with each new checkpoint, for whoever keeps it
	// elsewhere. It must return soon and not call the Recorder.
	Published func(note []byte)
}

// Errors a caller acts upon, all about the trail as a whole.
var (
	// ErrHalted: the disk failed, and nothing is recorded until it works.
	ErrHalted = seal.ErrHalted
	// ErrNotDurable: the event could not be made durable. It may be in the
	// trail all the same after a crash.
	ErrNotDurable = seal.ErrNotDurable
	// ErrNotSealed: the event is durable, and AckSealed was not reached. A
	// later checkpoint will cover it.
	ErrNotSealed = seal.ErrNotSealed
	// ErrClosed: the Recorder was closed.
	ErrClosed = seal.ErrClosed
	// ErrDamaged: acknowledged data is damaged; the trail can only be read.
	ErrDamaged = seal.ErrDamaged
	// ErrBehindCheckpoint: the trail lost what it once signed.
	ErrBehindCheckpoint = seal.ErrBehindCheckpoint
	// ErrLocked: another process writes to the trail.
	ErrLocked = seal.ErrLocked
)

// Recorder records events into one trail. It is safe for concurrent use.
type Recorder struct {
	log      *seal.Log
	vkeys    []string
	allow    allowlist
	shapes   forms
	redactor Redactor
	ack      Ack
	now      func() time.Time // nil for time.Now
	facts    facts

	seq      atomic.Uint64
	rejected atomic.Uint64
	flights  sync.Pool // of *flight

	resumed resumptions
	ended   sync.WaitGroup // goroutines
}

var _ veritrail.EventRecorder = (*Recorder)(nil)

// Open opens the trail in cfg.Dir to write to it, or makes one. Whatever a
// crash left is recovered first: see Recovery.
func Open(cfg Config) (*Recorder, error) {
	if cfg.Dir == "" {
		return nil, errors.New("recorder: Dir is not set")
	}
	allow, err := cfg.Allow.compile()
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	shapes, err := compileShapes(cfg.Shapes)
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	ring, err := seal.Begin(cfg.Dir, cfg.Origin, cfg.SM3)
	if err != nil {
		return nil, err
	}
	r := &Recorder{
		vkeys: ring.VKeys(), allow: allow, shapes: shapes, redactor: cfg.Redactor, ack: cfg.Ack, now: cfg.Now,
	}
	r.resumed.some = make(chan struct{}, 1)
	if _, pass := r.redactor.(PassThrough); pass {
		r.redactor = nil // costs nothing then
	}
	if r.facts, err = gatherFacts(); err != nil {
		return nil, err
	}
	r.log, err = seal.Open(seal.Config{
		Dir: cfg.Dir, Signers: ring.Signers(), Epoch: ring.Epoch(), Buffered: cfg.Ack == AckBuffered,
		CheckpointEvery: cfg.CheckpointEvery, CheckpointLeaves: uint64(max(cfg.CheckpointLeaves, 0)), SegmentBytes: cfg.SegmentBytes,
		Now: cfg.Now, Published: cfg.Published,
		Resumed: r.resumed.add,
	})
	if err != nil {
		return nil, err
	}
	r.flights.New = func() any { return r.newFlight() }
	if err := r.recordRecovery(); err != nil {
		return nil, errors.Join(err, r.log.Close())
	}
	r.ended.Go(r.recordResumptions)
	return r, nil
}

// Record implements veritrail.EventRecorder.
func (r *Recorder) Record(ctx context.Context, e *veritrail.ComplianceEvent) error {
	f, err := r.RecordAsync(ctx, e)
	if err != nil {
		return err
	}
	return f.Wait(ctx)
}

// RecordAsync takes the event in and does not wait until it is acknowledged:
// that is for the Future to tell. It waits, until ctx ends, while the disk is
// too far behind.
func (r *Recorder) RecordAsync(ctx context.Context, e *veritrail.ComplianceEvent) (Future, error) {
	f := r.flight()
	defer r.land(f)
	if err := f.draft.SetEvent(e); err != nil {
		return Future{}, r.reject(ctx, err)
	}
	return r.send(ctx, f, false)
}

// RecordJSON is RecordAsync for JSON text: an event in any spelling that
// veritrail.ParseEvent reads, or a text that one of the shapes recognises.
func (r *Recorder) RecordJSON(ctx context.Context, text []byte) (Future, error) {
	return r.RecordJSONAs(ctx, "", text)
}

// RecordJSONAs is RecordJSON for a text of the named shape, or of any when the
// name is empty. A name that is not configured is ErrUnknownShape.
func (r *Recorder) RecordJSONAs(ctx context.Context, shape string, text []byte) (Future, error) {
	f := r.flight()
	defer r.land(f)
	err := r.shapes.read(&f.draft, shape, text)
	if errors.Is(err, ErrUnknownShape) {
		return Future{}, err
	}
	if err != nil {
		return Future{}, r.reject(ctx, err)
	}
	return r.send(ctx, f, false)
}

// RecordDraft is RecordAsync for an event that was read already, as by ReadJSON.
// d is neither modified nor kept.
func (r *Recorder) RecordDraft(ctx context.Context, d *veritrail.Draft) (Future, error) {
	if d == nil {
		return r.RecordAsync(ctx, nil)
	}
	f := r.flight()
	defer r.land(f)
	to := &f.draft
	to.ID, to.Timestamp, to.Severity, to.Action = d.ID, d.Timestamp, d.Severity, d.Action
	to.Subject = append(to.Subject, d.Subject...)
	to.Object = append(to.Object, d.Object...)
	to.Context = append(to.Context, d.Context...)
	return r.send(ctx, f, false)
}

// ReadJSON makes d the event that RecordJSONAs would read, and records nothing.
func (r *Recorder) ReadJSON(d *veritrail.Draft, shape string, text []byte) error {
	return r.shapes.read(d, shape, text)
}

// IsEvent tells, by a quick look, that a text of that shape, or of none that is
// named, can only be the event itself.
func (r *Recorder) IsEvent(shape string, text []byte) bool {
	return r.shapes.isEvent(shape, text)
}

// KnowsShape tells whether RecordJSONAs takes that name.
func (r *Recorder) KnowsShape(name string) bool {
	return name == "" || name == ShapeEvent || r.shapes.named(name) != nil
}

// KnowsShape tells whether a Recorder of this Config takes that name.
func (c Config) KnowsShape(name string) bool {
	return name == "" || name == ShapeEvent || name == ShapeRecord ||
		slices.ContainsFunc(c.Shapes, func(s Shape) bool { return s.Name == name })
}

// RecordBatch takes events in together and waits for all of them. The errors
// are those of the events at the same place, all nil when it returns nil: some
// events may be recorded and others not.
func (r *Recorder) RecordBatch(ctx context.Context, events []*veritrail.ComplianceEvent) ([]error, error) {
	futures, errs := make([]Future, len(events)), make([]error, len(events))
	failed := 0
	for i, e := range events {
		futures[i], errs[i] = r.RecordAsync(ctx, e)
	}
	for i := range events {
		if errs[i] == nil {
			errs[i] = futures[i].Wait(ctx)
		}
		if errs[i] != nil {
			failed++
		}
	}
	if failed == 0 {
		return nil, nil
	}
	return errs, fmt.Errorf("%d of %d events were not recorded", failed, len(events))
}

// RecordOwn records an event about the trail itself, with an action of TRAIL.*.
// It is for the program that runs the trail; everybody else's are refused.
func (r *Recorder) RecordOwn(ctx context.Context, e *veritrail.ComplianceEvent) error {
	f, err := r.sendOwn(ctx, e)
	if err != nil {
		return err
	}
	return f.Wait(ctx)
}

func (r *Recorder) sendOwn(ctx context.Context, e *veritrail.ComplianceEvent) (Future, error) {
	f := r.flight()
	defer r.land(f)
	if err := f.draft.SetEvent(e); err != nil {
		return Future{}, err
	}
	return r.send(ctx, f, true)
}

// Future is an event on its way to an acknowledgement.
type Future struct {
	// ID is the event's, the one it came with or the one it was given.
	ID      veritrail.UUID
	pending seal.Pending
	sealed  bool
}

// Wait returns nil once the event is acknowledged. When ctx ends first, the
// event may still be recorded.
func (f Future) Wait(ctx context.Context) error {
	if f.sealed {
		return f.pending.WaitSealed(ctx)
	}
	return f.pending.Wait(ctx)
}

// Leaf is the event's place in the log, once it is durable.
func (f Future) Leaf() (uint64, bool) { return f.pending.Leaf() }

// Seal makes everything recorded before it durable and signs a checkpoint.
func (r *Recorder) Seal(ctx context.Context) error { return r.log.Seal(ctx) }

// Close refuses further events, makes those it took durable, signs a last
// checkpoint and gives the trail up.
func (r *Recorder) Close() error {
	err := r.log.Close()
	if !errors.Is(err, ErrClosed) {
		close(r.resumed.some)
		r.ended.Wait()
	}
	return err
}

// Trail gives read access to the trail being written, for the program that
// serves it.
func (r *Recorder) Trail() *seal.Log { return r.log }

// Keys are the public keys that sign the trail's checkpoints.
func (r *Recorder) Keys() []string { return slices.Clone(r.vkeys) }

// Stats are numbers since Open, and of the trail.
type Stats struct {
	seal.Stats
	Rejected uint64 // events that broke a rule
}

// Stats counts.
func (r *Recorder) Stats() Stats {
	return Stats{Stats: r.log.Stats(), Rejected: r.rejected.Load()}
}

// own is an event about the trail itself.
func own(action string, sev veritrail.Severity, object map[string]string) *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{
		Severity: sev, Action: action, Subject: map[string]string{"svc": "veritrail"}, Object: object,
	}
}

// recordRecovery puts on record what Open had to cut.
func (r *Recorder) recordRecovery() error {
	found := r.log.Recovery()
	if found.CutBytes == 0 {
		return nil
	}
	return r.RecordOwn(context.Background(), own("TRAIL.RECOVERY.CUT", veritrail.SeverityWarn, map[string]string{
		"segment": found.CutFrom, "offset": strconv.FormatInt(found.CutAt, 10), "bytes": strconv.FormatInt(found.CutBytes, 10),
		"kept": filepath.Base(found.CutFile),
	}))
}

// resumptions wait to be put on record. The trail's writer adds to them and must
// not be made to wait.
type resumptions struct {
	mu   sync.Mutex
	all  []seal.Resumption
	some chan struct{}
}

func (q *resumptions) add(res seal.Resumption) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, res)
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *resumptions) take() []seal.Resumption {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// recordResumptions puts on record that the trail was halted, and what that
// cost. It ends when Close has.
func (r *Recorder) recordResumptions() {
	for range r.resumed.some {
		for _, res := range r.resumed.take() {
			// When this fails the trail has halted again or is closed, and the
			// count of lost events is in the next frame all the same.
			_, _ = r.sendOwn(context.Background(), own("TRAIL.RESUMED", veritrail.SeverityCritical, map[string]string{
				"halted": res.Halted.UTC().Format(time.RFC3339Nano), "lost": strconv.FormatUint(res.Lost, 10), "cause": res.Cause,
			}))
		}
	}
}
