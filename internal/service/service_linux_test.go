package service

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func absolute(parts ...string) string { return "/" + filepath.Join(parts...) }

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

var examples = map[string]Config{
	"system": {
		Name: "veritrail", Description: "Veritrail: a verifiable audit trail", Exe: "/usr/bin/true",
		Args: []string{"service", "run", "--name", "veritrail", "--data", "/var/lib/veritrail/trail"}, DataDir: "/var/lib/veritrail/trail",
	},
	"elsewhere": {
		Name: "bank-trail", Description: "100% of $HOME", Exe: "/usr/bin/true", Account: "daemon", StopTimeout: 5 * time.Minute,
		Args:    []string{"--data", `/srv/审计 data/100%/"x" \ $HOME`, "--listen", "127.0.0.1:0", ""},
		DataDir: `/srv/审计 data/100%/"x" \ $HOME`,
	},
	"user": {
		Name: "veritrail", PerUser: true, Description: "Veritrail", Exe: "/usr/bin/true",
		Args: []string{"service", "run", "--data", "/srv/u/trail"}, DataDir: "/srv/u/trail",
	},
}

func TestUnitsAreTheDocumentedOnes(t *testing.T) {
	for name, cfg := range examples {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.unit()
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name+".service")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
		}
	}
}

// systemd itself reads the units, and finds nothing to say about them.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("systemd-analyze of the package systemd is needed: %v", err)
	}
	for name, cfg := range examples {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.system.unitDir = t.TempDir()
		unit, err := s.unit()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.unitPath(), []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		args := []string{"verify", "--man=no", "--recursive-errors=no", s.unitPath()}
		if cfg.PerUser {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir()) // that of a user manager, which need not run
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s\n%s", name, err, out, unit)
		}
	}
	// A unit with a fault does not pass: the check checks.
	bad := filepath.Join(t.TempDir(), "bad.service")
	if err := os.WriteFile(bad, []byte("[Service]\nType=notify\nExecStart=relative words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", bad).CombinedOutput(); err == nil {
		t.Errorf("a bad unit passed: %s", out)
	}
}

