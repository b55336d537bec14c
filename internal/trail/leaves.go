package trail

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/tlog"
)

// ErrMissing says that no segment holds a leaf any more.
var ErrMissing = errors.New("its segment is missing")

// Leaves reads leaves by index. It remembers where the bundles of the segments
// it looked into begin. It is safe for concurrent use, also while the trail
// grows, as long as nobody asks for leaves that are not durable yet.
type Leaves struct {
	dir   string
	most  int // segments in open
	mu    sync.Mutex
	files []SegmentFile
	open  map[uint64]*segmentIndex // by first leaf
	used  []uint64                 // the keys of open, least recently used first
}

// maxOpenSegments bounds the file handles that readers of one trail hold: 8 GiB of
// it, with segments of 64 MiB, are searched again without opening a file anew.
const maxOpenSegments = 128

// NewLeaves reads the leaves of the trail in dir.
func NewLeaves(dir string) *Leaves {
	return &Leaves{dir: dir, most: maxOpenSegments, open: make(map[uint64]*segmentIndex)}
}

// Close closes the files held open.
func (l *Leaves) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, x := range l.open {
		errs = append(errs, x.file.Close())
	}
	clear(l.open)
	l.used = nil
	return errors.Join(errs...)
}

// Place says where a leaf lies.
type Place struct {
	Segment string    // file name
	Offset  int64     // of the leaf's first byte
	Time    time.Time // when its batch was written
}

// Read returns the n leaves from first on, which must not go past the end of
// their 256-leaf bundle.
func (l *Leaves) Read(first uint64, n int) ([][]byte, error) {
	leaves, _, err := l.read(first, n)
	return leaves, err
}

// ReadPlace returns one leaf and where it lies.
func (l *Leaves) ReadPlace(index uint64) ([]byte, Place, error) {
	leaves, place, err := l.read(index, 1)
	if err != nil {
		return nil, place, err
	}
	return leaves[0], place, nil
}

