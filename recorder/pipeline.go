package recorder

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
)

// flight is what one event needs on its way. It is used again, so that a
// recorded event costs no allocation.
type flight struct {
	draft   veritrail.Draft
	builder Builder
	leaf    []byte
	ids     *rand.ChaCha8
	text    [96]byte  // holds the values that enrich makes
	read    time.Time // the clocks, not long ago

	// What quick knows of the events before.
	added   added
	stamp   stamp
	actions actions
}

func (r *Recorder) newFlight() *flight {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails: crypto/rand ends the program instead
	f := &flight{ids: rand.NewChaCha8(seed)}
	f.builder.flight = f
	f.added.init(&r.facts)
	return f
}

func (r *Recorder) flight() *flight {
	f, _ := r.flights.Get().(*flight)
	return f
}

func (r *Recorder) land(f *flight) {
	f.draft.Reset()
	r.flights.Put(f)
}

// send takes the draft through all stages into the trail.
func (r *Recorder) send(ctx context.Context, f *flight, own bool) (Future, error) {
	if own {
		if err := r.encode(ctx, f, own); err != nil {
			return Future{}, err // a rejection of a rejection would never end
		}
	} else if !r.quick(ctx, f) {
		if err := r.encode(ctx, f, own); err != nil {
			return Future{}, r.reject(ctx, err)
		}
	}
	return r.append(ctx, f)
}

// encode makes the leaf, one stage after the other.
func (r *Recorder) encode(ctx context.Context, f *flight, own bool) error {
	d := &f.draft
	if err := r.validate(d, own); err != nil {
		return err
	}
	r.enrich(ctx, f)
	if err := checkEnriched(d); err != nil {
		return err
	}
	if err := r.redact(ctx, d); err != nil {
		return err
	}
	f.leaf = d.AppendCanonical(f.leaf[:0])
	return checkLeaf(f.leaf)
}

// append hands the encoded event over to the trail.
func (r *Recorder) append(ctx context.Context, f *flight) (Future, error) {
	p, err := r.log.Append(ctx, f.leaf)
	if err != nil {
		return Future{}, err
	}
	return Future{ID: f.draft.ID, pending: p, sealed: r.ack == AckSealed}, nil
}

// checkEnriched refuses an event that enrich made one that no reader takes.
func checkEnriched(d *veritrail.Draft) error {
	n := len(d.Context)
	if n <= veritrail.MaxPairs {
		return nil
	}
	return &veritrail.InvalidEventError{Violations: []veritrail.Violation{{
		Path:  "/ctx",
		Rule:  fmt.Sprintf("want at most %d pairs with what the recorder adds", veritrail.MaxPairs),
		Shape: fmt.Sprintf("object of %d pairs", n),
	}}}
}

func checkLeaf(leaf []byte) error {
	if len(leaf) <= veritrail.MaxEventBytes {
		return nil
	}
	return &veritrail.InvalidEventError{Violations: []veritrail.Violation{{
		Rule:  fmt.Sprintf("want at most %d bytes with what the recorder adds", veritrail.MaxEventBytes),
		Shape: fmt.Sprintf("event of %d bytes", len(leaf)),
	}}}
}

// validate checks the event's shape, then what the allowlists say.
func (r *Recorder) validate(d *veritrail.Draft, own bool) error {
	if err := d.Validate(); err != nil {
		return err
	}
	return r.allow.check(d, own)
}

// facts are what the recorder adds to every event. They do not change.
type facts struct {
	host, pid, process, producer string
}

const sdk = "veritrail-go/" + veritrail.Version

func gatherFacts() (facts, error) {
	host, err := os.Hostname()
	if err != nil {
		return facts{}, fmt.Errorf("recorder: the host's name: %w", err)
	}
	var producer [6]byte
	_, _ = crand.Read(producer[:])
	// Neither name need be UTF-8, and what is not can't be encoded.
	name := strings.ToValidUTF8(filepath.Base(os.Args[0]), "?")
	return facts{
		host: strings.ToValidUTF8(host, "?"), pid: strconv.Itoa(os.Getpid()), process: strings.TrimSuffix(name, ".exe"),
		producer: hex.EncodeToString(producer[:]),
	}, nil
}

// Keys of ctx that only the recorder sets: who recorded the event, with which
// version, and the event's number there, so that a gap shows.
const (
	keyProducer = "producer"
	keySDK      = "sdk"
	keySeq      = "seq"
)

// Keys of ctx for the trace that the caller's context belongs to.
const (
	keyTrace = "trace_id"
	keySpan  = "span_id"
)

