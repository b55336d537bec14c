module github.com/veritrail/veritrail/examples

go 1.26.0

require (
	github.com/rs/zerolog v1.35.1
	github.com/veritrail/veritrail v0.1.0
	github.com/veritrail/veritrail/veritrailgrpc v0.1.0
	github.com/veritrail/veritrail/veritrailzap v0.1.0
	github.com/veritrail/veritrail/veritrailzerolog v0.1.0
	go.uber.org/zap v1.28.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/emmansun/gmsm v0.43.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3 // indirect
	github.com/transparency-dev/merkle v0.0.2 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	go.uber.org/multierr v1.10.0 // indirect
	golang.org/x/crypto v0.57.0 // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.42.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/veritrail/veritrail => ../
	github.com/veritrail/veritrail/veritrailgrpc => ../veritrailgrpc
	github.com/veritrail/veritrail/veritrailzap => ../veritrailzap
	github.com/veritrail/veritrail/veritrailzerolog => ../veritrailzerolog
)