func (l *Leaves) read(first uint64, n int) ([][]byte, Place, error) {
	skip := int(first % tlog.TileWidth)
	if n < 1 || skip+n > tlog.TileWidth {
		return nil, Place{}, fmt.Errorf("leaves %d to %d: not within one bundle", first, first+uint64(n)-1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	x, err := l.index(first)
	if err != nil {
		return nil, Place{}, err
	}
	leaves, place, err := x.read(first-uint64(skip), skip+n, skip)
	if err != nil {
		return nil, place, fmt.Errorf("segment %s: %w", x.name, err)
	}
	return leaves[skip:], place, nil
}

// index finds the segment that holds a leaf.
func (l *Leaves) index(leaf uint64) (*segmentIndex, error) {
	at := l.find(leaf)
	if at < 0 || at == len(l.files)-1 { // a newer segment may have begun
		files, err := Segments(l.dir)
		if err != nil {
			return nil, err
		}
		l.files = files
		at = l.find(leaf)
	}
	if at < 0 {
		return nil, fmt.Errorf("leaf %d: %w", leaf, ErrMissing)
	}
	f, live := l.files[at], at == len(l.files)-1
	if i := slices.Index(l.used, f.FirstLeaf); i >= 0 {
		l.used = append(slices.Delete(l.used, i, i+1), f.FirstLeaf)
		x := l.open[f.FirstLeaf]
		x.live = live
		return x, nil
	}
	x, err := openIndex(f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("leaf %d: %w", leaf, ErrMissing)
	}
	if err != nil {
		return nil, err
	}
	x.live, x.stale = live, live
	if len(l.used) >= l.most {
		oldest := l.used[0]
		l.used = l.used[1:]
		if err := l.open[oldest].file.Close(); err != nil {
			return nil, errors.Join(err, x.file.Close())
		}
		delete(l.open, oldest)
	}
	l.used = append(l.used, f.FirstLeaf)
	l.open[f.FirstLeaf] = x
	return x, nil
}

func (l *Leaves) find(leaf uint64) int {
	i, exact := slices.BinarySearchFunc(l.files, leaf, func(f SegmentFile, leaf uint64) int {
		switch {
		case f.FirstLeaf < leaf:
			return -1
		case f.FirstLeaf > leaf:
			return 1
		}
		return 0
	})
	if exact {
		return i
	}
	return i - 1
}

// segmentIndex remembers where the frames and bundles of one segment begin.
type segmentIndex struct {
	name    string
	file    *os.File
	reader  *segment.Reader
	frames  []frameEntry
	bundles []bundleEntry
	ends    []int
	live    bool // it is the last segment
	stale   bool // it was when its reader read ahead: that may have been written anew since
}

type frameEntry struct {
	first, end uint64 // leaves
	lines      int64  // where its lines begin in the file
	size       int    // of its lines
	time       time.Time
	damage     error // its leaves can't be read

	unread *segment.Frame // only its header was read: its bundles have no places yet
}

type bundleEntry struct {
	frame int // the frame with its first leaf
	at    int // where that leaf begins in the frame's lines
}

func openIndex(f SegmentFile) (*segmentIndex, error) {
	file, err := durable.Open(f.Path)
	if err != nil {
		return nil, err
	}
	x := &segmentIndex{name: f.Name, file: file}
	if err := x.reopen(); err != nil {
		return nil, errors.Join(fmt.Errorf("segment %s: %w", f.Name, err), file.Close())
	}
	if x.reader.Header.FirstLeaf != f.FirstLeaf {
		return nil, errors.Join(fmt.Errorf("segment %s: begins with leaf %d", f.Name, x.reader.Header.FirstLeaf), file.Close())
	}
	return x, nil
}

// reopen makes the reader see what was appended since.
func (x *segmentIndex) reopen() error {
	st, err := x.file.Stat()
	if err != nil {
		return err
	}
	if x.reader == nil {
		x.reader, err = segment.NewReader(x.file, st.Size())
		return err
	}
	x.reader.Grow(st.Size())
	return nil
}

// extend reads on until the leaves before end are known.
func (x *segmentIndex) extend(end uint64) error {
	if x.reader.NextLeaf() >= end {
		return nil
	}
	if x.stale {
		if err := x.reopen(); err != nil {
			return err
		}
	}
	x.stale = x.live
	grown := false
	for x.reader.NextLeaf() < end {
		if !x.live && !x.stale { // nobody writes to it: what is wrong with a body shows when it is read
			if f, err := x.reader.NextHeader(); err == nil {
				x.addHeader(&f)
				continue
			}
		}
		f, err := x.reader.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, segment.ErrShort) {
			if grown {
				return fmt.Errorf("leaf %d: %w", end-1, ErrMissing)
			}
			grown = true
			if err := x.reopen(); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = x.add(&f)
		} else if x.pass(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pass goes on behind a damaged frame when its header says where it ends: only
// its own leaves are lost to readers then. It does not in the last segment,
// where what looks damaged may be on its way to the disk.
func (x *segmentIndex) pass(problem error) bool {
	var damage *segment.DamageError
	if x.live || !errors.As(problem, &damage) {
		return false
	}
	f, err := x.reader.Peek()
	if err != nil || f.Kind != segment.Events || f.FirstLeaf != x.reader.NextLeaf() {
		return false
	}
	end := f.FirstLeaf + uint64(f.Count)
	for first := f.FirstLeaf + -f.FirstLeaf%tlog.TileWidth; first < end; first += tlog.TileWidth {
		x.bundles = append(x.bundles, bundleEntry{frame: len(x.frames)})
	}
	x.frames = append(x.frames, frameEntry{first: f.FirstLeaf, end: end, damage: damage})
	x.reader.Accept(&f)
	return true
}

// addHeader takes in a frame whose body was not read.
func (x *segmentIndex) addHeader(f *segment.Frame) {
	if f.Kind != segment.Events {
		return
	}
	for i := int(-f.FirstLeaf % tlog.TileWidth); i < f.Count; i += tlog.TileWidth {
		x.bundles = append(x.bundles, bundleEntry{frame: len(x.frames)})
	}
	lines := f.LineOffset(0)
	x.frames = append(x.frames, frameEntry{
		first: f.FirstLeaf, end: f.FirstLeaf + uint64(f.Count),
		lines: lines, size: int(f.Offset + f.Size() - lines), time: f.Time, unread: f,
	})
}

// know reads the body of a frame of which only the header was, and finds the
// places of its bundles.
func (x *segmentIndex) know(frame int) error {
	f := &x.frames[frame]
	if f.unread == nil {
		return nil
	}
	body := *f.unread
	err := body.ReadBody(x.file)
	if err == nil {
		if x.ends, err = body.Ends(x.ends[:0]); err != nil {
			err = &segment.DamageError{Offset: body.Offset, Leaf: body.FirstLeaf, Problem: err}
		}
	}
	var damage *segment.DamageError
	switch {
	case errors.As(err, &damage):
		f.damage, f.unread = damage, nil
		return nil
	case err != nil:
		return err
	}
	skip := int(-f.first % tlog.TileWidth)
	for b := (f.first + uint64(skip) - x.reader.Header.FirstLeaf) / tlog.TileWidth; skip < body.Count; b++ {
		if skip > 0 {
			x.bundles[b].at = x.ends[skip-1] + 1
		}
		skip += tlog.TileWidth
	}
	f.unread = nil
	return nil
}

func (x *segmentIndex) add(f *segment.Frame) (err error) {
	if f.Kind != segment.Events {
		return nil
	}
	if x.ends, err = f.Ends(x.ends[:0]); err != nil {
		return err
	}
	for i := int(-f.FirstLeaf % tlog.TileWidth); i < f.Count; i += tlog.TileWidth {
		at := 0
		if i > 0 {
			at = x.ends[i-1] + 1
		}
		x.bundles = append(x.bundles, bundleEntry{frame: len(x.frames), at: at})
	}
	x.frames = append(x.frames, frameEntry{
		first: f.FirstLeaf, end: f.FirstLeaf + uint64(f.Count),
		lines: f.LineOffset(0), size: len(f.Lines()), time: f.Time,
	})
	return nil
}

// read reads the first n leaves of the bundle that begins with leaf first, and
// says where leaf number which of them lies.
func (x *segmentIndex) read(first uint64, n, which int) (leaves [][]byte, place Place, err error) {
	if first > math.MaxUint64-tlog.TileWidth {
		return nil, place, fmt.Errorf("leaf %d: %w", first, ErrMissing)
	}
	if err := x.extend(first + uint64(n)); err != nil {
		return nil, place, err
	}
	b := (first - x.reader.Header.FirstLeaf) / tlog.TileWidth
	if err := x.know(x.bundles[b].frame); err != nil {
		return nil, place, err
	}
	at := x.bundles[b]
	for i := at.frame; len(leaves) < n; i++ {
		if i == len(x.frames) {
			return nil, place, fmt.Errorf("at %d: leaf %d: the file changed since it was read", x.frames[at.frame].lines, first)
		}
		if err := x.know(i); err != nil {
			return nil, place, err
		}
		f := &x.frames[i]
		if f.damage != nil {
			return nil, place, f.damage
		}
		from, to := 0, f.size
		if i == at.frame {
			from = at.at
		}
		if b+1 < uint64(len(x.bundles)) && x.bundles[b+1].frame == i {
			to = x.bundles[b+1].at
		}
		lines := make([]byte, to-from)
		if _, err := x.file.ReadAt(lines, f.lines+int64(from)); err != nil {
			return nil, place, err
		}
		start := 0
		for _, end := range segment.SplitLines(nil, lines) {
			if len(leaves) == which {
				place = Place{Segment: x.name, Offset: f.lines + int64(from+start), Time: f.time}
			}
			if len(leaves) < n {
				leaves = append(leaves, lines[start:end:end])
			}
			start = end + 1
		}
	}
	return leaves, place, nil
}
