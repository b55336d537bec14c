package health

import (
	"fmt"
	"time"
)

// Clock is what can be known of this machine's time.
type Clock struct {
	Now time.Time
	// Source is who sets the clock: "kernel (NTP)", "Windows Time (NTP)"; ""
	// when the system does not tell.
	Source       string
	Synchronized bool          // as Source says
	MaxError     time.Duration // as Source says; 0: not known
	// Step is by how much the wall clock went further than the monotonic one
	// since the watch began.
	Step, Watched time.Duration
	// Newest is the newest time on record, of what Newest was; zero: none.
	Newest     time.Time
	NewestWhat string
}

// WatchClock begins to compare the wall clock with the monotonic one; what it
// returns reads the clock and says how they differ since.
func WatchClock() func() Clock {
	begun := time.Now()
	return func() Clock {
		now := time.Now()
		c := Clock{Now: now.Round(0), Watched: now.Sub(begun)}
		c.Step = now.Round(0).Sub(begun.Round(0)) - c.Watched
		c.Source, c.Synchronized, c.MaxError = clockSource()
		return c
	}
}

const (
	backwards   = time.Second // more than clocks of a cluster may differ
	stepped     = 50 * time.Millisecond
	largeError  = time.Second
	farBehind   = time.Minute
	buildOldest = 2026 // no trail is older than the program
)

// Check judges it.
func (c Clock) Check() Check {
	out := Check{Name: "clock", Found: c.Now.UTC().Format(time.RFC3339), Expected: "set by NTP, and later than everything on record"}
	switch {
	case c.Source == "":
		out.worsen(OK, "the system does not say whether it is synchronized", "")
	case c.Synchronized && c.MaxError > largeError:
		out.worsen(Warn, fmt.Sprintf("set by %s, wrong by at most %s", c.Source, c.MaxError.Round(time.Millisecond)), "look after the time service: events carry this clock's time")
	case c.Synchronized && c.MaxError > 0:
		out.worsen(OK, fmt.Sprintf("set by %s, wrong by at most %s", c.Source, c.MaxError.Round(time.Millisecond)), "")
	case c.Synchronized:
		out.worsen(OK, "set by "+c.Source, "")
	default:
		out.worsen(Warn, "not synchronized ("+c.Source+")", "run a time service (chrony, systemd-timesyncd, Windows Time): events carry this clock's time")
	}
	if step := c.Step.Abs(); step > stepped {
		out.worsen(Warn, fmt.Sprintf("it jumped by %s within %s", c.Step.Round(time.Millisecond), c.Watched.Round(time.Millisecond)), "somebody sets the clock by steps: let a time service slew it")
	}
	if behind := c.Newest.Sub(c.Now); !c.Newest.IsZero() && behind > backwards {
		r := Warn
		if behind > farBehind {
			r = Fail
		}
		out.worsen(r, fmt.Sprintf("%s is of %s, %s ahead", c.NewestWhat, c.Newest.UTC().Format(time.RFC3339), behind.Round(time.Second)), "set the clock: events would go back in time")
	}
	if c.Now.Year() < buildOldest {
		out.worsen(Fail, "before this program was written", "set the clock")
	}
	return out
}
