package durable

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/windows"
)

func syncData(f *os.File) error { return f.Sync() } // FlushFileBuffers

// syncDir has nothing to do: NTFS journals names with the operation that
// changed them, and a directory handle cannot be flushed without admin rights.
func syncDir(string) error { return nil }

// rename waits a moment for readers: on Windows a file that somebody has open
// can't be replaced.
func rename(from, to string) error {
	const tries, pause = 50, 10 * time.Millisecond
	retry := time.NewTicker(pause)
	defer retry.Stop()
	for n := 1; ; n++ {
		err := os.Rename(from, to)
		busy := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !busy || n == tries {
			return err
		}
		<-retry.C
	}
}

// ownerOnly gives everything to the owner and to the system, to nobody else,
// and lets nothing be inherited from above (P).
const ownerOnly = "D:P(A;OICI;FA;;;OW)(A;OICI;FA;;;SY)"

func restrictDir(dir string) error {
	sd, err := windows.SecurityDescriptorFromString(ownerOnly)
	if err != nil {
		return err
	}
	dacl, _, err := sd.DACL()
	if err != nil {
		return err
	}
	return windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT,
		windows.DACL_SECURITY_INFORMATION|windows.PROTECTED_DACL_SECURITY_INFORMATION, nil, nil, dacl, nil)
}

// lockFile locks one byte far past the content, because on Windows a locked
// range cannot be read by others, and the content names the owner.
func lockFile(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 0x7fffffff}
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// FreeBytes is the space this user may still fill on dir's volume.
func FreeBytes(dir string) (uint64, error) {
	p, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return free, err
}

// OthersCanRead is answered by the directory's access list on Windows, which
// MkdirAll sets; file modes say nothing there.
func OthersCanRead(string) (bool, error) { return false, nil }