// enrich fills in what the event lacks. What the caller said of host, process
// and trace stays.
func (r *Recorder) enrich(ctx context.Context, f *flight) {
	d := &f.draft
	if d.ID.IsZero() {
		d.ID = f.newID()
	}
	if d.Timestamp.IsZero() {
		d.Timestamp = r.clock(f)
	}
	fill := func(key, value string) {
		if _, there := d.Context.Get(key); !there {
			d.Context = append(d.Context, veritrail.Pair{Key: key, Value: value})
		}
	}
	fill("host", r.facts.host)
	fill("pid", r.facts.pid)
	fill("process", r.facts.process)
	fill(keyProducer, r.facts.producer)
	fill(keySDK, sdk)
	_, traced := d.Context.Get(keyTrace)
	_, spanned := d.Context.Get(keySpan)
	text := strconv.AppendUint(f.text[:0], r.seq.Add(1), 10)
	fill(keySeq, aliased(text))
	// A span of one trace beside the id of another would point nowhere.
	if span := trace.SpanContextFromContext(ctx); span.IsValid() && !traced && !spanned {
		traceID, spanID := span.TraceID(), span.SpanID()
		at := len(text)
		text = hex.AppendEncode(text, traceID[:])
		fill(keyTrace, aliased(text[at:]))
		at = len(text)
		text = hex.AppendEncode(text, spanID[:])
		fill(keySpan, aliased(text[at:]))
	}
	d.Context.Sort()
}

// aliased is b as a string without a copy: with copies an event would cost an
// allocation for its number, and two more for its trace; so it costs none
// (the allocation tests fail without this). b is part of a flight's text, which
// nobody writes to before the event has been encoded.
func aliased(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // audited: see above
}

// newID is a random UUID, version 4 (RFC 9562 §5.4), from a ChaCha8 stream
// seeded by the operating system.
func (f *flight) newID() (id veritrail.UUID) {
	hi, lo := f.ids.Uint64(), f.ids.Uint64()
	for i := range 8 {
		id[i], id[8+i] = byte(hi>>(8*i)), byte(lo>>(8*i))
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (r *Recorder) redact(ctx context.Context, d *veritrail.Draft) error {
	if r.redactor == nil {
		return nil
	}
	if err := r.redactor.Redact(ctx, d); err != nil {
		return err
	}
	return d.Validate()
}

// reject leaves an event that says where and which rule, never what, and
// returns why.
func (r *Recorder) reject(ctx context.Context, err error) error {
	r.rejected.Add(1)
	v := veritrail.Violation{Rule: "refused by redaction"}
	more := 0
	var invalid *veritrail.InvalidEventError
	if errors.As(err, &invalid) && len(invalid.Violations) > 0 {
		v, more = invalid.Violations[0], len(invalid.Violations)-1
	}
	object := map[string]string{"path": v.Path, "rule": v.Rule}
	if more > 0 {
		object["more"] = strconv.Itoa(more)
	}
	if rerr := r.sendRejection(ctx, own("TRAIL.EVENT.REJECTED", veritrail.SeverityWarn, object)); rerr != nil {
		return fmt.Errorf("%w; the rejection is not on record either: %w", err, rerr)
	}
	return err
}

// sendRejection records a rejection. When the redactor refuses that too, the
// rejection goes without anything that could need redaction: the place, the
// rule, and which recorder says so are left.
func (r *Recorder) sendRejection(ctx context.Context, e *veritrail.ComplianceEvent) error {
	f := r.flight()
	defer r.land(f)
	d := &f.draft
	if err := errors.Join(d.SetEvent(e), d.Validate()); err != nil {
		return err
	}
	r.enrich(ctx, f)
	id, at := d.ID, d.Timestamp
	seq, _ := d.Context.Get(keySeq)
	if err := r.redact(ctx, d); err != nil {
		if err := d.SetEvent(e); err != nil {
			return err
		}
		d.ID, d.Timestamp = id, at
		d.Context = append(d.Context, veritrail.Pair{Key: keyProducer, Value: r.facts.producer},
			veritrail.Pair{Key: keySDK, Value: sdk}, veritrail.Pair{Key: keySeq, Value: seq})
		if err := d.Validate(); err != nil {
			return err
		}
	}
	f.leaf = d.AppendCanonical(f.leaf[:0])
	if err := checkLeaf(f.leaf); err != nil {
		return err
	}
	_, err := r.append(ctx, f)
	return err
}
