// Package index makes searches of a trail fast. It reads what is sealed, writes
// down beside each closed segment what occurs in it, and says where a search has
// to look:
//
//	DIR/index/<first leaf>.sum   a summary: the time of each bundle, events counted
//	                             by hour, action, kind of subject and severity, and
//	                             a Bloom filter of the values
//	DIR/index/<first leaf>.idx   postings: which events have which value, for the
//	                             segments in the hot window
//	DIR/index/lock               held by whoever writes them
//
// docs/format/sidecar.md has their bytes. The segment that still grows is indexed
// in memory.
//
// Nothing depends on these files, and nothing is believed because of them. A
// search looks at every sealed record that an index names, and reads the segment
// itself where an index is missing, stale, damaged or being made: its answer is
// the same, it only takes longer. A sidecar says in which log, behind which frame
// header it belongs, and every 4 KiB of it have a checksum, which is compared at
// each look. One that does not hold is removed and made again. What an index
// names and the record does not bear out is left out of the answer, counted, and
// has the sidecar removed as well.
//
// An Index follows the trail in a goroutine of its own, behind the durable end.
// The writer of the trail does not know of it. It holds no data that the trail
// does not hold, and a sidecar goes when its segment goes.
package index

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/trail"
)

// Names in a trail's directory, and in the index's.
const (
	Dir = "index"

	summarySuffix  = ".sum"
	postingsSuffix = ".idx"
	lockFile       = "lock"
)

// DefaultHotEvents is how many of the newest events have postings when a Config
// does not say.
const DefaultHotEvents = 20_000_000

// Config says which trail to index. Dir and Durable are required.
type Config struct {
	Dir string // the trail's
	// Durable tells how many leaves are durable: the writer's word, or the size
	// of the newest checkpoint.
	Durable func() uint64

	// Leaves read the hits, the trail's own when nil. Whoever gave them closes
	// them, after the Index.
	Leaves *trail.Leaves

	// The hot window: segments that are within both have postings. Older ones
	// keep their summary.
	HotEvents uint64        // of the newest events; DefaultHotEvents when 0
	HotFor    time.Duration // since an event's time; without bound when 0

	Every   time.Duration // how often to look for new leaves; 100 ms when 0
	Patrol  time.Duration // how often to look whether some of the files are still there; 1 s when 0
	Retry   time.Duration // how long to leave a segment alone that could not be indexed; 1 min when 0
	Disk    durable.FS    // durable.OS when nil
	Now     func() time.Time
	Problem func(error) // told what went wrong and is being mended; may be nil
}

