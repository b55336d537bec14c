package client

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
)

// A spool is a directory:
//
//	lock               held by the Client that uses it
//	00000007.spool     events, oldest segment first
//	position           up to where the server has acknowledged them
//	rejected.jsonl     events that the server refused, and why
//	cut-00000007-4096  what could not be read of a segment, from that offset on
//
// A segment is "veritrail spool 1\n" and then, for each event, the length of its
// canonical encoding and the CRC-32C of that (both 32 bits, little endian), and
// the encoding. A batch is written and synced at once. What a crash left behind
// the last whole event was acknowledged to nobody; it is cut off, and kept.
//
// Segments are deleted when the server has acknowledged all of them, and not
// before. What was acknowledged is written down after the fact; after a crash in
// between it is sent again, and the server knows the ids.
type spool struct {
	disk durable.FS
	dir  string
	most int64
	lock *durable.Lock

	mu     sync.Mutex
	segs   []*spoolSegment // oldest first
	active bool            // the last one can be written to
	next   uint64          // number of the next segment
	count  uint64          // events
	head   int64           // the oldest event in the first segment
	read   mark            // behind what oldest returned
	cut    uint64
}

type spoolSegment struct {
	number uint64
	end    int64 // of what is synced
	file   durable.File
}

// mark is a place behind some events.
type mark struct {
	segs int   // whole segments before it
	at   int64 // in the segment behind those
	n    int   // events before it
}

const (
	spoolHeader   = "veritrail spool 1\n"
	spoolFrame    = 8
	spoolSegBytes = 4 << 20
	spoolSuffix   = ".spool"
	positionFile  = "position"
	rejectedFile  = "rejected.jsonl"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openSpool(disk durable.FS, dir string, most int64) (*spool, error) {
	if err := disk.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := durable.AcquireLock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &spool{disk: disk, dir: dir, most: most, lock: lock, next: 1}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", dir, err), s.close())
	}
	return s, nil
}

func (s *spool) name(number uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d%s", number, spoolSuffix))
}

// position is what the file of that name says.
type position struct {
	Segment uint64 `json:"segment"`
	Offset  int64  `json:"offset"` // everything before it is acknowledged
}

// load finds the segments, and forgets what was acknowledged.
func (s *spool) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var pos position
	switch b, err := os.ReadFile(filepath.Join(s.dir, positionFile)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case json.Unmarshal(b, &pos) != nil:
		pos = position{} // send all of it again: the server knows what it has
	}
	s.next = pos.Segment + 1
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), ".tmp") { // a crash came before it was renamed
			if err := s.disk.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		text, ours := strings.CutSuffix(e.Name(), spoolSuffix)
		if !ours {
			continue
		}
		number, err := strconv.ParseUint(text, 10, 63)
		if err != nil || filepath.Base(s.name(number)) != e.Name() {
			return fmt.Errorf("%s: not a name of a segment", e.Name())
		}
		s.next = max(s.next, number+1)
		if number < pos.Segment {
			if err := s.disk.Remove(s.name(number)); err != nil {
				return err
			}
			continue
		}
		s.segs = append(s.segs, &spoolSegment{number: number})
	}
	slices.SortFunc(s.segs, func(a, b *spoolSegment) int { return int(int64(a.number) - int64(b.number)) })
	s.head = int64(len(spoolHeader))
	var kept []*spoolSegment
	for _, seg := range s.segs {
		done := int64(0)
		if seg.number == pos.Segment {
			done = pos.Offset
		}
		head, n, err := s.scan(seg, done)
		if err != nil {
			return fmt.Errorf("segment %d: %w", seg.number, err)
		}
		if n == 0 {
			if err := errors.Join(seg.file.Close(), s.disk.Remove(s.name(seg.number))); err != nil {
				return err
			}
			continue
		}
		if len(kept) == 0 {
			s.head = head
		}
		kept = append(kept, seg)
		s.count += n
	}
	s.segs = kept
	return nil
}

