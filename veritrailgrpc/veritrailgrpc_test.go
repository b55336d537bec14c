package veritrailgrpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailgrpc"
	"github.com/veritrail/veritrail/veritrailtest"
)

const (
	unaryCall = "/grpc.testing.TestService/UnaryCall"
	emptyCall = "/grpc.testing.TestService/EmptyCall"
	listCall  = "/grpc.testing.TestService/StreamingOutputCall"
	chatCall  = "/grpc.testing.TestService/FullDuplexCall"
)

var (
	errDisk = errors.New("disk on fire")
	start   = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
)

// clock goes on by a millisecond and a half with each look.
func clock() func() time.Time {
	var mu sync.Mutex
	now := start
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at := now
		now = now.Add(1500 * time.Microsecond)
		return at
	}
}

func interceptor(t testing.TB, cfg veritrailgrpc.Config) *veritrailgrpc.Interceptor {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "payments"
	}
	if cfg.Now == nil {
		cfg.Now = clock()
	}
	audit, err := veritrailgrpc.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return audit
}

// What a chat's stream is on either side.
type (
	chatServer = grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]
	chatClient = grpc.BidiStreamingClient[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]
)

// A bank is the service under test; nil functions answer and nothing else.
type bank struct {
	testpb.UnimplementedTestServiceServer
	unary  func(context.Context) error
	stream func(chatServer) error
}

func (b *bank) UnaryCall(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if b.unary != nil {
		if err := b.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testpb.SimpleResponse{Username: "fine"}, nil
}

func (b *bank) StreamingInputCall(s grpc.ClientStreamingServer[testpb.StreamingInputCallRequest,
	testpb.StreamingInputCallResponse]) error {
	for {
		if _, err := s.Recv(); errors.Is(err, io.EOF) {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{})
		} else if err != nil {
			return err
		}
	}
}

func (b *bank) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest,
	s grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	for range 3 {
		if err := s.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bank) FullDuplexCall(s chatServer) error {
	if b.stream != nil {
		return b.stream(s)
	}
	for {
		if _, err := s.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := s.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

// dial serves b on loopback and returns a connection to it. Either interceptor may be nil.
func dial(t testing.TB, b *bank, onServer, onClient *veritrailgrpc.Interceptor, opts ...grpc.ServerOption) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return dialOn(t, listener, "dns:///"+listener.Addr().String(), b, onServer, onClient, nil, opts...)
}

func dialOn(
	t testing.TB, listener net.Listener, target string, b *bank, onServer, onClient *veritrailgrpc.Interceptor, dialer grpc.DialOption,
	opts ...grpc.ServerOption,
) *grpc.ClientConn {
	t.Helper()
	if onServer != nil {
		opts = append(opts, grpc.ChainUnaryInterceptor(onServer.UnaryServer),
			grpc.ChainStreamInterceptor(onServer.StreamServer))
	}
	srv := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(srv, b)
	var served sync.WaitGroup
	served.Go(func() {
		if err := srv.Serve(listener); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		srv.Stop()
		served.Wait()
	})
	dials := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if onClient != nil {
		dials = append(dials, grpc.WithChainUnaryInterceptor(onClient.UnaryClient),
			grpc.WithChainStreamInterceptor(onClient.StreamClient))
	}
	if dialer != nil {
		dials = append(dials, dialer)
	}
	conn, err := grpc.NewClient(target, dials...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// unary has audit serve one call with handler.
func unary(ctx context.Context, audit *veritrailgrpc.Interceptor, handler func() error) (any, error) {
	return audit.UnaryServer(ctx, nil, &grpc.UnaryServerInfo{FullMethod: unaryCall}, func(context.Context, any) (any, error) {
		return "fine", handler()
	})
}

// stream has audit serve one stream with handler.
func stream(ctx context.Context, audit *veritrailgrpc.Interceptor, handler func() error) error {
	info := &grpc.StreamServerInfo{FullMethod: chatCall, IsClientStream: true, IsServerStream: true}
	return audit.StreamServer(nil, bare{ctx: ctx}, info, func(any, grpc.ServerStream) error { return handler() })
}

func check(t *testing.T, part string, got, want map[string]string) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("%s: got %v\nwant %v", part, got, want)
	}
}

const traceID, spanID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// Nothing of what the tests started may be left: the package starts no goroutine that outlives a call.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		code := m.Run()
		patience := time.After(10 * time.Second)
		for tick := time.Tick(10 * time.Millisecond); ; {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			// The first one is this.
			_, others, _ := bytes.Cut(stacks, []byte("\n\n"))
			if !bytes.Contains(others, []byte("google.golang.org/grpc")) {
				return code
			}
			select {
			case <-tick:
			case <-patience:
				fmt.Fprintf(os.Stderr, "goroutines are left:\n%s\n", others)
				return 1
			}
		}
	}())
}

