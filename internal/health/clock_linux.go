package health

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockSource asks the kernel what whoever disciplines its clock told it.
func clockSource() (source string, synchronized bool, maxError time.Duration) {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil {
		return "", false, 0
	}
	const unsync, timeError = 0x40, 5 // STA_UNSYNC, TIME_ERROR
	if state == timeError || tx.Status&unsync != 0 {
		return "kernel", false, 0
	}
	return "kernel (NTP)", true, time.Duration(int64(tx.Maxerror)) * time.Microsecond //nolint:unconvert // of another type on 32 bits
}
