package veritrailhttp

import (
	"context"

	"github.com/veritrail/veritrail/internal/callevent"
)

type notesKey struct{}

func notesOf(ctx context.Context) *callevent.Notes {
	n, _ := ctx.Value(notesKey{}).(*callevent.Notes)
	return n
}

// SetSubject says who made the request that ctx belongs to, as its event's sub.key. It returns false when there is no
// event to say it of: ctx is of no request that the middleware has seen, or the event is made already.
func SetSubject(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetSubject(key, value)
}

// SetObject says what the request was about, as SetSubject says who made it.
func SetObject(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetObject(key, value)
}

// SetContext says more of the request's circumstances, as SetSubject says who made it.
func SetContext(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetContext(key, value)
}

// SetAction replaces the action of the request's event: a handler for logins knows whether it was AUTH.LOGIN.OK or
// AUTH.LOGIN.FAIL. It returns what SetSubject does.
func SetAction(ctx context.Context, action string) bool { return notesOf(ctx).SetAction(action) }
