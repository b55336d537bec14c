package e2e

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// signal NAME hup|quit: sends a signal to a program that goes on.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	cmd := ts.Value(started{}).(map[string]*exec.Cmd)[args[0]]
	if cmd == nil {
		ts.Fatalf("%s is not running", args[0])
	}
	sig, ok := map[string]os.Signal{"hup": syscall.SIGHUP, "quit": syscall.SIGQUIT}[args[1]]
	if !ok {
		ts.Fatalf("signal %s is not known here", args[1])
	}
	ts.Check(cmd.Process.Signal(sig))
}

// await-text FILE REGEXP: FILE holds such a text, if not at once, then soon.
func awaitText(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[1])
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var text []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		var err error
		if text, err = os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(text) {
			return
		}
	}
	ts.Fatalf("%s: no %s in\n%s", args[0], args[1], text)
}

// gets NAME N PATH: asks N times.
func gets(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	for range n {
		resp, err := http.Get(ts.Getenv(args[0]) + args[2])
		ts.Check(err)
		_, err = io.Copy(io.Discard, resp.Body)
		ts.Check(err)
		ts.Check(resp.Body.Close())
	}
}
