// Slog keeps its log as it was, and records what names an action into a trail.
//
//	go run ./slog [DIR]
package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/veritrailslog"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "slog:", err)
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

	handler, err := veritrailslog.New(veritrailslog.Config{
		Recorder:    rec,
		Service:     "payments",
		OnlyActions: true,                                // the rest stays an ordinary log
		Next:        slog.NewTextHandler(os.Stderr, nil), // which gets everything
	})
	if err != nil {
		return err
	}
	log := slog.New(handler)

	log.Info("cache warm", "entries", 100) // not recorded: it names no action
	log.Warn("wrong PIN", "act", "AUTH.LOGIN.FAIL", "user", "u2", slog.Group("ctx", "ip", "192.0.2.7"))
	log = log.With("user", "u1")
	log.Info("logged in", "act", "AUTH.LOGIN.OK")
	log.Info("transfer booked", "act", "DATA.TRANSFER", slog.Group("obj", "account", "62"), "amount", 100)

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
