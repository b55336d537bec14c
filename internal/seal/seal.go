// Package seal owns the writing of a trail: it gives leaves their places, puts
// them on disk a group at a time, and signs checkpoints over them.
//
// One goroutine owns everything that is written. Callers add leaves to the
// batch that is filling, and wait. The owner takes the batch, hashes its
// leaves, writes them as one frame, syncs, and only then tells the callers; in
// the meantime the next batch fills. So a single slow disk carries any number
// of callers, and whatever was acknowledged is one whole frame behind which
// nothing was written before it was durable.
//
// After an error of the disk the log is halted: it refuses leaves, says so, and
// counts what it refused, until a fresh look at the files showed exactly what
// was acknowledged (see repair). A failed sync is never tried again on the same
// bytes.
//
// It takes leaves as bytes and does not know what they say.
package seal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// Config says how to write. Dir and Signers are required.
type Config struct {
	Dir     string
	Disk    durable.FS          // durable.OS when nil
	Signers []checkpoint.Signer // Ed25519, and SM2 when the trail has an SM3 tree
	Epoch   uint32              // of the keys

	// Buffered acknowledges leaves when the operating system has them, not
	// when the disk has. They are synced before the next checkpoint.
	Buffered bool

	SegmentBytes     int64         // a new segment begins at the next whole bundle past this; 64 MiB when 0
	CheckpointEvery  time.Duration // a checkpoint at least this often while leaves arrive; 1 s when 0
	CheckpointLeaves uint64        // and after so many leaves; 65,536 when 0
	RetryEvery       time.Duration // how often a halted log looks whether it can go on; 1 s when 0
	QueueBytes       int           // of leaves waiting for the disk before callers must wait; 2 MiB when 0, at most 8

	// Frames of at least so many bytes are synced beside the hashing of what
	// comes next, and written without being copied together first; 256 KiB when
	// 0. Tests set it lower.
	largeBytes int

	Now func() time.Time // time.Now when nil
	// Published is called with each new checkpoint, by the owner, after it is
	// durable in the trail's directory. It must not call back.
	Published func(note []byte)
	// Resumed is called, by the owner, when a halted log goes on. It must not
	// call back.
	Resumed func(Resumption)
}

// Resumption says what a halt was, once it is over.
type Resumption struct {
	Halted time.Time
	Cause  string
	Lost   uint64 // leaves refused or not made durable meanwhile
}

