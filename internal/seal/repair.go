package seal

import (
	"fmt"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/trail"
)

// repair lets a halted log go on, once the files hold exactly what was
// acknowledged.
func (l *Log) repair() {
	err := l.tryRepair()
	q := &l.queue
	q.mu.Lock()
	q.halted = nil
	if err != nil {
		q.halted = fmt.Errorf("%w (looked again: %w)", l.cause, err)
	}
	q.mu.Unlock()
	if err != nil {
		return
	}
	l.stats.repairs.Add(1)
	l.cfg.Resumed(Resumption{Halted: l.haltedAt, Cause: l.cause.Error(), Lost: l.stats.lost.Load() - l.lostBefore})
	if l.trees.Size() > l.signedSize {
		l.haltOn(l.sign())
	}
}

// tryRepair cuts off what was written behind the acknowledged bytes, and reads
// the segment again as Open would. Nothing is believed of pages that were dirty
// when a sync failed: what was cut is cut on disk too, which writes the page it
// shares with acknowledged bytes anew, and bytes that were only acknowledged as
// buffered are written again.
func (l *Log) tryRepair() error {
	files, err := trail.Segments(l.cfg.Dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: no segments", l.cfg.Dir)
	}
	last := files[len(files)-1]
	size, link, fresh := l.stats.durable.Load(), l.link, last.FirstLeaf != l.first
	file, err := l.cfg.Disk.OpenFile(last.Path)
	if err != nil {
		return err
	}
	// The old handle's error was reported when it happened.
	_ = l.file.Close()
	l.file = file
	if !fresh { // else the next segment was begun, after this one was durable
		if err := l.rewriteTail(); err != nil {
			return err
		}
	}
	l.tileErr = nil
	if _, err := l.replay(files); err != nil {
		return err
	}
	if l.tileErr != nil {
		return l.tileErr
	}
	if l.trees.Size() != size || !fresh && l.link != link {
		return &DamageError{last.Name, fmt.Errorf("at %d: leaf %d: %d leaves were acknowledged, %d are there", l.end, l.trees.Size(), size, l.trees.Size())}
	}
	l.synced = l.end
	if err := l.sync(); err != nil {
		return err
	}
	// Room comes last: what is cut off needs none, and readers are not to find it.
	if free, err := durable.FreeBytes(l.cfg.Dir); err == nil && free < 2*uint64(l.cfg.QueueBytes) {
		return fmt.Errorf("%d bytes are free on the disk: waiting for %d", free, 2*l.cfg.QueueBytes)
	}
	return nil
}

// rewriteTail leaves the segment with the bytes up to l.end, all synced.
func (l *Log) rewriteTail() error {
	if l.rescued == nil {
		size, err := l.file.Size()
		if err != nil {
			return err
		}
		if size < l.end {
			return &DamageError{trail.SegmentName(l.first), fmt.Errorf("at %d: the file ends there, %d bytes were acknowledged", size, l.end)}
		}
		l.rescued = make([]byte, l.end-l.synced)
		if _, err := l.file.ReadAt(l.rescued, l.synced); err != nil {
			l.rescued = nil
			return err
		}
	}
	// From here on they are only in memory, until they were written again.
	if err := l.file.Truncate(l.synced); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	if len(l.rescued) > 0 {
		if _, err := l.file.WriteAt(l.rescued, l.synced); err != nil {
			return err
		}
		if err := l.sync(); err != nil {
			return err
		}
	}
	l.rescued = nil
	return nil
}
