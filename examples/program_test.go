package examples

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// A program is the built veritrail with a home of its own, so that it neither sees nor leaves anything on the
// machine that tests it.
type program struct{ bin, home string }

func newProgram(t *testing.T) program {
	t.Helper()
	return program{bin: build(t, "..", "./cmd/veritrail"), home: t.TempDir()}
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Env = append(os.Environ(), "HOME="+p.home, "USERPROFILE="+p.home, "LOCALAPPDATA="+p.home, "XDG_STATE_HOME="+p.home)
	return cmd
}

// run runs one command to its end, which must be a good one, and returns what it printed.
func (p program) run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := p.command(t.Context(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("veritrail %s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

// up runs `veritrail up` on a port of its own, and returns its address when it is ready. stop ends it and waits.
func (p program) up(t *testing.T, data string) (url string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := p.command(ctx, "up", "--data", data, "--listen", "127.0.0.1:0")
	cmd.Cancel = func() error {
		if runtime.GOOS == "windows" {
			return cmd.Process.Kill() // no other signal reaches a process without a console
		}
		return cmd.Process.Signal(os.Interrupt)
	}
	cmd.WaitDelay = time.Minute
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, lines := io.Pipe()
	cmd.Stdout = lines
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	found := make(chan string, 1)
	var reader sync.WaitGroup
	reader.Go(func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if a := address.FindString(s.Text()); a != "" {
				select {
				case found <- a:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, stdout) // whatever is left must not block the program
	})
	done := make(chan struct{})
	var ended error
	go func() {
		defer close(done)
		ended = cmd.Wait()
		_ = lines.Close()
		reader.Wait()
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
		// Asked to stop it stops of itself and in good order; being killed for taking too long is neither.
		if runtime.GOOS != "windows" && cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("veritrail up: %v\n%s", ended, stderr.Bytes())
		}
	})
	t.Cleanup(stop)

	patience := time.After(30 * time.Second)
	select {
	case url = <-found:
	case <-done:
		t.Fatalf("veritrail up ended before it printed its address: %v\n%s", ended, stderr.Bytes())
	case <-patience:
		t.Fatal("veritrail up printed no address")
	}
	for tick := time.Tick(20 * time.Millisecond); !ready(url); {
		select {
		case <-tick:
		case <-done:
			t.Fatalf("veritrail up ended before it was ready: %v\n%s", ended, stderr.Bytes())
		case <-patience:
			t.Fatal("veritrail up: /readyz never answered 200")
		}
	}
	return url, stop
}

func ready(url string) bool {
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
