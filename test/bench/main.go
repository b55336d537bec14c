// Command bench measures what recording and verifying cost, beside the programs
// that others use for parts of the same:
//
//	go run ./test/bench [-short] [-dir DIR] [-out FILE]
//
// It builds the programs that measure and runs them. They are modules of their
// own, because what they compare with is no part of the product: peers holds
// the measurements, immudb a peer that is not open source.
// docs/benchmarks.md says what the results mean.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run hands args to the measuring program.
func run(ctx context.Context, args []string) (err error) {
	here, err := source(ctx)
	if err != nil {
		return err
	}
	programs, err := os.MkdirTemp("", "veritrail-bench-programs-")
	if err != nil {
		return err
	}
	defer func() {
		if rerr := os.RemoveAll(programs); err == nil {
			err = rerr
		}
	}()
	peers, err := build(ctx, programs, filepath.Join(here, "peers"))
	if err != nil {
		return err
	}
	immudb, err := build(ctx, programs, filepath.Join(here, "immudb"))
	if err != nil { // it cannot be fetched, perhaps: its lines say that it is not here
		fmt.Fprintln(os.Stderr, "bench: going on without immudb:", err)
	} else {
		args = append([]string{"-immudb", immudb}, args...)
	}
	child := exec.CommandContext(ctx, peers, args...) //nolint:gosec // the program that was just built, with the user's arguments
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	return child.Run()
}

// source is the directory of this program, in the module that contains the
// working directory.
func source(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/veritrail/veritrail/test/bench").Output()
	if err != nil {
		return "", fmt.Errorf("go list: run it inside the repository: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build builds the module in dir and returns the program's name.
func build(ctx context.Context, into, dir string) (string, error) {
	name := filepath.Join(into, filepath.Base(dir))
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	var stderr bytes.Buffer
	c := exec.CommandContext(ctx, "go", "-C", dir, "build", "-o", name, ".") //nolint:gosec // arguments, no shell
	c.Stderr = &stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("go -C %s build: %w: %s", filepath.Base(dir), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return name, nil
}
