package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

const (
	origin = "example.com/interop"
	action = "AUTH.LOGIN.OK"
)

// work holds the built program; it outlives single tests.
var work string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		work, err = os.MkdirTemp("", "veritrail-interop-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(work)
		return m.Run()
	}())
}

// build makes the program once, as it is shipped: without cgo.
var build = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(work, "veritrail")
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/veritrail")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/veritrail: %w\n%s", err, out)
	}
	return bin, nil
})

// A program is the built veritrail with a home of its own, so that it neither sees nor leaves anything on the
// machine that tests it.
type program struct {
	bin  string
	home string
}

func newProgram(t *testing.T) program {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return program{bin: bin, home: t.TempDir()}
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.bin, args...)
	cmd.Dir = p.home
	cmd.Env = append(os.Environ(),
		"HOME="+p.home, "USERPROFILE="+p.home, "LOCALAPPDATA="+p.home, "APPDATA="+p.home,
		"XDG_STATE_HOME="+filepath.Join(p.home, "state"), "XDG_CONFIG_HOME="+filepath.Join(p.home, "config"))
	return cmd
}

// run runs one command to its end and returns what it printed.
func (p program) run(t *testing.T, stdin io.Reader, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := p.command(ctx, args...)
	cmd.Stdin = stdin
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("veritrail %s: %v\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes()
}

// record makes a trail of n events in a new directory and returns it with the verifier of its key.
func (p program) record(t *testing.T, n int) (string, note.Verifier) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "trail")
	p.run(t, bytes.NewReader(eventLines(0, n)), "record", "--data", data, "--origin", origin)
	return data, p.verifier(t, data)
}

// export writes the trail in data as a tlog-tiles directory.
func (p program) export(t *testing.T, data string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tiles")
	p.run(t, nil, "export", "--data", data, "--tiles", out)
	checkLayout(t, out)
	return out
}

// verifier returns the first key that the trail shows: the Ed25519 one, which any tlog client understands.
func (p program) verifier(t *testing.T, data string) note.Verifier {
	t.Helper()
	vkey, _, _ := strings.Cut(strings.TrimSpace(string(p.run(t, nil, "keys", "export", "--data", data))), "\n")
	v, err := note.NewVerifier(strings.TrimSpace(vkey))
	if err != nil {
		t.Fatalf("keys export: %q: %v", vkey, err)
	}
	if v.Name() != origin {
		t.Fatalf("keys export: key named %q, want %q", v.Name(), origin)
	}
	return v
}

// A server is a running `veritrail up`.
type server struct {
	url   string
	token string
	stop  func()
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)

// up serves the trail in data until the test ends or stop is called, and returns when it is ready.
func (p program) up(t *testing.T, data string) server {
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

	addr := make(chan string, 1)
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			if a := address.FindString(s.Text()); a != "" {
				select {
				case addr <- a:
				default:
				}
			}
		}
		// Whatever is left must not block the program.
		_, _ = io.Copy(io.Discard, stdout)
	}()
	var ended error
	done := make(chan struct{})
	go func() {
		ended = cmd.Wait()
		_ = lines.Close()
		close(done)
	}()
	s := server{stop: sync.OnceFunc(func() {
		cancel()
		<-done
		// Asked to stop, it stops of itself and in good order; being killed for taking too long is neither.
		if runtime.GOOS != "windows" && (cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 0) {
			t.Errorf("veritrail up: %v\n%s", ended, stderr.Bytes())
		}
	})}
	t.Cleanup(s.stop)

	patience := time.After(30 * time.Second)
	select {
	case s.url = <-addr:
	case <-done:
		t.Fatalf("veritrail up ended before it printed its address: %v\n%s", ended, stderr.Bytes())
	case <-patience:
		t.Fatal("veritrail up printed no address")
	}
	for tick := time.Tick(20 * time.Millisecond); !answers(s.url + "/readyz"); {
		select {
		case <-tick:
		case <-done:
			t.Fatalf("veritrail up ended before it was ready: %v\n%s", ended, stderr.Bytes())
		case <-patience:
			t.Fatal("veritrail up: /readyz never answered 200")
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

func answers(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// eventLine is the ith event as a producer writes it: one JSON line without its end. Its place in the row is in
// obj.api, which no redaction has a reason to touch.
func eventLine(i int) []byte {
	return fmt.Appendf(nil, `{"sub":{"user":"u1"},"act":"%s","obj":{"api":"/x/%d"},"ctx":{"ip":"10.0.0.1"}}`, action, i)
}

// eventLines is n events from the ith on as JSON lines.
func eventLines(i, n int) []byte {
	var b bytes.Buffer
	for end := i + n; i < end; i++ {
		b.Write(eventLine(i))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// A tally counts the events of a test among the entries of a log, which also holds those that the trail records
// about itself, and checks that they come whole and in order.
type tally struct{ events int }

func (c *tally) visit(_ int64, entry []byte) error {
	var e struct {
		Action string            `json:"act"`
		Object map[string]string `json:"obj"`
	}
	if err := json.Unmarshal(entry, &e); err != nil {
		return err
	}
	if e.Action != action {
		return nil
	}
	if want := fmt.Sprintf("/x/%d", c.events); e.Object["api"] != want {
		return fmt.Errorf("event %s where %s was due", e.Object["api"], want)
	}
	c.events++
	return nil
}