// scan reads a segment, and finds the first event behind done and how many there
// are from it on. What can't be read is set aside.
func (s *spool) scan(seg *spoolSegment, done int64) (head int64, n uint64, err error) {
	if seg.file, err = s.disk.OpenFile(s.name(seg.number)); err != nil {
		return 0, 0, err
	}
	size, err := seg.file.Size()
	if err != nil {
		return 0, 0, err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(seg.file, 0, size), 256<<10)
	header := make([]byte, len(spoolHeader))
	if _, err := io.ReadFull(r, header); err != nil || string(header) != spoolHeader {
		return 0, 0, errors.New("not a spool of version 1")
	}
	first := int64(len(spoolHeader))
	head, all, before := first, uint64(0), uint64(0)
	at := first
	for ; at < size; all++ {
		if at == done {
			head, before = at, all
		}
		line, err := readFrame(r)
		if err != nil {
			break
		}
		at += int64(spoolFrame + len(line))
	}
	if seg.end = at; at < size {
		if err := s.setAside(seg, size); err != nil {
			return 0, 0, err
		}
	}
	if done >= at {
		return at, 0, nil // all of it
	}
	return head, all - before, nil
}

var errFrame = errors.New("not an event")

// readFrame reads one event.
func readFrame(r io.Reader) ([]byte, error) {
	var head [spoolFrame]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size == 0 || size > veritrail.MaxEventBytes {
		return nil, errFrame
	}
	line := make([]byte, size)
	if _, err := io.ReadFull(r, line); err != nil {
		return nil, err
	}
	if crc32.Checksum(line, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errFrame
	}
	return line, nil
}

func appendFrame(b, line []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(line)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(line, castagnoli))
	return append(b, line...)
}

// setAside keeps what is behind the segment's end elsewhere, and cuts it off.
func (s *spool) setAside(seg *spoolSegment, size int64) error {
	rest := make([]byte, size-seg.end)
	if _, err := seg.file.ReadAt(rest, seg.end); err != nil {
		return err
	}
	aside := filepath.Join(s.dir, fmt.Sprintf("cut-%08d-%d", seg.number, seg.end))
	if err := s.disk.WriteFile(aside, rest); err != nil {
		return err
	}
	s.cut += uint64(len(rest))
	return errors.Join(seg.file.Truncate(seg.end), seg.file.Sync())
}

// append makes events durable, all or none.
func (s *spool) append(batch []*entry) error {
	var frames []byte
	for _, e := range batch {
		frames = appendFrame(frames, e.line)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes()+int64(len(frames)+len(spoolHeader)) > s.most {
		return fmt.Errorf("%w: it holds %d of %d bytes", ErrSpoolFull, s.bytes(), s.most)
	}
	if !s.active || s.segs[len(s.segs)-1].end >= spoolSegBytes {
		if err := s.begin(); err != nil {
			return fmt.Errorf("%w: %w", ErrSpool, err)
		}
	}
	seg := s.segs[len(s.segs)-1]
	_, err := seg.file.WriteAt(frames, seg.end)
	if err == nil {
		err = seg.file.Sync()
	}
	if err != nil {
		// Nothing is known of what is on the disk behind the end now. The next
		// events go elsewhere; these are cut off if that is possible.
		s.active = false
		_ = seg.file.Truncate(seg.end)
		return fmt.Errorf("%w: segment %d at %d: %w", ErrSpool, seg.number, seg.end, err)
	}
	seg.end += int64(len(frames))
	s.count += uint64(len(batch))
	return nil
}

// begin makes a new segment. s.mu is held.
func (s *spool) begin() error {
	seg := &spoolSegment{number: s.next, end: int64(len(spoolHeader))}
	if err := s.disk.WriteFile(s.name(seg.number), []byte(spoolHeader)); err != nil {
		return err
	}
	file, err := s.disk.OpenFile(s.name(seg.number))
	if err != nil {
		return err
	}
	seg.file = file
	s.next++
	s.segs = append(s.segs, seg)
	s.active = true
	if len(s.segs) == 1 {
		s.head = int64(len(spoolHeader))
	}
	return nil
}

// bytes is what the segments take on the disk. s.mu is held.
func (s *spool) bytes() (n int64) {
	for _, seg := range s.segs {
		n += seg.end
	}
	return n
}

func (s *spool) events() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *spool) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes()
}

func (s *spool) cutBytes() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

