package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/cursor"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// spareBytes are left free on the disk: the trail needs them more.
const spareBytes = 256 << 20

// indexer is what the goroutine that keeps an index works with. Nobody else
// touches it while that runs.
type indexer struct {
	tail    *cursor.Follower // of the segment that grows
	draft   veritrail.Draft
	work    *work    // a closed segment that is being indexed
	built   *builder // the last one that was: the next is of its size
	scrubAt int      // the closed segment whose checksums are compared next

	patrolAt int   // the closed segment whose files are looked at next
	unlocked error // why the lock could not be had again

	dropped   bool // the segment that begins with droppedAt was given up
	droppedAt uint64
}

// work is a closed segment that is being indexed.
type work struct {
	c    *closed
	b    *builder
	read *cursor.Follower
}

func (w *indexer) closeFollowers() error {
	var errs []error
	if w.tail != nil {
		errs = append(errs, w.tail.Close())
	}
	if w.work != nil {
		errs = append(errs, w.work.read.Close())
	}
	return errors.Join(errs...)
}

// begin reads what is there and removes what does not belong: sidecars of
// segments that are gone, of another trail, half-written ones.
func (x *Index) begin() error {
	if err := x.load(); err != nil {
		return err
	}
	names, err := sidecars(x.cfg.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		first, ours := sidecarLeaf(filepath.Base(name))
		if ours && x.find(first) >= 0 {
			continue
		}
		if err := x.cfg.Disk.Remove(name); err != nil {
			x.cfg.Problem(err)
		}
	}
	x.coolDown()
	return nil
}

// run keeps the index until ctx ends. The newest events come first.
func (x *Index) run(ctx context.Context) {
	tick := time.NewTicker(x.cfg.Every)
	defer tick.Stop()
	patrol := time.NewTicker(x.cfg.Patrol)
	defer patrol.Stop()
	for ctx.Err() == nil {
		select {
		case <-patrol.C: // here, so that a load that never ends does not keep it from its turn
			x.patrol()
		default:
		}
		busy := x.follow()
		busy = x.backfill() || busy
		if busy || x.scrub() {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-x.wake:
		}
	}
}

// follow takes new leaves into memory. It tells whether there may be more.
func (x *Index) follow() bool {
	l := x.live.Load()
	if l == nil {
		return x.startLive()
	}
	const most = 8 * tlog.TileWidth
	batch, err := x.tail.Take(most)
	if err != nil {
		x.dropLive(err)
		return false
	}
	first := batch.First
	for len(batch.Leaves) > 0 {
		n := int(min(tlog.TileWidth-first%tlog.TileWidth, uint64(len(batch.Leaves))))
		if first%tlog.TileWidth == 0 && first != l.b.first {
			begins, err := x.begins(first)
			if err != nil {
				x.dropLive(err)
				return false
			}
			if begins {
				x.closeLive(l, first)
				l = &live{b: newBuilder(first, l.b)}
				x.live.Store(l)
			}
		}
		l.mu.Lock()
		err := x.add(l.b, batch.Leaves[:n])
		l.mu.Unlock()
		if err != nil {
			x.dropLive(err)
			return true
		}
		batch.Leaves = batch.Leaves[n:]
		first += uint64(n)
	}
	return first > batch.First
}

