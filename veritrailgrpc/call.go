package veritrailgrpc

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/callevent"
	"github.com/veritrail/veritrail/internal/traceparent"
)

// A call is one RPC on its way through the interceptor, on either side.
type call struct {
	*Interceptor
	ctx      context.Context //nolint:containedctx // the call's own, which lives as long
	method   string
	kind     string
	action   string // when nothing else says
	target   string // of a client
	isServer bool
	streams  bool
	subject  map[string]string
	notes    callevent.Notes
	server   peer.Peer // who answered a client; known at the end
	intentID string
	start    time.Time

	received, sent atomic.Int64 // messages
	ended          sync.Once
}

func (i *Interceptor) serverCall(ctx context.Context, method, kind string) *call {
	c := &call{Interceptor: i, ctx: ctx, method: method, kind: kind, action: "ACCESS.RPC", isServer: true, start: i.cfg.Now()}
	return c.named()
}

func (i *Interceptor) clientCall(ctx context.Context, method, kind, target string) *call {
	c := &call{Interceptor: i, ctx: ctx, method: method, kind: kind, action: "NET.RPC", target: target, start: i.cfg.Now()}
	return c.named()
}

func (c *call) named() *call {
	if c.cfg.Subject != nil {
		c.subject = c.cfg.Subject(c.ctx, c.method)
	}
	return c
}

// handlerContext is the context in which SetSubject and the others find the call.
func (c *call) handlerContext() context.Context {
	return context.WithValue(c.ctx, notesKey{}, &c.notes)
}

// intend records the intent where the policy asks for it, and returns what to answer when that fails.
func (c *call) intend() error {
	if c.cfg.Policy != FailClosed {
		return nil
	}
	d := c.begin()
	d.Event.Severity = veritrail.SeverityInfo
	d.Event.Context["phase"] = "intent"
	intent := d.Finish(c.cfg.Service)
	if c.trail.Record(c.ctx, intent) != nil { // which told OnError
		return errUnrecorded()
	}
	c.intentID = intent.ID
	return nil
}

// end records the outcome, once. It runs while a handler's panic is on its way, too, and does not recover it: whoever does
// finds the handler's stack.
func (c *call) end(err error, panicked bool) {
	c.ended.Do(func() {
		took := c.cfg.Now().Sub(c.start)
		// A failure was told to OnError; the call has been made.
		_ = c.trail.Record(c.ctx, c.outcome(err, panicked, took))
	})
}

func (c *call) outcome(err error, panicked bool, took time.Duration) *veritrail.ComplianceEvent {
	d := c.begin()
	e := d.Event
	if c.cfg.Policy == FailClosed {
		e.Context["phase"], e.Context["intent"] = "outcome", c.intentID
	}
	code := codeOf(err)
	var outcome string
	e.Severity, outcome = judge(code)
	if panicked {
		e.Severity, outcome = veritrail.SeverityError, "failed"
		e.Context["panic"] = "true"
	} else {
		e.Context["code"] = code.String()
	}
	e.Context["outcome"] = outcome
	e.Context["duration_ms"] = strconv.FormatFloat(float64(took.Microseconds())/1000, 'f', 3, 64)
	if c.streams {
		e.Context["received"] = strconv.FormatInt(c.received.Load(), 10)
		e.Context["sent"] = strconv.FormatInt(c.sent.Load(), 10)
	}
	if ip := addressOf(&c.server); ip.IsValid() {
		e.Context["peer_ip"] = ip.String()
	}
	d.Take(&c.notes)
	return d.Finish(c.cfg.Service)
}

// begin is what both events have in common.
func (c *call) begin() *callevent.Draft {
	d := callevent.New(c.start)
	e := d.Event
	for k, v := range c.subject {
		d.Subject(k, v)
	}
	switch action, named := c.cfg.Actions[c.method]; {
	case named:
		e.Action = action
	case c.cfg.Action != nil:
		e.Action = c.cfg.Action(c.method)
	}
	if e.Action == "" {
		e.Action = c.action
	}
	d.Object("api", c.method)
	e.Context["rpc"] = c.kind
	if !c.isServer {
		d.Object("target", c.target)
		return d
	}
	if from, ok := peer.FromContext(c.ctx); ok {
		if ip := addressOf(from); ip.IsValid() {
			e.Context["ip"] = ip.String()
		}
	}
	if id := metadata.ValueFromIncomingContext(c.ctx, c.cfg.RequestIDKey); len(id) > 0 && id[0] != "" {
		d.Context("request_id", id[0])
	}
	if trace.SpanContextFromContext(c.ctx).IsValid() {
		return d // the recorder takes it
	}
	if header := metadata.ValueFromIncomingContext(c.ctx, "traceparent"); len(header) > 0 {
		if traceID, parentID, ok := traceparent.Parse(header[0]); ok {
			e.Context["trace_id"], e.Context["parent_span_id"] = traceID, parentID
		}
	}
	return d
}

// codeOf is the code that gRPC makes of a handler's error.
func codeOf(err error) codes.Code {
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return status.FromContextError(err).Code()
}

func judge(code codes.Code) (veritrail.Severity, string) {
	switch code {
	case codes.OK:
		return veritrail.SeverityInfo, "ok"
	case codes.Unauthenticated, codes.PermissionDenied:
		return veritrail.SeverityWarn, "denied"
	case codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.ResourceExhausted,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return veritrail.SeverityWarn, "failed"
	default:
		return veritrail.SeverityError, "failed"
	}
}

func addressOf(p *peer.Peer) netip.Addr {
	if p.Addr == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{} // a Unix socket, or memory
	}
	return at.Addr().Unmap().WithZone("")
}
