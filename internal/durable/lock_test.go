package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// With this set, the test binary takes the lock it names, says so, and holds it
// until it is killed or its input ends.
const lockVariable = "DURABLE_TEST_LOCK"

func TestMain(m *testing.M) {
	if name := os.Getenv(lockVariable); name != "" {
		os.Exit(holdLock(name))
	}
	os.Exit(m.Run())
}

func holdLock(name string) int {
	l, err := AcquireLock(name)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return 1
	}
	if err := l.Release(); err != nil {
		return 1
	}
	return 0
}

// holder starts another process that holds the lock. end closes its input.
func holder(t *testing.T, name string) (cmd *exec.Cmd, end func() error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), lockVariable+"="+name)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "locked\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	return cmd, in.Close
}

func TestLockHoldsAcrossProcesses(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	for _, killed := range []bool{false, true} {
		cmd, end := holder(t, name)
		_, err := AcquireLock(name)
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("while another process holds it: got %v, want ErrLocked", err)
		}
		owner, held, err := LockOwner(name)
		want := fmt.Sprintf("pid %d on ", cmd.Process.Pid)
		if err != nil || !held || len(owner) <= len(want) || owner[:len(want)] != want {
			t.Errorf("got %q, %v, %v; want %s…", owner, held, err, want)
		}
		if killed {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		} else if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); (err != nil) != killed {
			t.Fatalf("killed %v: the other process ended with %v", killed, err)
		}
		l, err := AcquireLock(name)
		if err != nil {
			t.Fatalf("killed %v: afterwards: %v", killed, err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
	}
}