func TestUnaryCallBecomesEvents(t *testing.T) {
	server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
	b := &bank{unary: func(ctx context.Context) error {
		if !veritrailgrpc.SetSubject(ctx, "user", "u1") || !veritrailgrpc.SetObject(ctx, "account", "62") ||
			!veritrailgrpc.SetContext(ctx, "mfa", "totp") {
			t.Error("the handler finds no event")
		}
		return nil
	}}
	conn := dial(t, b, interceptor(t, veritrailgrpc.Config{Recorder: server,
		Actions: map[string]string{unaryCall: "DATA.READ"}}),
		interceptor(t, veritrailgrpc.Config{Recorder: client, Service: "teller"}))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "req-1", "traceparent",
		"00-"+traceID+"-"+spanID+"-01", "authorization", "Bearer 4711")
	if _, err := testpb.NewTestServiceClient(conn).UnaryCall(ctx,
		&testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("4711")}}); err != nil {
		t.Fatal(err)
	}

	e := server.One("*")
	if e.Action != "DATA.READ" || e.Severity != veritrail.SeverityInfo || !e.Timestamp.Equal(start) {
		t.Errorf("got %s %s at %s", e.Action, e.Severity, e.Timestamp)
	}
	check(t, "sub", e.Subject, map[string]string{"user": "u1"})
	check(t, "obj", e.Object, map[string]string{"api": unaryCall, "account": "62"})
	check(t, "ctx", e.Context, map[string]string{
		"rpc": "unary", "outcome": "ok", "code": "OK", "duration_ms": "1.500", "ip": "127.0.0.1", "request_id": "req-1", "mfa": "totp",
		"trace_id": traceID, "parent_span_id": spanID,
	})
	e = client.One("NET.RPC")
	check(t, "client's sub", e.Subject, map[string]string{"svc": "teller"})
	check(t, "client's obj", e.Object, map[string]string{"api": unaryCall, "target": conn.Target()})
	check(t, "client's ctx", e.Context, map[string]string{
		"rpc": "unary", "outcome": "ok", "code": "OK", "duration_ms": "1.500", "peer_ip": "127.0.0.1",
	})
	if text := fmt.Sprint(server.Events()[0], client.Events()[0]); strings.Contains(text, "4711") {
		t.Errorf("message or metadata in an event: %s", text)
	}
}

func TestStreamsBecomeEvents(t *testing.T) {
	server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
	conn := dial(t, &bank{}, interceptor(t, veritrailgrpc.Config{Recorder: server}),
		interceptor(t, veritrailgrpc.Config{Recorder: client}))
	c := testpb.NewTestServiceClient(conn)

	upload, err := c.StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := upload.Send(&testpb.StreamingInputCallRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := upload.CloseAndRecv(); err != nil {
		t.Fatal(err)
	}
	list, err := c.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = list.Recv()
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	chat, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := chat.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := chat.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		rec            *veritrailtest.Recorder
		action         string
		received, sent [3]string
	}{
		{server, "ACCESS.RPC", [3]string{"2", "1", "4"}, [3]string{"1", "3", "4"}},
		{client, "NET.RPC", [3]string{"1", "3", "4"}, [3]string{"2", "1", "4"}},
	} {
		events := tt.rec.Wait(tt.action, 3)
		for i, kind := range []string{"client_stream", "server_stream", "bidi_stream"} {
			got := events[i].Context
			if got["rpc"] != kind || got["outcome"] != "ok" || got["received"] != tt.received[i] || got["sent"] != tt.sent[i] {
				t.Errorf("%s %s: got %v, want %s received, %s sent", tt.action, kind, got, tt.received[i], tt.sent[i])
			}
		}
		if n := len(tt.rec.Events()); n != 3 {
			t.Errorf("%s: %d events, want 3", tt.action, n)
		}
	}
	if got := client.Events()[2].Context["peer_ip"]; got != "127.0.0.1" {
		t.Errorf("peer of a stream: %q", got)
	}
}