func TestDataOutsideTheStateDirectoryNeedsAnAccount(t *testing.T) {
	cfg := examples["system"]
	for dir, ok := range map[string]bool{
		"/var/lib/veritrail": true, "/var/lib/veritrail/a/b": true, "/var/lib/veritrail2": false, "/srv/x": false, "/var/lib": false,
	} {
		cfg.DataDir = dir
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Plan(); (err == nil) != ok {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// fakeSystemctl keeps what it was asked.
type fakeSystemctl struct {
	asked []string
	fails string // the verb that fails
	says  string
}

func (f *fakeSystemctl) run(_ context.Context, args ...string) ([]byte, error) {
	line := strings.Join(args, " ")
	f.asked = append(f.asked, line)
	if f.fails != "" && strings.Contains(line, f.fails) {
		return nil, errors.New("it says no")
	}
	return []byte(f.says), nil
}

func installed(t *testing.T, cfg Config) (*Service, *fakeSystemctl) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeSystemctl{}
	s.system.unitDir, s.system.systemctl = filepath.Join(t.TempDir(), "units"), f.run
	return s, f
}

func TestLifeOfAUnit(t *testing.T) {
	ctx := t.Context()
	s, ctl := installed(t, examples["user"])
	for what, do := range map[string]func(context.Context) error{"start": s.Start, "stop": s.Stop, "remove": s.Remove} {
		if err := do(ctx); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("%s before: got %v, want ErrNotInstalled", what, err)
		}
	}
	if st, err := s.Status(ctx); err != nil || st.State != NotInstalled {
		t.Errorf("before: %+v, %v", st, err)
	}
	if len(ctl.asked) > 0 {
		t.Errorf("systemctl was asked %q of a unit that is not there", ctl.asked)
	}
	if err := s.Install(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(ctx); !errors.Is(err, ErrInstalled) {
		t.Errorf("a second time: got %v, want ErrInstalled", err)
	}
	st, err := os.Stat(s.unitPath())
	if err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("unit: %v, %v", st, err)
	}
	if entries, err := os.ReadDir(s.system.unitDir); err != nil || len(entries) != 1 {
		t.Errorf("left beside the unit: %v, %v", entries, err)
	}
	ctl.says = "ActiveState=active\nMainPID=42\nResult=success\nStatusText=serving\n"
	if got, err := s.Status(ctx); err != nil || got != (Status{Running, 42, "serving"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := errors.Join(s.Start(ctx), s.Stop(ctx), s.Remove(ctx)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.unitPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed: %v", err)
	}
	want := []string{
		"--user daemon-reload", "--user enable veritrail.service",
		"--user show --property=ActiveState,MainPID,Result,StatusText veritrail.service",
		"--user start veritrail.service", "--user stop veritrail.service",
		"--user disable --now veritrail.service", "--user daemon-reload",
	}
	if got := strings.Join(ctl.asked, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("systemctl was asked\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestUnitThatCouldNotBeStoppedIsNotRemoved(t *testing.T) {
	s, ctl := installed(t, examples["system"])
	if err := s.Install(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctl.fails = "disable"
	if err := s.Remove(t.Context()); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(s.unitPath()); err != nil {
		t.Errorf("its unit: %v", err)
	}
}

func TestStatusOfSystemd(t *testing.T) {
	for text, want := range map[string]Status{
		"ActiveState=inactive\nMainPID=0\nResult=success\nStatusText=\n":          {State: Stopped},
		"ActiveState=activating\nMainPID=7\nResult=success\nStatusText=\n":        {State: Starting, PID: 7},
		"ActiveState=deactivating\nMainPID=7\nResult=success\nStatusText=x\n":     {State: Stopping, PID: 7, Note: "x"},
		"ActiveState=failed\nMainPID=0\nResult=exit-code\nStatusText=serving\n":   {State: Failed, Note: "exit-code"},
		"Unknown=1\nActiveState=active\nMainPID=1\nResult=success\nStatusText=\n": {State: Running, PID: 1},
	} {
		if got, err := parseShow(text); err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "MainPID=1\n", "ActiveState=odd\n", "ActiveState=active\nMainPID=x\n"} {
		if got, err := parseShow(text); err == nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

func TestSystemdHearsWhenItIsReadyAndWhenItStops(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), fmt.Sprintf("@veritrail-test-%d", os.Getpid())} {
		socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close() //nolint:gocritic // two of them
		if err := socket.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		hear := func() string {
			buf := make([]byte, 1024)
			n, err := socket.Read(buf)
			if err != nil {
				t.Error(err)
			}
			return string(buf[:n])
		}
		ctx, stop := context.WithCancel(t.Context())
		serving := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			ended <- Run(ctx, RunConfig{NotifySocket: name}, func(ctx context.Context, ready func()) error {
				ready()
				close(serving)
				<-ctx.Done()
				return nil
			})
		}()
		<-serving
		if got := hear(); !strings.HasPrefix(got, "READY=1\n") {
			t.Errorf("got %q, want READY=1", got)
		}
		stop()
		if got := hear(); !strings.HasPrefix(got, "STOPPING=1\n") {
			t.Errorf("got %q, want STOPPING=1", got)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestRunReturnsWhatServeDoes(t *testing.T) {
	broken := errors.New("broken")
	if err := Run(t.Context(), RunConfig{}, func(context.Context, func()) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if err := Run(t.Context(), RunConfig{}, func(_ context.Context, ready func()) error { ready(); return nil }); err != nil {
		t.Errorf("with nobody to tell: %v", err)
	}
	// systemd waits for word that never comes: that is not left to its time-out.
	err := Run(t.Context(), RunConfig{NotifySocket: filepath.Join(t.TempDir(), "none")}, func(context.Context, func()) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "notify socket") {
		t.Errorf("with nobody at the socket: got %v", err)
	}
}
