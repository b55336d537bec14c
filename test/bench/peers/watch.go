package main

import "time"

// watch measures a turn: the time on the wall, and that which the processors
// spent on this process. The second hardly depends on what else the machine does.
type watch struct {
	wall time.Time
	cpu  time.Duration
}

func startWatch() watch { return watch{time.Now(), cpuTime()} }

func (w watch) read() (wall, cpu time.Duration) { return time.Since(w.wall), cpuTime() - w.cpu }

// used is the processors' time, or that on the wall where the other is not known.
func (w watch) used() time.Duration {
	wall, cpu := w.read()
	if cpu == 0 {
		return wall
	}
	return cpu
}