func TestOutcomes(t *testing.T) {
	for _, tt := range []struct {
		err     error
		code    string
		sev     veritrail.Severity
		outcome string
	}{
		{nil, "OK", veritrail.SeverityInfo, "ok"},
		{status.Error(codes.PermissionDenied, "4711"), "PermissionDenied", veritrail.SeverityWarn, "denied"},
		{status.Error(codes.Unauthenticated, "4711"), "Unauthenticated", veritrail.SeverityWarn, "denied"},
		{status.Error(codes.NotFound, "4711"), "NotFound", veritrail.SeverityWarn, "failed"},
		{fmt.Errorf("wrapped: %w", status.Error(codes.NotFound, "4711")), "NotFound", veritrail.SeverityWarn, "failed"},
		{errors.New("4711"), "Unknown", veritrail.SeverityError, "failed"},
		{context.DeadlineExceeded, "DeadlineExceeded", veritrail.SeverityError, "failed"},
		{status.Error(99, "4711"), "Code(99)", veritrail.SeverityError, "failed"},
	} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
		_, err := unary(t.Context(), audit, func() error { return tt.err })
		if !errors.Is(err, tt.err) {
			t.Errorf("%s: the caller got %v", tt.code, err)
		}
		e := rec.One("ACCESS.RPC")
		if e.Context["code"] != tt.code || e.Severity != tt.sev || e.Context["outcome"] != tt.outcome ||
			strings.Contains(fmt.Sprint(e.Action, e.Subject, e.Object, e.Context), "4711") {
			t.Errorf("%s: got %v", tt.code, e)
		}
	}
}

// A call that an interceptor further in turns away is on record.
func TestDeniedCallIsRecorded(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec,
		Subject: func(context.Context, string) map[string]string { return map[string]string{"device": "d1"} }})
	deny := func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		veritrailgrpc.SetAction(ctx, "AUTH.LOGIN.FAIL")
		return nil, status.Error(codes.Unauthenticated, "who are you")
	}
	conn := dial(t, &bank{}, nil, nil, grpc.ChainUnaryInterceptor(audit.UnaryServer, deny))
	if _, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(),
		&testpb.SimpleRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v", err)
	}
	e := rec.One("AUTH.LOGIN.FAIL")
	check(t, "sub", e.Subject, map[string]string{"device": "d1"})
	if e.Context["outcome"] != "denied" {
		t.Errorf("got %v", e)
	}
}

func TestSpanInContextLeavesTheTraceToTheRecorder(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	ctx := metadata.NewIncomingContext(trace.ContextWithSpanContext(t.Context(), span),
		metadata.Pairs("traceparent", "00-"+traceID+"-"+spanID+"-01"))
	if _, err := unary(ctx, audit, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if e := rec.One("*"); e.Context["trace_id"] != "" || e.Context["parent_span_id"] != "" {
		t.Errorf("got %v", e.Context)
	}
}

func TestPanicIsRecordedAndGoesOn(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
	calls := map[string]func(){
		"unary": func() {
			_, _ = unary(t.Context(), audit, func() error { panic("card 4711") })
		},
		"stream": func() {
			_ = stream(t.Context(), audit, func() error { panic("card 4711") })
		},
	}
	for name, f := range calls {
		rec.Reset()
		func() {
			defer func() {
				if got := recover(); got != "card 4711" {
					t.Errorf("%s: recovered %v", name, got)
				}
			}()
			f()
		}()
		e := rec.One("ACCESS.RPC")
		if e.Context["panic"] != "true" || e.Context["outcome"] != "failed" || e.Context["code"] != "" ||
			e.Severity != veritrail.SeverityError || strings.Contains(fmt.Sprint(e.Action, e.Subject, e.Object, e.Context), "4711") {
			t.Errorf("%s: got %v", name, e)
		}
	}
	rec.Reset()
	var all sync.WaitGroup
	all.Go(func() {
		_, _ = unary(t.Context(), audit, func() error {
			runtime.Goexit()
			return nil
		})
	})
	all.Wait()
	if got := rec.One("*").Context["outcome"]; got != "failed" {
		t.Errorf("a handler that ended its goroutine: %q", got)
	}
}

// bare is a server's stream without anything behind it.
type bare struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // what Context returns
}