// oldest returns the first events, as many as a request may have. They stay
// until remove.
func (s *spool) oldest(events, most int) ([]*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var batch []*entry
	bytes := 0
	s.read = mark{}
	at := s.head
	for i, seg := range s.segs {
		r := bufio.NewReaderSize(io.NewSectionReader(seg.file, at, seg.end-at), 64<<10)
		for at < seg.end && len(batch) < events && (bytes < most || len(batch) == 0) {
			line, err := readFrame(r)
			var id veritrail.UUID
			if err == nil {
				id, err = idOf(line)
			}
			if err != nil {
				return nil, fmt.Errorf("spool: segment %d at %d: %w", seg.number, at, err)
			}
			batch = append(batch, &entry{id: id, line: line, done: make(chan struct{})})
			at += int64(spoolFrame + len(line))
			bytes += len(line)
		}
		if s.read = (mark{i, at, len(batch)}); at < seg.end {
			break
		}
		at = int64(len(spoolHeader))
	}
	return batch, nil
}

// idOf reads the id of a canonical encoding, which begins with it.
func idOf(line []byte) (veritrail.UUID, error) {
	const before = `{"id":"`
	if len(line) < len(before)+36 || string(line[:len(before)]) != before {
		return veritrail.UUID{}, errFrame
	}
	return veritrail.ParseUUID(string(line[len(before) : len(before)+36]))
}

// remove forgets the events that oldest returned last: the server has them, or
// they were written down elsewhere. An error means that they would be sent again
// after a crash, no more.
func (s *spool) remove(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n != s.read.n || n == 0 {
		return nil
	}
	done := s.segs[:s.read.segs]
	rest := s.segs[s.read.segs:]
	s.head = s.read.at
	pos := position{rest[0].number, s.head}
	if s.head == rest[0].end { // all of it; what comes goes into another
		done, rest = s.segs[:s.read.segs+1], s.segs[s.read.segs+1:]
		s.head = int64(len(spoolHeader))
		if len(rest) == 0 {
			s.active = false
		}
	}
	done, s.segs = slices.Clone(done), slices.Clone(rest)
	s.count -= uint64(n)
	s.read = mark{}
	text, err := json.Marshal(pos)
	if err != nil {
		return err
	}
	errs := []error{s.disk.WriteFile(filepath.Join(s.dir, positionFile), append(text, '\n'))}
	for _, seg := range done {
		errs = append(errs, seg.file.Close(), s.disk.Remove(s.name(seg.number)))
	}
	return errors.Join(errs...)
}

// reject writes down an event that the server refused, durably.
func (s *spool) reject(e *entry, why *RejectedError, now time.Time) error {
	line, err := json.Marshal(struct {
		Time       time.Time       `json:"time"`
		ID         string          `json:"id"`
		Conflict   bool            `json:"conflict,omitempty"`
		Violations []violation     `json:"violations"`
		Event      json.RawMessage `json:"event"`
	}{now.UTC(), why.ID, why.Conflict, violations(why.Violations), e.line})
	if err != nil {
		return err
	}
	name := filepath.Join(s.dir, rejectedFile)
	f, err := s.disk.OpenFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.disk.WriteFile(name, nil); err != nil {
			return err
		}
		f, err = s.disk.OpenFile(name)
	}
	if err != nil {
		return err
	}
	at, err := f.Size()
	if err == nil && at > 0 {
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, at-1); err == nil && last[0] != '\n' {
			line = append([]byte{'\n'}, line...) // a crash cut the last one off
		}
	}
	if err == nil {
		_, err = f.WriteAt(append(line, '\n'), at)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

type violation struct {
	Path  string `json:"path"`
	Rule  string `json:"rule"`
	Shape string `json:"shape,omitempty"`
}

func violations(all []veritrail.Violation) []violation {
	out := make([]violation, 0, len(all))
	for _, v := range all {
		out = append(out, violation{v.Path, v.Rule, v.Shape})
	}
	return out
}

// close gives the spool up.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.segs {
		if seg.file != nil {
			errs = append(errs, seg.file.Close())
		}
	}
	s.segs, s.active = nil, false
	return errors.Join(append(errs, s.lock.Release())...)
}
