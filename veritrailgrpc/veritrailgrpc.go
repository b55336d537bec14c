// Package veritrailgrpc has gRPC interceptors that record each call as a compliance event: who asked for what, from
// where, and what came of it.
//
//	audit, err := veritrailgrpc.New(veritrailgrpc.Config{
//		Recorder: rec,
//		Service:  "payments",
//		Actions:  map[string]string{"/bank.v1.Transfers/Create": "DATA.TRANSFER"},
//	})
//	…
//	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(audit.UnaryServer), grpc.ChainStreamInterceptor(audit.StreamServer))
//	conn, err := grpc.NewClient(addr, grpc.WithChainUnaryInterceptor(audit.UnaryClient), …)
//
// Put it before the interceptors that decide who is let in, so that who was turned away is recorded, too. A handler, or
// such an interceptor, says what only it knows:
//
//	veritrailgrpc.SetSubject(ctx, "user", id)
//	veritrailgrpc.SetObject(ctx, "account", account)
//
// # The event
//
//	sub      Config.Subject and SetSubject; svc is Config.Service when they name nobody
//	act      Config.Actions by full method, else Config.Action, else ACCESS.RPC of a server and NET.RPC of a client
//	obj      api (the full method); of a client, target; SetObject
//	ctx      outcome (ok, denied, failed), code, duration_ms, rpc (unary, client_stream, server_stream, bidi_stream), of
//	         streams received and sent (messages), ip (of the client) or peer_ip (of the server), request_id, and panic
//	         when true; SetContext
//	ts, sev  when the call began; WARN for what the caller did wrong, ERROR for what the server did, and after a panic
//
// Neither messages nor metadata nor the text of a status are recorded: they hold what the trail need not know. A call
// can't keep its event out: what it brings is made valid UTF-8 and cut at 1,024 bytes, and ctx.cut then names what was
// cut; leaving early does not stop the recording.
//
// The trace is the recorder's to take from an OpenTelemetry span in the context. Where there is none, a server reads
// the traceparent of the metadata into trace_id and parent_span_id.
//
// # When the trail fails
//
// With FailOpen, the default, the call is made first and recorded then, before its answer goes on; when that fails, OnError
// is told. With FailClosed an event with ctx.phase=intent is recorded first, and when it can't be, the call is not made
// and its status is Unavailable. A second event, phase=outcome, has the first one's ID in ctx.intent. An intent
// without an outcome is a call during which the program died, or the trail failed.
package veritrailgrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/callevent"
	"github.com/veritrail/veritrail/internal/deliver"
)

// Policy says what a call is worth without its event.
type Policy int

// The policies.
const (
	FailOpen   Policy = iota // record after the call; a failure is told to OnError
	FailClosed               // record the intent first, and refuse the call when that fails
)

// Config says what is recorded and how. Recorder and Service are required.
type Config struct {
	Recorder veritrail.EventRecorder
	Service  string // sub.svc of events that name no other subject: the program's name
	Policy   Policy

	// Subject says who calls, from what is known before the call: the certificate in the peer of ctx, a session that an
	// earlier interceptor has checked. It must not return what the call merely claims.
	Subject func(ctx context.Context, method string) map[string]string
	// Actions are the actions of methods, by full name: "/bank.v1.Transfers/Create".
	Actions map[string]string
	// Action is the action of methods that Actions does not name.
	Action func(method string) string
	// Skip leaves methods out, such as health checks.
	Skip func(method string) bool
	// RequestIDKey is the key of the metadata that holds the request's id; x-request-id when empty.
	RequestIDKey string

	Timeout time.Duration // how long a call waits for the trail, for each of its events; 10 s when 0
	// OnError is told of each event that was not recorded, or not for certain, with an ID to look for it or record it
	// again. When nil, a line on standard error says why.
	OnError func(ctx context.Context, e *veritrail.ComplianceEvent, err error)
	Now     func() time.Time // time.Now when nil
}

// An Interceptor records calls. Its methods are gRPC interceptors. It is safe for concurrent use.
type Interceptor struct {
	cfg   Config
	trail *deliver.Delivery
}

const packageName = "veritrailgrpc"