func (b bare) Context() context.Context { return b.ctx }

func TestFailOpenAnswersAndTells(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var told []*veritrail.ComplianceEvent
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec,
		OnError: func(_ context.Context, e *veritrail.ComplianceEvent, err error) {
			if !errors.Is(err, errDisk) {
				t.Errorf("told %v", err)
			}
			told = append(told, e)
		}})
	rec.FailNext(errDisk)
	resp, err := unary(t.Context(), audit, func() error { return nil })
	if resp != "fine" || err != nil {
		t.Errorf("answered %v, %v", resp, err)
	}
	if len(told) != 1 || told[0].ID == "" || told[0].Context["code"] != "OK" {
		t.Errorf("told of %v", told)
	}
}

func TestFailClosedRecordsIntentThenOutcome(t *testing.T) {
	server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
	conn := dial(t, &bank{unary: func(ctx context.Context) error {
		if got := server.One("*").Context["phase"]; got != "intent" {
			t.Errorf("before the handler: %q", got)
		}
		veritrailgrpc.SetObject(ctx, "account", "62")
		return nil
	}}, interceptor(t, veritrailgrpc.Config{Recorder: server, Policy: veritrailgrpc.FailClosed}),
		interceptor(t, veritrailgrpc.Config{Recorder: client, Policy: veritrailgrpc.FailClosed}))
	c := testpb.NewTestServiceClient(conn)
	if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	for _, rec := range []*veritrailtest.Recorder{server, client} {
		events := rec.Events()
		if len(events) != 2 || events[0].Context["phase"] != "intent" || events[1].Context["phase"] != "outcome" ||
			events[1].Context["intent"] != events[0].ID {
			t.Errorf("got %v", events)
		}
		rec.Reset()
	}
	chat, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, rec := range []*veritrailtest.Recorder{server, client} {
		if events := rec.Events(); len(events) != 2 || events[1].Context["intent"] != events[0].ID {
			t.Errorf("got %v", events)
		}
	}
}

func TestFailClosedMakesNoCallThatIsNotOnRecord(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	var told int
	audit := interceptor(t, veritrailgrpc.Config{
		Recorder: rec, Policy: veritrailgrpc.FailClosed, Timeout: 10 * time.Millisecond,
		OnError: func(context.Context, *veritrail.ComplianceEvent, error) { told++ },
	})
	conn := dial(t, &bank{}, nil, nil)
	calls := map[string]func() error{
		"unary server": func() error {
			_, err := unary(t.Context(), audit, func() error {
				t.Error("the handler ran")
				return nil
			})
			return err
		},
		"stream server": func() error {
			return stream(t.Context(), audit, func() error {
				t.Error("the handler ran")
				return nil
			})
		},
		"unary client": func() error {
			invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
				t.Error("the call was made")
				return nil
			}
			return audit.UnaryClient(t.Context(), unaryCall, nil, nil, conn, invoke)
		},
		"stream client": func() error {
			_, err := audit.StreamClient(t.Context(), &grpc.StreamDesc{}, conn, chatCall,
				opens(func() (grpc.ClientStream, error) {
					t.Error("the stream was opened")
					return nil, errDisk
				}))
			return err
		},
	}
	for fault, prepare := range map[string]func() func(){
		"not recorded": func() func() { rec.FailNext(errDisk); return func() {} },
		"not certain":  func() func() { rec.LoseAnswerNext(errDisk); return func() {} },
		"hangs":        rec.Hold,
	} {
		for name, f := range calls {
			told = 0
			after := prepare()
			if err := f(); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "fire") || told != 1 {
				t.Errorf("%s, %s: got %v, told %d times", name, fault, err, told)
			}
			after()
		}
	}
}

