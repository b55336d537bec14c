package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// Recovery is what Open found and did.
type Recovery struct {
	Size         uint64 // leaves found
	Replayed     uint64 // of them read again, those of the last segment
	RebuiltTiles bool   // tiles were missing or wrong and were made again from the segments
	// What was cut from the end of the last segment: bytes of a write that was
	// never acknowledged. They are kept in CutFile.
	CutBytes  int64
	CutAt     int64
	CutFrom   string // the segment's file name
	CutFile   string
	Unsealed  uint64 // leaves found beyond the newest checkpoint
	LastNote  []byte // the newest checkpoint, nil when there was none
	LastFrame time.Time
}

// DamageError says what is wrong with a trail that can't be written any more.
// It matches ErrDamaged.
type DamageError struct {
	Segment string // file name
	Err     error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("segment %s %v: the trail is only open for reading; nothing was changed", e.Segment, e.Err)
}

// Is makes the error match ErrDamaged.
func (e *DamageError) Is(target error) bool { return target == ErrDamaged }

func (e *DamageError) Unwrap() error { return e.Err }

// Open takes the trail in cfg.Dir to write to it. It reads the last segment
// again, cuts what a crash left behind the last whole frame, and compares what
// it found with the tiles and with the newest checkpoint. When anything that
// may have been acknowledged is damaged or gone it changes nothing and returns
// an error that matches ErrDamaged or ErrBehindCheckpoint.
func Open(cfg Config) (*Log, error) {
	cfg.setDefaults()
	id, err := trail.ReadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if err := checkSigners(id, cfg.Signers); err != nil {
		return nil, err
	}
	lock, err := durable.AcquireLock(filepath.Join(cfg.Dir, trail.LockFile))
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, id: id, lock: lock, leaves: trail.NewLeaves(cfg.Dir),
		wake: make(chan struct{}, 1), seals: make(chan chan<- error), closing: make(chan chan<- error), done: make(chan struct{}),
	}
	l.lazy, l.disk = make(map[string]struct{}), newCarrier()
	l.queue.filling = &batch{done: make(chan struct{})}
	l.queue.taken, l.queue.signed = make(chan struct{}), make(chan struct{})
	if err := l.recover(); err != nil {
		if l.file != nil {
			err = errors.Join(err, l.file.Close())
		}
		return nil, errors.Join(err, lock.Release())
	}
	go l.disk.run()
	go l.run()
	return l, nil
}

func checkSigners(id trail.Identity, signers []checkpoint.Signer) error {
	for _, s := range signers {
		if name := s.Verifier().Name(); name != id.Origin {
			return fmt.Errorf("key of %s can't sign for the trail %s", name, id.Origin)
		}
	}
	if want := len(id.Digests.Digests()); len(signers) != want {
		return fmt.Errorf("trail %s: want %d signing keys, got %d", id.Origin, want, len(signers))
	}
	return nil
}

func (l *Log) recover() error {
	files, err := trail.Segments(l.cfg.Dir)
	if err != nil {
		return err
	}
	published, err := trail.ReadCheckpoint(l.cfg.Dir)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		if published != nil {
			return fmt.Errorf("%w: there is a checkpoint and no segment", ErrBehindCheckpoint)
		}
		l.trees = trail.NewTrees(l.id.Digests, l.keepTile)
		if err := l.startSegment(); err != nil {
			return err
		}
		l.view.Store(trail.NewView(l.cfg.Dir, l.leaves, l.trees))
		return nil
	}
	last := files[len(files)-1]
	l.file, err = l.cfg.Disk.OpenFile(last.Path)
	if err != nil {
		return err
	}
	found, err := l.replay(files)
	if err != nil {
		return err
	}
	if err := l.compareCheckpoints(found.note, published); err != nil {
		return err
	}
	if err := l.cut(last, found.tail); err != nil {
		return err
	}
	// What was written and perhaps not synced before the crash is now.
	if err := l.sync(); err != nil {
		return err
	}
	l.synced = l.end
	if l.tileErr != nil {
		return l.tileErr
	}
	for name := range l.lazy {
		if err := l.cfg.Disk.SyncFile(name); err != nil {
			return err
		}
		delete(l.lazy, name)
	}
	l.stats.durable.Store(l.trees.Size())
	l.stats.lost.Store(found.lost)
	l.lostKept = found.lost
	l.report.Size, l.report.LastFrame = l.trees.Size(), found.time
	l.report.Replayed = l.trees.Size() - l.first
	l.view.Store(trail.NewView(l.cfg.Dir, l.leaves, l.trees))
	return l.adoptCheckpoint(published)
}

