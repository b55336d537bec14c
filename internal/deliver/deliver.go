// Package deliver is the last step of every adapter: it hands an event to the recorder so that the outcome depends on
// the trail alone. Whoever caused the event cannot keep it out by going away, for the caller's cancellation is taken off; a
// trail that hangs holds the caller up for a bounded time; and an event that was not recorded is always told to
// somebody.
package deliver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"

	"github.com/veritrail/veritrail"
)

// DefaultTimeout is how long Record waits when nothing else is said. Group commit answers in milliseconds; seconds mean
// that the disk is in trouble.
const DefaultTimeout = 10 * time.Second

// Config is what the adapters' own configurations have in common.
type Config struct {
	Recorder veritrail.EventRecorder // required
	Timeout  time.Duration           // DefaultTimeout when 0
	// OnError is told of each event that was not recorded, or not for certain. When nil, a line on Stderr says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
	Stderr  io.Writer // os.Stderr when nil
}

// A Delivery hands events to a recorder. It is safe for concurrent use.
type Delivery struct {
	name string
	cfg  Config
}

// New checks cfg. name is the adapter's, for errors.
func New(name string, cfg Config) (*Delivery, error) {
	if cfg.Recorder == nil {
		return nil, errors.New(name + ": Recorder is not set")
	}
	if cfg.Timeout < 0 {
		return nil, errors.New(name + ": Timeout is negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Stderr == nil {
		cfg.Stderr = os.Stderr
	}
	return &Delivery{name: name, cfg: cfg}, nil
}

// Record records e and returns what the recorder did. It gives e an ID when it has none, so that whoever is told of a
// failure can look for the event, or record it again as the same. Of ctx it takes the values and not the end.
func (d *Delivery) Record(ctx context.Context, e *veritrail.ComplianceEvent) error {
	if e.ID == "" {
		e.ID = NewID()
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Timeout)
	defer cancel()
	err := d.cfg.Recorder.Record(bounded, e)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: event %s: %w", d.name, e.ID, err)
	kept := *e // adapters use their events again
	kept.Subject, kept.Object, kept.Context = maps.Clone(e.Subject), maps.Clone(e.Object), maps.Clone(e.Context)
	d.tell(ctx, &kept, err)
	return err
}

// Unmade tells of something that did not even become an event, and returns why.
func (d *Delivery) Unmade(ctx context.Context, why error) error {
	err := fmt.Errorf("%s: %w", d.name, why)
	d.tell(ctx, nil, err)
	return err
}

func (d *Delivery) tell(ctx context.Context, e *veritrail.ComplianceEvent, err error) {
	if d.cfg.OnError == nil {
		// Not by way of log or slog: this adapter may be what they write to.
		fmt.Fprintf(d.cfg.Stderr, "%v\n", err)
		return
	}
	d.cfg.OnError(context.WithoutCancel(ctx), e, err)
}

// NewID returns a random UUID, version 4 (RFC 9562 §5.4).
func NewID() string {
	var id veritrail.UUID
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
