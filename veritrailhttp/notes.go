package veritrailhttp

import (
	"context"
	"sync"
)

type notesKey struct{}

// notes are what handlers say of the event to come. A handler may have started goroutines, so several may write.
type notes struct {
	mu                       sync.Mutex
	done                     bool // the event is made; what comes now comes too late
	action                   string
	subject, object, context map[string]string
}

func (n *notes) set(part *map[string]string, key, value string) bool {
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

func notesOf(ctx context.Context) *notes {
	n, _ := ctx.Value(notesKey{}).(*notes)
	return n
}

// SetSubject says who made the request that ctx belongs to, as its event's sub.key. It returns false when there is no
// event to say it of: ctx is of no request that the middleware has seen, or the event is made already.
func SetSubject(ctx context.Context, key, value string) bool {
	n := notesOf(ctx)
	return n != nil && n.set(&n.subject, key, value)
}

// SetObject says what the request was about, as SetSubject says who made it.
func SetObject(ctx context.Context, key, value string) bool {
	n := notesOf(ctx)
	return n != nil && n.set(&n.object, key, value)
}

// SetContext says more of the request's circumstances, as SetSubject says who made it.
func SetContext(ctx context.Context, key, value string) bool {
	n := notesOf(ctx)
	return n != nil && n.set(&n.context, key, value)
}

// SetAction replaces the action of the request's event: a handler for logins knows whether it was AUTH.LOGIN.OK or
// AUTH.LOGIN.FAIL. It returns what SetSubject does.
func SetAction(ctx context.Context, action string) bool {
	n := notesOf(ctx)
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done {
		return false
	}
	n.action = action
	return true
}
