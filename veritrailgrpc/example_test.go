package veritrailgrpc_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/veritrailgrpc"
)

// printer stands in for a recorder; package recorder has the one that makes a trail.
type printer struct{}

func (printer) Record(_ context.Context, e *veritrail.ComplianceEvent) error {
	fmt.Println(e.Severity, e.Subject, e.Action, e.Object["api"], e.Context["outcome"], e.Context["code"])
	return nil
}

func Example() {
	audit, err := veritrailgrpc.New(veritrailgrpc.Config{
		Recorder: printer{},
		Service:  "payments",
		Actions:  map[string]string{"/grpc.health.v1.Health/Check": "SYS.HEALTH"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := grpc.NewServer(grpc.ChainUnaryInterceptor(audit.UnaryServer), grpc.ChainStreamInterceptor(audit.StreamServer))
	healthpb.RegisterHealthServer(srv, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- srv.Serve(listener) }()

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	client := healthpb.NewHealthClient(conn)
	for _, service := range []string{"", "unknown"} {
		// The second is answered with NotFound, which is on record and not looked at here.
		_, _ = client.Check(context.Background(), &healthpb.HealthCheckRequest{Service: service})
	}
	srv.Stop()
	if err := <-served; err != nil {
		fmt.Println(err)
	}
	if err := conn.Close(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// INFO map[svc:payments] SYS.HEALTH /grpc.health.v1.Health/Check ok OK
	// WARN map[svc:payments] SYS.HEALTH /grpc.health.v1.Health/Check failed NotFound
}
