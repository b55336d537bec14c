package durable

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is made is for its owner alone, whatever the umask says.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := OS.WriteFile(filepath.Join(dir, "whole"), nil); err != nil {
		t.Fatal(err)
	}
	if err := OS.WriteFileLazy(filepath.Join(dir, "lazy"), nil); err != nil {
		t.Fatal(err)
	}
	l, err := AcquireLock(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Dir(dir): 0o700,
		filepath.Join(dir, "whole"): 0o600, filepath.Join(dir, "lazy"): 0o600, filepath.Join(dir, "lock"): 0o600,
	} {
		st, err := os.Stat(name)
		if err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", name, st.Mode(), err, want)
		}
		if others, err := OthersCanRead(name); others || err != nil {
			t.Errorf("%s: others can read: %v, %v", name, others, err)
		}
	}
	// A file that was open to others is not once it was replaced.
	open := filepath.Join(dir, "whole")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := OS.WriteFile(open, nil); err != nil {
		t.Fatal(err)
	}
	if others, err := OthersCanRead(open); others || err != nil {
		t.Errorf("after it was replaced others can read it: %v, %v", others, err)
	}
}

func TestOthersCanRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o700: false, 0o640: true, 0o604: true, 0o644: true, 0o620: true} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := OthersCanRead(name); got != want || err != nil {
			t.Errorf("%v: got %v, %v; want %v", mode, got, err, want)
		}
	}
	if _, err := OthersCanRead(name + "x"); err == nil {
		t.Error("a missing file has no mode")
	}
}

func TestLargeWritesArriveWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := WriteFile(name, []byte("head")); err != nil {
		t.Fatal(err)
	}
	f, err := OS.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []byte("head")
	for _, n := range []int{writePiece - 1, writePiece, writePiece + 1, 3*writePiece + 7} {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(i*n) ^ byte(i>>9)
		}
		if got, err := f.WriteAt(p, int64(len(want))); got != n || err != nil {
			t.Fatalf("write of %d: %d, %v", n, got, err)
		}
		want = append(want, p...)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the file differs, %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt(make([]byte, 2*writePiece), 0); n != 0 || err == nil {
		t.Errorf("write to a closed file: %d, %v", n, err)
	}
}
