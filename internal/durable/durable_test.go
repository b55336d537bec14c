package durable

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := WriteFile(name, data); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// A reader that opens the name at any moment sees one of the contents whole.
// The readers pause: Wine, like Windows of old, replaces no file that anybody
// has open, so that readers without end would keep the writer out.
func TestReplacedFileIsNeverSeenInPart(t *testing.T) {
	for what, replace := range map[string]func(string, []byte) error{"WriteFile": OS.WriteFile, "WriteFileLazy": OS.WriteFileLazy} {
		name := filepath.Join(t.TempDir(), "checkpoint")
		contents := [][]byte{bytes.Repeat([]byte("a"), 70_000), bytes.Repeat([]byte("b"), 10), bytes.Repeat([]byte("c"), 300_000)}
		write(t, name, contents[0])
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					b, err := ReadFile(name)
					if err != nil {
						t.Errorf("%s: %v", what, err)
						return
					}
					if !bytes.Equal(b, contents[0]) && !bytes.Equal(b, contents[1]) && !bytes.Equal(b, contents[2]) {
						t.Errorf("%s: read %d bytes, which nobody wrote", what, len(b))
						return
					}
					select {
					case <-stop:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
		}
		for i := range 60 {
			if err := replace(name, contents[i%3]); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		close(stop)
		wg.Wait()
		if got := names(t, filepath.Dir(name)); len(got) != 1 {
			t.Errorf("%s leaves %q behind", what, got)
		}
	}
}

func TestFailedReplacementLeavesTheOldFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(name, "child"), 0o700); err != nil { // a directory can't be replaced by a file
		t.Fatal(err)
	}
	for what, replace := range map[string]func(string, []byte) error{"WriteFile": OS.WriteFile, "WriteFileLazy": OS.WriteFileLazy} {
		if err := replace(name, []byte("x")); err == nil {
			t.Errorf("%s replaced a directory", what)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("%s leaves %q behind", what, got)
		}
		if err := replace(filepath.Join(dir, "missing", "file"), nil); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in a missing directory: got %v", what, err)
		}
	}
}

func TestMkdirAllMakesWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(deep); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(deep); err != nil || !st.IsDir() {
		t.Fatalf("%v", err)
	}
	if err := MkdirAll(filepath.Join(deep, "..", "d") + string(filepath.Separator)); err != nil {
		t.Error(err)
	}
	file := filepath.Join(root, "file")
	write(t, file, nil)
	for _, dir := range []string{file, filepath.Join(file, "below"), filepath.Join(file, "far", "below")} {
		if err := MkdirAll(dir); err == nil {
			t.Errorf("%s: made below a file", dir)
		}
	}
}

func TestMkdirAllTogether(t *testing.T) {
	deep := filepath.Join(t.TempDir(), "a", "b", "c", "d")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := MkdirAll(deep); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestFileReadsBackWhatWasWritten(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if _, err := OS.OpenFile(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	write(t, name, []byte("0123456789"))
	f, err := OS.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("abc"), 8); err != nil {
		t.Fatal(err)
	}
	check := func(want string) {
		t.Helper()
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil || size != int64(len(want)) {
			t.Fatalf("size %d, %v; want %d", size, err, len(want))
		}
		got := make([]byte, size)
		if _, err := f.ReadAt(got, 0); err != nil || string(got) != want {
			t.Fatalf("got %q, %v; want %q", got, err, want)
		}
	}
	check("01234567abc")
	if err := f.Truncate(4); err != nil {
		t.Fatal(err)
	}
	check("0123")
	if err := f.Truncate(6); err != nil {
		t.Fatal(err)
	}
	check("0123\x00\x00")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err == nil {
		t.Error("a closed file syncs")
	}
	if err := errors.Join(OS.SyncFile(name), OS.SyncDir(filepath.Dir(name)), OS.Remove(name), OS.Remove(name)); err != nil {
		t.Error(err)
	}
	if err := OS.SyncFile(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("syncing a missing file: got %v", err)
	}
}

func TestFreeBytes(t *testing.T) {
	if n, err := FreeBytes(t.TempDir()); err != nil || n == 0 {
		t.Errorf("got %d, %v", n, err)
	}
	if _, err := FreeBytes(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing directory has free space")
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	if _, _, err := LockOwner(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v", err)
	}
	// A longer line of an earlier holder must not show through.
	write(t, name, []byte(strings.Repeat("pid 1 on a host with a long name\n", 20)))
	l, err := AcquireLock(name)
	if err != nil {
		t.Fatal(err)
	}
	owner, held, err := LockOwner(name)
	if err != nil || !held || !strings.HasPrefix(owner, "pid ") || strings.Contains(owner, "\n") {
		t.Errorf("got %q, %v, %v", owner, held, err)
	}
	if _, err := AcquireLock(name); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), owner) {
		t.Errorf("a second time: got %v, want ErrLocked and %s", err, owner)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if _, held, err := LockOwner(name); held || err != nil {
		t.Errorf("after Release: held %v, %v", held, err)
	}
	if l, err = AcquireLock(name); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}