func (c *Config) setDefaults() {
	if c.Disk == nil {
		c.Disk = durable.OS
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = 64 << 20
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = time.Second
	}
	if c.CheckpointLeaves == 0 {
		c.CheckpointLeaves = 65_536
	}
	if c.RetryEvery == 0 {
		c.RetryEvery = time.Second
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 2 << 20
	}
	c.QueueBytes = min(c.QueueBytes, segment.MaxFrameBody/2)
	if c.largeBytes == 0 {
		c.largeBytes = 256 << 10
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Published == nil {
		c.Published = func([]byte) {}
	}
	if c.Resumed == nil {
		c.Resumed = func(Resumption) {}
	}
}

// Errors a caller acts upon.
var (
	// ErrHalted: the disk failed, and the log refuses leaves until it is
	// repaired. What was acknowledged before is kept.
	ErrHalted = errors.New("trail halted")
	// ErrNotDurable: the batch a leaf was in could not be made durable. The
	// leaf may be in the trail all the same after a crash.
	ErrNotDurable = errors.New("not durable")
	// ErrNotSealed: the leaf is durable, and the trail halted or was closed
	// before a checkpoint covered it. A later one will.
	ErrNotSealed = errors.New("durable, but not sealed")
	// ErrLocked: another process writes to the trail.
	ErrLocked = durable.ErrLocked
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("trail closed")
	// ErrBehindCheckpoint: the trail is shorter than, or differs from, a
	// checkpoint it once signed.
	ErrBehindCheckpoint = errors.New("trail does not reach its last signed checkpoint")
	// ErrDamaged: data that may have been acknowledged is damaged. Nothing
	// was changed; the trail can only be read.
	ErrDamaged = errors.New("trail is damaged")
)

// Log is the one writer of a trail.
type Log struct {
	// Set by Open, then only read.
	cfg    Config
	id     trail.Identity
	lock   *durable.Lock
	leaves *trail.Leaves
	report Recovery
	queue  queue

	wake    chan struct{}     // there may be work for the owner
	seals   chan chan<- error // somebody asks for a checkpoint
	closing chan chan<- error // Close
	done    chan struct{}     // closed when the owner has ended
	view    atomic.Pointer[trail.View]

	stats counters

	// The owner's alone.
	owner
}

// queue is what callers and the owner share.
type queue struct {
	mu      sync.Mutex
	filling *batch
	halted  error         // why leaves are refused
	closed  bool          // leaves are refused for good
	ended   bool          // no checkpoint will follow
	taken   chan struct{} // closed when the owner takes the batch or the log halts
	sealed  uint64        // leaves under the newest checkpoint
	signed  chan struct{} // closed at the next checkpoint, halt or end
	spare   []buffers
}

// batch is a group of leaves that become durable together.
type batch struct {
	buffers
	first uint64 // valid when done and err is nil
	err   error
	done  chan struct{}

	waiting atomic.Int32 // how many have blocked on done
}

type buffers struct {
	lines []byte // each leaf and a newline
	ends  []int  // where each newline is

	// The owner's alone: the leaf hashes of each tree, as far as it has come.
	hashes [][]suite.Hash
}

// hashed is how many leaves have been hashed.
func (b *buffers) hashed() int {
	if len(b.hashes) == 0 {
		return 0
	}
	return len(b.hashes[0])
}

// Pending is a leaf on its way to the disk. The zero value is not one.
type Pending struct {
	log   *Log
	batch *batch
	i     int
}

// Append puts a leaf into the batch that is filling. While that is full it
// waits until ctx ends. The leaf is copied. It must not hold a newline, and not
// be longer than segment.MaxLeaf.
func (l *Log) Append(ctx context.Context, leaf []byte) (Pending, error) {
	if len(leaf) > segment.MaxLeaf {
		return Pending{}, fmt.Errorf("leaf of %d bytes: at most %d", len(leaf), segment.MaxLeaf)
	}
	q := &l.queue
	for {
		q.mu.Lock()
		if err := q.refusal(); err != nil {
			q.mu.Unlock()
			if errors.Is(err, ErrHalted) {
				l.stats.lost.Add(1)
			}
			return Pending{}, err
		}
		b := q.filling
		if len(b.lines) == 0 || len(b.lines)+len(leaf) < l.cfg.QueueBytes && len(b.ends) < segment.MaxFrameLeaves {
			b.lines = append(b.lines, leaf...)
			b.ends = append(b.ends, len(b.lines))
			b.lines = append(b.lines, '\n')
			p := Pending{l, b, len(b.ends) - 1}
			q.mu.Unlock()
			if p.i%hashChunk == 0 { // the first of a batch, or there is something to hash again
				l.poke()
			}
			return p, nil
		}
		taken := q.taken
		q.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return Pending{}, fmt.Errorf("waiting for the disk: %w", ctx.Err())
		}
	}
}

func (q *queue) refusal() error {
	switch {
	case q.closed:
		return ErrClosed
	case q.halted != nil:
		return fmt.Errorf("%w: %w", ErrHalted, q.halted)
	}
	return nil
}

func (l *Log) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Done is closed when the leaf is acknowledged or will never be.
func (p Pending) Done() <-chan struct{} { return p.batch.done }

// Wait returns nil once the leaf is acknowledged. When ctx ends first, the leaf
// may still become durable.
func (p Pending) Wait(ctx context.Context) error {
	select {
	case <-p.batch.done:
		return p.batch.err
	default:
	}
	p.batch.waiting.Add(1)
	select {
	case <-p.batch.done:
		return p.batch.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for the disk: %w", ctx.Err())
	}
}

// Leaf is the leaf's index, once it is acknowledged.
func (p Pending) Leaf() (uint64, bool) {
	select {
	case <-p.batch.done:
		return p.batch.first + uint64(p.i), p.batch.err == nil
	default:
		return 0, false
	}
}