// found is what the last segment says.
type found struct {
	tail segment.Tail
	note []byte // of its last checkpoint frame
	lost uint64
	time time.Time
}

// replay brings the trees to the end of the last segment. When the tiles kept
// for what is before it do not fit, it reads every segment and makes them
// again.
func (l *Log) replay(files []trail.SegmentFile) (found, error) {
	last := files[len(files)-1]
	size, err := l.file.Size()
	if err != nil {
		return found{}, err
	}
	header, err := readHeader(l.file, size, last)
	if err != nil {
		return found{}, err
	}
	if header.Instance != l.id.Instance {
		return found{}, &DamageError{last.Name, errors.New("belongs to another log")}
	}
	l.trees, err = trail.RestoreTrees(l.cfg.Dir, &header, l.keepTile)
	if err != nil {
		if rebuildErr := l.rebuild(files[:len(files)-1], &header); rebuildErr != nil {
			return found{}, fmt.Errorf("%w; making the tiles again: %w", err, rebuildErr)
		}
	}
	l.edge = l.edgeNames()
	out := found{time: header.Created}
	return out, l.replaySegment(l.file, size, last, &out)
}

func readHeader(file io.ReaderAt, size int64, f trail.SegmentFile) (segment.Header, error) {
	r, err := segment.NewReader(file, size)
	if err != nil {
		return segment.Header{}, &DamageError{f.Name, err}
	}
	if r.Header.FirstLeaf != f.FirstLeaf {
		return segment.Header{}, &DamageError{f.Name, fmt.Errorf("begins with leaf %d", r.Header.FirstLeaf)}
	}
	return r.Header, nil
}

func (l *Log) replaySegment(file io.ReaderAt, size int64, f trail.SegmentFile, out *found) error {
	r, tail, err := segment.Recover(file, size, func(fr *segment.Frame) error {
		if err := l.hasher.Replay(l.trees, fr); err != nil {
			return &segment.DamageError{Offset: fr.Offset, Leaf: fr.FirstLeaf, Problem: err}
		}
		if fr.Kind == segment.Checkpoint {
			out.note = bytes.Clone(fr.Body)
		}
		out.lost, out.time = fr.Lost, fr.Time
		return nil
	})
	if err != nil {
		return &DamageError{f.Name, err}
	}
	if tail.Err != nil {
		return &DamageError{f.Name, tail.Err}
	}
	out.tail = tail
	l.first, l.end, l.link = r.Header.FirstLeaf, r.Offset(), r.Link()
	return nil
}

// rebuild makes the tiles of everything before the segment with header h again.
func (l *Log) rebuild(files []trail.SegmentFile, h *segment.Header) error {
	l.report.RebuiltTiles = true
	l.trees = trail.NewTrees(l.id.Digests, l.keepTile)
	for _, f := range files {
		if f.FirstLeaf != l.trees.Size() {
			return fmt.Errorf("leaves %d to %d: %w", l.trees.Size(), f.FirstLeaf-1, trail.ErrMissing)
		}
		if err := l.rebuildFrom(f); err != nil {
			return err
		}
	}
	if l.trees.Size() != h.FirstLeaf {
		return fmt.Errorf("leaves %d to %d: %w", l.trees.Size(), h.FirstLeaf-1, trail.ErrMissing)
	}
	if !l.trees.HaveRoots(h.Root, &h.SM3Root) {
		return errors.New("the segments do not have the root that the last one begins with")
	}
	for _, tree := range l.trees {
		for t, hashes := range tree.Edge() {
			l.keepTile(tree.Digest(), t, hashes)
		}
	}
	return l.tileErr
}

