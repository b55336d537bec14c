module github.com/veritrail/veritrail/veritrailzap

go 1.26.0

require (
	github.com/veritrail/veritrail v0.1.0
	go.uber.org/zap v1.28.0
)

require go.uber.org/multierr v1.10.0 // indirect

replace github.com/veritrail/veritrail => ../
