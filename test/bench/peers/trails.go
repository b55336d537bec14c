package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/verify"
)

type verified struct {
	events  int
	digests string
	bytes   int64
	elapsed time.Duration
	heap    uint64
}

// million is the seconds for a million events.
func (v verified) million() float64 { return v.elapsed.Seconds() * 1e6 / float64(v.events) }

// proofs are the times of inclusion proofs, in seconds.
type proofs struct {
	leaves        uint64
	made, checked []float64
}

type reopened struct {
	events, replayed uint64
	bytes            int64
	elapsed          time.Duration
}

// measureTrails verifies a short and a long trail, and opens what a crash in
// the middle of writing each would have left.
func (b *bench) measureTrails() error {
	for _, c := range []struct {
		events int
		sm3    bool
	}{{b.sizes.verify / 5, false}, {b.sizes.verify, false}, {b.sizes.verify / 5, true}} {
		dir, copied := filepath.Join(b.dir, "whole"), filepath.Join(b.dir, "crashed")
		r, err := recorder.Open(recorder.Config{Dir: dir, SM3: c.sm3})
		if err != nil {
			return err
		}
		if _, _, err := fill(r, c.events*6/10, sendBuilt); err != nil {
			return errors.Join(err, r.Close())
		}
		// Nobody has closed this one.
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			return errors.Join(err, r.Close())
		}
		if _, _, err := fill(r, c.events-c.events*6/10, sendBuilt); err != nil {
			return errors.Join(err, r.Close())
		}
		if err := r.Close(); err != nil {
			return err
		}
		if !c.sm3 {
			if err := b.reopen(copied); err != nil {
				return err
			}
		}
		if err := b.verify(dir, c.events, c.sm3); err != nil {
			return err
		}
		if c.events == b.sizes.verify {
			if err := b.prove(dir); err != nil {
				return err
			}
		}
		if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(copied)); err != nil {
			return err
		}
	}
	return nil
}

// prove makes inclusion proofs of leaves all over a trail, from its files, and
// checks them.
func (b *bench) prove(dir string) error {
	const proofs = 2000
	view, _, err := trail.OpenView(dir)
	if err != nil {
		return err
	}
	d, size := suite.SHA256, view.Size()
	root, _ := view.Root(d)
	b.proofs.leaves = size
	tiles := view.Tiles(d)
	for i := range uint64(proofs) {
		at := i * 7919 * (size / proofs) % size
		leaves, err := view.Leaves().Read(at, 1)
		if err != nil {
			return errors.Join(err, view.Close())
		}
		start := time.Now()
		path, err := tlog.InclusionProof(d, tiles, at, size)
		b.proofs.made = append(b.proofs.made, time.Since(start).Seconds())
		if err != nil {
			return errors.Join(err, view.Close())
		}
		start = time.Now()
		err = tlog.CheckInclusion(d, at, size, d.LeafHash(leaves[0]), path, root)
		b.proofs.checked = append(b.proofs.checked, time.Since(start).Seconds())
		if err != nil {
			return errors.Join(err, view.Close())
		}
	}
	return view.Close()
}

func (b *bench) reopen(dir string) error {
	size, err := sizeOf(dir)
	if err != nil {
		return err
	}
	if err := restrictKeys(dir); err != nil {
		return err
	}
	runtime.GC()
	start := time.Now()
	r, err := recorder.Open(recorder.Config{Dir: dir})
	if err != nil {
		return err
	}
	elapsed := time.Since(start)
	found := r.Trail().Recovery()
	b.reopened = append(b.reopened, reopened{found.Size, found.Replayed, size, elapsed})
	return r.Close()
}

// restrictKeys undoes what CopyFS did to the modes of the private keys.
func restrictKeys(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "keys", "*"))
	for _, name := range files {
		err = errors.Join(err, os.Chmod(name, 0o600))
	}
	return err
}

func (b *bench) verify(dir string, events int, sm3 bool) error {
	v := verified{events: events}
	if sm3 {
		v.digests = ", SHA-256 + SM3"
	}
	var err error
	if v.bytes, err = sizeOf(dir); err != nil {
		return err
	}
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go watchHeap(stop, peak)
	start := time.Now()
	report, err := verify.Trail(background, dir, verify.Options{})
	v.elapsed = time.Since(start)
	close(stop)
	v.heap = <-peak
	if err != nil {
		return err
	}
	if report.Outcome != verify.Intact {
		return fmt.Errorf("verify: %v: %v", report.Outcome, report.Findings)
	}
	b.verified = append(b.verified, v)
	return nil
}

// watchHeap looks at the heap until stop, and gives its highest size then.
func watchHeap(stop <-chan struct{}, peak chan<- uint64) {
	var highest uint64
	ticks := time.NewTicker(5 * time.Millisecond)
	defer ticks.Stop()
	for {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		highest = max(highest, m.HeapInuse)
		select {
		case <-ticks.C:
		case <-stop:
			peak <- highest
			return
		}
	}
}