func (l *Log) rebuildFrom(f trail.SegmentFile) error {
	file, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	var ignored found
	if err := l.replaySegment(file, st.Size(), f, &ignored); err != nil {
		return err
	}
	if ignored.tail.Size > 0 {
		return &DamageError{f.Name, fmt.Errorf("at %d: %d bytes behind the last frame", ignored.tail.Offset, ignored.tail.Size)}
	}
	return nil
}

// compareCheckpoints refuses a trail that does not contain what it signed.
func (l *Log) compareCheckpoints(notes ...[]byte) error {
	var trusted []checkpoint.Verifier
	for _, s := range l.cfg.Signers {
		trusted = append(trusted, s.Verifier())
	}
	for _, note := range notes {
		if note == nil {
			continue
		}
		c, _, err := checkpoint.Open(note, trusted)
		if err != nil {
			return fmt.Errorf("%w: the stored checkpoint: %w", ErrDamaged, err)
		}
		if c.Size > l.trees.Size() {
			return fmt.Errorf("%w: it has %d leaves, the checkpoint %d; restore the missing segments, or keep this copy as evidence and start a new trail",
				ErrBehindCheckpoint, l.trees.Size(), c.Size)
		}
		view := trail.NewView(l.cfg.Dir, l.leaves, l.trees)
		root, err := tlog.RootAt(suite.SHA256, view.Tiles(suite.SHA256), c.Size)
		if err != nil {
			return err
		}
		if root != c.Root {
			return fmt.Errorf("%w: its first %d leaves do not have the checkpoint's root", ErrBehindCheckpoint, c.Size)
		}
		if c.SM3Root != nil {
			if root, err = tlog.RootAt(suite.SM3, view.Tiles(suite.SM3), c.Size); err != nil {
				return err
			}
			if root != *c.SM3Root {
				return fmt.Errorf("%w: its first %d leaves do not have the checkpoint's SM3 root", ErrBehindCheckpoint, c.Size)
			}
		}
		if !l.signedAt || c.Size >= l.signedSize {
			l.signedSize, l.signedAt, l.report.LastNote = c.Size, true, note
		}
	}
	l.report.Unsealed = l.trees.Size() - l.signedSize
	return nil
}

// cut removes the torn tail, after keeping a copy of it.
func (l *Log) cut(f trail.SegmentFile, tail segment.Tail) error {
	if tail.Size == 0 {
		return nil
	}
	b := make([]byte, tail.Size)
	if _, err := l.file.ReadAt(b, tail.Offset); err != nil {
		return err
	}
	dir := filepath.Join(l.cfg.Dir, trail.RecoveredDir)
	if err := l.cfg.Disk.MkdirAll(dir); err != nil {
		return err
	}
	name, err := unusedName(dir, fmt.Sprintf("%020d-%d", f.FirstLeaf, tail.Offset))
	if err != nil {
		return err
	}
	if err := l.cfg.Disk.WriteFile(name, b); err != nil {
		return err
	}
	if err := l.file.Truncate(tail.Offset); err != nil {
		return err
	}
	l.report.CutBytes, l.report.CutAt, l.report.CutFrom, l.report.CutFile = tail.Size, tail.Offset, f.Name, name
	return nil
}

// unusedName is a name for a recovered tail that overwrites no other.
func unusedName(dir, base string) (string, error) {
	for n := 0; ; n++ {
		name := filepath.Join(dir, fmt.Sprintf("%s.%d.cut", base, n))
		_, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// adoptCheckpoint publishes the newest checkpoint the segment remembers, when
// a crash came before it was published.
func (l *Log) adoptCheckpoint(published []byte) error {
	if !l.signedAt {
		return nil
	}
	if !bytes.Equal(published, l.report.LastNote) {
		return l.publish(l.report.LastNote, l.signedSize)
	}
	l.queue.sealed = l.signedSize
	return nil
}
