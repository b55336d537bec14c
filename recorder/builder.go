package recorder

import (
	"context"
	"time"

	"github.com/veritrail/veritrail"
)

// Builder puts an event together without maps and without allocating. It is
// used by one goroutine, and not again after Record or RecordAsync.
type Builder struct {
	recorder *Recorder
	flight   *flight
	bad      error
}

// Event begins an event. Record or RecordAsync must follow.
func (r *Recorder) Event(action string) *Builder {
	f := r.flight()
	f.draft.Action = action
	f.builder.recorder, f.builder.bad = r, nil
	return &f.builder
}

// Sub adds to the subject: who did it.
func (b *Builder) Sub(key, value string) *Builder {
	b.flight.draft.Subject = append(b.flight.draft.Subject, veritrail.Pair{Key: key, Value: value})
	return b
}

// Obj adds to the object: to what.
func (b *Builder) Obj(key, value string) *Builder {
	b.flight.draft.Object = append(b.flight.draft.Object, veritrail.Pair{Key: key, Value: value})
	return b
}

// Ctx adds to the context: where and how.
func (b *Builder) Ctx(key, value string) *Builder {
	b.flight.draft.Context = append(b.flight.draft.Context, veritrail.Pair{Key: key, Value: value})
	return b
}

// Severity says how much attention the event asks for.
func (b *Builder) Severity(s veritrail.Severity) *Builder {
	b.flight.draft.Severity = s
	return b
}

// ID gives the event an id of the caller's, a UUID.
func (b *Builder) ID(id string) *Builder {
	parsed, err := veritrail.ParseUUID(id)
	// The nil UUID stands for "not set": to replace what the caller wrote down would lose the event to him.
	if err != nil || parsed.IsZero() {
		b.bad = &veritrail.InvalidEventError{Violations: []veritrail.Violation{{
			Path: "/id", Rule: "want a UUID other than the nil UUID", Shape: shape(id),
		}}}
	}
	b.flight.draft.ID = parsed
	return b
}

// At says when it happened, when that was not now.
func (b *Builder) At(t time.Time) *Builder {
	b.flight.draft.Timestamp = t
	return b
}

// Record records the event and returns nil once it is acknowledged.
func (b *Builder) Record(ctx context.Context) error {
	f, err := b.RecordAsync(ctx)
	if err != nil {
		return err
	}
	return f.Wait(ctx)
}

// RecordAsync records the event and leaves the waiting to the Future.
func (b *Builder) RecordAsync(ctx context.Context) (Future, error) {
	r, f, bad := b.recorder, b.flight, b.bad
	b.recorder = nil // a second use is a bug, and shows
	defer r.land(f)
	if bad != nil {
		return Future{}, r.reject(ctx, bad)
	}
	return r.send(ctx, f, false)
}
