package seal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// pageSize is the unit in which the operating system hands what was written to
// the disk; sectors are no larger.
const pageSize = 4096

// hashChunk is how many leaves are hashed at a time while a sync is running, so
// that its end does not wait long to be seen.
const hashChunk = 256

// hash adds the leaf hashes of the leaves up to the last of ends.
func (l *Log) hash(b *buffers, lines []byte, ends []int) {
	from, base := b.hashed(), 0
	if from > 0 {
		base = ends[from-1] + 1
	}
	l.hasher.Ends = l.hasher.Ends[:0]
	for _, end := range ends[from:] {
		l.hasher.Ends = append(l.hasher.Ends, end-base)
	}
	if len(b.hashes) == 0 {
		b.hashes = make([][]suite.Hash, len(l.trees))
	}
	for i, hashes := range l.hasher.Hash(l.trees, lines[base:]) {
		b.hashes[i] = append(b.hashes[i], hashes...)
	}
}

// commit writes a batch. All of it is durable then but the last frame, which
// l.written describes; when that is a large one it is still to be written, too,
// and stands in l.departing. After an error the trees may be ahead of the disk,
// and only repair brings them together again.
func (l *Log) commit(b *batch) error {
	b.first = l.trees.Size()
	if b.hashed() < len(b.ends) {
		l.hash(&b.buffers, b.lines, b.ends)
	}
	for from := 0; ; {
		n := len(b.ends) - from
		if l.end >= l.cfg.SegmentBytes {
			// Fill the bundle, so that the next segment begins with a whole one.
			room := int(-l.trees.Size() % tlog.TileWidth)
			if room == 0 {
				if err := l.rotate(); err != nil {
					return err
				}
				continue
			}
			n = min(n, room)
		}
		if err := l.writeEvents(b, from, from+n); err != nil {
			return err
		}
		if from += n; from == len(b.ends) {
			return nil
		}
		if !l.cfg.Buffered {
			if err := l.sync(); err != nil {
				return err
			}
		}
		l.accept(!l.cfg.Buffered)
	}
}

// writeEvents writes the leaves from, …, to-1 of a batch as one frame.
func (l *Log) writeEvents(b *batch, from, to int) error {
	h := segment.FrameHeader{Kind: segment.Events, FirstLeaf: l.trees.Size(), Count: to - from}
	for i, tree := range l.trees {
		tree.AppendAll(b.hashes[i][from:to])
	}
	l.prints = segment.AppendFingerprints(l.prints[:0], b.hashes[0][from:to])
	start := 0
	if from > 0 {
		start = b.ends[from-1] + 1
	}
	lines := b.lines[start : b.ends[to-1]+1]
	if err := l.writeFrame(&h, to == len(b.ends), l.prints, lines); err != nil {
		return err
	}
	l.written.leaves, l.written.lines = to-from, len(lines)
	return nil
}

// written is a frame behind what is acknowledged.
type written struct {
	bytes  int // with its header
	leaves int
	lines  int
	link   suite.Hash
	lost   uint64
}

// departure is a large frame on its way to the disk: bytes that nobody changes
// until it has landed, and whether they must be durable then.
type departure struct {
	file  durable.File
	at    int64
	frame []byte
	rest  []byte // of the frame, behind it
	sync  bool
}

func (d *departure) write() error {
	if _, err := d.file.WriteAt(d.frame, d.at); err != nil {
		return err
	}
	if len(d.rest) == 0 {
		return nil
	}
	_, err := d.file.WriteAt(d.rest, d.at+int64(len(d.frame)))
	return err
}

// writeFrame writes one frame behind what is acknowledged, and does not sync it.
// A large one that may depart is made ready in l.departing instead.
func (l *Log) writeFrame(h *segment.FrameHeader, mayDepart bool, body ...[]byte) error {
	if l.synced == l.end {
		h.Flags |= segment.PreviousDurable
	}
	h.Time, h.Lost, h.KeyEpoch = l.cfg.Now(), l.stats.lost.Load(), l.cfg.Epoch
	h.Previous, h.Root, h.SM3Root = l.link, l.trees.Root(), l.trees.SM3Root()
	var link suite.Hash
	l.frame, link = segment.AppendFrameHeader(l.frame[:0], h, body...)
	l.written = written{bytes: len(l.frame) + h.BodySize, link: link, lost: h.Lost}
	// A small frame goes in one write. To copy a large one together would cost
	// more than a second one: a frame counts when it is whole, however it came.
	last := body[len(body)-1]
	for _, part := range body[:len(body)-1] {
		l.frame = append(l.frame, part...)
	}
	n := len(last)
	if n >= l.cfg.largeBytes {
		// The second write begins with a page. A sector that both wrote could, after
		// a loss of power, hold what the first left of it: no disk leaves out half a
		// sector, so recovery would take that for damage.
		n = min(n, int(-(l.end+int64(len(l.frame)))&(pageSize-1)))
	}
	l.frame, last = append(l.frame, last[:n]...), last[n:]
	d := departure{file: l.file, at: l.end, frame: l.frame, rest: last, sync: !l.cfg.Buffered}
	if mayDepart && l.written.bytes >= l.cfg.largeBytes {
		l.departing = d
		return nil
	}
	return d.write()
}

