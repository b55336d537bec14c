package veritrailhttp

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/callevent"
	"github.com/veritrail/veritrail/internal/traceparent"
)

type ending int

const (
	endReturn ending = iota
	endPanic         // or runtime.Goexit
	endAbort         // the panic that net/http knows as "drop the connection"
)

// An exchange is one request on its way through the middleware.
type exchange struct {
	*handler
	caller   context.Context //nolint:containedctx // the request's own, which lives as long
	outer    *http.Request
	request  *http.Request // as the handler sees it
	response *response
	body     *countedBody // nil when there is none
	subject  map[string]string
	notes    callevent.Notes
	intentID string
	start    time.Time
	duration time.Duration
	how      ending
}

// intent is the event before the handler runs.
func (x *exchange) intent() *veritrail.ComplianceEvent {
	d := x.begin(x.route(x.request))
	d.Event.Severity = veritrail.SeverityInfo
	d.Event.Context["phase"] = "intent"
	return d.Finish(x.cfg.Service)
}

// outcome is the event after it.
func (x *exchange) outcome() *veritrail.ComplianceEvent {
	d := x.begin(x.route(x.request))
	e := d.Event
	if x.cfg.Policy == FailClosed {
		e.Context["phase"], e.Context["intent"] = "outcome", x.intentID
	}
	status := x.response.status
	if x.how == endReturn && !x.response.hijacked {
		status = cmp.Or(status, http.StatusOK) // net/http's, when the handler wrote nothing
	}
	var outcome string
	e.Severity, outcome = judge(status)
	switch x.how {
	case endPanic:
		e.Severity, outcome = veritrail.SeverityError, "failed"
		e.Context["panic"] = "true"
	case endAbort:
		e.Severity, outcome = veritrail.SeverityWarn, "failed"
		e.Context["aborted"] = "true"
	}
	e.Context["outcome"] = outcome
	if status != 0 {
		e.Context["status"] = strconv.Itoa(status)
		e.Context["status_class"] = strconv.Itoa(status/100) + "xx"
	}
	if x.response.hijacked {
		e.Context["hijacked"] = "true"
	}
	e.Context["duration_ms"] = strconv.FormatFloat(float64(x.duration.Microseconds())/1000, 'f', 3, 64)
	e.Context["bytes_out"] = strconv.FormatInt(x.response.written, 10)
	if x.body != nil {
		e.Context["bytes_in"] = strconv.FormatInt(x.body.n.Load(), 10)
	}
	d.Take(&x.notes)
	return d.Finish(x.cfg.Service)
}

// judge is what a status says. No status is that of a connection that was taken over.
func judge(status int) (veritrail.Severity, string) {
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return veritrail.SeverityWarn, "denied"
	case status >= 500:
		return veritrail.SeverityError, "failed"
	case status >= 400:
		return veritrail.SeverityWarn, "failed"
	default:
		return veritrail.SeverityInfo, "ok"
	}
}

// begin is what both events have in common.
func (x *exchange) begin(pattern string) *callevent.Draft {
	r := x.request
	d := callevent.New(x.start)
	e := d.Event
	for k, v := range x.subject {
		d.Subject(k, v)
	}
	switch action, named := x.cfg.Actions[pattern]; {
	case named && pattern != "":
		e.Action = action
	case x.cfg.Action != nil:
		e.Action = x.cfg.Action(r)
	}
	if e.Action == "" {
		e.Action = "ACCESS.HTTP." + methodCode(r.Method)
	}
	d.Object("method", r.Method)
	if _, path, found := strings.Cut(pattern, " "); found {
		pattern = strings.TrimLeft(path, " \t")
	}
	if pattern != "" {
		d.Object("api", pattern)
	}
	if x.cfg.Path {
		d.Object("path", r.URL.EscapedPath())
	}
	if ip := clientIP(r, x.cfg.TrustedProxies); ip.IsValid() {
		e.Context["ip"] = ip.String()
	}
	if id := r.Header.Get(x.cfg.RequestIDHeader); id != "" {
		d.Context("request_id", id)
	}
	if !x.cfg.SpanInContext {
		if trace, parent, ok := traceparent.Parse(r.Header.Get("Traceparent")); ok {
			e.Context["trace_id"], e.Context["parent_span_id"] = trace, parent
		}
	}
	return d
}

// methodCode is a method as a segment of an action. Methods are the client's to choose, actions are not.
func methodCode(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return method
	default:
		return "OTHER"
	}
}

// maxHops bounds how far back X-Forwarded-For is read.
const maxHops = 32

// clientIP is the address that the request came from: the connection's or, while that is a trusted proxy, the one that
// the proxy says it had the request from. What a proxy that is not trusted says, or a client, counts for nothing.
func clientIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a Unix socket, or a test
	}
	ip := peer.Addr().Unmap().WithZone("")
	if len(trusted) == 0 {
		return ip
	}
	fields := r.Header.Values("X-Forwarded-For")
	hops := 0
	for _, field := range slices.Backward(fields) {
		for rest, more := field, true; more; {
			if !isTrusted(ip, trusted) || hops == maxHops {
				return ip
			}
			hops++
			var hop string
			if at := strings.LastIndexByte(rest, ','); at >= 0 {
				rest, hop = rest[:at], rest[at+1:]
			} else {
				hop, more = rest, false
			}
			said, ok := parseHop(strings.TrimSpace(hop))
			if !ok {
				return ip // the last one that is known
			}
			ip = said
		}
	}
	return ip
}

func isTrusted(ip netip.Addr, trusted []netip.Prefix) bool {
	return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// parseHop reads an address as proxies write it, some with a port.
func parseHop(s string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Unmap().WithZone(""), true
	}
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone(""), true
	}
	if ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil && ip.Is6() {
		return ip.WithZone(""), true
	}
	return netip.Addr{}, false
}