// New returns an Interceptor, or what is wrong with cfg.
func New(cfg Config) (*Interceptor, error) {
	trail, err := deliver.New(packageName, deliver.Config{Recorder: cfg.Recorder, Timeout: cfg.Timeout, OnError: cfg.OnError})
	if err != nil {
		return nil, err
	}
	if cfg.Service == "" {
		return nil, errors.New(packageName + ": Service is not set")
	}
	if cfg.Policy != FailOpen && cfg.Policy != FailClosed {
		return nil, fmt.Errorf("%s: Policy: %d is none", packageName, cfg.Policy)
	}
	cfg.Actions = maps.Clone(cfg.Actions)
	for method, action := range cfg.Actions {
		if err := veritrail.CheckActionPattern(action); err != nil || strings.Contains(action, "*") {
			return nil, fmt.Errorf("%s: Actions: %q: want dotted segments of A-Z a-z 0-9 _ -", packageName, method)
		}
	}
	if cfg.RequestIDKey == "" {
		cfg.RequestIDKey = "x-request-id"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Interceptor{cfg: cfg, trail: trail}, nil
}

func (i *Interceptor) skips(method string) bool { return i.cfg.Skip != nil && i.cfg.Skip(method) }

// UnaryServer is a grpc.UnaryServerInterceptor.
func (i *Interceptor) UnaryServer(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	if i.skips(info.FullMethod) {
		return handler(ctx, req)
	}
	c := i.serverCall(ctx, info.FullMethod, "unary")
	if err := c.intend(); err != nil {
		return nil, err
	}
	returned := false
	defer func() { c.end(err, !returned) }()
	resp, err = handler(c.handlerContext(), req)
	returned = true
	return resp, err
}

// StreamServer is a grpc.StreamServerInterceptor.
func (i *Interceptor) StreamServer(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	if i.skips(info.FullMethod) {
		return handler(srv, stream)
	}
	c := i.serverCall(stream.Context(), info.FullMethod, kindOf(info.IsClientStream, info.IsServerStream))
	if err := c.intend(); err != nil {
		return err
	}
	c.streams = true
	returned := false
	defer func() { c.end(err, !returned) }()
	err = handler(srv, &serverStream{ServerStream: stream, ctx: c.handlerContext(), call: c})
	returned = true
	return err
}

// UnaryClient is a grpc.UnaryClientInterceptor.
func (i *Interceptor) UnaryClient(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	if i.skips(method) {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	c := i.clientCall(ctx, method, "unary", conn.Target())
	if err := c.intend(); err != nil {
		return err
	}
	err := invoke(ctx, method, req, reply, conn, append(slices.Clip(opts), grpc.Peer(&c.server))...)
	c.end(err, false)
	return err
}

// StreamClient is a grpc.StreamClientInterceptor. The event is recorded when the stream ends: when RecvMsg has returned an
// error or the one answer, the context has ended, or the connection was closed. gRPC demands that one of these happens.
func (i *Interceptor) StreamClient(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	if i.skips(method) {
		return open(ctx, desc, conn, method, opts...)
	}
	c := i.clientCall(ctx, method, kindOf(desc.ClientStreams, desc.ServerStreams), conn.Target())
	if err := c.intend(); err != nil {
		return nil, err
	}
	c.streams = true
	// gRPC calls it with no lock held and with c.server known; and, for the one answer of a client's stream, from
	// within RecvMsg.
	finish := grpc.OnFinish(func(err error) {
		if err == nil && !desc.ServerStreams {
			c.received.Store(1)
		}
		c.end(err, false)
	})
	stream, err := open(ctx, desc, conn, method, append(slices.Clip(opts), grpc.Peer(&c.server), finish)...)
	if err != nil {
		c.end(err, false)
		return nil, err
	}
	return &clientStream{ClientStream: stream, call: c}, nil
}

func kindOf(clientStreams, serverStreams bool) string {
	switch {
	case clientStreams && serverStreams:
		return "bidi_stream"
	case clientStreams:
		return "client_stream"
	case serverStreams:
		return "server_stream"
	default:
		return "unary"
	}
}

// errUnrecorded is what the caller of a refused call gets: nothing of why, which OnError was told.
func errUnrecorded() error {
	return status.Error(codes.Unavailable, "the audit trail takes no records now")
}

type notesKey struct{}

func notesOf(ctx context.Context) *callevent.Notes {
	n, _ := ctx.Value(notesKey{}).(*callevent.Notes)
	return n
}

// SetSubject says who made the call that ctx belongs to, as its event's sub.key. It returns false when there is no event
// to say it of: ctx is of no call that a server's interceptor has seen, or the event is made already.
func SetSubject(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetSubject(key, value)
}

// SetObject says what the call was about, as SetSubject says who made it.
func SetObject(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetObject(key, value)
}

// SetContext says more of the call's circumstances, as SetSubject says who made it.
func SetContext(ctx context.Context, key, value string) bool {
	return notesOf(ctx).SetContext(key, value)
}

// SetAction replaces the action of the call's event: a handler for logins knows whether it was AUTH.LOGIN.OK or
// AUTH.LOGIN.FAIL. It returns what SetSubject does.
func SetAction(ctx context.Context, action string) bool { return notesOf(ctx).SetAction(action) }
