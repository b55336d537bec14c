//go:build !linux && !windows

package health

import (
	"errors"
	"os"
	"time"
)

var errNotAsked = errors.New("this system is not asked")

func clockSource() (string, bool, time.Duration) { return "", false, 0 }

func stopwatch() (stop func() time.Duration) {
	begun := time.Now()
	return func() time.Duration { return time.Since(begun) }
}

func syncData(f *os.File) error { return f.Sync() }

// ReadVolume looks at the file system that dir is on.
func ReadVolume(string) (Volume, error) { return Volume{}, errNotAsked }

// ReadProcess looks at a process.
func ReadProcess(int) (Process, error) { return Process{}, errNotAsked }

// ReadLimits asks what the system lets this process do.
func ReadLimits() (Limits, error) { return Limits{}, errNotAsked }
