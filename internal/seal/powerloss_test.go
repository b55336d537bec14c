package seal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// TestPowerLossTakesNothingThatWasPromised cuts the power at random steps,
// also of the recovery from the loss before, on disks that tear and reorder
// what was not synced.
func TestPowerLossTakesNothingThatWasPromised(t *testing.T) {
	trails, losses := uint64(16), 20 // of each mode
	if testing.Short() && runtime.GOOS == "windows" {
		trails = 3 // the losses are made above the system; where each takes long, Linux has taken them all
	}
	seed := uint64(time.Now().UnixNano())
	for _, mode := range []struct {
		name     string
		buffered bool
		large    int
	}{{"durable", false, 0}, {"durable, synced beside", false, 500}, {"buffered", true, 0}} {
		t.Run(mode.name, func(t *testing.T) {
			sum := lives{}
			for n := range trails {
				u := &unlucky{buffered: mode.buffered, random: rand.New(rand.NewPCG(seed, n))}
				u.cfg = newTrail(t, []suite.Digest{suite.SM3}[:n%2]...)
				u.cfg.SegmentBytes, u.cfg.CheckpointLeaves, u.cfg.QueueBytes, u.cfg.Buffered = 20_000, 300, 6000, mode.buffered
				u.cfg.largeBytes = mode.large
				for loss := range losses {
					if err := u.live(t, &sum); err != nil {
						t.Fatalf("seed %d: trail %d: loss %d: %v", seed, n, loss, err)
					}
				}
				l, err := Open(u.cfg)
				if err != nil {
					t.Fatalf("seed %d: trail %d: in the end: %v", seed, n, err)
				}
				if err := errors.Join(u.look(contents(t, u.cfg.Dir), &sum), l.Close()); err != nil { // with proofs
					t.Fatalf("seed %d: trail %d: in the end: %v", seed, n, err)
				}
			}
			t.Logf("%d losses, %d of them while opening; %d tails cut; %d leaves kept, %d lost that nobody was promised",
				int(trails)*losses, sum.opening, sum.cuts, sum.kept, sum.gone)
			// A disk that tore nothing would have tested nothing.
			if sum.opening == 0 || sum.cuts < int(trails)*5/4 || sum.gone == 0 {
				t.Errorf("too little went wrong: %+v", sum)
			}
		})
	}
}

type lives struct{ opening, cuts, kept, gone int }

// unlucky is a trail in a place with bad power.
type unlucky struct {
	cfg      Config
	buffered bool
	random   *rand.Rand

	tried    []string // the leaves in the trail, then those appended since, in order
	promised int      // of them, how many must be there
	next     int
}

// live is one life of a writer, from opening the trail to the loss.
func (u *unlucky) live(t *testing.T, sum *lives) error {
	steps := u.random.IntN(70)
	if u.random.IntN(4) == 0 {
		steps = u.random.IntN(6) // within Open
	}
	disk, err := faulty.NewPowerLoss(u.cfg.Dir, u.random, steps)
	if err != nil {
		return err
	}
	cfg := u.cfg
	cfg.Disk = disk
	var published atomic.Int64
	cfg.Published = func(note []byte) {
		var size int64
		if _, err := fmt.Sscanf(strings.SplitN(string(note), "\n", 3)[1], "%d", &size); err != nil {
			t.Errorf("published note: %v", err)
		}
		published.Store(size)
	}
	l, err := Open(cfg)
	switch {
	case errors.Is(err, faulty.ErrPowerLost):
		sum.opening++
		return disk.Restart()
	case err != nil:
		return fmt.Errorf("opening: %w", err)
	}
	if l.Recovery().CutBytes > 0 {
		sum.cuts++
	}
	if err := u.look(leavesIn(t, cfg.Dir), sum); err != nil {
		return errors.Join(err, l.Close())
	}
	acknowledged := u.work(t, l)
	disk.Cut()
	if err := l.Close(); err != nil && !errors.Is(err, faulty.ErrPowerLost) {
		return fmt.Errorf("closing: %w", err)
	}
	if !u.buffered {
		u.promised += acknowledged
	}
	u.promised = max(u.promised, int(published.Load()))
	return disk.Restart()
}

// look compares what is in the trail with what must be.
func (u *unlucky) look(got []string, sum *lives) error {
	if len(got) < u.promised {
		return fmt.Errorf("%d leaves are there, %d were promised", len(got), u.promised)
	}
	if len(got) > len(u.tried) {
		return fmt.Errorf("%d leaves are there, only %d were ever appended", len(got), len(u.tried))
	}
	for i, leaf := range got {
		if leaf != u.tried[i] {
			return fmt.Errorf("leaf %d is not the one that was appended", i)
		}
	}
	sum.kept += len(got) - u.promised
	sum.gone += len(u.tried) - len(got)
	// Opening made what it found durable.
	u.tried, u.promised = u.tried[:len(got)], len(got)
	return nil
}

// leavesIn is contents without the proofs: opening has compared the roots.
func leavesIn(t *testing.T, dir string) (out []string) {
	t.Helper()
	v, tail, err := trail.OpenView(dir)
	if err != nil || tail.Size != 0 {
		t.Fatalf("tail of %d bytes, %v", tail.Size, err)
	}
	defer v.Close()
	for at := uint64(0); at < v.Size(); at += tlog.TileWidth {
		leaves, err := v.Leaves().Read(at, int(min(tlog.TileWidth, v.Size()-at)))
		if err != nil {
			t.Fatal(err)
		}
		for _, leaf := range leaves {
			out = append(out, string(leaf))
		}
	}
	return out
}

// work appends groups of leaves until the power is lost or the day is over, and
// returns how many were acknowledged.
func (u *unlucky) work(t *testing.T, l *Log) (acknowledged int) {
	for range u.random.IntN(40) {
		var pending []Pending
		for range 1 + u.random.IntN(60) {
			leaf := fmt.Sprintf(`{"n":"%d","pad":"%s"}`, u.next, strings.Repeat("x", u.random.IntN(200)))
			p, err := l.Append(context.Background(), []byte(leaf))
			if err != nil {
				break
			}
			u.next++
			u.tried = append(u.tried, leaf)
			pending = append(pending, p)
		}
		lost := len(pending) == 0
		for _, p := range pending {
			switch err := p.Wait(context.Background()); {
			case err == nil && lost:
				t.Error("a leaf was acknowledged behind one that was not")
			case err == nil:
				acknowledged++
			case !errors.Is(err, faulty.ErrPowerLost):
				t.Errorf("waiting: %v", err)
				return acknowledged
			default:
				lost = true
			}
		}
		if lost {
			return acknowledged
		}
	}
	return acknowledged
}
