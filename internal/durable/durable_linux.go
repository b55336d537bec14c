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

// writePiece is how much of a large write is handed to the disk at a time, and
// pageSize what it ends with: a page that is handed over half filled could be all
// that a loss of power leaves of it.
const (
	writePiece = 512 << 10
	pageSize   = 4096
)

// writeAt tells the kernel to begin with what it has while the rest of a large
// write is still being copied. The sync that follows then waits for less: at
// 2 MiB a quarter. It promises nothing, so what it answers does not matter; a
// write that fails shows in the sync.
func writeAt(f *os.File, p []byte, off int64) (n int, err error) {
	for len(p)-n > writePiece {
		at := off + int64(n)
		size := writePiece - int(at%pageSize)
		m, err := f.WriteAt(p[n:n+size], at)
		if err != nil {
			return n + m, err
		}
		_ = unix.SyncFileRange(int(f.Fd()), at, int64(size), unix.SYNC_FILE_RANGE_WRITE)
		n += m
	}
	m, err := f.WriteAt(p[n:], off+int64(n))
	return n + m, err
}
