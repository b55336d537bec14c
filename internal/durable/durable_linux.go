package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData uses fdatasync: it writes the length with the data, and spares the
// journal the time stamps.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
