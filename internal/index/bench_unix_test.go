//go:build !windows

package index

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what this process has used: on a machine that others use too,
// it says more than the time on the wall.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
