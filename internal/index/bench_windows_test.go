package index

import (
	"time"

	"golang.org/x/sys/windows"
)

// processorTime is what this process has used: on a machine that others use too,
// it says more than the time on the wall.
func processorTime() time.Duration {
	var created, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &ended, &kernel, &user); err != nil {
		panic(err)
	}
	return time.Duration(kernel.Nanoseconds() + user.Nanoseconds())
}
