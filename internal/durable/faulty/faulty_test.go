package faulty

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/veritrail/veritrail/internal/durable"
)

// step is one thing done to a disk, and how to see whether it took effect.
type step struct {
	op   Op
	do   func(d durable.FS, dir string) error
	took func(dir string) bool
	// half is what a torn step leaves, when that is not nothing.
	half func(dir string) bool
}

func content(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "file"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// onFile opens the file by a disk whose first step passes.
func onFile(do func(f durable.File) error) func(durable.FS, string) error {
	return func(d durable.FS, dir string) error {
		f, err := d.OpenFile(filepath.Join(dir, "file"))
		if err != nil {
			return fmt.Errorf("opening: %v", err)
		}
		return errors.Join(do(f), f.Close())
	}
}

var steps = []step{
	{op: "mkdir", do: func(d durable.FS, dir string) error { return d.MkdirAll(filepath.Join(dir, "new")) },
		took: func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "new")); return err == nil }},
	{op: "writefile", do: func(d durable.FS, dir string) error { return d.WriteFile(filepath.Join(dir, "file"), []byte("new")) },
		took: func(dir string) bool { return content(dir) == "new" }},
	{op: "writelazy", do: func(d durable.FS, dir string) error {
		return d.WriteFileLazy(filepath.Join(dir, "file"), []byte("new"))
	},
		took: func(dir string) bool { return content(dir) == "new" }},
	{op: "remove", do: func(d durable.FS, dir string) error { return d.Remove(filepath.Join(dir, "file")) },
		took: func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, "file"))
			return errors.Is(err, fs.ErrNotExist)
		}},
	{op: "write", do: onFile(func(f durable.File) error { _, err := f.WriteAt([]byte("abcd"), 2); return err }),
		took: func(dir string) bool { return content(dir) == "olabcd" },
		half: func(dir string) bool { return content(dir) == "olab" }},
	{op: "truncate", do: onFile(func(f durable.File) error { return f.Truncate(1) }),
		took: func(dir string) bool { return content(dir) == "o" }},
	{op: "sync", do: onFile(func(f durable.File) error { return f.Sync() })},
	{op: "open", do: func(d durable.FS, dir string) error {
		f, err := d.OpenFile(filepath.Join(dir, "file"))
		if err != nil {
			if f != nil {
				return errors.New("a file beside an error")
			}
			return err
		}
		return f.Close()
	}},
	{op: "syncfile", do: func(d durable.FS, dir string) error { return d.SyncFile(filepath.Join(dir, "file")) }},
	{op: "syncdir", do: func(d durable.FS, dir string) error { return d.SyncDir(dir) }},
}

func TestEveryStepFailsAsTold(t *testing.T) {
	for _, noSync := range []bool{false, true} {
		for _, s := range steps {
			for _, fault := range []Fault{Pass, Before, After, Torn} {
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
				seen := false
				d := &FS{FS: durable.OS, NoSync: noSync, Decide: func(_ int, op Op, name string) Fault {
					if op != s.op {
						return Pass
					}
					if seen = true; !filepath.IsAbs(name) {
						t.Errorf("%s of %q", op, name)
					}
					return fault
				}}
				err := s.do(d, dir)
				if !seen {
					t.Errorf("%s: Decide was not asked", s.op)
				}
				if (err != nil) != (fault != Pass) || err != nil && !errors.Is(err, ErrInjected) {
					t.Errorf("%s, fault %d: got %v", s.op, fault, err)
				}
				if s.took == nil {
					continue
				}
				if got, want := s.took(dir), fault == Pass || fault == After; got != want {
					t.Errorf("%s, fault %d: took effect: %v, want %v (%q)", s.op, fault, got, want, content(dir))
				}
				if fault == Torn && s.half != nil && !s.half(dir) {
					t.Errorf("%s torn: file holds %q", s.op, content(dir))
				}
			}
		}
	}
}

func TestStepsAreCountedAndErrorsChosen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	full := errors.New("no space left")
	var asked []string
	d := &FS{FS: durable.OS, Err: full, Decide: func(n int, op Op, _ string) Fault {
		asked = append(asked, fmt.Sprintf("%d %s", n, op))
		if n == 3 {
			return Before
		}
		return Pass
	}}
	if err := d.WriteFile(name, []byte("x")); err != nil {
		t.Fatal(err)
	}
	f, err := d.OpenFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if n, err := f.WriteAt([]byte("yy"), 1); n != 0 || !errors.Is(err, full) || errors.Is(err, ErrInjected) {
		t.Errorf("the fourth step: %d, %v; want the error that was chosen", n, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "[0 writefile 1 open 2 sync 3 write]"; fmt.Sprint(asked) != want || d.Steps() != 4 {
		t.Errorf("asked %v, %d steps; want %s", asked, d.Steps(), want)
	}
}

func TestErrorsOfTheDiskItselfPassThrough(t *testing.T) {
	for _, fault := range []Fault{Pass, After} {
		d := &FS{FS: durable.OS, Decide: func(int, Op, string) Fault { return fault }}
		if _, err := d.OpenFile(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("fault %d: got %v", fault, err)
		}
	}
}
