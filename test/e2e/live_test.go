package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestReadersBesideAWriter verifies, searches and exports a trail again and
// again while events pour into it. A reader must never take a trail that grows
// for one that was tampered with.
func TestReadersBesideAWriter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trail")
	state := "XDG_STATE_HOME=" + t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	writer := exec.CommandContext(ctx, program, "record", "--data", dir)
	writer.Env = append(writer.Environ(), state)
	in, err := writer.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	writer.Stderr = &said
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	stop, fed := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { fed <- n }()
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-stop:
				return
			case <-pace.C:
			}
			for range 50 {
				if _, err := fmt.Fprintf(in, `{"sub":{"user":"u%d"},"act":"AUTH.LOGIN.OK","obj":{"api":"/v1/accounts/%d"}}`+"\n", n%100, n); err != nil {
					return
				}
				n++
			}
		}
	}()
	for exec.CommandContext(ctx, program, "stats", "--data", dir).Run() != nil { // until there is a checkpoint
		if ctx.Err() != nil {
			t.Fatalf("the writer never signed a checkpoint: %s", said.String())
		}
	}
	rounds := 6
	if testing.Short() { // the trail grows meanwhile, and each round takes longer
		rounds = 2
	}
	for i := range rounds {
		for _, args := range [][]string{
			{"verify", dir},
			{"search", "--data", dir, "--where", "sub.user=u7", "--limit", "20"},
			{"export", "--data", dir, "--where", "sub.user=u7", "-o", filepath.Join(t.TempDir(), "case.zip")},
		} {
			cmd := exec.CommandContext(ctx, program, args...)
			cmd.Env = append(cmd.Environ(), state)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("round %d: veritrail %v: %v\n%s", i, args, err, out)
			}
		}
	}
	close(stop)
	n := <-fed
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := writer.Wait(); err != nil {
		t.Fatalf("writer: %v\n%s", err, said.String())
	}
	if n < 1000 {
		t.Errorf("only %d events were written meanwhile", n)
	}
	verify := exec.Command(program, "verify", dir)
	verify.Env = append(verify.Environ(), state)
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("afterwards: %v\n%s", err, out)
	}
}
