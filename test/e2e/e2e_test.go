// Package e2e runs the built program the way people do: each script in testdata
// is a session that can be read aloud (testscript syntax: a line with ! must
// fail).
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/veritrail/veritrail/internal/durable"
)

var program string // the built binary

func TestMain(m *testing.M) {
	if url := os.Getenv(recordURL); url != "" { // a child of a test
		if err := recordUntilKilled(url, os.Getenv("VERITRAIL_TEST_TOKEN"), os.Getenv("VERITRAIL_TEST_SPOOL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	interruptForParent()
	dir, err := os.MkdirTemp("", "veritrail-e2e-*")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "veritrail")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	if built := os.Getenv("VERITRAIL_PROGRAM"); built != "" { // there is no Go where test/wine runs this
		program = built
	} else {
		build := exec.Command("go", "build", "-o", program, "../../cmd/veritrail")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "building veritrail:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("LOCALAPPDATA", filepath.Join(env.WorkDir, "state"))
			env.Values[started{}] = make(map[string]*exec.Cmd)
			env.Defer(func() {
				for _, cmd := range env.Values[started{}].(map[string]*exec.Cmd) {
					_ = cmd.Process.Kill()
					_ = cmd.Wait()
				}
			})
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "flip": flip, "events": events, "up": up, "kill-9": killHard, "interrupt": interrupt, "post": post,
			"get": get, "lines": lines, "cut-bytes": cutBytes, "small-disk": smallDisk, "fill": fill, "await": await, "soon-intact": soonIntact,
			"signal": sendSignal, "await-text": awaitText, "gets": gets,
			"junk": junk, "soon": soon,
			"copy-tree": copyTree,
		},
	})
}

// exits CODE COMMAND…: runs the program, which must end with CODE.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // what Exec returns
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// flip FILE TEXT: changes one bit of the first byte of TEXT where it first
// stands in FILE.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	at := bytes.Index(b, []byte(args[1]))
	if at < 0 {
		ts.Fatalf("%s: no %q in it", args[0], args[1])
	}
	b[at] ^= 1
	ts.Check(os.WriteFile(name, b, 0o600))
}

// events N FILE: writes N events, one a line, about 300 bytes each.
func events(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	var b bytes.Buffer
	actions := []string{"AUTH.LOGIN.OK", "AUTH.LOGIN.FAIL", "DATA.ACCOUNT.READ", "CONFIG.LIMIT.CHANGE"}
	for i := range n {
		fmt.Fprintf(&b, `{"sev":"INFO","sub":{"user":"u%d","role":"teller"},"act":"%s","obj":{"api":"/v1/accounts/%d","table":"account"},"ctx":{"ip":"10.0.%d.%d","mfa":"totp"}}`+"\n",
			i%1000, actions[i%len(actions)], i, i/256%256, i%256)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b.Bytes(), 0o600))
}

// junk FILE: fills FILE with other bytes.
func junk(ts *testscript.TestScript, _ bool, args []string) {
	name := ts.MkAbs(args[0])
	info, err := os.Stat(name)
	ts.Check(err)
	ts.Check(os.WriteFile(name, bytes.Repeat([]byte("junk\x00\xff"), int(info.Size())/6), 0o600))
}

// soon COMMAND…: runs a command until its output shows an index that is whole.
func soon(ts *testscript.TestScript, _ bool, args []string) {
	whole := regexp.MustCompile(`"segments": ([0-9]+),\s*"indexed": ([0-9]+)`)
	for deadline := time.Now().Add(time.Minute); ; {
		if err := ts.Exec(args[0], args[1:]...); err != nil {
			ts.Fatalf("%v", err)
		}
		if m := whole.FindStringSubmatch(ts.ReadFile("stdout")); len(m) == 3 && m[1] == m[2] {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the index never became whole")
		}
	}
}

// lines FILE N: FILE has N lines.
func lines(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	if got := strings.Count(ts.ReadFile(args[0]), "\n"); got != want {
		ts.Fatalf("%s has %d lines, want %d", args[0], got, want)
	}
}

// cut-bytes FILE N: takes the last N bytes of FILE away.
func cutBytes(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-n))
}

// copy-tree FROM TO: copies a directory, for the same owner alone.
func copyTree(ts *testscript.TestScript, _ bool, args []string) {
	from, to := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	ts.Check(filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return durable.MkdirAll(filepath.Join(to, below))
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return durable.WriteFile(filepath.Join(to, below), b)
	}))
}

type started struct{}

var address = regexp.MustCompile(`https?://127\.0\.0\.1:\d+`)

