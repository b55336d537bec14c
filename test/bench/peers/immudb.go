package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const immudbName = "immudb, embedded store"

// immudbSync is how long immudb's syncer waits for more commits. Of 0, 0.2, 1, 4
// and 20 ms (its default) these were the fastest for so many recorders.
func immudbSync(recorders int) time.Duration {
	switch {
	case recorders == 1:
		return 0
	case recorders <= 16:
		return time.Millisecond
	}
	return 20 * time.Millisecond
}

func immudbSettings(recorders int) string {
	return fmt.Sprintf("synced, SyncFrequency %v, no wait for the index", immudbSync(recorders))
}

// immudb lets the program of test/bench/immudb have its turn.
func (b *bench) immudb(recorders int) func(string) (result, error) {
	return func(dir string) (result, error) {
		if b.immudbProgram == "" {
			return result{}, errAbsent
		}
		child := exec.CommandContext(background, b.immudbProgram, //nolint:gosec // the program that the user names, without a shell
			"-dir", filepath.Join(dir, "store"), "-recorders", strconv.Itoa(recorders),
			"-during", b.ackTurn.String(), "-sync", immudbSync(recorders).String())
		lines, err := someLines()
		if err != nil {
			return result{}, err
		}
		child.Stdin = bytes.NewReader(bytes.Join(lines, []byte("\n")))
		var stderr bytes.Buffer
		child.Stderr = &stderr
		stdout, err := child.Output()
		if err != nil {
			return result{}, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
		var out struct {
			Events            int
			Elapsed, P50, P99 time.Duration
		}
		if err := json.Unmarshal(stdout, &out); err != nil {
			return result{}, err
		}
		return result{events: out.Events, elapsed: out.Elapsed, p50: out.P50, p99: out.P99, lineSize: float64(len(lines[0]))}, nil
	}
}