// begins tells whether a segment begins with a leaf.
func (x *Index) begins(leaf uint64) (bool, error) {
	_, err := os.Stat(trail.SegmentPath(x.cfg.Dir, leaf))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// add takes leaves into b.
func (x *Index) add(b *builder, leaves [][]byte) error {
	for _, leaf := range leaves {
		if err := x.draft.Parse(leaf); err != nil {
			return fmt.Errorf("leaf %d: not an event", b.next())
		}
		if !b.add(&x.draft, len(leaf)) {
			return fmt.Errorf("leaf %d: more different values than an index holds", b.next())
		}
	}
	return nil
}

// startLive begins with the last segment, and lists those before it.
func (x *Index) startLive() bool {
	last, err := x.refresh()
	if err != nil {
		x.cfg.Problem(err)
		return false
	}
	if x.cfg.Durable() <= last || x.dropped && x.droppedAt >= last {
		return false // nothing is in it, or it could not be indexed
	}
	if x.tail != nil {
		if err := x.tail.Close(); err != nil {
			x.cfg.Problem(err)
		}
	}
	x.tail = cursor.Follow(x.cfg.Dir, last, x.cfg.Durable, x.cfg.Every)
	x.live.Store(&live{b: newBuilder(last, nil)})
	return true
}

// dropLive gives up on the segment that grows. Until the next one begins it is
// searched by reading it.
func (x *Index) dropLive(problem error) {
	x.cfg.Problem(fmt.Errorf("index: %w", problem))
	x.dropped, x.droppedAt = true, x.live.Load().b.first
	x.live.Store(nil)
}

// closeLive writes down a segment that the leaf end does not belong to any
// more.
func (x *Index) closeLive(l *live, end uint64) {
	if _, err := x.refresh(); err != nil {
		x.cfg.Problem(err)
		return
	}
	x.mu.Lock()
	i := x.find(l.b.first)
	x.mu.Unlock()
	if i < 0 || x.closed[i].first+x.closed[i].leaves != end || l.b.next() != end {
		return // backfill will see to it
	}
	x.finish(x.closed[i], l.b)
}

// refresh lists the closed segments anew: there are more, and some may have
// expired. It returns where the last segment begins.
func (x *Index) refresh() (last uint64, err error) {
	segments, last, err := x.closedSegments()
	if err != nil {
		return 0, err
	}
	x.mu.Lock()
	gone := slices.Clone(x.closed)
	for i, c := range segments { // what became of them meanwhile
		if at := x.find(c.first); at >= 0 && x.closed[at].sameSegment(&c.identity) {
			segments[i] = x.closed[at]
		}
	}
	x.closed = segments
	gone = slices.DeleteFunc(gone, func(c *closed) bool { return x.find(c.first) >= 0 })
	x.mu.Unlock()
	for _, c := range gone {
		for _, suffix := range []string{summarySuffix, postingsSuffix} {
			if err := x.cfg.Disk.Remove(x.path(c.first, suffix)); err != nil {
				x.cfg.Problem(err)
			}
		}
	}
	x.coolDown()
	return last, nil
}

// coolDown removes the postings of segments that left the hot window.
func (x *Index) coolDown() {
	for _, c := range x.snapshot() {
		x.mu.Lock()
		hot := x.hot(c)
		x.mu.Unlock()
		if hot || c.postings == nil || c.summary == nil {
			continue
		}
		next := *c
		next.postings, next.stamps[1] = nil, stamp{}
		x.replace(c, &next)
		if err := x.cfg.Disk.Remove(x.path(c.first, postingsSuffix)); err != nil {
			x.cfg.Problem(err)
		}
	}
}

// replace puts next in the place of c, unless something else is there.
func (x *Index) replace(c, next *closed) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.find(c.first); i >= 0 && x.closed[i] == c {
		x.closed[i] = next
	}
}

// backfill indexes a bit of the newest closed segment that lacks something. It
// tells whether there is more to do.
func (x *Index) backfill() bool {
	if x.work == nil {
		c := x.nextWork()
		if c == nil {
			x.built = nil
			return false
		}
		end := c.first + c.leaves
		x.work = &work{c, newBuilder(c.first, x.built), cursor.Follow(x.cfg.Dir, c.first, func() uint64 { return end }, x.cfg.Every)}
	}
	w := x.work
	const most = 16 * tlog.TileWidth
	batch, err := w.read.Take(most)
	if err == nil {
		err = x.add(w.b, batch.Leaves)
	}
	if err == nil && w.b.next() < w.c.first+w.c.leaves {
		return true
	}
	x.work = nil
	if errClose := w.read.Close(); err == nil {
		err = errClose
	}
	if err != nil {
		x.fail(w.c, err)
	} else {
		x.finish(w.c, w.b)
		x.built = w.b
	}
	return true
}

// nextWork is the newest closed segment to be indexed, nil when there is none.
// Those that failed before come last, the one that waits longest first.
func (x *Index) nextWork() *closed {
	x.mu.Lock()
	defer x.mu.Unlock()
	var again *closed
	for _, c := range slices.Backward(x.closed) {
		switch {
		case c.complete(x.hot(c)):
		case c.problem == nil:
			return c
		case again == nil || c.retry.Before(again.retry):
			again = c
		}
	}
	if again != nil && x.cfg.Now().After(again.retry) {
		return again
	}
	return nil
}

// fail leaves a segment alone for a while. It is searched by reading it.
func (x *Index) fail(c *closed, problem error) {
	next := *c
	next.problem, next.retry = fmt.Errorf("segment %s: %w", trail.SegmentName(c.first), problem), x.cfg.Now().Add(x.cfg.Retry)
	x.cfg.Problem(next.problem)
	x.replace(c, &next)
}