func (c *Config) setDefaults() error {
	if c.Dir == "" || c.Durable == nil {
		return errors.New("index: Dir or Durable is not set")
	}
	if c.HotEvents == 0 {
		c.HotEvents = DefaultHotEvents
	}
	if c.Every <= 0 {
		c.Every = 100 * time.Millisecond
	}
	if c.Patrol <= 0 {
		c.Patrol = time.Second
	}
	if c.Retry <= 0 {
		c.Retry = time.Minute
	}
	if c.Disk == nil {
		c.Disk = durable.OS
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Problem == nil {
		c.Problem = func(error) {}
	}
	return nil
}

// ErrLocked says that another process keeps this index.
var ErrLocked = durable.ErrLocked

// Index answers searches of one trail. It is safe for concurrent use.
type Index struct {
	cfg      Config
	instance [16]byte
	leaves   *trail.Leaves

	mu     sync.Mutex
	closed []*closed // in leaf order
	// Replaced with each segment, by the indexer.
	live atomic.Pointer[live]

	lies, removed atomic.Uint64

	// The indexer's; nil and zero in one that only reads.
	lock *durable.Lock
	wake chan struct{}
	stop context.CancelFunc
	done chan struct{}
	indexer
}

// closed is a segment that no longer grows, and what there is beside it. It is
// not changed: another takes its place.
type closed struct {
	identity           // without span and bytes when there is no summary
	summary  *sidecar  // nil when there is none
	postings *postings // nil when there is none
	stamps   [2]stamp  // of the summary's file and the postings', as they were when read
	problem  error     // why it could not be indexed
	retry    time.Time
	scrubbed bool // all checksums were compared
}

// bytes is how much the files take.
func (c *closed) bytes() int64 { return c.stamps[0].size + c.stamps[1].size }

// stamp tells whether a file is still the one that was read.
type stamp struct {
	size     int64
	modified time.Time
}

// live is the segment that grows.
type live struct {
	mu sync.RWMutex
	b  *builder
}

// Open begins to keep the index of a trail: it reads the sidecars that are
// there, removes those that do not belong, and goes on in the background until
// Close. ErrLocked says that another process does it already.
func Open(cfg Config) (*Index, error) {
	x, err := newWriter(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.stop, x.done = cancel, make(chan struct{})
	go func() {
		defer close(x.done)
		x.run(ctx)
	}()
	return x, nil
}

// OpenReader uses what sidecars there are, and writes nothing. leaves are as
// Config has them.
func OpenReader(dir string, leaves *trail.Leaves) (*Index, error) {
	x, err := newIndex(Config{Dir: dir, Leaves: leaves, Durable: func() uint64 { return 0 }})
	if err != nil {
		return nil, err
	}
	if err := x.load(); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// None is an index of nothing: it reads everything that it is asked about.
func None(dir string, leaves *trail.Leaves) (*Index, error) {
	return newIndex(Config{Dir: dir, Leaves: leaves, Durable: func() uint64 { return 0 }})
}

// Build makes what is missing of a trail's index, and returns when all is
// there. progress is called now and then, perhaps with nothing new.
func Build(ctx context.Context, cfg Config, progress func(Status)) (Status, error) {
	x, err := newWriter(cfg)
	if err != nil {
		return Status{}, err
	}
	for ctx.Err() == nil && x.backfill() {
		progress(x.Status())
	}
	st := x.Status()
	return st, errors.Join(ctx.Err(), x.Close())
}

// Kept tells whether some process keeps a trail's index.
func Kept(dir string) bool {
	_, held, err := durable.LockOwner(filepath.Join(dir, Dir, lockFile))
	return err == nil && held
}

// Drop removes a trail's index.
func Drop(dir string) error {
	lock, err := durable.AcquireLock(filepath.Join(dir, Dir, lockFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := sidecars(dir)
	for _, name := range names {
		err = errors.Join(err, durable.OS.Remove(name))
	}
	return errors.Join(err, lock.Release())
}

func newIndex(cfg Config) (*Index, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	id, err := trail.ReadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	x := &Index{cfg: cfg, instance: id.Instance, leaves: cfg.Leaves, wake: make(chan struct{}, 1)}
	if x.leaves == nil {
		x.leaves = trail.NewLeaves(cfg.Dir)
	}
	return x, nil
}

func newWriter(cfg Config) (*Index, error) {
	x, err := newIndex(cfg)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.Dir, Dir)
	if err := x.cfg.Disk.MkdirAll(dir); err != nil {
		return nil, err
	}
	if x.lock, err = durable.AcquireLock(filepath.Join(dir, lockFile)); err != nil {
		return nil, err
	}
	if err := x.begin(); err != nil {
		return nil, errors.Join(err, x.lock.Release())
	}
	return x, nil
}

// Close ends the indexer and closes all files. What was not written yet is made
// again the next time.
func (x *Index) Close() error {
	if x.stop != nil {
		x.stop()
		<-x.done
	}
	errs := []error{x.closeFollowers()}
	if x.cfg.Leaves == nil {
		errs = append(errs, x.leaves.Close())
	}
	if x.lock != nil {
		errs = append(errs, x.lock.Release())
	}
	return errors.Join(errs...)
}

// Status says how far an index is.
type Status struct {
	Segments int    `json:"segments"` // that are closed
	Indexed  int    `json:"indexed"`  // of them
	Hot      int    `json:"hot"`      // of the indexed: with postings
	Failed   int    `json:"failed"`   // could not be indexed and are searched by reading them
	Size     uint64 `json:"size"`     // durable leaves
	Leaves   uint64 `json:"leaves"`   // indexed, those in memory included
	Lag      uint64 `json:"lag"`      // leaves that are not
	Bytes    int64  `json:"bytes"`    // of the sidecars
	Removed  uint64 `json:"removed"`  // sidecars that did not hold, since Open
	Lies     uint64 `json:"lies"`     // events that a sidecar named and that were not what was asked for, since Open
	Problem  string `json:"problem,omitempty"`
}

// Rebuilding tells whether there are closed segments to be indexed.
func (s *Status) Rebuilding() bool { return s.Indexed+s.Failed < s.Segments }

func (s *Status) String() string {
	if s.Rebuilding() {
		return fmt.Sprintf("index rebuilding: %d of %d segments", s.Indexed, s.Segments)
	}
	return fmt.Sprintf("index: %d of %d segments", s.Indexed, s.Segments)
}

// Status says how far the index is.
func (x *Index) Status() Status {
	s := Status{Size: x.cfg.Durable(), Removed: x.removed.Load(), Lies: x.lies.Load()}
	end, indexed := uint64(0), uint64(0)
	x.mu.Lock()
	for _, c := range x.closed {
		s.Segments++
		s.Bytes += c.bytes()
		end = max(end, c.first+c.leaves)
		switch {
		case c.complete(x.hot(c)):
			s.Indexed++
			s.Leaves += c.leaves
			indexed = max(indexed, c.first+c.leaves)
			if c.postings != nil {
				s.Hot++
			}
		case c.problem != nil:
			s.Failed++
			s.Problem = c.problem.Error()
		}
	}
	x.mu.Unlock()
	if l := x.live.Load(); l != nil {
		l.mu.RLock()
		// A segment that has just been closed is here as well for a moment.
		s.Leaves += l.b.next() - min(l.b.next(), max(l.b.first, indexed))
		end = max(end, l.b.next())
		l.mu.RUnlock()
	}
	s.Size = max(s.Size, end)
	s.Lag = s.Size - min(s.Size, s.Leaves)
	return s
}

// complete tells whether a segment has what it should have.
func (c *closed) complete(hot bool) bool { return c.summary != nil && (c.postings != nil || !hot) }

// hot tells whether a segment should have postings. A segment whose times are
// not known yet should.
func (x *Index) hot(c *closed) bool {
	end := x.cfg.Durable()
	if n := len(x.closed); n > 0 {
		last := x.closed[n-1]
		end = max(end, last.first+last.leaves)
	}
	if end-(c.first+c.leaves) >= x.cfg.HotEvents {
		return false
	}
	return c.summary == nil || x.cfg.HotFor == 0 || c.span.max >= x.cfg.Now().Add(-x.cfg.HotFor).Unix()
}

func (x *Index) path(first uint64, suffix string) string {
	return filepath.Join(x.cfg.Dir, Dir, fmt.Sprintf("%020d%s", first, suffix))
}

// sidecars lists the files of an index: sidecars, and what was left of writing
// them.
func sidecars(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, Dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		_, ours := sidecarLeaf(name)
		if ours || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".tmp") {
			out = append(out, filepath.Join(dir, Dir, name))
		}
	}
	return out, err
}

// sidecarLeaf is the first leaf that a sidecar's name says.
func sidecarLeaf(name string) (uint64, bool) {
	ext := filepath.Ext(name)
	digits := strings.TrimSuffix(name, ext)
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && len(digits) == 20 && (ext == summarySuffix || ext == postingsSuffix)
}

// closedSegments lists the segments that no longer grow: all but the last. Each
// is known by what the next one says of it. last is where the last one begins.
// Those known are not looked at again.
func (x *Index) closedSegments() (out []*closed, last uint64, err error) {
	files, err := trail.Segments(x.cfg.Dir)
	if err != nil {
		return nil, 0, err
	}
	known := x.snapshot()
	for i, file := range files {
		last = file.FirstLeaf
		if i == 0 {
			continue
		}
		if at := find(known, files[i-1].FirstLeaf); at >= 0 && known[at].first+known[at].leaves == last {
			out = append(out, known[at])
			continue
		}
		h, err := readHeader(file.Path)
		if err != nil {
			// Without it nothing is known of the segment before, which is read then.
			x.cfg.Problem(fmt.Errorf("segment %s: %w", file.Name, err))
			continue
		}
		before := files[i-1].FirstLeaf
		if h.FirstLeaf != file.FirstLeaf || h.Instance != x.instance {
			continue
		}
		out = append(out, &closed{identity: identity{first: before, leaves: h.FirstLeaf - before, instance: h.Instance, link: h.Previous}})
	}
	return out, last, nil
}

func readHeader(name string) (segment.Header, error) {
	f, err := os.Open(name)
	if err != nil {
		return segment.Header{}, err
	}
	defer f.Close()
	b := make([]byte, segment.HeaderSize)
	if _, err := f.ReadAt(b, 0); err != nil {
		return segment.Header{}, err
	}
	return segment.ParseHeader(b)
}

// load finds the closed segments and what sidecars they have.
func (x *Index) load() error {
	segments, _, err := x.closedSegments()
	if err != nil {
		return err
	}
	for i, c := range segments {
		segments[i] = x.read(c)
	}
	x.mu.Lock()
	x.closed = segments
	x.mu.Unlock()
	return nil
}

// read is c with the sidecars that are there. Those that do not hold are
// removed, when this process keeps the index.
func (x *Index) read(c *closed) *closed {
	out := &closed{identity: c.identity}
	for i, kind := range []string{kindSummary, kindPostings} {
		name := x.path(c.first, suffixOf(kind))
		read, err := x.readSidecar(out, kind, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			x.remove(name, err)
			continue
		}
		out.stamps[i] = read
	}
	return out
}

func suffixOf(kind string) string {
	if kind == kindSummary {
		return summarySuffix
	}
	return postingsSuffix
}

func (x *Index) readSidecar(c *closed, kind, name string) (stamp, error) {
	f, err := os.Open(name)
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return stamp{}, err
	}
	read := stamp{info.Size(), info.ModTime()}
	s, err := openSidecar(kind, f, info.Size())
	if err == nil && !s.sameSegment(&c.identity) {
		err = sidecarError("of another segment, or of what this one was before")
	}
	if err != nil {
		return stamp{}, err
	}
	if kind == kindSummary {
		c.summary, c.identity = s, s.identity
		return read, nil
	}
	c.postings, err = openPostings(s, &reader{sidecar: s, src: f})
	return read, err
}

// remove deletes a sidecar that does not hold, if that is this process's to do.
func (x *Index) remove(name string, problem error) {
	if x.lock == nil {
		return
	}
	x.removed.Add(1)
	x.cfg.Problem(fmt.Errorf("%s: %w; making it again", filepath.Base(name), problem))
	if err := x.cfg.Disk.Remove(name); err != nil {
		x.cfg.Problem(err) // it will be replaced
	}
}

// distrust does without the sidecars of a segment from now on. They are made
// again, when this process keeps the index.
func (x *Index) distrust(c *closed, problem error) {
	x.mu.Lock()
	i := x.find(c.first)
	mine := i >= 0 && x.closed[i].summary == c.summary && x.closed[i].postings == c.postings // else somebody else was quicker
	if mine {
		x.closed[i] = &closed{identity: c.identity}
	}
	x.mu.Unlock()
	if !mine {
		return
	}
	for _, suffix := range []string{summarySuffix, postingsSuffix} {
		x.remove(x.path(c.first, suffix), problem)
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// find is where the closed segment that begins with a leaf is, or -1. x.mu is
// held.
func (x *Index) find(first uint64) int { return find(x.closed, first) }

func find(segments []*closed, first uint64) int {
	i, ok := slices.BinarySearchFunc(segments, first, func(c *closed, first uint64) int { return cmp.Compare(c.first, first) })
	if !ok {
		return -1
	}
	return i
}

// snapshot is the closed segments as they are now.
func (x *Index) snapshot() []*closed {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.closed)
}
