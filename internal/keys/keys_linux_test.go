package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCreatedFilesAreTheirOwnersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	mustCreate(t, dir, origin, both)
	want := map[string]os.FileMode{".": 0o700, ed25519File: 0o600, sm2File: 0o600, vkeysFile: 0o600, lockFile: 0o600}
	for name, mode := range want {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := st.Mode().Perm(); got != mode {
			t.Errorf("%s: got mode %o, want %o", name, got, mode)
		}
	}
}

func TestOpenRefusesPrivateKeysThatOthersMayRead(t *testing.T) {
	for _, name := range []string{ed25519File, sm2File} {
		for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644} {
			t.Run(fmt.Sprintf("%s %o", name, mode), func(t *testing.T) {
				dir := t.TempDir()
				mustCreate(t, dir, origin, both)
				path := filepath.Join(dir, name)
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
				_, err := Open(dir)
				if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "run chmod 600") {
					t.Errorf("got %v, want an error that names %s and says what to do", err, path)
				}
				if _, _, err := ReadVKeys(dir); err != nil {
					t.Errorf("the public half: %v", err)
				}
			})
		}
	}
	dir := t.TempDir()
	mustCreate(t, dir, origin, both)
	for _, name := range []string{ed25519File, sm2File} {
		if err := os.Chmod(filepath.Join(dir, name), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, vkeysFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err != nil {
		t.Errorf("read-only private and readable public files: %v", err)
	}
}

// A pipe in place of a file must not make the reader wait for its other end.
func TestOpenDoesNotWaitForAPipe(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, origin, both)
	remove(t, dir, sm2File)
	if err := syscall.Mkfifo(filepath.Join(dir, sm2File), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "sm2.key: is not a regular file") {
		t.Errorf("got %v", err)
	}
}
