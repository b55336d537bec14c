// Package callevent puts the event of one call together, an HTTP request or an RPC: from what the transport knows and
// what a handler adds while it runs.
//
// What a call brings comes from outside, and must not get its own event refused. So each text is made valid UTF-8 and
// cut at MaxValue bytes, and ctx.cut names what was cut.
package callevent

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/veritrail/veritrail"
)

// MaxValue bounds each text. With it an event stays far below what a recorder takes.
const MaxValue = 1024

// Notes are what handlers say of the event to come. Its zero value is ready for use, a nil *Notes belongs to no event. It is
// safe for concurrent use, for a handler may start goroutines. Its methods return false when there is no event to say
// anything of: none at all, or it is made already.
type Notes struct {
	mu                       sync.Mutex
	done                     bool
	action                   string
	subject, object, context map[string]string
}

// SetAction sets the action.
func (n *Notes) SetAction(action string) bool {
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.done {
		n.action = action
	}
	return !n.done
}

// SetSubject sets a value of the subject.
func (n *Notes) SetSubject(key, value string) bool {
	return n != nil && n.set(&n.subject, key, value)
}

// SetObject sets a value of the object.
func (n *Notes) SetObject(key, value string) bool {
	return n != nil && n.set(&n.object, key, value)
}

// SetContext sets a value of the context.
func (n *Notes) SetContext(key, value string) bool {
	return n != nil && n.set(&n.context, key, value)
}

func (n *Notes) set(part *map[string]string, key, value string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done {
		return false
	}
	if *part == nil {
		*part = make(map[string]string)
	}
	(*part)[key] = value
	return true
}

// A Draft is an event that is being put together. Its parts may be written to; text from outside goes through the
// methods.
type Draft struct {
	Event *veritrail.ComplianceEvent
	cut   []string
}

// New begins an event of the time at.
func New(at time.Time) *Draft {
	return &Draft{Event: &veritrail.ComplianceEvent{
		Timestamp: at,
		Subject:   make(map[string]string), Object: make(map[string]string), Context: make(map[string]string),
	}}
}

// Subject sets a value of the subject. An empty one names nobody and is left out.
func (d *Draft) Subject(key, value string) {
	if value == "" {
		delete(d.Event.Subject, key)
		return
	}
	d.put(d.Event.Subject, "sub.", key, value)
}

// Object sets a value of the object.
func (d *Draft) Object(key, value string) { d.put(d.Event.Object, "obj.", key, value) }

// Context sets a value of the context.
func (d *Draft) Context(key, value string) { d.put(d.Event.Context, "ctx.", key, value) }

func (d *Draft) put(part map[string]string, name, key, value string) {
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	if len(value) > MaxValue {
		end := MaxValue
		for !utf8.RuneStart(value[end]) {
			end--
		}
		value = value[:end]
		d.cut = append(d.cut, name+key)
	}
	part[key] = value
}

// Take adds what handlers said, over what was there, and lets them say no more.
func (d *Draft) Take(n *Notes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done = true
	if n.action != "" {
		d.Event.Action = n.action
	}
	for k, v := range n.subject {
		d.Subject(k, v)
	}
	for k, v := range n.object {
		d.Object(k, v)
	}
	for k, v := range n.context {
		d.Context(k, v)
	}
}

// Finish returns the event. service is who made the call when nobody was named.
func (d *Draft) Finish(service string) *veritrail.ComplianceEvent {
	e := d.Event
	if len(e.Subject) == 0 {
		e.Subject["svc"] = service
	}
	if len(d.cut) > 0 {
		slices.Sort(d.cut)
		e.Context["cut"] = strings.Join(slices.Compact(d.cut), " ")
	}
	return e
}