func TestSkip(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec, Skip: func(string) bool { return true }})
	c := testpb.NewTestServiceClient(dial(t, &bank{}, audit, audit))
	if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
		t.Error(err)
	}
	chat, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := chat.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := chat.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	rec.None("*")
}

// However a client's stream ends, its event is recorded, and once.
func TestAbandonedStreamsAreRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(cancel func(), conn *grpc.ClientConn, chat chatClient)
		code string
	}{
		"cancelled, nobody reading": {func(cancel func(), _ *grpc.ClientConn, _ chatClient) { cancel() }, "Canceled"},
		"cancelled while reading": {func(cancel func(), _ *grpc.ClientConn, chat chatClient) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				if _, err := chat.Recv(); status.Code(err) != codes.Canceled {
					t.Error(err)
				}
			}()
			cancel()
			<-done
		}, "Canceled"},
		"connection closed": {func(_ func(), conn *grpc.ClientConn, _ chatClient) { _ = conn.Close() }, "Canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
			arrived := make(chan struct{})
			b := &bank{stream: func(s chatServer) error {
				close(arrived)
				<-s.Context().Done()
				return s.Context().Err()
			}}
			conn := dial(t, b, interceptor(t, veritrailgrpc.Config{Recorder: server}),
				interceptor(t, veritrailgrpc.Config{Recorder: client}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			chat, err := testpb.NewTestServiceClient(conn).FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			<-arrived
			tt.end(cancel, conn, chat)
			got := client.Wait("NET.RPC", 1)[0].Context
			if got["code"] != tt.code || got["outcome"] != "failed" {
				t.Errorf("got %v, want %s", got, tt.code)
			}
			if got := server.Wait("ACCESS.RPC", 1)[0].Context["code"]; got != "Canceled" {
				t.Errorf("the server's: %s", got)
			}
			client.One("*")
		})
	}
}

// A streamer that knows nothing of gRPC's options, as an interceptor in between may be one.
func TestStreamEndsWithoutGRPCsHelp(t *testing.T) {
	for want, err := range map[string]error{"OK": io.EOF, "NotFound": status.Error(codes.NotFound, "")} {
		rec := veritrailtest.New(t, veritrailtest.Config{})
		audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
		stream, openErr := audit.StreamClient(t.Context(), &grpc.StreamDesc{ServerStreams: true},
			dial(t, &bank{}, nil, nil), listCall,
			opens(func() (grpc.ClientStream, error) { return scripted{recv: err}, nil }))
		if openErr != nil {
			t.Fatal(openErr)
		}
		rec.None("*")
		for range 2 {
			if got := stream.RecvMsg(nil); !errors.Is(got, err) {
				t.Errorf("got %v, want %v", got, err)
			}
		}
		if got := rec.One("*").Context["code"]; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
	if _, err := audit.StreamClient(t.Context(), &grpc.StreamDesc{}, dial(t, &bank{}, nil, nil), listCall,
		opens(func() (grpc.ClientStream, error) { return nil, errDisk })); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	rec.One("NET.RPC")
}

// opens is a streamer that opens what open returns.
func opens(open func() (grpc.ClientStream, error)) grpc.Streamer {
	return func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return open()
	}
}

type scripted struct {
	grpc.ClientStream
	recv error
}

func (s scripted) RecvMsg(any) error { return s.recv }