// up NAME ARGS…: starts `veritrail up` and waits until it is ready. $NAME is
// its URL then, and NAME.out holds what it prints.
func up(ts *testscript.TestScript, _ bool, args []string) {
	name := args[0]
	out, err := os.Create(ts.MkAbs(name + ".out"))
	ts.Check(err)
	defer out.Close()
	cmd := exec.Command(program, append([]string{"up", "--listen", "127.0.0.1:0"}, args[1:]...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), out, out
	canInterrupt(cmd)
	for _, key := range []string{"PATH", "HOME", "XDG_STATE_HOME", "LOCALAPPDATA", "CANARY"} {
		cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
	}
	ts.Check(cmd.Start())
	ts.Value(started{}).(map[string]*exec.Cmd)[name] = cmd
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("veritrail up is not ready: %s", ts.ReadFile(name+".out"))
		}
		if strings.Contains(ts.ReadFile(name+".out"), "\nveritrail: ") || strings.HasPrefix(ts.ReadFile(name+".out"), "veritrail: ") {
			ts.Fatalf("veritrail up: %s", ts.ReadFile(name+".out"))
		}
		base := address.FindString(ts.ReadFile(name + ".out"))
		if base == "" {
			continue
		}
		ts.Setenv(name, base)
		if strings.Contains(ts.ReadFile(name+".out"), "FOR READING ONLY") {
			return
		}
		resp, err := http.Get(base + "/readyz")
		if err != nil {
			continue
		}
		ts.Check(resp.Body.Close())
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// small-disk DIR MB: mounts a disk of that size on DIR. It needs root, or sudo
// without a password.
func smallDisk(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	mount := func(args ...string) error {
		if os.Getuid() != 0 {
			args = append([]string{"sudo", "-n"}, args...)
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	ts.Check(mount("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%sm,mode=0700,uid=%d", args[1], os.Getuid()), "tmpfs", dir))
	ts.Defer(func() {
		if err := mount("umount", "-l", dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
}

// fill FILE LEAVE: makes FILE as large as the disk allows but for LEAVE bytes.
func fill(ts *testscript.TestScript, _ bool, args []string) {
	leave, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	block := make([]byte, 4096)
	size := int64(0)
	for {
		n, err := f.Write(block)
		size += int64(n)
		if err != nil {
			break // full, as it should be
		}
	}
	ts.Check(f.Truncate(max(size-leave, 0)))
}

// await NAME STATUS PATH [TOKENFILE]: asks until it gets STATUS.
func await(ts *testscript.TestScript, _ bool, args []string) {
	token := ""
	if len(args) > 3 {
		token = strings.TrimSpace(ts.ReadFile(args[3]))
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		req, err := http.NewRequest(http.MethodGet, ts.Getenv(args[0])+args[2], nil)
		ts.Check(err)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		ts.Check(err)
		ts.Check(resp.Body.Close())
		if strconv.Itoa(resp.StatusCode) == args[1] {
			return
		}
	}
	ts.Fatalf("%s: %s never answered %s", args[0], args[2], args[1])
}

// soon-intact DIR: verify finds nothing wrong, if not at once, then soon.
func soonIntact(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for ts.Exec("veritrail", "verify", args[0]) != nil {
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not verify", args[0])
		}
	}
}

func process(ts *testscript.TestScript, name string) *exec.Cmd {
	all := ts.Value(started{}).(map[string]*exec.Cmd)
	cmd := all[name]
	if cmd == nil {
		ts.Fatalf("%s is not running", name)
	}
	delete(all, name)
	return cmd
}

// kill-9 NAME: ends it as a crash does.
func killHard(ts *testscript.TestScript, _ bool, args []string) {
	cmd := process(ts, args[0])
	ts.Check(cmd.Process.Kill())
	_ = cmd.Wait() // killed
}

// interrupt NAME: ends it as Ctrl-C does; it must exit with 0.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	cmd := process(ts, args[0])
	ts.Check(sendInterrupt(cmd))
	if err := cmd.Wait(); err != nil {
		ts.Fatalf("after an interrupt: %v\n%s", err, ts.ReadFile(args[0]+".out"))
	}
}

// post NAME STATUS FILE TOKENFILE: posts FILE to /v1/events; the answer is in
// answer.json.
func post(ts *testscript.TestScript, _ bool, args []string) {
	body, err := os.Open(ts.MkAbs(args[2]))
	ts.Check(err)
	defer body.Close()
	request(ts, http.MethodPost, ts.Getenv(args[0])+"/v1/events", args[1], args[3:], body)
}

// get NAME STATUS PATH TOKENFILE: the answer is in answer.json.
func get(ts *testscript.TestScript, _ bool, args []string) {
	request(ts, http.MethodGet, ts.Getenv(args[0])+args[2], args[1], args[3:], nil)
}

func request(ts *testscript.TestScript, method, url, status string, token []string, body io.Reader) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	ts.Check(err)
	if len(token) > 0 {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(token[0])))
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer.json"), answer, 0o600))
	if strconv.Itoa(resp.StatusCode) != status {
		ts.Fatalf("%s %s: got %s, want %s\n%s", method, url, resp.Status, status, answer)
	}
}
