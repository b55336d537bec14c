// Package veritrailzap is a zapcore.Core that records log entries as compliance events.
//
//	core, err := veritrailzap.New(veritrailzap.Config{Recorder: rec, Service: "payments", OnlyActions: true})
//	…
//	log := zap.New(zapcore.NewTee(core, ordinary))
//	log.Info("transfer booked", zap.String("act", "DATA.TRANSFER"), zap.String("user", "u1"),
//		zap.Dict("obj", zap.String("account", "62")), veritrailzap.Context(ctx))
//
// The field act is the event's action; user, svc, role, session and device are its subject; the objects or namespaces
// sub, obj and ctx name its parts outright; everything else is context, objects as dotted keys, arrays as JSON: with the
// message as msg, the logger's name as logger, and the caller, where zap adds it. Stack traces are for the log and
// are left out. DPanic, Panic and Fatal are CRITICAL. docs/adapters.md has the whole mapping.
//
// A log call returns when the event is durable: it costs a share of a disk sync. So that an ordinary log does not
// become a trail, set OnlyActions, and tee this core with the ordinary one. Do not wrap it in a sampler.
//
// An event that was not recorded is told to OnError, or printed on standard error; the error is also returned to zap,
// which prints it to its ErrorOutput. Nothing is cut to make it fit: an event that breaks the bounds of
// docs/format/event.md is refused as a whole, and the recorder puts the refusal on record.
package veritrailzap

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/deliver"
	"github.com/veritrail/veritrail/internal/logevent"
)

// Config says what is recorded and how. Recorder and Service are required.
type Config struct {
	Recorder veritrail.EventRecorder
	Service  string // sub.svc of events that name no other subject: the program's name

	Level       zapcore.LevelEnabler // which entries are recorded; zapcore.InfoLevel and above when nil
	Action      string               // of entries without the field act; APP.LOG when empty
	OnlyActions bool                 // record nothing but what has the field act
	SubjectKeys []string             // fields that are the subject's; user, svc, role, session, device when nil
	ObjectKeys  []string             // fields that are the object's

	Timeout time.Duration // how long a log call waits for the trail; 10 s when 0
	// OnError is told of each event that was not recorded, or not for certain, with an ID to look for it or record it
	// again. It must not log to this Core. When nil, a line on standard error says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
}

// Context is a field that no encoder shows. It hands ctx to the recorder, which takes the trace from a span in it. The
// end of ctx does not keep the event out.
func Context(ctx context.Context) zap.Field {
	return zap.Field{Type: zapcore.SkipType, Interface: ctx}
}

type core struct {
	zapcore.LevelEnabler
	trail       *deliver.Delivery
	rules       *logevent.Rules
	onlyActions bool

	ctx    context.Context //nolint:containedctx // zap passes none; With may carry one as a field, see Context
	prefix string          // of the open namespaces, with a dot at its end
	attrs  []veritrail.Pair
}

const packageName = "veritrailzap"

// New returns a Core, or what is wrong with cfg.
func New(cfg Config) (zapcore.Core, error) {
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
		cfg.Level = zapcore.InfoLevel
	}
	return &core{
		LevelEnabler: cfg.Level, trail: trail, rules: rules, onlyActions: cfg.OnlyActions, ctx: context.Background(),
	}, nil
}

// With implements zapcore.Core. The fields are turned into text here, once.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	derived := *c
	derived.attrs = slices.Clip(c.attrs)
	enc := &encoder{prefix: c.prefix, add: func(name, value string) {
		derived.attrs = append(derived.attrs, veritrail.Pair{Key: name, Value: value})
	}}
	derived.ctx = enc.addAll(c.ctx, fields)
	derived.prefix = enc.prefix
	return &derived
}

// Check implements zapcore.Core.
func (c *core) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core. It returns nil when the entry was recorded, or need not be.
func (c *core) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	rec := c.rules.Begin(entry.Time, severity(entry.Level))
	defer rec.End()
	for _, a := range c.attrs {
		rec.Add(a.Key, a.Value)
	}
	enc := &encoder{prefix: c.prefix, add: rec.Add}
	ctx := enc.addAll(c.ctx, fields)
	if c.onlyActions && !rec.NamesAction() {
		return nil
	}
	if entry.LoggerName != "" {
		rec.Add("ctx.logger", entry.LoggerName)
	}
	if entry.Caller.Defined {
		rec.Add("ctx.caller", entry.Caller.TrimmedPath())
	}
	rec.Message(entry.Message)
	return c.trail.Record(ctx, rec.Event())
}

