// Package veritrail is the vocabulary of the audit trail: the compliance event, the contract of whatever records
// one, and the one byte string that stands for an event wherever it is stored, hashed or proved.
//
// An event says who (Subject) did what (Action) to what (Object), and where and how (Context):
//
//	err := rec.Record(ctx, &veritrail.ComplianceEvent{
//		Severity: veritrail.SeverityWarn,
//		Subject:  map[string]string{"user": "10086"},
//		Action:   "AUTH.LOGIN.FAIL",
//		Object:   map[string]string{"api": "/v1/login"},
//		Context:  map[string]string{"ip": "192.0.2.7"},
//	})
//
// # Canonical encoding
//
// An event is one line of JSON (RFC 8259) without white space, its fields in the order id, ts, sev, sub, act, obj,
// ctx. sev is left out when unset; the other six are always there. The keys of sub, obj and ctx are sorted by their
// UTF-8 bytes. Strings are written as RFC 8785, section 3.2.2.2 says: only the quotation mark, the reverse solidus and
// U+0000 to U+001F are escaped, everything else is raw UTF-8. id is a lower-case UUID (RFC 9562), ts is UTC
// with exactly nine fraction digits (RFC 3339). Two events are equal when these bytes are, so a hash of the bytes is a
// hash of the event. docs/format/event.md gives the grammar, the bounds and a worked example.
//
// [ParseEvent] reads any spelling of that JSON and refuses whatever two readers could understand differently:
// duplicate keys, unknown fields, invalid UTF-8, lone surrogates, trailing data. [ParseCanonical] accepts the
// canonical bytes alone.
//
// The package imports the standard library only, so business code can depend on it for free. It knows no disk, no
// clock, no network, and no policy: which actions and subject kinds are welcome is the recorder's decision.
package veritrail

import (
	"context"
	"time"
)

// Version is the version of this SDK.
const Version = "0.1.0"

// Bounds that hold for every event, whoever records it.
const (
	MaxEventBytes  = 65535 // the canonical encoding
	MaxPairs       = 128   // each of Subject, Object, Context
	MaxKeyBytes    = 128   // one key of those
	MaxActionBytes = 128
)

// A ComplianceEvent is one thing that happened and that somebody may have to answer for.
//
// Its encoding/json form is accepted by [ParseEvent]; [ComplianceEvent.Canonical] gives the form that is stored.
type ComplianceEvent struct {
	ID        string            `json:"id"`            // a UUID; the recorder fills it when empty
	Timestamp time.Time         `json:"ts"`            // the recorder fills it when zero
	Severity  Severity          `json:"sev,omitempty"` // optional
	Subject   map[string]string `json:"sub"`           // who: user, svc, role; at least one
	Action    string            `json:"act"`           // dotted code: AUTH.LOGIN.FAIL
	Object    map[string]string `json:"obj"`           // to what: table, api, file, sensitivity
	Context   map[string]string `json:"ctx"`           // where and how: ip, mfa, device, trace_id, host, build
}

// An EventRecorder puts events into a trail.
//
// Record returns nil only once the event is durable under the recorder's policy. After any other result the event may
// or may not be in the trail; recording it again under the same ID is how a caller makes sure. An event that breaks
// the rules is refused with an error that matches [ErrInvalidComplianceEvent], and refusing it again is
// certain, so it is not worth a retry.
//
// Record honours ctx while it waits: when ctx ends first, its error is returned. ctx may also carry what the recorder
// adds to the event, such as a trace id.
//
// The caller keeps e. Record neither modifies it or its maps nor holds on to them after it returns, so the
// same event value may be changed and recorded again; it must not be changed while Record runs.
//
// Record may be called from many goroutines at once. Events recorded one after another by one goroutine appear in the
// trail in that order.
type EventRecorder interface {
	Record(ctx context.Context, e *ComplianceEvent) error
}

// Canonical returns the canonical encoding of e, or why there is none. Unlike a recorder it fills nothing in: ID and
// Timestamp must be set.
func (e *ComplianceEvent) Canonical() ([]byte, error) {
	d := drafts.Get().(*Draft)
	defer d.release()
	if err := d.SetEvent(e); err != nil {
		return nil, err
	}
	var f findings
	d.checkFilled(&f)
	d.check(&f, 0)
	if err := f.err(); err != nil {
		return nil, err
	}
	return d.AppendCanonical(make([]byte, 0, d.canonicalLen())), nil
}