// Nothing that a caller sends may get the event refused.
func TestHostileCallIsRecorded(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	audit := interceptor(t, veritrailgrpc.Config{Recorder: rec})
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", strings.Repeat("x", 100_000),
		"traceparent", "\xff"))
	info := &grpc.UnaryServerInfo{FullMethod: "/\xff" + strings.Repeat("m", 100_000)}
	if _, err := audit.UnaryServer(ctx, nil, info, func(context.Context, any) (any, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
	if got, want := rec.One("ACCESS.RPC").Context["cut"], "ctx.request_id obj.api"; got != want {
		t.Errorf("cut: %q, want %q", got, want)
	}
}

// In memory there is no address, and no ip.
func TestCallWithoutAnAddress(t *testing.T) {
	server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
	listener := bufconn.Listen(1 << 16)
	conn := dialOn(t, listener, "passthrough:///memory", &bank{}, interceptor(t, veritrailgrpc.Config{Recorder: server}),
		interceptor(t, veritrailgrpc.Config{Recorder: client}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if _, err := testpb.NewTestServiceClient(conn).UnaryCall(t.Context(), &testpb.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	if got, there := server.One("*").Context["ip"]; there {
		t.Errorf("ip %q", got)
	}
	if got, there := client.One("*").Context["peer_ip"]; there {
		t.Errorf("peer_ip %q", got)
	}
}

func TestConcurrentCalls(t *testing.T) {
	server, client := veritrailtest.New(t, veritrailtest.Config{}), veritrailtest.New(t, veritrailtest.Config{})
	b := &bank{unary: func(ctx context.Context) error {
		id := metadata.ValueFromIncomingContext(ctx, "x-request-id")[0]
		veritrailgrpc.SetSubject(ctx, "user", id)
		return nil
	}}
	conn := dial(t, b, interceptor(t, veritrailgrpc.Config{Recorder: server}),
		interceptor(t, veritrailgrpc.Config{Recorder: client}))
	c := testpb.NewTestServiceClient(conn)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 20 {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", fmt.Sprint(w, "-", i))
				if _, err := c.UnaryCall(ctx, &testpb.SimpleRequest{}); err != nil {
					t.Error(err)
				}
				chat, err := c.FullDuplexCall(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				_ = chat.Send(&testpb.StreamingOutputCallRequest{})
				_ = chat.CloseSend()
				for err == nil {
					_, err = chat.Recv()
				}
			}
		})
	}
	all.Wait()
	if s, c := len(server.Wait("ACCESS.RPC", 320)), len(client.Wait("NET.RPC", 320)); s != 320 || c != 320 {
		t.Errorf("%d events of the server and %d of the client, want 320", s, c)
	}
	for _, e := range server.Events() {
		if e.Context["rpc"] == "unary" && e.Subject["user"] != e.Context["request_id"] {
			t.Fatalf("mixed up: %v", e)
		}
	}
}

func TestSettersOutsideOfACall(t *testing.T) {
	ctx := t.Context()
	if veritrailgrpc.SetSubject(ctx, "k", "v") || veritrailgrpc.SetObject(ctx, "k", "v") ||
		veritrailgrpc.SetContext(ctx, "k", "v") || veritrailgrpc.SetAction(ctx, "A") {
		t.Error("set, and in no event")
	}
}

func TestConfigIsChecked(t *testing.T) {
	rec := veritrailtest.New(t, veritrailtest.Config{})
	for want, cfg := range map[string]veritrailgrpc.Config{
		"veritrailgrpc: Recorder is not set": {Service: "s"},
		"veritrailgrpc: Service is not set":  {Recorder: rec},
		"veritrailgrpc: Policy: 7 is none":   {Recorder: rec, Service: "s", Policy: 7},
		`veritrailgrpc: Actions: "/a/b": want dotted segments of A-Z a-z 0-9 _ -`: {Recorder: rec, Service: "s",
			Actions: map[string]string{"/a/b": "AUTH.*"}},
	} {
		if _, err := veritrailgrpc.New(cfg); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

type nowhere struct{}

func (nowhere) Record(context.Context, *veritrail.ComplianceEvent) error { return nil }

// What the interceptor costs without the trail, and without the network.
func BenchmarkUnaryServer(b *testing.B) {
	for name, policy := range map[string]veritrailgrpc.Policy{"open": veritrailgrpc.FailOpen,
		"closed": veritrailgrpc.FailClosed} {
		audit := interceptor(b, veritrailgrpc.Config{Recorder: nowhere{}, Policy: policy, Now: time.Now})
		info := &grpc.UnaryServerInfo{FullMethod: emptyCall}
		handler := func(context.Context, any) (any, error) { return nil, nil }
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := audit.UnaryServer(context.Background(), nil, info, handler); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
