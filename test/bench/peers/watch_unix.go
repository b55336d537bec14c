//go:build !windows

package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used, in the kernel as well, and 0 where
// that is not known.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
