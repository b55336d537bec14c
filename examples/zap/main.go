// Zap keeps its log as it was, and records what names an action into a trail.
//
//	go run ./zap [DIR]
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailzap"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "zap:", err)
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

	core, err := veritrailzap.New(veritrailzap.Config{Recorder: rec, Service: "payments", OnlyActions: true})
	if err != nil {
		return err
	}
	// The core beside the ordinary one. With zap.NewProduction the same is zap.WrapCore, without its sampling.
	ordinary := zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
		zapcore.Lock(os.Stderr), zap.DebugLevel)
	log := zap.New(zapcore.NewTee(core, ordinary))

	log.Info("cache warm", zap.Int("entries", 100)) // not recorded: it names no action
	log.Warn("wrong PIN", zap.String("act", "AUTH.LOGIN.FAIL"), zap.String("user", "u2"),
		zap.Dict("ctx", zap.String("ip", "192.0.2.7")))
	log = log.With(zap.String("user", "u1"))
	log.Info("logged in", zap.String("act", "AUTH.LOGIN.OK"))
	log.Info("transfer booked", zap.String("act", "DATA.TRANSFER"), zap.Dict("obj", zap.String("account", "62")),
		zap.Int("amount", 100))

	fmt.Printf("recorded into %s; check it with: veritrail verify %s\n", dir, dir)
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
