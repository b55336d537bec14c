//go:build !windows

package durable

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rename leaves it to syncDir to make the name durable.
func rename(from, to string, _ bool) error { return os.Rename(from, to) }

func remove(name string) error { return os.Remove(name) }

func mkdir(dir string) error { return os.Mkdir(dir, 0o700) }

func createTemp(dir, pattern string) (*os.File, error) { return os.CreateTemp(dir, pattern) }

func openOrCreate(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}

// Open opens a file for reading that a writer may replace or remove meanwhile:
// what was opened stays readable, and the writer does not notice.
func Open(name string) (*os.File, error) { return os.Open(name) }

func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// FreeBytes is the space a process without privileges may still fill on dir's
// file system.
func FreeBytes(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:unconvert // of other types on other systems
}

// OthersCanRead tells whether anybody but the owner can read name.
func OthersCanRead(name string) (bool, error) {
	st, err := os.Stat(name)
	if err != nil {
		return false, err
	}
	return st.Mode().Perm()&0o077 != 0, nil
}

// RestrictCommand is what a person types to have name for its owner alone.
func RestrictCommand(name string) string {
	mode := "600"
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		mode = "700"
	}
	return "chmod " + mode + " '" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