// finish writes the sidecars of a segment.
func (x *Index) finish(c *closed, b *builder) {
	id := c.identity
	id.span, id.bytes = noSpan(), b.leaf
	for _, s := range b.bundles {
		id.span.min, id.span.max = min(id.span.min, s.min), max(id.span.max, s.max)
	}
	if err := x.write(c, b, id); err != nil {
		x.fail(c, err)
		return
	}
	next := x.read(c)
	x.mu.Lock()
	complete := next.complete(x.hot(next))
	x.mu.Unlock()
	if !complete {
		x.fail(c, errors.New("index: what was written cannot be read"))
		return
	}
	next.scrubbed = true
	x.replace(c, next)
}

func (x *Index) write(c *closed, b *builder, id identity) error {
	summary, err := b.marshalSummary(id)
	if err != nil {
		return err
	}
	var postings []byte
	x.mu.Lock()
	hot := x.hot(&closed{identity: id, summary: &sidecar{}})
	x.mu.Unlock()
	if hot {
		if postings, err = b.marshalPostings(id); err != nil {
			return err
		}
	}
	if err := x.keepLock(); err != nil {
		return err
	}
	free, err := durable.FreeBytes(filepath.Join(x.cfg.Dir, Dir))
	if err != nil {
		return err
	}
	if free < uint64(len(summary)+len(postings))+spareBytes {
		return errors.New("index: the disk is nearly full, and what is left of it is the trail's")
	}
	// Not synced: what a crash leaves of it is found out by its checksums.
	if hot {
		if err := x.cfg.Disk.WriteFileLazy(x.path(c.first, postingsSuffix), postings); err != nil {
			return err
		}
	}
	return x.cfg.Disk.WriteFileLazy(x.path(c.first, summarySuffix), summary)
}

// patrol looks whether the files of a few segments are still those that were
// read. Searches of this process would find out, but not those of another, and
// whoever does not search for weeks does not want to find the index gone then.
func (x *Index) patrol() {
	const looks = 16
	err := x.keepLock()
	if err != nil && x.unlocked == nil { // once, not each second
		x.cfg.Problem(err)
	}
	x.unlocked = err
	all := x.snapshot()
	for range min(looks, len(all)) {
		x.patrolAt = (x.patrolAt + 1) % len(all)
		c := all[x.patrolAt]
		if x.asRead(c) {
			continue
		}
		x.replace(c, x.read(c))
		x.scrubAt = min(x.scrubAt, x.patrolAt)
	}
}

// asRead tells whether the sidecars that a segment has are on disk as they were.
func (x *Index) asRead(c *closed) bool {
	has := [2]bool{c.summary != nil, c.postings != nil}
	for i, suffix := range []string{summarySuffix, postingsSuffix} {
		if !has[i] {
			continue
		}
		info, err := os.Stat(x.path(c.first, suffix))
		if err != nil || info.Size() != c.stamps[i].size || !info.ModTime().Equal(c.stamps[i].modified) {
			return false
		}
	}
	return true
}

// keepLock locks the index again when the file of the lock was deleted, as it is
// with the whole directory: another process could lock the next one beside this.
func (x *Index) keepLock() error {
	dir := filepath.Join(x.cfg.Dir, Dir)
	name := filepath.Join(dir, lockFile)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := x.cfg.Disk.MkdirAll(dir); err != nil {
		return err
	}
	lock, err := durable.AcquireLock(name)
	if err != nil {
		return fmt.Errorf("index: its lock was deleted: %w", err)
	}
	old := x.lock
	x.lock = lock
	return old.Release()
}

// scrub compares the checksums of one segment's sidecars, each once, so that
// damage is mended before somebody waits for an answer. It tells whether there
// is more to do.
func (x *Index) scrub() bool {
	x.mu.Lock()
	var c *closed
	for c == nil && x.scrubAt < len(x.closed) {
		if next := x.closed[x.scrubAt]; !next.scrubbed && next.summary != nil {
			c = next
		}
		x.scrubAt++
	}
	x.mu.Unlock()
	if c == nil {
		return false
	}
	if err := x.scrubSegment(c); err != nil {
		x.distrust(c, err)
		return true
	}
	next := *c
	next.scrubbed = true
	x.replace(c, &next)
	return true
}

func (x *Index) scrubSegment(c *closed) error {
	for _, s := range c.sidecars() {
		r, done, err := x.openSidecar(c, s)
		if err == nil {
			err = r.scrub()
			done()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sidecars are those that a segment has.
func (c *closed) sidecars() (out []*sidecar) {
	if c.summary != nil {
		out = append(out, c.summary)
	}
	if c.postings != nil {
		out = append(out, c.postings.sidecar)
	}
	return out
}
