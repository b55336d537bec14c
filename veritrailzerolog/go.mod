module github.com/veritrail/veritrail/veritrailzerolog

go 1.26.0

require (
	github.com/rs/zerolog v1.35.1
	github.com/veritrail/veritrail v0.1.0
	go.opentelemetry.io/otel/trace v1.47.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	go.opentelemetry.io/otel v1.47.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/veritrail/veritrail => ../
