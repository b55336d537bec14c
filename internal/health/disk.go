package health

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Volume is the file system that a directory is on.
type Volume struct {
	Type     string // as the system names it: ext4, xfs, NTFS; "" when it does not say
	Options  []string
	Network  bool // it is on another machine
	Memory   bool // it is gone when the machine is
	ReadOnly bool

	Free, Total uint64 // bytes; Free for this user
	// FreeNodes and Nodes count files that can still be made, and in all. Both
	// are 0 where the file system makes them as it goes.
	FreeNodes, Nodes uint64
}

const (
	lowSpace    = 1 << 30
	noSpace     = 64 << 20 // one segment
	lowNodes    = 10_000
	noNodes     = 100
	lowPercents = 5
)

// Space judges the room that is left.
func (v Volume) Space() Check {
	c := Check{Name: "space", Found: megabytes(v.Free) + " of " + megabytes(v.Total) + " free", Expected: "1 GiB or more"}
	switch {
	case v.Free < noSpace:
		c.worsen(Fail, "", "make room now: a full disk halts the trail, and events are refused")
	case v.Free < lowSpace || v.Total > 0 && v.Free*100/v.Total < lowPercents && v.Free < 10*lowSpace:
		c.worsen(Warn, "", "make room: a full disk halts the trail")
	}
	if v.Nodes > 0 {
		c.Found += fmt.Sprintf("; %d of %d inodes free", v.FreeNodes, v.Nodes)
		switch {
		case v.FreeNodes < noNodes:
			c.worsen(Fail, "", "the disk can hold no more files: remove some, or give the trail a file system of its own")
		case v.FreeNodes < lowNodes:
			c.worsen(Warn, "", "few files can still be made on this disk: remove some, or give the trail a file system of its own")
		}
	}
	return c
}

// FileSystem judges what kind of disk it is.
func (v Volume) FileSystem() Check {
	c := Check{Name: "file system", Found: "of a kind that the system does not name", Expected: "a local disk that keeps what was synced"}
	if v.Type != "" {
		c.Found = v.Type
	}
	if v.Network {
		c.worsen(Warn, "on another machine", "put the trail on a local disk: locks and syncs over a network are promises of the server")
	}
	if v.Memory {
		c.worsen(Warn, "in memory", "the trail is gone with the next restart: put it on a disk")
	}
	for _, option := range []string{"nobarrier", "barrier=0", "nobh", "data=writeback"} {
		if slices.Contains(v.Options, option) {
			c.worsen(Warn, "mounted with "+option, "mount it without "+option+": after a power loss, acknowledged events may be missing")
		}
	}
	if v.ReadOnly {
		c.worsen(Fail, "mounted read-only", "mount it for writing; an error of the disk may have made it read-only: see the system's log")
	}
	return c
}

// SyncCost is what it took to append to a file and sync it, again and again.
type SyncCost struct {
	Rounds           int
	P50, P99, Slower time.Duration // Slower is the slowest
}

// MeasureSync appends 512 bytes to a scratch file in dir and syncs it, so many
// times, then removes the file. That is what one acknowledgement costs a writer
// at the least.
func MeasureSync(dir string, rounds int) (cost SyncCost, err error) {
	if rounds < 1 {
		return cost, errors.New("sync: want one round or more")
	}
	f, err := os.CreateTemp(dir, ".doctor.*.tmp")
	if err != nil {
		return cost, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 512)
	took := make([]time.Duration, rounds)
	for i := range took {
		stop := stopwatch()
		if _, err := f.Write(block); err != nil {
			return cost, err
		}
		if err := syncData(f); err != nil {
			return cost, err
		}
		took[i] = stop()
	}
	slices.Sort(took)
	return SyncCost{Rounds: rounds, P50: took[rounds/2], P99: took[rounds*99/100], Slower: took[rounds-1]}, nil
}

const (
	slowSync = 50 * time.Millisecond
	// A write that reaches flash or a cache that survives a power loss takes
	// longer than this; memory does not.
	fastestSync = 8 * time.Microsecond
)

// Check judges the disk's speed, and whether it can be true.
func (s SyncCost) Check() Check {
	c := Check{
		Name: "sync", Found: fmt.Sprintf("p50 %s, p99 %s (%d appends of 512 bytes)", short(s.P50), short(s.P99), s.Rounds),
		Expected: fmt.Sprintf("p50 between %s and %s", fastestSync, slowSync),
	}
	switch {
	case s.P50 < fastestSync:
		c.worsen(Warn, "faster than a disk can be", "something answers before the data is on a disk (a memory file system, a volatile cache, a virtual machine that ignores syncs): events that were acknowledged may be gone after a power loss")
	case s.P50 > slowSync:
		c.worsen(Warn, "", "a slow disk: events are acknowledged in groups, so each waits longer, and the trail takes no fewer")
	}
	return c
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(100 * time.Nanosecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Readers judges who can read what must be the owner's alone: each of the
// files and directories, which may be missing. restrict is what a person types
// to mend one.
func Readers(paths []string, restrict func(name string) string) Check {
	c := Check{Name: "permissions", Found: "for the owner alone", Expected: "for the owner alone"}
	for _, name := range paths {
		who, err := readers(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Check{Name: c.Name, Result: Fail, Found: err.Error(), Expected: c.Expected, Advice: "the owner of the trail must be able to look at it; run this as that user"}
		}
		if len(who) > 0 {
			first := c.Result == OK
			finding := fmt.Sprintf("%s can be read by %s", name, joinAnd(who))
			c.worsen(Fail, finding, restrict(name))
			if first {
				c.Found = finding
			}
		}
	}
	return c
}

func joinAnd(words []string) string {
	out := ""
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			out += " and "
		default:
			out += ", "
		}
		out += w
	}
	return out
}

// existing is dir, or the nearest directory above it that is there.
func existing(dir string) string {
	for {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return dir
		}
		dir = up
	}
}

// Writable tells whether files can be made in dir, or, when it is not there
// yet, in the nearest directory above it, by making one and removing it.
func Writable(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if st, err := os.Stat(abs); err == nil && !st.IsDir() {
		return &os.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")}
	}
	f, err := os.CreateTemp(existing(abs), ".veritrail.*.tmp")
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err // the scratch file's name says nothing
		}
		return &os.PathError{Op: "write to", Path: dir, Err: err}
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
