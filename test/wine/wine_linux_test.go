package wine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// What runTests makes.
var (
	base    string // where Wine and this system's programs both reach
	windows string // veritrail.exe
	native  string // veritrail
	writer  string // this test, for Windows
)

func runTests(m *testing.M) int {
	code, err := prepare(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/wine:", err)
		return 1
	}
	return code
}

func prepare(m *testing.M) (code int, err error) {
	run := func(env []string, name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	if base, err = run(nil, "./setup", "--where"); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp(filepath.Join(base, "bin"), "programs-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	windows, native, writer = filepath.Join(dir, "veritrail.exe"), filepath.Join(dir, "veritrail"), filepath.Join(dir, "fixed.test.exe")
	for _, build := range []struct {
		env  []string
		args []string
	}{
		{[]string{"GOOS=windows", "CGO_ENABLED=0"}, []string{"build", "-o", windows, "../../cmd/veritrail"}},
		{[]string{"CGO_ENABLED=0"}, []string{"build", "-o", native, "../../cmd/veritrail"}},
		{[]string{"GOOS=windows", "CGO_ENABLED=0"}, []string{"test", "-c", "-o", writer, "."}},
	} {
		if out, err := run(build.env, "go", build.args...); err != nil {
			return 0, fmt.Errorf("go %v: %w: %s", build.args, err, out)
		}
	}
	return m.Run(), nil
}

// workDir is a directory that Wine's user owns.
func workDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("./exec", "--native", "mktemp", "-d", filepath.Join(base, "work", "t-XXXXXXXX")).Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// windowsPath is how Windows programs call a file of this system.
func windowsPath(name string) string { return "Z:" + strings.ReplaceAll(name, "/", `\`) }

// system is where a program runs.
type system struct {
	name string
	path func(string) string
	args []string // of the wrapper, up to the program
}

func linuxSystem() system {
	return system{"linux", func(s string) string { return s }, []string{"./exec", "--native"}}
}

func windowsSystem() system { return system{"windows", windowsPath, []string{"./exec"}} }

// command is veritrail on that system. What it keeps outside of trails lies in
// state; on Windows, in the user's profile, which Wine insists upon.
func (s system) command(ctx context.Context, state string, args ...string) *exec.Cmd {
	all := slices.Clone(s.args)
	if s.name == "windows" {
		all = append(all, windows)
	} else {
		all = append(all, "XDG_STATE_HOME="+state, native)
	}
	all = append(all, args...)
	return exec.CommandContext(ctx, all[0], all[1:]...)
}

func (s system) run(t *testing.T, state, input string, args ...string) (out string, code int) {
	t.Helper()
	cmd := s.command(context.Background(), state, args...) // t.Context() has ended when t cleans up
	cmd.Stdin = strings.NewReader(input)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// files reads every file below dir, by its name in the directory.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	found := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		found[strings.TrimPrefix(name, dir+"/")] = b
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Two trails are written where nothing is left to the machine. The one without
// SM3 must be the same in every byte. An SM2 signature is made with a random
// number and stands in checkpoints, which the segments hold too: of the other
// trail the tiles, the leaves, the roots and the lengths are compared.
func TestSameTrailIsTheSameBytesOnBothSystems(t *testing.T) {
	ours, theirs := filepath.Join(t.TempDir(), "fixed"), filepath.Join(workDir(t), "fixed")
	if err := writeFixedTrails(ours); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "./exec", fixedVariable+"="+windowsPath(theirs), writer)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want, got := files(t, ours), files(t, theirs)
	segments, tiles, checkpoints := 0, 0, 0
	for name, b := range want {
		other, ok := got[name]
		if !ok {
			t.Errorf("%s: Windows did not write it", name)
			continue
		}
		switch {
		case filepath.Base(name) == trail.LockFile:
			continue // names the process that wrote it
		case strings.HasPrefix(name, "sm3/") && (strings.HasSuffix(name, ".seg") || name == "sm3/checkpoint"):
			if len(b)-len(other) > 20 || len(other)-len(b) > 20 { // a signature in DER has no fixed length
				t.Errorf("%s: %d bytes on Linux, %d on Windows", name, len(b), len(other))
			}
			continue
		case strings.HasSuffix(name, ".seg"):
			segments++
		case strings.Contains(name, "tile/"):
			tiles++
		case filepath.Base(name) == trail.CheckpointFile:
			checkpoints++
		}
		if !bytes.Equal(b, other) {
			t.Errorf("%s: %d bytes on Linux, %d on Windows, and not the same", name, len(b), len(other))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s: only Windows wrote it", name)
		}
	}
	if segments < 6 || tiles < 3 || checkpoints != 1 {
		t.Errorf("only %d segments, %d tiles and %d checkpoints were compared", segments, tiles, checkpoints)
	}
	for _, name := range []string{"sha256", "sm3"} {
		compareViews(t, filepath.Join(ours, name), filepath.Join(theirs, name))
	}
}

func compareViews(t *testing.T, ours, theirs string) {
	t.Helper()
	var views [2]*trail.View
	for i, dir := range []string{ours, theirs} {
		v, tail, err := trail.OpenView(dir)
		if err != nil || tail.Err != nil || tail.Size > 0 {
			t.Fatalf("%s: %v, %+v", dir, err, tail)
		}
		defer v.Close() //nolint:gocritic // two of them
		views[i] = v
	}
	if a, b := views[0].Size(), views[1].Size(); a != b || a != 1400 {
		t.Fatalf("%d leaves on Linux, %d on Windows, want 1400", a, b)
	}
	for _, d := range []suite.Digest{suite.SHA256, suite.SM3} {
		a, has := views[0].Root(d)
		b, hasToo := views[1].Root(d)
		if has != hasToo || a != b {
			t.Errorf("%v: root %x on Linux, %x on Windows", d, a, b)
		}
	}
	for first := uint64(0); first < views[0].Size(); first += 256 {
		n := int(min(256, views[0].Size()-first))
		a, err := views[0].Leaves().Read(first, n)
		if err != nil {
			t.Fatal(err)
		}
		b, err := views[1].Leaves().Read(first, n)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(a, b, bytes.Equal) {
			t.Errorf("leaves from %d on differ", first)
		}
	}
}

const someEvents = `{"sub":{"user":"10086"},"act":"AUTH.LOGIN.FAIL","ctx":{"ip":"192.0.2.7"}}
{"sub":{"user":"用户"},"act":"DATA.ACCOUNT.READ","obj":{"table":"账户"}}
{"sub":{"user":"u3"},"act":"CONFIG.LIMIT.CHANGE","obj":{"path":"C:\\数据"}}
`

// A trail goes from one system to the other and back, is added to on each, and
// a change is found by the one that did not write it.
func TestTrailsCrossOver(t *testing.T) {
	for _, order := range [][2]system{{linuxSystem(), windowsSystem()}, {windowsSystem(), linuxSystem()}} {
		first, second := order[0], order[1]
		t.Run("from "+first.name, func(t *testing.T) {
			dir := workDir(t)
			state, data := filepath.Join(dir, "state"), filepath.Join(dir, "审计 数据", "trail")
			for _, s := range []system{first, second, first} {
				if out, code := s.run(t, state, someEvents, "record", "--data", s.path(data), "--sm3"); code != 0 {
					t.Fatalf("record on %s: exit code %d: %s", s.name, code, out)
				}
				// Access lists do not travel. Whoever copies a trail from Windows to Linux restricts it there.
				if out, err := exec.Command("./exec", "--native", "chmod", "-R", "go=", dir).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				for _, reader := range []system{first, second} {
					out, code := reader.run(t, state, "", "verify", reader.path(data))
					// Each system keeps the checkpoints of what it wrote.
					if code != 0 || !strings.HasPrefix(out, "INTACT: trail") || reader.name == s.name && !strings.Contains(out, "agrees") {
						t.Fatalf("written on %s, verified on %s: exit code %d: %s", s.name, reader.name, code, out)
					}
				}
			}
			out, code := second.run(t, state, "", "search", "--data", second.path(data), "--where", "sub.user=用户", "--json")
			if code != 0 || strings.Count(out, `"用户"`) != 3 {
				t.Errorf("search on %s: exit code %d: %s", second.name, code, out)
			}
			archive := filepath.Join(dir, "案例.zip")
			if out, code := first.run(t, state, "", "export", "--data", first.path(data), "--where", "act=*", "-o", first.path(archive)); code != 0 {
				t.Fatalf("export on %s: exit code %d: %s", first.name, code, out)
			}
			if out, code := second.run(t, state, "", "verify", second.path(archive)); code != 0 || !strings.HasPrefix(out, "INTACT: case") {
				t.Errorf("case verified on %s: exit code %d: %s", second.name, code, out)
			}
			segments, err := filepath.Glob(filepath.Join(data, "segments", "*.seg"))
			if err != nil || len(segments) == 0 {
				t.Fatalf("segments: %v, %v", segments, err)
			}
			b, err := os.ReadFile(segments[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(segments[0], bytes.Replace(b, []byte("10086"), []byte("10087"), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, reader := range []system{first, second} {
				if out, code := reader.run(t, state, "", "verify", reader.path(data)); code != 1 || !strings.Contains(out, "leaf-changed") {
					t.Errorf("a changed leaf, verified on %s: exit code %d: %s", reader.name, code, out)
				}
			}
		})
	}
}

// Seen from outside of Wine, what Windows made is for its owner alone, in a
// directory that everybody reads. Wine keeps of an access list what Unix modes
// can say, and gives the owner's group, which is his alone here, what it gives
// the owner.
func TestFilesOfWindowsAreTheirOwnersAlone(t *testing.T) {
	dir := workDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := windowsSystem()
	if out, code := s.run(t, filepath.Join(dir, "state"), someEvents, "record", "--data", s.path(filepath.Join(dir, "t")), "--sm3"); code != 0 {
		t.Fatalf("exit code %d: %s", code, out)
	}
	seen := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		seen++
		if info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%s: mode %v", strings.TrimPrefix(name, dir), info.Mode())
		}
		return nil
	})
	if err != nil || seen < 10 {
		t.Errorf("%d files seen, %v", seen, err)
	}
	// A key that others can read is refused, with a command that mends it.
	key := filepath.Join(dir, "t", "keys", "ed25519.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	out, code := s.run(t, filepath.Join(dir, "state"), someEvents, "record", "--data", s.path(filepath.Join(dir, "t")))
	if code == 0 || !strings.Contains(out, "other users may read this private key") || !strings.Contains(out, "icacls") {
		t.Errorf("exit code %d: %s", code, out)
	}
}

// The service manager installs, starts, stops and removes the service. What was
// recorded is sealed by the stop.
func TestServiceOfWindows(t *testing.T) {
	dir := workDir(t)
	state, data := filepath.Join(dir, "state"), filepath.Join(dir, "服务 数据", "trail")
	s := windowsSystem()
	name := fmt.Sprintf("veritrail-test-%d", os.Getpid())
	service := func(wantCode int, verb string, args ...string) string {
		t.Helper()
		out, code := s.run(t, state, "", append([]string{"service", verb, "--name", name}, args...)...)
		if code != wantCode {
			log, _ := os.ReadFile(filepath.Join(filepath.Dir(data), "service.log"))
			t.Fatalf("service %s: exit code %d, want %d: %s\nlog: %s", verb, code, wantCode, out, log)
		}
		return out
	}
	t.Cleanup(func() { s.run(t, state, "", "service", "remove", "--name", name) }) // it may be removed already
	if out := service(1, "status"); !strings.Contains(out, "not installed") {
		t.Errorf("before: %s", out)
	}
	service(2, "start")
	plan := service(0, "install", "--data", s.path(data), "--listen", "127.0.0.1:0", "--dry-run")
	if !strings.Contains(plan, `"`+s.path(data)+`"`) {
		t.Errorf("plan: %s", plan)
	}
	service(1, "status")
	service(0, "install", "--data", s.path(data), "--listen", "127.0.0.1:0")
	if out := service(2, "install", "--data", s.path(data)); !strings.Contains(out, "already installed") {
		t.Errorf("a second time: %s", out)
	}
	if out := service(1, "status"); !strings.Contains(out, "stopped") {
		t.Errorf("installed: %s", out)
	}
	for round := range 2 {
		service(0, "start")
		service(0, "start") // it runs: no error
		var st struct {
			State string `json:"state"`
			PID   int    `json:"pid"`
		}
		if err := json.Unmarshal([]byte(service(0, "status", "--json")), &st); err != nil || st.State != "running" || st.PID == 0 {
			t.Errorf("running: %+v, %v", st, err)
		}
		log := filepath.Join(filepath.Dir(data), "service.log")
		url := lastAddress(t, log)
		if status, _ := request(t, http.MethodGet, url+"/readyz", "", ""); status != http.StatusOK {
			t.Errorf("/readyz: %d", status)
		}
		token, err := os.ReadFile(filepath.Join(data, "token"))
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"sub":{"user":"round-%d"},"act":"AUTH.LOGIN.OK"}`, round)
		if status, answer := request(t, http.MethodPost, url+"/v1/events", strings.TrimSpace(string(token)), body); status != http.StatusCreated {
			t.Errorf("recording: %d: %s", status, answer)
		}
		service(0, "stop")
		service(0, "stop") // it is stopped: no error
		if out := service(1, "status"); !strings.Contains(out, "stopped") {
			t.Errorf("stopped: %s", out)
		}
		// Closed means sealed: nothing is behind the last checkpoint.
		linux := linuxSystem()
		out, code := linux.run(t, state, "", "verify", data, "--json")
		var verdict struct {
			Size   int `json:"size"`
			Sealed int `json:"sealed"`
		}
		if err := json.Unmarshal([]byte(out), &verdict); code != 0 || err != nil || verdict.Size == 0 || verdict.Sealed != verdict.Size {
			t.Errorf("after the stop: exit code %d, %v: %s", code, err, out)
		}
		out, _ = linux.run(t, state, "", "search", "--data", data, "--where", "act=TRAIL.STOP", "--json")
		if got := strings.Count(out, "TRAIL.STOP"); got != round+1 {
			t.Errorf("%d stops are on record, want %d: %s", got, round+1, out)
		}
	}
	service(0, "remove")
	if out := service(1, "status"); !strings.Contains(out, "not installed") {
		t.Errorf("removed: %s", out)
	}
	if _, err := os.Stat(filepath.Join(data, "trail.json")); err != nil {
		t.Errorf("removing the service took the trail: %v", err)
	}
}

// A service that cannot serve says so, and does not count as running.
func TestServiceOfWindowsThatFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := workDir(t)
	state, data := filepath.Join(dir, "state"), filepath.Join(dir, "d", "trail")
	s := windowsSystem()
	name := fmt.Sprintf("veritrail-fails-%d", os.Getpid())
	t.Cleanup(func() { s.run(t, state, "", "service", "remove", "--name", name) }) // it may be removed already
	if out, code := s.run(t, state, "", "service", "install", "--name", name, "--data", s.path(data), "--listen", taken.Addr().String()); code != 0 {
		t.Fatalf("install: exit code %d: %s", code, out)
	}
	if out, code := s.run(t, state, "", "service", "start", "--name", name); code != 3 {
		t.Errorf("start: exit code %d, want 3: %s", code, out)
	}
	if out, code := s.run(t, state, "", "service", "status", "--name", name); code != 1 {
		t.Errorf("status: exit code %d, want 1: %s", code, out)
	}
	log, err := os.ReadFile(filepath.Join(dir, "d", "service.log"))
	if err != nil || !strings.Contains(string(log), "choose another address") {
		t.Errorf("its log: %v: %s", err, log)
	}
	if out, code := s.run(t, state, "", "service", "remove", "--name", name); code != 0 {
		t.Errorf("remove: exit code %d: %s", code, out)
	}
}

var address = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

func lastAddress(t *testing.T, log string) string {
	t.Helper()
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if a := address.FindString(lines.Text()); a != "" {
			found = a
		}
	}
	if found == "" {
		t.Fatalf("%s names no address", log)
	}
	return found
}

func request(t *testing.T, method, url, token, body string) (status int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
