package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/client"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// recordURL makes the test binary a program that records until it is killed.
const recordURL = "VERITRAIL_TEST_RECORD_URL"

// recordUntilKilled tells its parent of each event before it is recorded, and
// once it is. It waits for its input to end, and then closes the client.
func recordUntilKilled(url, token, spool string) error {
	c, err := client.New(client.Config{
		URL: url, TokenFile: token, Spool: spool, Policy: client.AckSpool,
		Patience: 20 * time.Millisecond, RetryMin: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond, CloseTimeout: time.Minute,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent says so
		close(stop)
	}()
	var mu sync.Mutex
	say := func(what, id string) {
		mu.Lock() // one line, one write: the kernel has it whole when the process dies
		defer mu.Unlock()
		fmt.Printf("%s %s\n", what, id)
	}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				p, err := c.RecordAsync(context.Background(), &veritrail.ComplianceEvent{
					Action: "APP.STEP", Subject: map[string]string{"user": strconv.Itoa(g)}, Object: map[string]string{"n": strconv.Itoa(n)},
				})
				if err == nil {
					say("sent", p.ID())
					err = p.Wait(context.Background())
				}
				if err != nil {
					say("failed", err.Error())
					return
				}
				say("acknowledged", p.ID())
			}
		})
	}
	wg.Wait()
	return c.Close()
}

// killed is a process that may be killed at any time.
type killed struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    bytes.Buffer
	stderr bytes.Buffer
	ended  chan struct{}
}

func (k *killed) start(t *testing.T, pipe bool) {
	t.Helper()
	var err error
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	k.cmd.Stderr = &k.stderr
	if pipe {
		k.cmd.Stdout = &k.out
	}
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k.ended = make(chan struct{})
	go func() {
		_ = k.cmd.Wait() // killed
		close(k.ended)
	}()
}

func (k *killed) kill() {
	_ = k.cmd.Process.Kill()
	<-k.ended
}

// freeAddress is one that the server can come back to.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// countSteps counts the events that were sent, by id.
func countSteps(t *testing.T, dir string) map[string]int {
	t.Helper()
	view, _, err := trail.OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	counts := make(map[string]int)
	for at := uint64(0); at < view.Size(); {
		n := min(tlog.TileWidth, view.Size()-at)
		leaves, err := view.Leaves().Read(at, int(n))
		if err != nil {
			t.Fatal(err)
		}
		for _, leaf := range leaves {
			e, err := veritrail.ParseCanonical(leaf)
			if err != nil {
				t.Fatal(err)
			}
			if e.Action == "APP.STEP" {
				counts[e.ID]++
			}
		}
		at += n
	}
	return counts
}

// TestNoSideOfASendLosesOrDoublesWhenItIsKilled kills the server or the client,
// again and again, on the same trail and the same spool. In the end every event
// that was acknowledged, by the server or by the spool, is in the trail, and none
// is there twice. VERITRAIL_KILLS changes how often.
func TestNoSideOfASendLosesOrDoublesWhenItIsKilled(t *testing.T) {
	kills := 200
	if testing.Short() {
		kills = 20
	}
	if text := os.Getenv("VERITRAIL_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("VERITRAIL_KILLS: want a number, got %q", text)
		}
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	work := t.TempDir()
	dir, spool, address := filepath.Join(work, "trail"), filepath.Join(work, "spool"), freeAddress(t)
	url := "http://" + address
	startServer := func() *killed {
		k := &killed{cmd: exec.Command(program, "up", "--data", dir, "--listen", address)}
		k.cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(work, "state"))
		canInterrupt(k.cmd)
		k.start(t, true)
		return k
	}
	ready := func() {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
			resp, err := http.Get(url + "/readyz")
			if err != nil {
				continue
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		t.Fatalf("seed %d: the server is not ready", seed)
	}
	acknowledged, sent := make(map[string]bool), make(map[string]bool)
	startClient := func() *killed {
		k := &killed{cmd: exec.Command(os.Args[0])}
		k.cmd.Env = append(os.Environ(), recordURL+"="+url, "VERITRAIL_TEST_TOKEN="+filepath.Join(dir, "token"), "VERITRAIL_TEST_SPOOL="+spool)
		k.start(t, true)
		return k
	}
	collect := func(k *killed) {
		for lines := bufio.NewScanner(&k.out); lines.Scan(); {
			what, id, _ := strings.Cut(lines.Text(), " ")
			switch {
			case what == "failed":
				t.Errorf("seed %d: %s", seed, id)
			case len(id) != 36: // the kill cut the line short
			case what == "acknowledged":
				acknowledged[id] = true
				fallthrough
			case what == "sent":
				sent[id] = true
			}
		}
	}
	server := startServer()
	ready()
	writer := startClient()
	defer func() { server.kill(); writer.kill() }()
	servers, clients := 0, 0
	for range kills {
		pause := time.NewTimer(time.Duration(random.Int64N(int64(80 * time.Millisecond))))
		select {
		case <-pause.C:
		case <-writer.ended:
			t.Fatalf("seed %d: the client ended by itself: %s", seed, writer.stderr.String())
		}
		if random.IntN(2) == 0 {
			servers++
			server.kill()
			if random.IntN(3) > 0 { // sometimes it stays away for a while
				<-time.After(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
			}
			server = startServer()
			if random.IntN(2) == 0 {
				ready()
			}
			continue
		}
		clients++
		writer.kill()
		collect(writer)
		writer = startClient()
	}
	ready()
	if err := writer.in.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-writer.ended:
	case <-time.After(2 * time.Minute):
		t.Fatalf("seed %d: the client does not end: %s", seed, writer.stderr.String())
	}
	collect(writer)
	if !writer.cmd.ProcessState.Success() {
		t.Fatalf("seed %d: the client could not send all: %s", seed, writer.stderr.String())
	}
	if left, err := filepath.Glob(filepath.Join(spool, "*.spool")); err != nil || len(left) > 0 {
		t.Errorf("seed %d: segments are left: %v, %v", seed, left, err)
	}
	if err := sendInterrupt(server.cmd); err != nil {
		t.Fatal(err)
	}
	<-server.ended
	counts := countSteps(t, dir)
	lost, doubled, unknown := 0, 0, 0
	for id := range acknowledged {
		if counts[id] == 0 {
			lost++
		}
	}
	for id, n := range counts {
		if n > 1 {
			doubled++
		}
		if !sent[id] {
			unknown++ // sent, and killed before it could say so
		}
	}
	if lost > 0 || doubled > 0 {
		t.Errorf("seed %d: of %d acknowledged events %d are lost; of %d in the trail %d are there twice", seed, len(acknowledged), lost, len(counts), doubled)
	}
	if len(acknowledged) < kills {
		t.Errorf("seed %d: only %d events were acknowledged", seed, len(acknowledged))
	}
	verify := exec.Command(program, "verify", dir)
	verify.Env = append(os.Environ(), "XDG_STATE_HOME="+filepath.Join(work, "state"))
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("seed %d: verify: %v\n%s", seed, err, out)
	}
	t.Logf("seed %d: %d kills of the server, %d of the client; %d events acknowledged, %d in the trail, %d of them before it was told that they were sent",
		seed, servers, clients, len(acknowledged), len(counts), unknown)
}
