package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *clock { return &clock{at: time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)} }

// disk hands out files that can be made to fail.
type disk struct {
	room    int // bytes that can still be written; -1: any number
	noOpen  error
	noTrunc error
}

type diskFile struct {
	*os.File
	disk *disk
}

func (d *disk) open(name string) (output, error) {
	if d.noOpen != nil {
		return nil, d.noOpen
	}
	f, err := openAppend(name)
	if err != nil {
		return nil, err
	}
	return diskFile{f, d}, nil
}

var errFull = errors.New("no space left on device")

func (f diskFile) Write(p []byte) (int, error) {
	if f.disk.room < 0 || len(p) <= f.disk.room {
		if f.disk.room > 0 {
			f.disk.room -= len(p)
		}
		return f.File.Write(p)
	}
	n, err := f.File.Write(p[:f.disk.room])
	f.disk.room = 0
	return n, errors.Join(err, errFull)
}

func (f diskFile) Truncate(size int64) error {
	if f.disk.noTrunc != nil {
		return f.disk.noTrunc
	}
	return f.File.Truncate(size)
}

func mustOpen(t *testing.T, cfg Config, d *disk) *File {
	t.Helper()
	if d == nil {
		d = &disk{room: -1}
	}
	f, err := open(cfg, d.open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func put(t *testing.T, f *File, line string) {
	t.Helper()
	if n, err := f.Write([]byte(line + "\n")); err != nil || n != len(line)+1 {
		t.Fatalf("wrote %d bytes of %d: %v", n, len(line)+1, err)
	}
}

// all is what the files hold, in the order in which it was written.
func all(t *testing.T, path string) (lines []string, files int) {
	t.Helper()
	names, err := filepath.Glob(path + ".*Z")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range append(names, path) {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		files++
		if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
			t.Errorf("%s ends in the middle of a line", filepath.Base(name))
		}
		lines = append(lines, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
	}
	return lines, files
}

func numbered(n int) (want []string) {
	for i := range n {
		want = append(want, fmt.Sprintf("line %04d", i))
	}
	return want
}

func TestEveryLineIsInExactlyOneFile(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "logs", "up.log"), newClock()
	f := mustOpen(t, Config{Path: path, MaxBytes: 100, MaxFiles: 1000, Now: c.now, Fallback: failing{t}}, nil)
	for _, line := range numbered(500) {
		put(t, f, line) // the clock stands still: names must not collide
	}
	lines, files := all(t, path)
	if !slices.Equal(lines, numbered(500)) {
		t.Errorf("%d lines are not those that were written", len(lines))
	}
	if files != 50 {
		t.Errorf("%d files, want 50 of 10 lines", files)
	}
	names, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() > 100 {
			t.Errorf("%s has %d bytes, want 100 at most", name, st.Size())
		}
		if runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, st.Mode())
		}
	}
	if st := f.Stats(); st.Lines != 500 || st.Rotations != 49 || st.Fallback != 0 || st.Problem != nil {
		t.Errorf("%+v", st)
	}
}

// failing is a fallback that must not be used.
type failing struct{ t *testing.T }

func (w failing) Write(p []byte) (int, error) {
	w.t.Errorf("to the fallback: %s", p)
	return len(p), nil
}

func TestManyWritersSplitNoLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.log")
	f := mustOpen(t, Config{Path: path, MaxBytes: 1000, MaxFiles: 1000, Fallback: failing{t}}, nil)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 100 {
				if _, err := fmt.Fprintf(f, "writer %d line %d\n", w, i); err != nil {
					t.Error(err)
				}
				if i%25 == 0 {
					if err := f.Reopen(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	lines, _ := all(t, path)
	slices.Sort(lines)
	if unique := slices.Compact(lines); len(unique) != 800 {
		t.Errorf("%d different lines, want 800", len(unique))
	}
	for _, line := range lines {
		var w, i int
		if n, err := fmt.Sscanf(line, "writer %d line %d", &w, &i); n != 2 || err != nil {
			t.Errorf("nobody wrote %q", line)
		}
	}
}

func TestALineLargerThanAFileIsKeptWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.log")
	f := mustOpen(t, Config{Path: path, MaxBytes: 20}, nil)
	long := strings.Repeat("x", 100)
	for _, line := range []string{"a", long, "b"} {
		put(t, f, line)
	}
	lines, files := all(t, path)
	if !slices.Equal(lines, []string{"a", long, "b"}) || files != 3 {
		t.Errorf("%d files hold %q", files, lines)
	}
}

func TestEarlierFilesAreBoundedInNumberAndAge(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "up.log"), newClock()
	others := []string{path + ".old", path + ".20260301", path + ".20260301T093000.000000000Z.gz", filepath.Join(filepath.Dir(path), "other.log.20200301T093000.000000000Z")}
	for _, name := range others {
		if err := os.WriteFile(name, []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := mustOpen(t, Config{Path: path, MaxBytes: 10, MaxFiles: 3, MaxAge: time.Hour, Now: c.now}, nil)
	for _, line := range numbered(10) {
		put(t, f, line)
		c.pass(time.Minute)
	}
	if lines, files := all(t, path); files != 4 || !slices.Equal(lines, numbered(10)[6:]) {
		t.Errorf("%d files, with %q", files, lines)
	}
	c.pass(2 * time.Hour)
	put(t, f, "later") // rotates: the three before have grown too old
	if lines, _ := all(t, path); !slices.Equal(lines, []string{"line 0009", "later"}) {
		t.Errorf("got %q", lines)
	}
	for _, name := range others {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("a file of somebody else is gone: %v", err)
		}
	}
}

func TestFullDiskGoesToTheFallbackAndIsSaidAfterwards(t *testing.T) {
	for _, noTrunc := range []error{nil, errors.New("not supported")} {
		path := filepath.Join(t.TempDir(), "up.log")
		d := &disk{room: 25, noTrunc: noTrunc}
		var fallback bytes.Buffer
		f := mustOpen(t, Config{Path: path, Fallback: &fallback, Gap: func(n uint64) []byte {
			return fmt.Appendf(nil, "%d lines are missing\n", n)
		}}, d)
		for _, line := range numbered(5) {
			put(t, f, line)
		}
		if want := "log file: no space left on device: its lines follow here\nline 0002\nline 0003\nline 0004\n"; fallback.String() != want {
			t.Errorf("fallback: got %q, want %q", fallback.String(), want)
		}
		if st := f.Stats(); st.Lines != 2 || st.Fallback != 3 || st.Lost != 0 || !errors.Is(st.Problem, errFull) {
			t.Errorf("%+v", st)
		}
		d.room = -1
		put(t, f, "again")
		lines, _ := all(t, path)
		want := []string{"line 0000", "line 0001", "3 lines are missing", "again"}
		if noTrunc != nil {
			want = []string{"line 0000", "line 0001", "line ", "3 lines are missing", "again"}
		}
		if !slices.Equal(lines, want) {
			t.Errorf("got %q, want %q", lines, want)
		}
		if st := f.Stats(); st.Problem != nil || st.Lines != 3 {
			t.Errorf("%+v", st)
		}
	}
}

// The gap's own line may be the one that does not fit; then it stays missing.
func TestAGapIsNotForgottenBeforeItIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.log")
	d := &disk{room: 0}
	var fallback bytes.Buffer
	f := mustOpen(t, Config{Path: path, Fallback: &fallback, Gap: func(n uint64) []byte { return fmt.Appendf(nil, "gap %d\n", n) }}, d)
	put(t, f, "one")
	d.room = 3 // too little for the gap
	put(t, f, "two")
	d.room = 6 // enough for the gap alone
	put(t, f, "three")
	d.room = -1
	put(t, f, "four")
	lines, _ := all(t, path)
	if want := []string{"gap 2", "gap 1", "four"}; !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
}

type noWriter struct{}

func (noWriter) Write([]byte) (int, error) { return 0, errors.New("closed pipe") }

func TestWhatNobodyTookIsCountedAsLost(t *testing.T) {
	f := mustOpen(t, Config{Path: filepath.Join(t.TempDir(), "up.log"), Fallback: noWriter{}}, &disk{room: 0})
	if _, err := f.Write([]byte("x\n")); err == nil {
		t.Error("no error for a line that is lost")
	}
	if st := f.Stats(); st.Lost != 1 || st.Fallback != 1 {
		t.Errorf("%+v", st)
	}
}

func TestReopenFollowsTheName(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "up.log"), newClock()
	f := mustOpen(t, Config{Path: path, Now: c.now}, nil)
	put(t, f, "first")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "still in the first")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	put(t, f, "second")
	// Without a signal it is noticed as well, a second later.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	c.pass(2 * time.Second)
	put(t, f, "third")
	for name, want := range map[string]string{path + ".1": "first\nstill in the first\n", path + ".2": "second\n", path: "third\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestFileThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "up.log"), newClock()
	d := &disk{room: -1}
	var fallback bytes.Buffer
	f := mustOpen(t, Config{Path: path, Now: c.now, Fallback: &fallback}, d)
	put(t, f, "first")
	d.noOpen = errors.New("permission denied")
	if err := f.Reopen(); err == nil {
		t.Fatal("reopened a file that cannot be opened")
	}
	put(t, f, "second")
	d.noOpen = nil
	c.pass(2 * time.Second)
	put(t, f, "third")
	if lines, _ := all(t, path); !slices.Equal(lines, []string{"first", "third"}) || !strings.Contains(fallback.String(), "second\n") {
		t.Errorf("file %q, fallback %q", lines, fallback.String())
	}
}

func TestTornLineOfACrashEndsBeforeTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "up.log")
	if err := os.WriteFile(path, []byte("whole\nto"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := mustOpen(t, Config{Path: path}, nil)
	put(t, f, "next")
	if lines, _ := all(t, path); !slices.Equal(lines, []string{"whole", "to", "next"}) {
		t.Errorf("got %q", lines)
	}
}

func TestAfterCloseLinesGoToTheFallback(t *testing.T) {
	var fallback bytes.Buffer
	f := mustOpen(t, Config{Path: filepath.Join(t.TempDir(), "up.log"), Fallback: &fallback}, nil)
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	put(t, f, "late")
	if !strings.HasSuffix(fallback.String(), "late\n") {
		t.Errorf("fallback: %q", fallback.String())
	}
	if err := f.Reopen(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("reopened after Close: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	for what, cfg := range map[string]Config{
		"no path":     {},
		"a directory": {Path: dir},
		"bounds":      {Path: filepath.Join(dir, "x"), MaxFiles: -1},
	} {
		if f, err := Open(cfg); err == nil {
			t.Errorf("%s: opened", what)
			f.Close()
		}
	}
}
