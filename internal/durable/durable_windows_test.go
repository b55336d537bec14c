package durable

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// setAccess gives a file another access list.
func setAccess(t *testing.T, name, sddl string) {
	t.Helper()
	sd, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		t.Fatal(err)
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		t.Fatal(err)
	}
	err = windows.SetNamedSecurityInfo(name, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// What is made is for its owner alone, even below a directory that everybody
// reads. That the access list arrives at the file is read back; test/wine looks
// at the effect from outside.
func TestAccessIsTheOwnersAlone(t *testing.T) {
	public := t.TempDir()
	setAccess(t, public, "D:P(A;OICI;FA;;;WD)")
	if others, err := OthersCanRead(public); !others || err != nil {
		t.Fatalf("everybody's directory: got %v, %v", others, err)
	}
	dir := filepath.Join(public, "a", "b")
	if err := MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(string, []byte) error{"whole": OS.WriteFile, "lazy": OS.WriteFileLazy} {
		for _, dir := range []string{dir, public} {
			if err := write(filepath.Join(dir, name), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
	}
	l, err := AcquireLock(filepath.Join(public, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", `a\b`, `a\b\whole`, `a\b\lazy`, "whole", "lazy", "lock"} {
		if others, err := OthersCanRead(filepath.Join(public, name)); others || err != nil {
			t.Errorf("%s: others can read: %v, %v", name, others, err)
		}
	}
	// A file that was open to others is not once it was replaced.
	open := filepath.Join(public, "whole")
	setAccess(t, open, "D:P(A;;FA;;;WD)")
	if others, err := OthersCanRead(open); !others || err != nil {
		t.Fatalf("everybody's file: got %v, %v", others, err)
	}
	if err := OS.WriteFile(open, nil); err != nil {
		t.Fatal(err)
	}
	if others, err := OthersCanRead(open); others || err != nil {
		t.Errorf("after it was replaced others can read it: %v, %v", others, err)
	}
	if _, err := OthersCanRead(open + "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
}

func TestAccessListsThatGrantOthers(t *testing.T) {
	user, err := currentUser()
	if err != nil {
		t.Fatal(err)
	}
	me := user.String()
	for sddl, want := range map[string]bool{
		"O:" + me + "D:P(A;;FA;;;" + me + ")(A;;FA;;;SY)(A;;FA;;;BA)": false,
		"O:" + me + "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)":             false, // as this program made directories before
		"O:BAD:P(A;;FA;;;BA)": false,
		"O:" + me + "D:P":     false, // nobody at all
		"O:" + me + "D:P(D;;FA;;;WD)(A;;FA;;;" + me + ")":  false,
		"O:" + me + "D:P(A;;RC;;;WD)(A;;FA;;;" + me + ")":  false, // to see that it is there
		"O:" + me + "D:P(A;;FR;;;WD)":                      true,
		"O:" + me + "D:P(A;;0x1;;;BU)(A;;FA;;;" + me + ")": true, // FILE_READ_DATA
		"O:" + me + "D:P(A;;0x2;;;AU)(A;;FA;;;" + me + ")": true, // FILE_WRITE_DATA
		"O:" + me + "D:P(A;;GR;;;S-1-5-21-1-2-3-1001)":     true,
		"O:" + me: true, // no list: everything to everybody
	} {
		sd, err := windows.SecurityDescriptorFromString(sddl)
		if err != nil {
			t.Errorf("%s: %v", sddl, err)
			continue
		}
		if got, err := grantsOthers(sd); got != want || err != nil {
			t.Errorf("%s: got %v, %v; want %v", sddl, got, err, want)
		}
	}
}

// The list that files are made with says what the package comment says, also
// where the file system keeps less.
func TestOwnerOnlyAccessList(t *testing.T) {
	sa, err := ownerOnly()
	if err != nil {
		t.Fatal(err)
	}
	user, err := currentUser()
	if err != nil {
		t.Fatal(err)
	}
	got := sa.SecurityDescriptor.String()
	want := "D:P(A;OICI;FA;;;" + user.String() + ")(A;OICI;FA;;;SY)"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	system, err := windows.StringToSid("S-1-5-18")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ownerOnlyList(system), "D:P(A;OICI;FA;;;S-1-5-18)(A;OICI;FA;;;BA)"; got != want {
		t.Errorf("of a service: got %s, want %s", got, want)
	}
	control, _, err := sa.SecurityDescriptor.Control()
	if err != nil || control&windows.SE_DACL_PROTECTED == 0 {
		t.Errorf("control %x, %v: not protected from inheritance", control, err)
	}
}

// Whoever has a file open without sharing it is waited for.
func TestReplacingAndRemovingWaitForOthers(t *testing.T) {
	for what, do := range map[string]func(name string) error{
		"WriteFile":     func(name string) error { return OS.WriteFile(name, []byte("new")) },
		"WriteFileLazy": func(name string) error { return OS.WriteFileLazy(name, []byte("new")) },
		"Remove":        OS.Remove,
	} {
		name := filepath.Join(t.TempDir(), "scanned")
		write(t, name, []byte("old"))
		scanner, err := os.Open(name) // shares neither deletion nor renaming
		if err != nil {
			t.Fatal(err)
		}
		if err := windows.DeleteFile(windows.StringToUTF16Ptr(name)); !errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
			t.Fatalf("deleting an open file: got %v: it does not test what it says", err)
		}
		closed := make(chan error, 1)
		time.AfterFunc(100*time.Millisecond, func() { closed <- scanner.Close() })
		if err := do(name); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		select {
		case err := <-closed:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s did not wait", what)
		}
		b, err := os.ReadFile(name)
		if what == "Remove" {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: got %v", what, err)
			}
		} else if err != nil || string(b) != "new" {
			t.Errorf("%s: got %q, %v", what, b, err)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	for _, err := range []error{windows.ERROR_SHARING_VIOLATION, &fs.PathError{Err: windows.ERROR_ACCESS_DENIED}} {
		calls := 0
		got := patiently(20*time.Millisecond, func() error { calls++; return err })
		if !errors.Is(got, err) || calls < 2 {
			t.Errorf("got %v after %d calls", got, calls)
		}
	}
	for _, err := range []error{nil, windows.ERROR_DISK_FULL, fs.ErrNotExist} {
		calls := 0
		got := patiently(time.Hour, func() error { calls++; return err })
		if !errors.Is(got, err) || calls != 1 {
			t.Errorf("%v: got %v after %d calls", err, got, calls)
		}
	}
}

// A reader that came by Open keeps what it opened, and is in nobody's way.
func TestOpenFileCanBeRemovedAndRenamed(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "tile")
	write(t, name, []byte("before"))
	f, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(name, name+".old"); err != nil {
		t.Errorf("renaming it: %v", err)
	}
	write(t, name, []byte("after"))
	if err := OS.Remove(name + ".old"); err != nil {
		t.Errorf("removing it: %v", err)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "before" {
		t.Errorf("the reader got %q, %v", b, err)
	}
	if b, err := ReadFile(name); err != nil || string(b) != "after" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := Open(name + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: got %v", err)
	}
	if _, err := ReadFile(dir); err == nil {
		t.Error("a directory was read as a file")
	}
}

func TestLongPathForms(t *testing.T) {
	deep := strings.Repeat(`\directory`, 30)
	for in, want := range map[string]string{
		`C:\short`:                `C:\short`,
		`short`:                   `short`,
		`C:` + deep:               `\\?\C:` + deep,
		`C:/` + deep[1:]:          `\\?\C:` + deep,
		`C:\x\..` + deep:          `\\?\C:` + deep,
		`\\server\share` + deep:   `\\?\UNC\server\share` + deep,
		`\\?\C:` + deep:           `\\?\C:` + deep,
		`\\?\UNC\server\s` + deep: `\\?\UNC\server\s` + deep,
		`C:` + deep + `\审计 数据`:    `\\?\C:` + deep + `\审计 数据`,
	} {
		if got, err := longPath(in); got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
	relative, err := longPath(deep[1:])
	if err != nil || !strings.HasPrefix(relative, `\\?\`) || !strings.HasSuffix(relative, deep) {
		t.Errorf("a relative one: got %s, %v", relative, err)
	}
}

// Names that Windows of old refused, and names that are not ASCII.
func TestLongAndForeignNames(t *testing.T) {
	for _, below := range []string{
		strings.Repeat(`a directory of forty characters, or so..x\`, 9),
		`审计 数据\跟踪 记录\`,
		strings.Repeat(`审计数据 `, 8) + `x\` + strings.Repeat(`目录\`, 60),
		`emoji 🔏 beyond the basic plane\`,
	} {
		dir := filepath.Join(t.TempDir(), below)
		if err := MkdirAll(dir); err != nil {
			t.Errorf("%s: %v", below, err)
			continue
		}
		name := filepath.Join(dir, "检查点 checkpoint")
		for _, data := range []string{"one", "two"} {
			write(t, name, []byte(data))
			if got, err := ReadFile(name); err != nil || string(got) != data {
				t.Errorf("%s: got %q, %v", below, got, err)
			}
		}
		f, err := OS.OpenFile(name)
		if err != nil {
			t.Errorf("%s: %v", below, err)
			continue
		}
		if err := errors.Join(f.Sync(), f.Close(), OS.SyncFile(name)); err != nil {
			t.Errorf("%s: %v", below, err)
		}
		l, err := AcquireLock(filepath.Join(dir, "lock"))
		if err != nil {
			t.Errorf("%s: %v", below, err)
			continue
		}
		if _, err := FreeBytes(dir); err != nil {
			t.Errorf("%s: %v", below, err)
		}
		if others, err := OthersCanRead(name); others || err != nil {
			t.Errorf("%s: others can read: %v, %v", below, others, err)
		}
		if err := errors.Join(l.Release(), OS.Remove(name)); err != nil {
			t.Errorf("%s: %v", below, err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("%s: left %q", below, got)
		}
	}
}

// A trail in a device would be gone without an error.
func TestReservedNamesAreNoDirectories(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"NUL", "nul", "CON"} {
		dir := filepath.Join(root, name)
		if err := MkdirAll(dir); err == nil {
			if st, serr := os.Lstat(dir); serr != nil || !st.IsDir() {
				t.Errorf("%s: made, and is not there: %v", name, serr)
			}
		}
	}
}

func TestReadFileReadsAnySize(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, size := range []int{0, 1, 511, 512, 513, 100_000} {
		want := bytes.Repeat([]byte("x"), size)
		write(t, name, want)
		if got, err := ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
}
