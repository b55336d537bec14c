package health

import (
	"errors"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

func syncData(f *os.File) error { return f.Sync() } // FlushFileBuffers

var (
	kernel32  = windows.NewLazySystemDLL("kernel32.dll")
	counter   = kernel32.NewProc("QueryPerformanceCounter")
	frequency = kernel32.NewProc("QueryPerformanceFrequency")
)

// stopwatch reads the performance counter: time.Now on Windows goes on by half
// a millisecond or by sixteen, and a sync may take less. Neither call fails on
// any Windows since XP.
func stopwatch() (stop func() time.Duration) {
	read := func(p *windows.LazyProc) (n int64) {
		_, _, _ = p.Call(uintptr(unsafe.Pointer(&n))) //nolint:gosec // where it writes to
		return n
	}
	begun, perSecond := read(counter), read(frequency)
	return func() time.Duration {
		return time.Duration(float64(read(counter)-begun) / float64(max(perSecond, 1)) * float64(time.Second))
	}
}

// ReadVolume looks at the volume that dir is on.
func ReadVolume(dir string) (Volume, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return Volume{}, err
	}
	path, err := windows.UTF16PtrFromString(abs)
	if err != nil {
		return Volume{}, &os.PathError{Op: "volume", Path: dir, Err: err}
	}
	var v Volume
	if err := windows.GetDiskFreeSpaceEx(path, &v.Free, &v.Total, nil); err != nil {
		return Volume{}, &os.PathError{Op: "volume", Path: dir, Err: err}
	}
	root := make([]uint16, windows.MAX_PATH+1)
	if err := windows.GetVolumePathName(path, &root[0], uint32(len(root))); err != nil {
		return Volume{}, &os.PathError{Op: "volume", Path: dir, Err: err}
	}
	v.Network = windows.GetDriveType(&root[0]) == windows.DRIVE_REMOTE
	v.Memory = windows.GetDriveType(&root[0]) == windows.DRIVE_RAMDISK
	name := make([]uint16, windows.MAX_PATH+1)
	var flags uint32
	if err := windows.GetVolumeInformation(&root[0], nil, 0, nil, nil, &flags, &name[0], uint32(len(name))); err == nil {
		v.Type = windows.UTF16ToString(name)
		v.ReadOnly = flags&windows.FILE_READ_ONLY_VOLUME != 0
	}
	return v, nil
}

// ReadProcess looks at a process. One that is not there is os.ErrNotExist.
func ReadProcess(pid int) (Process, error) {
	p := Process{PID: pid}
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return p, os.ErrNotExist
	}
	if err != nil {
		return p, nil // there is one, of another user
	}
	defer func() { _ = windows.CloseHandle(h) }()
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err == nil {
		p.Started = time.Unix(0, created.Nanoseconds())
	}
	name := make([]uint16, windows.MAX_LONG_PATH)
	n := uint32(len(name))
	if err := windows.QueryFullProcessImageName(h, 0, &name[0], &n); err == nil {
		p.Name = filepath.Base(windows.UTF16ToString(name[:n]))
	}
	return p, nil
}

// ReadLimits asks what the system lets this process do: Windows has none of
// these limits.
func ReadLimits() (Limits, error) { return Limits{}, nil }
