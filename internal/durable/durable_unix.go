//go:build !windows

package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func rename(from, to string) error { return os.Rename(from, to) }

func restrictDir(string) error { return nil } // Mkdir's mode did it

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
