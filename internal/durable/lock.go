package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// Lock is held until Release, or until the process ends however it ends: the
// operating system lets go of it then, so a crash leaves no stale lock.
type Lock struct{ f *os.File }

// AcquireLock takes the exclusive lock of the file name, making it if need be,
// and writes who holds it into the file, for people. It does not wait: while
// another process holds it the error is ErrLocked and says who.
func AcquireLock(name string) (*Lock, error) {
	f, err := openOrCreate(name)
	if err != nil {
		return nil, err
	}
	if err := lockSoon(f); err != nil {
		owner := readOwner(f)
		if cerr := f.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		return nil, fmt.Errorf("%s: %w (%s)", name, err, owner)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	line := fmt.Sprintf("pid %d on %s\n", os.Getpid(), host)
	if err := errors.Join(f.Truncate(0), writeAll(f, line)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Lock{f}, nil
}

// lockSoon tries more than once: LockOwner takes the lock, too, for an instant.
func lockSoon(f *os.File) error {
	const tries, pause = 5, 10 * time.Millisecond
	retry := time.NewTicker(pause)
	defer retry.Stop()
	for n := 1; ; n++ {
		err := lockFile(f)
		if !errors.Is(err, ErrLocked) || n == tries {
			return err
		}
		<-retry.C
	}
}

// LockOwner is what the holder of the lock wrote about itself, and whether it
// is held now.
func LockOwner(name string) (owner string, held bool, err error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return "", false, err
	}
	err = lockFile(f)
	held = errors.Is(err, ErrLocked)
	if held {
		err = nil
	}
	owner = readOwner(f)
	return owner, held, errors.Join(err, f.Close())
}

// Release gives the lock up.
func (l *Lock) Release() error { return l.f.Close() }

func writeAll(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

func readOwner(f *os.File) string {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 256))
	if err != nil || len(b) == 0 {
		return "owner unknown"
	}
	return strings.TrimSpace(string(b))
}
