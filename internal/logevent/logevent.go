// Package logevent turns a log record into a compliance event. It owns the one mapping that the adapters for slog, zap
// and zerolog share, so that a program may change its logger and its trail reads as before.
//
// A record's attributes come as pairs of text, the names of groups before their keys with a dot between:
//
//	act, a string            the action
//	sub.K, obj.K, ctx.K      key K of subject, object, context
//	user, svc, role, …       subject, when it is one of Config.SubjectKeys
//	table, api, …            object, when it is one of Config.ObjectKeys
//	anything else            context, under its whole name
//
// The message is ctx.msg. No attribute is lost: a value that another takes the place of moves to "shadowed." and its
// name in the context, because who acted must not depend on which of two attributes came last. So does a key that only the
// recorder may set, to "log." and its name, and a subject without a value, which names nobody.
package logevent

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

// DefaultAction is the action of a record that names none.
const DefaultAction = "APP.LOG"

// DefaultSubjectKeys are those that every recorder accepts to begin with.
func DefaultSubjectKeys() []string { return []string{"user", "svc", "role", "session", "device"} }

// Config says how records are read.
type Config struct {
	Service     string   // required: sub.svc of events that name no other subject
	Action      string   // DefaultAction when empty
	SubjectKeys []string // DefaultSubjectKeys when nil
	ObjectKeys  []string
}

// Rules are a Config made ready. They are only read.
type Rules struct {
	cfg     Config
	records sync.Pool // of *Record
}

// New checks cfg. name is the adapter's, for errors.
func New(name string, cfg Config) (*Rules, error) {
	if cfg.Service == "" {
		return nil, errors.New(name + ": Service is not set")
	}
	if cfg.Action == "" {
		cfg.Action = DefaultAction
	}
	if err := veritrail.CheckActionPattern(cfg.Action); err != nil || strings.Contains(cfg.Action, "*") {
		return nil, errors.New(name + ": Action: want dotted segments of A-Z a-z 0-9 _ -")
	}
	if cfg.SubjectKeys == nil {
		cfg.SubjectKeys = DefaultSubjectKeys()
	}
	cfg.SubjectKeys, cfg.ObjectKeys = slices.Clone(cfg.SubjectKeys), slices.Clone(cfg.ObjectKeys)
	r := &Rules{cfg: cfg}
	r.records.New = func() any {
		return &Record{rules: r, event: veritrail.ComplianceEvent{
			Subject: make(map[string]string), Object: make(map[string]string), Context: make(map[string]string),
		}}
	}
	return r, nil
}

// A Record is the event of one log record, being put together. It is used again: nothing of it may be kept after End.
type Record struct {
	rules *Rules
	event veritrail.ComplianceEvent
}

// Begin starts an event. t may be zero.
func (r *Rules) Begin(t time.Time, sev veritrail.Severity) *Record {
	rec, _ := r.records.Get().(*Record)
	rec.event.Timestamp, rec.event.Severity = t, sev
	return rec
}

// End gives the record back.
func (rec *Record) End() {
	e := &rec.event
	clear(e.Subject)
	clear(e.Object)
	clear(e.Context)
	*e = veritrail.ComplianceEvent{Subject: e.Subject, Object: e.Object, Context: e.Context}
	rec.rules.records.Put(rec)
}

// Add adds an attribute under its whole name.
func (rec *Record) Add(name, value string) {
	// Text from outside often ends up in a log, and a byte that is not UTF-8 must not keep the event out.
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	e := &rec.event
	cfg := &rec.rules.cfg
	part, key, dotted := strings.Cut(name, ".")
	switch {
	case name == "act":
		if e.Action != "" && e.Action != value {
			rec.add(e.Context, "shadowed.act", "shadowed.act", e.Action)
		}
		e.Action = value
	case dotted && part == "sub" && key != "":
		rec.subject(key, name, value)
	case dotted && part == "obj" && key != "":
		rec.add(e.Object, key, name, value)
	case dotted && part == "ctx" && key != "":
		rec.context(key, name, value)
	case slices.Contains(cfg.SubjectKeys, name):
		rec.subject(name, name, value)
	case slices.Contains(cfg.ObjectKeys, name):
		rec.add(e.Object, name, name, value)
	default:
		rec.context(name, name, value)
	}
}

func (rec *Record) subject(key, name, value string) {
	if value == "" {
		rec.context(name, name, value)
		return
	}
	rec.add(rec.event.Subject, key, name, value)
}

func (rec *Record) context(key, name, value string) {
	switch key {
	case "producer", "sdk", "seq": // the recorder's own
		key = "log." + key
		name = key
	}
	rec.add(rec.event.Context, key, name, value)
}

// add puts value in its place, and the one that was there under the name of the newer.
func (rec *Record) add(part map[string]string, key, name, value string) {
	for {
		old, taken := part[key]
		part[key] = value
		if !taken || old == value {
			return
		}
		part, value = rec.event.Context, old
		name = "shadowed." + name
		key = name
	}
}

// Message adds the record's message, after all attributes.
func (rec *Record) Message(text string) {
	if text != "" {
		rec.Add("ctx.msg", text)
	}
}

// NamesAction reports whether an attribute said what was done.
func (rec *Record) NamesAction() bool { return rec.event.Action != "" }

// Event completes the event and returns it. It is valid until End.
func (rec *Record) Event() *veritrail.ComplianceEvent {
	e := &rec.event
	if e.Action == "" {
		e.Action = rec.rules.cfg.Action
	}
	if len(e.Subject) == 0 {
		e.Subject["svc"] = rec.rules.cfg.Service
	}
	return e
}
