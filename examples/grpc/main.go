// Grpc is a server and a client that both record each of their calls, into one trail here. It serves gRPC's own health
// service on loopback, calls it a few times and ends.
//
//	go run ./grpc [DIR]
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailgrpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "grpc:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	dir, err := trailDir(args)
	if err != nil {
		return err
	}
	rec, err := recorder.Open(recorder.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rec.Close()) }() // makes durable and seals what is left

	audit, err := veritrailgrpc.New(veritrailgrpc.Config{
		Recorder: rec,
		Service:  "payments",
		Actions:  map[string]string{healthpb.Health_Check_FullMethodName: "SYS.HEALTH.CHECK"},
	})
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// The audit comes first, so that a call which letIn turns away is on record as well.
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(audit.UnaryServer, letIn), grpc.ChainStreamInterceptor(audit.StreamServer))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	err = visit(listener.Addr().String(), rec)
	// GracefulStop waits for the handlers, and so for their events; Close of the recorder comes after it.
	srv.GracefulStop()
	if err := errors.Join(err, <-served); err != nil {
		return err
	}
	fmt.Printf("recorded into %s; check it with: veritrail verify %s\n", dir, dir)
	return nil
}

// letIn stands in for what checks credentials.
func letIn(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	user := metadata.ValueFromIncomingContext(ctx, "user")
	if len(user) != 1 || user[0] != "u1" {
		return nil, status.Error(codes.PermissionDenied, "not you")
	}
	veritrailgrpc.SetSubject(ctx, "user", user[0])
	return handler(ctx, req)
}

// visit is a client that is let in once and turned away once.
func visit(addr string, rec *recorder.Recorder) (err error) {
	audit, err := veritrailgrpc.New(veritrailgrpc.Config{Recorder: rec, Service: "teller", Policy: veritrailgrpc.FailClosed})
	if err != nil {
		return err
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(audit.UnaryClient), grpc.WithChainStreamInterceptor(audit.StreamClient))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	client := healthpb.NewHealthClient(conn)
	for user, want := range map[string]codes.Code{"u1": codes.OK, "u2": codes.PermissionDenied} {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "user", user)
		if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{}); status.Code(err) != want {
			return fmt.Errorf("%s: %w", user, err)
		}
	}
	// A stream's event is recorded when the stream ends; here by its context.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	watch, err := client.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return err
	}
	if _, err := watch.Recv(); err != nil {
		return err
	}
	cancel()
	if _, err := watch.Recv(); status.Code(err) != codes.Canceled {
		return err
	}
	return nil
}

// trailDir is the directory that was named, or a new one.
func trailDir(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	temp, err := os.MkdirTemp("", "veritrail-example-")
	return filepath.Join(temp, "trail"), err
}
