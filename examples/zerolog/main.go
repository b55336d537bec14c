// Zerolog keeps its log as it was, and records what names an action into a trail.
//
//	go run ./zerolog [DIR]
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailzerolog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "zerolog:", err)
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

	audit, err := veritrailzerolog.New(veritrailzerolog.Config{Recorder: rec, Service: "payments", OnlyActions: true})
	if err != nil {
		return err
	}
	log := zerolog.New(zerolog.MultiLevelWriter(audit, os.Stderr)).Hook(veritrailzerolog.TraceHook{}).With().Timestamp().Logger()

	log.Info().Int("entries", 100).Msg("cache warm") // not recorded: it names no action
	log.Warn().Str("act", "AUTH.LOGIN.FAIL").Str("user", "u2").
		Dict("ctx", zerolog.Dict().Str("ip", "192.0.2.7")).Msg("wrong PIN")
	log = log.With().Str("user", "u1").Logger()
	log.Info().Str("act", "AUTH.LOGIN.OK").Msg("logged in")
	log.Info().Str("act", "DATA.TRANSFER").Dict("obj", zerolog.Dict().Str("account", "62")).
		Int("amount", 100).Msg("transfer booked")

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
