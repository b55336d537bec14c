package e2e

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnitRunsAndNotifies does what systemd does with the unit that install
// would write: it runs its command, waits for READY=1, and sends SIGTERM.
func TestUnitRunsAndNotifies(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "trail")
	state := "XDG_STATE_HOME=" + dir
	install := exec.CommandContext(t.Context(), program, "service", "install", "--user", "--data", data, "--listen", "127.0.0.1:0", "--dry-run")
	install.Env = append(os.Environ(), state, "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))
	plan, err := install.Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "config")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run wrote something: %v", err)
	}
	_, rest, ok := strings.Cut(string(plan), "\nExecStart=")
	line, _, _ := strings.Cut(rest, "\n")
	words := strings.Fields(line) // no word here needs quotes
	if !ok || words[0] != program {
		t.Fatalf("no command of ours in %s", plan)
	}

	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	hear := func() string {
		t.Helper()
		buf := make([]byte, 4096)
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(buf[:n]), "\n")
		return first
	}
	var said bytes.Buffer
	service := exec.Command(words[0], words[1:]...)
	service.Env = append(os.Environ(), state, "NOTIFY_SOCKET="+socket.LocalAddr().String())
	service.Stderr = &said
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Process.Kill() }() // unless it has ended
	if got := hear(); got != "READY=1" {
		t.Fatalf("got %q, want READY=1", got)
	}
	token, err := os.ReadFile(filepath.Join(data, "token")) // it is there once it is ready
	if err != nil || len(token) == 0 {
		t.Errorf("token: %v", err)
	}
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := hear(); got != "STOPPING=1" {
		t.Errorf("got %q, want STOPPING=1", got)
	}
	if err := service.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v\n%s", err, said.String())
	}
	url := address.FindString(said.String())
	if resp, err := http.Get(url + "/readyz"); err == nil {
		resp.Body.Close()
		t.Errorf("%s still answers", url)
	}
	search := exec.CommandContext(t.Context(), program, "search", "--data", data, "--where", "act=TRAIL.STOP")
	search.Env = append(os.Environ(), state)
	if out, err := search.CombinedOutput(); err != nil || !strings.Contains(string(out), "✓") {
		t.Errorf("its stop is not sealed: %v\n%s", err, out)
	}
}
