package health

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/cpu"
)

// Process is a process of this machine.
type Process struct {
	PID     int
	Name    string    // of its program; "" when it is not ours to know
	Started time.Time // zero when it is not ours to know
}

// Limits are what the system lets this process do.
type Limits struct {
	OpenFiles uint64 // the most at once; 0: no such limit
	HugePages string // transparent_hugepage: always, madvise, never; "" when there is no such thing
}

const fewFiles = 1024

// Files judges how many files and connections may be open.
func (l Limits) Files() Check {
	c := Check{Name: "open files", Found: "no limit", Expected: fmt.Sprintf("a limit of %d or more", fewFiles)}
	if l.OpenFiles == 0 {
		return c
	}
	c.Found = fmt.Sprintf("limit %d", l.OpenFiles)
	if l.OpenFiles < fewFiles {
		c.worsen(Warn, "", "raise it (ulimit -n, LimitNOFILE=): each connection and each segment that is read takes one")
	}
	return c
}

// Memory judges the kernel's memory settings that matter to long-running
// programs in Go.
func (l Limits) Memory() (Check, bool) {
	if l.HugePages == "" {
		return Check{}, false
	}
	return Check{Name: "huge pages", Found: "transparent huge pages: " + l.HugePages, Expected: "any; madvise keeps memory use lowest"}, true
}

// CPU says what this processor can do of what hashing uses.
func CPU() Check {
	c := Check{Name: "processor", Found: fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()), Expected: "SIMD, for many hashes at once"}
	var have []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"ssse3", cpu.X86.HasSSSE3}, {"avx2", cpu.X86.HasAVX2}, {"avx512f", cpu.X86.HasAVX512F}, {"avx512bw", cpu.X86.HasAVX512BW},
		{"neon", cpu.ARM64.HasASIMD}, {"sha2", cpu.ARM64.HasSHA2}, {"sm3", cpu.ARM64.HasSM3}, {"sm4", cpu.ARM64.HasSM4},
	} {
		if f.has {
			have = append(have, f.name)
		}
	}
	if len(have) == 0 {
		c.Found += "; none of the instructions that hash fast"
		c.Result, c.Advice = Warn, "it works, and hashes one event after the other"
		return c
	}
	c.Found += "; " + joinAnd(have)
	return c
}
