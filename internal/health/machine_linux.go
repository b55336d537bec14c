package health

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func stopwatch() (stop func() time.Duration) {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// ReadVolume looks at the file system that dir is on.
func ReadVolume(dir string) (Volume, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Volume{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := uint64(st.Bsize)
	v := Volume{
		Free: st.Bavail * size, Total: st.Blocks * size, FreeNodes: st.Ffree, Nodes: st.Files,
		ReadOnly: st.Flags&unix.ST_RDONLY != 0,
	}
	var id unix.Stat_t
	if err := unix.Stat(dir, &id); err != nil {
		return Volume{}, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err == nil {
		v.Type, v.Options = mountOf(string(mounts), unix.Major(id.Dev), unix.Minor(id.Dev))
	}
	v.Network, v.Memory = kindOf(v.Type)
	return v, nil
}

// mountOf finds a device in /proc/self/mountinfo: see proc_pid_mountinfo(5).
// The last mount of it is the one in effect.
func mountOf(mounts string, major, minor uint32) (kind string, options []string) {
	device := fmt.Sprintf("%d:%d", major, minor)
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields, tail := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(tail) < 3 || fields[2] != device {
			continue
		}
		kind = tail[0]
		options = append(strings.Split(fields[5], ","), strings.Split(tail[2], ",")...)
	}
	return kind, options
}

func kindOf(kind string) (network, memory bool) {
	switch kind {
	case "nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs", "ocfs2", "gfs2",
		"fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone":
		return true, false
	case "tmpfs", "ramfs":
		return false, true
	}
	return false, false
}

// ReadProcess looks at a process. One that is not there is os.ErrNotExist.
func ReadProcess(pid int) (Process, error) {
	p := Process{PID: pid}
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, err
	}
	// pid (name with anything in it) state ppid …: see proc_pid_stat(5).
	open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return p, fmt.Errorf("%s/stat: not in the form that is documented", dir)
	}
	p.Name = string(stat[open+1 : end])
	fields := strings.Fields(string(stat[end+1:]))
	const startTime, ticksPerSecond = 22 - 3, 100 // USER_HZ is 100 on every architecture that Go runs on
	if len(fields) <= startTime {
		return p, nil
	}
	ticks, err := strconv.ParseInt(fields[startTime], 10, 64)
	if err != nil {
		return p, nil //nolint:nilerr // then it is not known
	}
	if boot, ok := bootTime(); ok {
		p.Started = boot.Add(time.Duration(ticks) * time.Second / ticksPerSecond)
	}
	return p, nil
}

func bootTime() (time.Time, bool) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return time.Time{}, false
	}
	for line := range strings.Lines(string(text)) {
		if s, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			return time.Unix(seconds, 0), err == nil
		}
	}
	return time.Time{}, false
}

// ReadLimits asks what the system lets this process do.
func ReadLimits() (Limits, error) {
	var l Limits
	var rl unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rl); err != nil {
		return l, err
	}
	if rl.Cur != unix.RLIM_INFINITY {
		l.OpenFiles = rl.Cur
	}
	text, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err == nil {
		_, text, _ = bytes.Cut(text, []byte("["))
		chosen, _, ok := bytes.Cut(text, []byte("]"))
		if ok {
			l.HugePages = string(chosen)
		}
	}
	return l, nil
}
