package deliver

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

// recordFunc is an EventRecorder.
type recordFunc func(context.Context, *veritrail.ComplianceEvent) error

func (f recordFunc) Record(ctx context.Context, e *veritrail.ComplianceEvent) error { return f(ctx, e) }

var errDisk = errors.New("disk on fire")

func event() *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{
		Subject: map[string]string{"user": "u1"}, Action: "DATA.READ",
		Object: map[string]string{"table": "accounts"}, Context: map[string]string{"ip": "192.0.2.7"},
	}
}

func TestRecordOutlivesItsCaller(t *testing.T) {
	type key struct{}
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), key{}, "span"))
	cancel()
	d, err := New("test", Config{Recorder: recordFunc(func(ctx context.Context, _ *veritrail.ComplianceEvent) error {
		if ctx.Value(key{}) != "span" {
			t.Error("the values of the context are gone")
		}
		return ctx.Err()
	})})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Record(ctx, event()); err != nil {
		t.Errorf("recorded under a context that has ended: %v", err)
	}
}

func TestRecordEndsWhenTheTrailHangs(t *testing.T) {
	d, err := New("test", Config{
		Recorder: recordFunc(func(ctx context.Context, _ *veritrail.ComplianceEvent) error {
			<-ctx.Done()
			return ctx.Err()
		}),
		Timeout: time.Millisecond,
		OnError: func(context.Context, *veritrail.ComplianceEvent, error) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Record(context.Background(), event()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the time is over", err)
	}
}

func TestFailureIsToldWithTheEvent(t *testing.T) {
	var told *veritrail.ComplianceEvent
	var why error
	d, err := New("test", Config{
		Recorder: recordFunc(func(context.Context, *veritrail.ComplianceEvent) error { return errDisk }),
		OnError: func(ctx context.Context, e *veritrail.ComplianceEvent, err error) {
			if ctx.Err() != nil {
				t.Error("OnError gets a context that has ended")
			}
			told, why = e, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e := event()
	if err := d.Record(ctx, e); !errors.Is(err, errDisk) {
		t.Errorf("got %v, want the recorder's error", err)
	}
	if told == nil || !errors.Is(why, errDisk) {
		t.Fatalf("told %v, %v", told, why)
	}
	if told.ID == "" || told.ID != e.ID {
		t.Errorf("told of event %q, recorded %q", told.ID, e.ID)
	}
	e.Subject["user"] = "somebody else" // as an adapter does that uses its events again
	if told.Subject["user"] != "u1" {
		t.Error("the event that was told changes with the adapter's")
	}
}

func TestFailureNobodyAsksForIsPrinted(t *testing.T) {
	var stderr bytes.Buffer
	d, err := New("test", Config{
		Recorder: recordFunc(func(context.Context, *veritrail.ComplianceEvent) error { return errDisk }),
		Stderr:   &stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	e := event()
	if err := d.Record(context.Background(), e); err == nil {
		t.Error("no error")
	}
	if got, want := stderr.String(), "test: event "+e.ID+": disk on fire\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestUnmadeEventIsToldWithoutOne(t *testing.T) {
	var why error
	d, err := New("test", Config{
		Recorder: recordFunc(func(context.Context, *veritrail.ComplianceEvent) error { return nil }),
		OnError: func(_ context.Context, e *veritrail.ComplianceEvent, err error) {
			if e != nil {
				t.Errorf("told of %v", e)
			}
			why = err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Unmade(context.Background(), errDisk); !errors.Is(err, errDisk) || why == nil ||
		err.Error() != "test: disk on fire" {
		t.Errorf("got %v, told %v", err, why)
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := recordFunc(func(context.Context, *veritrail.ComplianceEvent) error { return nil })
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "test: Recorder is not set"},
		{Config{Recorder: rec, Timeout: -1}, "test: Timeout is negative"},
	} {
		if _, err := New("test", tt.cfg); err == nil || err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
}

func TestNewIDIsAVersion4UUID(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := NewID()
		if _, err := veritrail.ParseUUID(id); err != nil || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
			t.Fatalf("%s: %v", id, err)
		}
		if seen[id] {
			t.Fatalf("%s: twice", id)
		}
		seen[id] = true
	}
}
