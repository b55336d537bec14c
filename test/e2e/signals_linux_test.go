package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serving is an up in a process of its own.
type serving struct {
	*exec.Cmd
	dir, base string
	env       []string
	ended     chan error
}

// serve starts up on a new trail, with out as its terminal when that is not nil.
func serve(t *testing.T, terminal *os.File) *serving {
	t.Helper()
	s := &serving{dir: filepath.Join(t.TempDir(), "trail"), env: append(os.Environ(), "XDG_STATE_HOME="+t.TempDir()), ended: make(chan error, 1)}
	said := filepath.Join(t.TempDir(), "said")
	out, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s.Cmd = exec.Command(program, "up", "--data", s.dir, "--listen", "127.0.0.1:0")
	s.Env, s.Stdout, s.Stderr = s.env, out, out
	if terminal != nil {
		s.Stdin, s.Stderr = terminal, terminal
		s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Process.Kill() })
	go func() { s.ended <- s.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); s.base == ""; <-tick.C {
		text, err := os.ReadFile(said)
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("not up: %v: %s", err, text)
		}
		if bytes.Contains(text, []byte("stop with Ctrl-C")) {
			s.base = address.FindString(string(text))
		}
	}
	for {
		resp, err := http.Get(s.base + "/readyz")
		if err == nil {
			resp.Body.Close()
			return s
		}
	}
}

func (s *serving) post(t *testing.T) {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(s.dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, s.base+"/v1/events", strings.NewReader(`{"sub":{"user":"u1"},"act":"APP.SIGNAL"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
}

// wait is how it ends, within a time that is far less than it may take to let
// requests finish.
func (s *serving) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(15 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

// check: the trail holds, the event is in it, and so many stops of its own.
func (s *serving) check(t *testing.T, stops int) {
	t.Helper()
	run := func(args ...string) string {
		cmd := exec.Command(program, args...)
		cmd.Env = s.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("veritrail %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// What was acknowledged and not sealed when it ended at once is sealed by
	// the next writer.
	cmd := exec.Command(program, "record", "--data", s.dir)
	cmd.Env, cmd.Stdin = s.env, strings.NewReader(`{"sub":{"user":"u2"},"act":"APP.AFTER"}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("record: %v\n%s", err, out)
	}
	run("verify", s.dir)
	if found := run("search", "--data", s.dir); strings.Count(found, "APP.SIGNAL") != 1 || strings.Count(found, "TRAIL.STOP") != stops {
		t.Errorf("want the event, and %d TRAIL.STOP:\n%s", stops, found)
	}
}

func TestTerminationIsOrderly(t *testing.T) {
	s := serve(t, nil)
	s.post(t)
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(t); err != nil {
		t.Errorf("after SIGTERM: %v, want exit code 0", err)
	}
	s.check(t, 1)
}

// The first signal waits for a client that never finishes its request; the
// second one does not, and costs nothing that was acknowledged.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	s := serve(t, nil)
	s.post(t)
	token, err := os.ReadFile(filepath.Join(s.dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// Expect: 100-continue is answered when the body is being read: so it is known to have begun.
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n", strings.TrimSpace(string(token)))
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q, %v", line, err)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // until it takes no more connections: it is stopping
		c, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case err := <-s.ended:
		t.Fatalf("it did not wait for the request: %v", err)
	default:
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err = s.wait(t)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second SIGTERM: %v", err)
	}
	s.check(t, 0)
}

// A terminal that is closed takes up with it, in order; without a terminal
// SIGHUP only reloads.
func TestClosedTerminalIsAnOrderlyStop(t *testing.T) {
	master, slave := terminal(t)
	s := serve(t, slave)
	slave.Close()
	s.post(t)
	if err := s.Process.Signal(syscall.SIGHUP); err != nil { // by hand: the terminal is still there
		t.Fatal(err)
	}
	resp, err := http.Get(s.base + "/readyz")
	if err != nil {
		t.Fatalf("a SIGHUP ended it: %v", err)
	}
	resp.Body.Close()
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(t); err != nil {
		t.Errorf("after its terminal was closed: %v, want exit code 0", err)
	}
	s.check(t, 1)
}

// terminal is a new pseudo-terminal, both ends.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	// Not by os.OpenFile and Fd, which would make it block: then Close waits for
	// the reader below.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	master = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, master) }() // or its writers would wait
	return master, slave
}
