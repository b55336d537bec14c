package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crashURL makes the test binary a program that records until it is killed.
const crashURL = "VERITRAIL_CLIENT_CRASH_URL"

func TestMain(m *testing.M) {
	if url := os.Getenv(crashURL); url != "" {
		fmt.Fprintln(os.Stderr, recordUntilKilled(url, os.Getenv("VERITRAIL_CLIENT_CRASH_SPOOL")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// recordUntilKilled tells its parent of each acknowledged event, and ends with its
// input or an error.
func recordUntilKilled(url, spool string) error {
	c, err := New(Config{
		URL: url, Token: testToken, Spool: spool, Policy: AckSpool, Patience: 10 * time.Millisecond,
		RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond, CloseTimeout: 30 * time.Second,
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	for n := 0; ctx.Err() == nil; n++ {
		p, err := c.RecordAsync(context.Background(), event(n))
		if err == nil {
			err = p.Wait(context.Background())
		}
		if err != nil {
			return err
		}
		fmt.Printf("acknowledged %s\n", p.ID())
	}
	if err := c.Close(); err != nil {
		return err
	}
	fmt.Println("done")
	return nil
}

// TestKilledClientLosesAndDoublesNothing kills a recording process again and
// again, on one spool, behind a network that fails. test/e2e kills the server, too,
// and more often.
func TestKilledClientLosesAndDoublesNothing(t *testing.T) {
	kills := 60
	if testing.Short() {
		kills = 12
	}
	s := newSite(t)
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	s.setFault(faults(rand.New(rand.NewPCG(seed, 2))))
	spool := filepath.Join(t.TempDir(), "spool")
	acknowledged := make(map[string]bool)
	for n := range kills + 1 {
		child := exec.CommandContext(t.Context(), os.Args[0])
		child.Env = append(os.Environ(), crashURL+"=http://"+s.addr, "VERITRAIL_CLIENT_CRASH_SPOOL="+spool)
		var stderr strings.Builder
		child.Stderr = &stderr
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		last, done := n == kills, false
		after := 3 + random.IntN(40) // events, then the kill comes anywhere in the next ones
		seen := 0
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if lines.Text() == "done" {
				done = true
				continue
			}
			id, whole := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !whole || len(id) != 36 {
				continue // the kill cut the line short
			}
			acknowledged[id] = true
			if seen++; seen != after {
				continue
			}
			if last {
				if err := in.Close(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			time.AfterFunc(time.Duration(random.Int64N(int64(5*time.Millisecond))), func() { _ = child.Process.Kill() })
		}
		_ = child.Wait() // killed, but for the last
		if last && !done || seen < after {
			t.Fatalf("seed %d: the client ended by itself: %s", seed, stderr.String())
		}
	}
	counts := make(map[string]int)
	for _, e := range s.leaves() {
		if counts[e.ID]++; counts[e.ID] > 1 {
			t.Errorf("seed %d: event %s is there twice", seed, e.ID)
		}
	}
	for id := range acknowledged {
		if counts[id] == 0 {
			t.Errorf("seed %d: event %s is lost", seed, id)
		}
	}
	if files := spoolFiles(t, spool); len(files) > 0 {
		for _, name := range files {
			if strings.HasSuffix(name, spoolSuffix) {
				t.Errorf("seed %d: %v are left", seed, files)
			}
		}
	}
	t.Logf("seed %d: %d kills, %d events acknowledged, %d in the trail", seed, kills, len(acknowledged), len(counts))
}