// accept counts the frame that was written as acknowledged, and as durable.
func (l *Log) accept(durable bool) {
	w := &l.written
	l.end += int64(w.bytes)
	if durable {
		l.synced = l.end
	}
	l.link, l.lostKept = w.link, w.lost
	l.stats.stored.Add(uint64(w.bytes))
	if w.leaves > 0 {
		l.stats.leaves.Add(uint64(w.leaves))
		l.stats.durable.Add(uint64(w.leaves))
		l.stats.batches.Add(1)
		l.stats.lines.Add(uint64(w.lines))
	}
	l.written = written{}
}

func (l *Log) sync() error {
	start := time.Now()
	err := l.file.Sync()
	l.syncTook = time.Since(start)
	l.stats.syncNanos.Add(uint64(l.syncTook))
	return err
}

// syncAll makes what was only buffered durable.
func (l *Log) syncAll() error {
	if l.synced == l.end {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.synced = l.end
	return nil
}

// keepTile writes a tile that has just been completed. It need not be durable
// until the segment it can be made from is left behind.
func (l *Log) keepTile(d suite.Digest, t tlog.Tile, hashes []suite.Hash) {
	if t.Level == 0 {
		return
	}
	name := trail.TilePath(l.cfg.Dir, d, t)
	err := l.cfg.Disk.MkdirAll(filepath.Dir(name))
	if err == nil {
		err = l.cfg.Disk.WriteFileLazy(name, tlog.MarshalTile(hashes))
	}
	if err != nil {
		l.tileErr = errors.Join(l.tileErr, err)
		return
	}
	l.lazy[name] = struct{}{}
}

// rotate begins the next segment. Everything before it can then be checked
// without the segments: all its tiles are durable first.
func (l *Log) rotate() error {
	if l.tileErr != nil {
		return l.tileErr
	}
	if err := l.syncAll(); err != nil {
		return err
	}
	for name := range l.lazy {
		if err := l.cfg.Disk.SyncFile(name); err != nil {
			return err
		}
		delete(l.lazy, name)
	}
	for _, tree := range l.trees {
		for t, hashes := range tree.Edge() {
			name := trail.TilePath(l.cfg.Dir, tree.Digest(), t)
			if err := l.cfg.Disk.MkdirAll(filepath.Dir(name)); err != nil {
				return err
			}
			if err := l.cfg.Disk.WriteFile(name, tlog.MarshalTile(hashes)); err != nil {
				return err
			}
		}
	}
	old := l.edge
	l.edge = l.edgeNames()
	if err := l.startSegment(); err != nil {
		return err
	}
	for _, name := range old { // of the segment left behind
		if slices.Contains(l.edge, name) {
			continue // high up, the edge is the same for many segments
		}
		if err := l.cfg.Disk.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// edgeNames are the files of the partial tiles at the trees' right edge.
func (l *Log) edgeNames() []string {
	var names []string
	for _, tree := range l.trees {
		for t := range tree.Edge() {
			names = append(names, trail.TilePath(l.cfg.Dir, tree.Digest(), t))
		}
	}
	return names
}

// startSegment makes an empty segment at the log's end and goes on there.
func (l *Log) startSegment() error {
	h := segment.Header{
		Digests: l.id.Digests, FirstLeaf: l.trees.Size(), Instance: l.id.Instance, Created: l.cfg.Now(),
		Previous: l.link, Root: l.trees.Root(),
	}
	if sm3 := l.trees.SM3Root(); sm3 != nil {
		h.SM3Root = *sm3
	}
	name := trail.SegmentPath(l.cfg.Dir, h.FirstLeaf)
	if err := l.cfg.Disk.WriteFile(name, h.Marshal()); err != nil {
		return err
	}
	file, err := l.cfg.Disk.OpenFile(name)
	if err != nil {
		return err
	}
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	l.file, l.first, l.link = file, h.FirstLeaf, h.Hash()
	l.end, l.synced = segment.HeaderSize, segment.HeaderSize
	return nil
}

// sign makes a checkpoint of everything committed, keeps it in the segment and
// publishes it.
func (l *Log) sign() error {
	size := l.trees.Size()
	if size == l.signedSize && l.signedAt && l.stats.lost.Load() == l.lostKept {
		return nil
	}
	if err := l.syncAll(); err != nil {
		return err
	}
	c := checkpoint.Checkpoint{Origin: l.id.Origin, Size: size, Root: l.trees.Root(), SM3Root: l.trees.SM3Root()}
	note, err := checkpoint.Sign(c, l.cfg.Signers...)
	if err != nil {
		return fmt.Errorf("signing the checkpoint of %d leaves: %w", size, err)
	}
	h := segment.FrameHeader{Kind: segment.Checkpoint, FirstLeaf: size}
	if err := l.writeFrame(&h, false, note); err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		return err
	}
	l.accept(true)
	return l.publish(note, size)
}

func (l *Log) publish(note []byte, size uint64) error {
	if err := l.cfg.Disk.WriteFile(filepath.Join(l.cfg.Dir, trail.CheckpointFile), note); err != nil {
		return err
	}
	l.signedSize, l.signedAt = size, true
	l.stats.checkpoints.Add(1)
	l.view.Store(trail.NewView(l.cfg.Dir, l.leaves, l.trees))
	q := &l.queue
	q.mu.Lock()
	q.sealed = size
	q.announce()
	q.mu.Unlock()
	l.cfg.Published(note)
	return nil
}