// WaitSealed returns nil once a checkpoint covers the leaf.
func (p Pending) WaitSealed(ctx context.Context) error {
	if err := p.Wait(ctx); err != nil {
		return err
	}
	leaf, _ := p.Leaf()
	q := &p.log.queue
	for {
		q.mu.Lock()
		if q.sealed > leaf {
			q.mu.Unlock()
			return nil
		}
		var err error
		switch {
		case q.ended:
			err = ErrClosed
		case q.halted != nil:
			err = q.halted
		}
		signed := q.signed
		q.mu.Unlock()
		if err != nil {
			return fmt.Errorf("leaf %d: %w: %w", leaf, ErrNotSealed, err)
		}
		select {
		case <-signed:
		case <-ctx.Done():
			return fmt.Errorf("leaf %d is durable, waiting for a checkpoint: %w", leaf, ctx.Err())
		}
	}
}

// Seal makes everything appended before it durable and signs a checkpoint over
// it.
func (l *Log) Seal(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case l.seals <- answer:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close refuses further leaves, makes those it took durable, signs a last
// checkpoint and gives the trail up. A second call returns ErrClosed.
func (l *Log) Close() error {
	answer := make(chan error, 1)
	select {
	case l.closing <- answer:
	case <-l.done:
		return ErrClosed
	}
	return <-answer
}

// View is the log at its newest checkpoint. Its Leaves also read leaves that
// are durable and not yet sealed.
func (l *Log) View() *trail.View { return l.view.Load() }

// Identity says which log this is.
func (l *Log) Identity() trail.Identity { return l.id }

// Recovery says what Open found.
func (l *Log) Recovery() Recovery { return l.report }

type counters struct {
	lost, leaves, durable, batches, checkpoints, repairs, lines, stored, syncNanos atomic.Uint64
}

// Stats are numbers since Open, except Size, Sealed and Lost, which are the
// log's.
type Stats struct {
	Size        uint64 // leaves acknowledged
	Sealed      uint64 // leaves under the newest checkpoint
	Lost        uint64 // leaves refused, or not made durable, in the log's life
	Leaves      uint64
	Batches     uint64
	Checkpoints uint64
	Repairs     uint64
	LeafBytes   uint64 // with their newlines
	StoredBytes uint64 // in segments
	SyncTime    time.Duration
	Waiting     int   // leaves in the batch that is filling
	Halted      error // why leaves are refused, nil when they are not
}

// Stats counts.
func (l *Log) Stats() Stats {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return Stats{
		Size: l.stats.durable.Load(), Sealed: l.queue.sealed, Lost: l.stats.lost.Load(),
		Leaves: l.stats.leaves.Load(), Batches: l.stats.batches.Load(), Checkpoints: l.stats.checkpoints.Load(),
		Repairs: l.stats.repairs.Load(), LeafBytes: l.stats.lines.Load(), StoredBytes: l.stats.stored.Load(),
		SyncTime: time.Duration(l.stats.syncNanos.Load()),
		Waiting:  len(l.queue.filling.ends), Halted: l.queue.halted,
	}
}

// run is the owner's life.
func (l *Log) run() {
	defer close(l.done)
	l.timer = time.NewTimer(l.cfg.CheckpointEvery)
	defer l.timer.Stop()
	defer close(l.disk.departures) // ends the carrier
	for {
		if l.flying != nil {
			// Nothing else may reach the disk, and no flight takes long.
			select {
			case <-l.wake:
				l.hashAhead()
			case a := <-l.disk.arrivals:
				l.land(a)
			}
			if l.flying == nil {
				l.poke() // what has gathered meanwhile
			}
			continue
		}
		select {
		case <-l.wake:
			// One batch at a time: under a load that never ends, the clock and
			// Close must have their turn, too.
			if l.commitNext() {
				l.poke()
			}
		case <-l.timer.C:
			l.timer.Reset(l.tick())
		case answer := <-l.seals:
			l.commitNext() // holds all that was appended before
			l.await()
			answer <- l.sealNow()
		case answer := <-l.closing:
			answer <- l.finish()
			return
		}
	}
}

// tick does what is due by the clock, and says when to come again.
func (l *Log) tick() time.Duration {
	if l.haltedBy() != nil {
		l.repair()
		return l.cfg.RetryEvery
	}
	if l.trees.Size() > l.signedSize {
		l.haltOn(l.sign())
	}
	if l.haltedBy() != nil {
		return l.cfg.RetryEvery
	}
	return l.cfg.CheckpointEvery
}

func (l *Log) sealNow() error {
	if err := l.haltedBy(); err != nil {
		return fmt.Errorf("%w: %w", ErrHalted, err)
	}
	err := l.sign()
	l.haltOn(err)
	return err
}

// commitNext takes what has gathered and writes it. When it returns the batch is
// durable or given up, or, if it is a large one, flying: land or await must come
// before anything else that concerns the disk. It returns false when nothing had
// gathered.
func (l *Log) commitNext() bool {
	l.gather()
	b := l.take()
	if b == nil {
		return false
	}
	if cause := l.haltedBy(); cause != nil {
		l.settle(b, fmt.Errorf("%w: %w", ErrHalted, cause))
		return true
	}
	if err := l.commit(b); err != nil {
		l.landed(b, err)
		return true
	}
	switch {
	case l.departing.file != nil:
		l.flying = b
		l.disk.departures <- l.departing
		l.departing = departure{}
	case l.cfg.Buffered:
		l.landed(b, nil)
	default:
		l.landed(b, l.sync())
	}
	return true
}

// gather waits a moment for those who have just been answered, when they are
// back soon beside what a sync takes: most of them are about to append again.
// Without it two groups of callers take turns, and each waits for the other's
// sync as well as for its own. When the callers are many, the turns are as good:
// one group works while the other is synced.
func (l *Log) gather() {
	const (
		each     = 4 * time.Microsecond  // what waking and appending take
		patience = 50 * time.Microsecond // while nobody comes
		turns    = 1000                  // also where the clock is a coarse one
	)
	want, woken, most := l.expected, l.woken, l.syncTook/4
	l.expected, l.woken = 0, 0
	if woken < 2 || time.Duration(woken) > most/each || l.cfg.Buffered {
		return
	}
	q := &l.queue
	start := time.Now()
	came, have := start, 0
	for range turns {
		runtime.Gosched() // they go first
		now := time.Now()
		if q.mu.TryLock() {
			n := len(q.filling.ends)
			q.mu.Unlock()
			if n >= want {
				return
			}
			if n != have {
				have, came = n, now
			}
		}
		if now.Sub(came) > patience || now.Sub(start) > most {
			return
		}
	}
}

// hashAhead hashes leaves that wait while a batch is flying, until there are few
// or it has landed.
func (l *Log) hashAhead() {
	for l.flying != nil {
		q := &l.queue
		q.mu.Lock()
		b := q.filling
		// Callers append to both, and change nothing of what is there.
		lines, ends := b.lines, b.ends
		q.mu.Unlock()
		from := b.hashed()
		if len(ends)-from < hashChunk {
			return
		}
		l.hash(&b.buffers, lines, ends[:from+hashChunk])
		select {
		case a := <-l.disk.arrivals:
			l.land(a)
		default:
		}
	}
}

// land ends the flight of a batch.
func (l *Log) land(a arrival) {
	b := l.flying
	l.flying = nil
	l.syncTook = a.synced
	l.stats.syncNanos.Add(uint64(l.syncTook))
	l.landed(b, a.err)
}

// await waits for the batch that is flying, if any.
func (l *Log) await() {
	if l.flying != nil {
		l.land(<-l.disk.arrivals)
	}
}

// landed does what is due when a batch is written and synced, or could not be.
func (l *Log) landed(b *batch, err error) {
	if err != nil {
		l.haltOn(err)
		l.settle(b, fmt.Errorf("%w: %w", ErrNotDurable, err))
		return
	}
	l.accept(!l.cfg.Buffered)
	l.settle(b, nil)
	l.haltOn(l.tileErr)
	if l.tileErr == nil && l.trees.Size()-l.signedSize >= l.cfg.CheckpointLeaves {
		l.haltOn(l.sign())
	}
}

// carrier takes large frames to the disk while the owner hashes what comes next.
type carrier struct {
	departures chan departure // the owner leaves the file and the bytes alone
	arrivals   chan arrival   // until this answers
}

type arrival struct {
	err    error
	synced time.Duration // what the sync took
}

func newCarrier() carrier {
	return carrier{departures: make(chan departure), arrivals: make(chan arrival, 1)}
}

// run ends when departures is closed.
func (d carrier) run() {
	for frame := range d.departures {
		a := arrival{err: frame.write()}
		if a.err == nil && frame.sync {
			start := time.Now()
			a.err = frame.file.Sync()
			a.synced = time.Since(start)
		}
		d.arrivals <- a
	}
}

// take swaps the filling batch for an empty one. It is nil when nothing
// gathered.
func (l *Log) take() *batch {
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.filling
	if len(b.ends) == 0 {
		return nil
	}
	q.filling = &batch{done: make(chan struct{})}
	if n := len(q.spare); n > 0 {
		q.filling.buffers, q.spare = q.spare[n-1], q.spare[:n-1]
	}
	close(q.taken)
	q.taken = make(chan struct{})
	return b
}

// settle answers the callers of a batch, and keeps its memory for another.
func (l *Log) settle(b *batch, err error) {
	if err != nil {
		l.stats.lost.Add(uint64(len(b.ends)))
	}
	q := &l.queue
	q.mu.Lock()
	for i := range b.hashes {
		b.hashes[i] = b.hashes[i][:0]
	}
	q.spare = append(q.spare, buffers{b.lines[:0], b.ends[:0], b.hashes})
	l.woken = int(b.waiting.Load())
	l.expected = len(q.filling.ends) + l.woken
	q.mu.Unlock()
	b.buffers = buffers{}
	b.err = err
	close(b.done)
}

func (l *Log) haltedBy() error {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return l.queue.halted
}

// haltOn refuses leaves from now on, if err is one.
func (l *Log) haltOn(err error) {
	if err == nil {
		return
	}
	q := &l.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted == nil {
		l.haltedAt, l.lostBefore = l.cfg.Now(), l.stats.lost.Load()
	}
	l.cause, q.halted = err, err
	l.timer.Reset(l.cfg.RetryEvery)
	q.announce()
}

// announce wakes whoever waits for a checkpoint. q.mu is held.
func (q *queue) announce() {
	close(q.signed)
	q.signed = make(chan struct{})
}

// finish is the owner's last act.
func (l *Log) finish() error {
	q := &l.queue
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for l.commitNext() {
		l.await()
	}
	if l.haltedBy() != nil {
		l.repair() // a last try: the count of what was lost is only in memory
	}
	err := l.haltedBy()
	if err == nil {
		err = l.sign() // also of an empty trail: its key then stands under something
	}
	q.mu.Lock()
	q.ended = true
	q.announce()
	close(q.taken)
	q.mu.Unlock()
	return errors.Join(err, l.file.Close(), l.leaves.Close(), l.lock.Release())
}

// owner is what the owning goroutine alone uses.
type owner struct {
	file       durable.File
	first      uint64     // the first leaf of the segment being written
	end        int64      // of what is acknowledged in it
	synced     int64      // of what is durable in it; before end only when Buffered
	link       suite.Hash // of the last header in it
	trees      trail.Trees
	hasher     trail.Hasher
	signedSize uint64
	signedAt   bool                // a checkpoint of signedSize exists
	lazy       map[string]struct{} // tiles not yet synced
	disk       carrier
	departing  departure
	flying     *batch // being written and synced by the carrier
	syncTook   time.Duration
	woken      int     // callers who were waiting for the last batch
	expected   int     // leaves in the next one, once they are back
	written    written // not yet acknowledged
	frame      []byte
	prints     []byte
	edge       []string // the partial tiles on disk
	tileErr    error    // a completed tile could not be kept
	cause      error    // of the halt
	haltedAt   time.Time
	rescued    []byte      // bytes acknowledged as buffered, while repair writes them again
	lostBefore uint64      // leaves lost before the halt
	lostKept   uint64      // leaves lost by the count of the last frame
	timer      *time.Timer // for the next checkpoint, or repair
}
