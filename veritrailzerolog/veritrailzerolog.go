// Package veritrailzerolog is a zerolog.LevelWriter that records log lines as compliance events.
//
//	w, err := veritrailzerolog.New(veritrailzerolog.Config{Recorder: rec, Service: "payments", OnlyActions: true})
//	…
//	log := zerolog.New(zerolog.MultiLevelWriter(w, os.Stderr)).Hook(veritrailzerolog.TraceHook{})
//	log.Info().Ctx(ctx).Str("act", "DATA.TRANSFER").Str("user", "u1").
//		Dict("obj", zerolog.Dict().Str("account", "62")).Msg("transfer booked")
//
// A zerolog hook can't see the fields of an event; a writer sees all of them, as the line of JSON that zerolog makes. So it
// is a writer that records, and all that a hook does here is to put the ids of the trace into the line.
//
// The field act is the event's action; user, svc, role, session and device are its subject; the objects sub, obj and ctx
// name its parts outright; everything else is context, objects as dotted keys, arrays as JSON, with the message as msg. A
// field that occurs twice, which zerolog allows, is kept twice. docs/adapters.md has the whole mapping.
//
// The event's time is the recorder's. The line's own, which zerolog rounds to the second unless it is told otherwise, stays in
// ctx.time as it is.
//
// A log call returns when the event is durable: it costs a share of a disk sync. So that an ordinary log does not
// become a trail, set OnlyActions. zerolog's diode.Writer around this one would throw its errors, and lines, away.
//
// An event that was not recorded is told to OnError, or printed on standard error; the error is also returned to
// zerolog, which calls its ErrorHandler. Nothing is cut to make it fit: an event that breaks the bounds of
// docs/format/event.md is refused as a whole, and the recorder puts the refusal on record.
package veritrailzerolog

import (
	"context"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/trace"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/deliver"
	"github.com/veritrail/veritrail/internal/logevent"
)

// Config says what is recorded and how. Recorder and Service are required.
type Config struct {
	Recorder veritrail.EventRecorder
	Service  string // sub.svc of events that name no other subject: the program's name

	Level       zerolog.Level // lines below it are not recorded; its zero value is zerolog.DebugLevel
	Action      string        // of lines without the field act; APP.LOG when empty
	OnlyActions bool          // record nothing but what has the field act
	SubjectKeys []string      // fields that are the subject's; user, svc, role, session, device when nil
	ObjectKeys  []string      // fields that are the object's

	Timeout time.Duration // how long a log call waits for the trail; 10 s when 0
	// OnError is told of each event that was not recorded, or not for certain, with an ID to look for it or record it
	// again; e is nil when a line could not be read. It must not log to this Writer. When nil, a line on standard error
	// says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
}

// A Writer is a zerolog.LevelWriter. It is safe for concurrent use.
type Writer struct {
	trail       *deliver.Delivery
	rules       *logevent.Rules
	level       zerolog.Level
	onlyActions bool
}

var _ zerolog.LevelWriter = (*Writer)(nil)

const packageName = "veritrailzerolog"

// New returns a Writer, or what is wrong with cfg.
func New(cfg Config) (*Writer, error) {
	trail, err := deliver.New(packageName, deliver.Config{Recorder: cfg.Recorder, Timeout: cfg.Timeout, OnError: cfg.OnError})
	if err != nil {
		return nil, err
	}
	rules, err := logevent.New(packageName, logevent.Config{
		Service: cfg.Service, Action: cfg.Action, SubjectKeys: cfg.SubjectKeys, ObjectKeys: cfg.ObjectKeys,
	})
	if err != nil {
		return nil, err
	}
	return &Writer{trail: trail, rules: rules, level: cfg.Level, onlyActions: cfg.OnlyActions}, nil
}

// Write records a line whose level is what the line says. It is for writers in between that know no levels.
func (w *Writer) Write(line []byte) (int, error) { return w.write(nil, line) }

// WriteLevel records a line.
func (w *Writer) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	if level < w.level {
		return len(line), nil
	}
	return w.write(&level, line)
}

func (w *Writer) write(level *zerolog.Level, line []byte) (int, error) {
	rec := w.rules.Begin(time.Time{}, veritrail.SeverityUnset)
	defer rec.End()
	var said zerolog.Level // by the line
	var message string
	err := flatten(line, func(name, value string) {
		switch name {
		case zerolog.LevelFieldName:
			if l, err := zerolog.ParseLevel(value); err == nil {
				said = l
				return
			}
		case zerolog.MessageFieldName:
			message = value
			return
		}
		rec.Add(name, value)
	})
	if err != nil {
		return 0, w.trail.Unmade(context.Background(), err)
	}
	if level == nil {
		level = &said
	}
	if *level < w.level || w.onlyActions && !rec.NamesAction() {
		return len(line), nil
	}
	rec.Message(message)
	e := rec.Event()
	e.Severity = severity(*level)
	if err := w.trail.Record(context.Background(), e); err != nil {
		return 0, err
	}
	return len(line), nil
}

func severity(level zerolog.Level) veritrail.Severity {
	switch {
	case level == zerolog.NoLevel:
		return veritrail.SeverityUnset
	case level < zerolog.InfoLevel:
		return veritrail.SeverityDebug
	case level == zerolog.InfoLevel:
		return veritrail.SeverityInfo
	case level == zerolog.WarnLevel:
		return veritrail.SeverityWarn
	case level == zerolog.ErrorLevel:
		return veritrail.SeverityError
	default:
		return veritrail.SeverityCritical
	}
}

// TraceHook is a zerolog.Hook that puts trace_id and span_id into the line of an event that was given a context, by
// Event.Ctx or Context.Ctx, with an OpenTelemetry span in it.
type TraceHook struct{}

// Run implements zerolog.Hook.
func (TraceHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	span := trace.SpanContextFromContext(e.GetCtx())
	if span.IsValid() {
		e.Str("trace_id", span.TraceID().String()).Str("span_id", span.SpanID().String())
	}
}