// Sync implements zapcore.Core. What Write took is durable already.
func (c *core) Sync() error { return nil }

func severity(level zapcore.Level) veritrail.Severity {
	switch {
	case level < zapcore.InfoLevel:
		return veritrail.SeverityDebug
	case level == zapcore.InfoLevel:
		return veritrail.SeverityInfo
	case level == zapcore.WarnLevel:
		return veritrail.SeverityWarn
	case level == zapcore.ErrorLevel:
		return veritrail.SeverityError
	default:
		return veritrail.SeverityCritical
	}
}

// An encoder calls add for each value, under its whole name.
type encoder struct {
	prefix string
	add    func(name, value string)
}

var _ zapcore.ObjectEncoder = (*encoder)(nil)

// addAll adds fields. It returns the context that came with them, or ctx.
func (e *encoder) addAll(ctx context.Context, fields []zapcore.Field) context.Context {
	for i := range fields {
		if fields[i].Type == zapcore.SkipType {
			if carried, ok := fields[i].Interface.(context.Context); ok {
				ctx = carried
			}
			continue
		}
		fields[i].AddTo(e)
	}
	return ctx
}

func (e *encoder) AddArray(key string, v zapcore.ArrayMarshaler) error {
	tree := zapcore.NewMapObjectEncoder()
	err := tree.AddArray(key, v)
	e.addText(key, tree.Fields[key])
	return err
}

func (e *encoder) AddObject(key string, v zapcore.ObjectMarshaler) error {
	inner := &encoder{prefix: e.prefix + key + ".", add: e.add}
	return v.MarshalLogObject(inner)
}

// AddReflected implements zapcore.ObjectEncoder. A value without JSON is no reason to lose the entry.
func (e *encoder) AddReflected(key string, v any) error {
	e.addText(key, v)
	return nil
}

// addText adds the text of any value.
func (e *encoder) addText(key string, v any) { e.AddString(key, logevent.Text(v)) }

func (e *encoder) OpenNamespace(key string)           { e.prefix += key + "." }
func (e *encoder) AddString(key, v string)            { e.add(e.prefix+key, v) }
func (e *encoder) AddByteString(key string, v []byte) { e.AddString(key, string(v)) }
func (e *encoder) AddBinary(key string, v []byte) {
	e.AddString(key, base64.StdEncoding.EncodeToString(v))
}
func (e *encoder) AddBool(key string, v bool)            { e.AddString(key, strconv.FormatBool(v)) }
func (e *encoder) AddDuration(k string, v time.Duration) { e.AddString(k, v.String()) }
func (e *encoder) AddTime(key string, v time.Time)       { e.AddString(key, logevent.Time(v)) }
func (e *encoder) AddFloat64(key string, v float64)      { e.AddString(key, logevent.Float(v)) }
func (e *encoder) AddFloat32(key string, v float32) {
	e.AddString(key, strconv.FormatFloat(float64(v), 'g', -1, 32))
}
func (e *encoder) AddComplex128(key string, v complex128) { e.AddString(key, fmt.Sprint(v)) }
func (e *encoder) AddComplex64(key string, v complex64)   { e.AddString(key, fmt.Sprint(v)) }
func (e *encoder) AddInt64(key string, v int64)           { e.AddString(key, strconv.FormatInt(v, 10)) }
func (e *encoder) AddInt(key string, v int)               { e.AddInt64(key, int64(v)) }
func (e *encoder) AddInt32(key string, v int32)           { e.AddInt64(key, int64(v)) }
func (e *encoder) AddInt16(key string, v int16)           { e.AddInt64(key, int64(v)) }
func (e *encoder) AddInt8(key string, v int8)             { e.AddInt64(key, int64(v)) }
func (e *encoder) AddUint64(key string, v uint64)         { e.AddString(key, strconv.FormatUint(v, 10)) }
func (e *encoder) AddUint(key string, v uint)             { e.AddUint64(key, uint64(v)) }
func (e *encoder) AddUint32(key string, v uint32)         { e.AddUint64(key, uint64(v)) }
func (e *encoder) AddUint16(key string, v uint16)         { e.AddUint64(key, uint64(v)) }
func (e *encoder) AddUint8(key string, v uint8)           { e.AddUint64(key, uint64(v)) }
func (e *encoder) AddUintptr(key string, v uintptr)       { e.AddUint64(key, uint64(v)) }
