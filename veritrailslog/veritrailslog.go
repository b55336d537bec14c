// Package veritrailslog is a slog.Handler that records log records as compliance events.
//
//	h, err := veritrailslog.New(veritrailslog.Config{Recorder: rec, Service: "payments"})
//	…
//	log := slog.New(h)
//	log.InfoContext(ctx, "transfer booked", "act", "DATA.TRANSFER", "user", "u1", slog.Group("obj", "account", "62"))
//
// The attribute act is the event's action; user, svc, role, session and device are its subject; the groups sub, obj and
// ctx name its parts outright; everything else, the message included, is context, groups as dotted keys. The record's
// time and level are the event's time and severity. docs/adapters.md has the whole mapping.
//
// A log call returns when the event is durable: it costs a share of a disk sync. So that an ordinary log does not
// become a trail, set OnlyActions: what names no action then goes to Next alone.
//
// A trace id comes from the span in the call's context, by way of the recorder: use the Context methods of slog.Logger.
// That context's end does not keep the event out.
//
// slog.Logger throws away what its handler returns. An event that was not recorded is therefore told to OnError, or
// printed on standard error; either way Handle returns the error as well. Nothing is cut to make it fit: an event that
// breaks the bounds of docs/format/event.md is refused as a whole, and the recorder puts the refusal on record.
package veritrailslog

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/deliver"
	"github.com/veritrail/veritrail/internal/logevent"
)

// Config says what is recorded and how. Recorder and Service are required.
type Config struct {
	Recorder veritrail.EventRecorder
	Service  string // sub.svc of events that name no other subject: the program's name

	Level       slog.Leveler // records below it are not recorded; slog.LevelInfo when nil
	Action      string       // of records without the attribute act; APP.LOG when empty
	OnlyActions bool         // record nothing but what has the attribute act
	SubjectKeys []string     // attributes that are the subject's; user, svc, role, session, device when nil
	ObjectKeys  []string     // attributes that are the object's

	// Next gets every record that it is enabled for, recorded or not, after it was recorded.
	Next slog.Handler

	Timeout time.Duration // how long a log call waits for the trail; 10 s when 0
	// OnError is told of each event that was not recorded, or not for certain, with an ID to look for it or record it
	// again. It must not log to this Handler. When nil, a line on standard error says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
}

// A Handler is a slog.Handler. It is safe for concurrent use, as far as Next is.
type Handler struct {
	*shared
	next   slog.Handler
	prefix string           // of the open groups, with a dot at its end
	attrs  []veritrail.Pair // those of WithAttrs, as text; only read
}

// shared is the same for a Handler and all that are derived from it.
type shared struct {
	trail       *deliver.Delivery
	rules       *logevent.Rules
	level       slog.Leveler
	onlyActions bool
}

var _ slog.Handler = (*Handler)(nil)

const packageName = "veritrailslog"

// New returns a Handler, or what is wrong with cfg.
func New(cfg Config) (*Handler, error) {
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
	if cfg.Level == nil {
		cfg.Level = slog.LevelInfo
	}
	s := &shared{trail: trail, rules: rules, level: cfg.Level, onlyActions: cfg.OnlyActions}
	return &Handler{shared: s, next: cfg.Next}, nil
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level.Level() || h.next != nil && h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler. It returns nil when the record was recorded, or need not be, and Next has taken it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	var err error
	if r.Level >= h.level.Level() {
		err = h.record(ctx, &r)
	}
	if h.next != nil && h.next.Enabled(ctx, r.Level) {
		err = errors.Join(err, h.next.Handle(ctx, r.Clone()))
	}
	return err
}

func (h *Handler) record(ctx context.Context, r *slog.Record) error {
	rec := h.rules.Begin(r.Time, severity(r.Level))
	defer rec.End()
	for _, a := range h.attrs {
		rec.Add(a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		flatten(h.prefix, a, rec.Add)
		return true
	})
	if h.onlyActions && !rec.NamesAction() {
		return nil
	}
	rec.Message(r.Message)
	return h.trail.Record(ctx, rec.Event())
}

// WithAttrs implements slog.Handler. The attributes are turned into text here, once.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	derived := *h
	derived.attrs = slices.Clip(h.attrs)
	for _, a := range attrs {
		flatten(h.prefix, a, func(name, value string) {
			derived.attrs = append(derived.attrs, veritrail.Pair{Key: name, Value: value})
		})
	}
	if h.next != nil {
		derived.next = h.next.WithAttrs(attrs)
	}
	return &derived
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	derived := *h
	derived.prefix = h.prefix + name + "."
	if h.next != nil {
		derived.next = h.next.WithGroup(name)
	}
	return &derived
}

// flatten calls add for a, or for what is in it, as slog.Handler says: values resolved, empty attributes and groups
// left out, groups without a name inlined.
func flatten(prefix string, a slog.Attr, add func(name, value string)) {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Key == "" && v.Equal(slog.Value{}) {
			return
		}
		add(prefix+a.Key, text(v))
		return
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range v.Group() {
		flatten(prefix, inner, add)
	}
}

func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindString:
		return v.String()
	case slog.KindInt64:
		return strconv.FormatInt(v.Int64(), 10)
	case slog.KindUint64:
		return strconv.FormatUint(v.Uint64(), 10)
	case slog.KindFloat64:
		return logevent.Float(v.Float64())
	case slog.KindBool:
		return strconv.FormatBool(v.Bool())
	case slog.KindDuration:
		return v.Duration().String()
	case slog.KindTime:
		return logevent.Time(v.Time())
	default:
		return logevent.Text(v.Any())
	}
}

// severity maps levels as slog intends them: what lies between two names belongs to the lower.
func severity(level slog.Level) veritrail.Severity {
	switch {
	case level < slog.LevelInfo:
		return veritrail.SeverityDebug
	case level < slog.LevelWarn:
		return veritrail.SeverityInfo
	case level < slog.LevelError:
		return veritrail.SeverityWarn
	case level < slog.LevelError+4:
		return veritrail.SeverityError
	default:
		return veritrail.SeverityCritical
	}
}
