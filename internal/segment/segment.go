// Package segment owns the bytes of a trail's segment files: a header, then one
// frame a group commit, each with the leaves it added, or a checkpoint. The
// layout is docs/format/segment.md; the version is in the magic numbers.
//
// It reads and writes bytes and knows no disk, clock or network. It checks what
// a frame says of itself (checksums, lengths, fingerprints) and how frames link
// to each other; whether the leaves are those that were signed is for package
// verify.
//
// All numbers are big-endian. A checksum is CRC-32C.
package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
)

// Bounds of this format version. A reader refuses what goes past them.
const (
	MaxLeaf        = 1<<16 - 1 // what a C2SP entry bundle can hold
	MaxFrameLeaves = 1 << 16
	MaxFrameBody   = 16 << 20
)

const (
	headerSize      = 148
	frameHeaderSize = 116 // without an SM3 root
	fingerprintSize = 4
)

var (
	segmentMagic = []byte("VTRLSEG\x01")
	// The last byte keeps the magic out of any line: canonical JSON holds no
	// control characters.
	frameMagic = []byte("VTF\x01")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Header is the start of a segment file: where it stands in which log.
type Header struct {
	Digests   suite.Set
	FirstLeaf uint64   // a multiple of 256
	Instance  [16]byte // the log's instance id
	Created   time.Time
	Previous  suite.Hash // SHA-256 of the last frame header of the segment before, zero in the first
	Root      suite.Hash // of the FirstLeaf leaves before this segment
	SM3Root   suite.Hash // zero without SM3
}

// HeaderSize is the number of bytes of a Header.
const HeaderSize = headerSize

// Marshal encodes the header.
func (h *Header) Marshal() []byte {
	b := make([]byte, 0, headerSize)
	b = append(b, segmentMagic...)
	b = append(b, byte(h.Digests), 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.FirstLeaf)
	b = append(b, h.Instance[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Created.UnixNano()))
	b = append(b, h.Previous[:]...)
	b = append(b, h.Root[:]...)
	b = append(b, h.SM3Root[:]...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// ParseHeader decodes the header at the start of b.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < headerSize {
		return h, fmt.Errorf("segment header: want %d bytes, got %d", headerSize, len(b))
	}
	b = b[:headerSize]
	if !bytes.Equal(b[:7], segmentMagic[:7]) {
		return h, errors.New("segment header: not a segment file")
	}
	if b[7] != segmentMagic[7] {
		return h, fmt.Errorf("segment header: format version %d: this program reads version 1", b[7])
	}
	if binary.BigEndian.Uint32(b[headerSize-4:]) != crc32.Checksum(b[:headerSize-4], castagnoli) {
		return h, errors.New("segment header: checksum does not match")
	}
	h.Digests = suite.Set(b[8])
	if err := h.Digests.Check(); err != nil {
		return h, fmt.Errorf("segment header: %w", err)
	}
	if !allZero(b[9:16]) {
		return h, errors.New("segment header: reserved bytes are not zero")
	}
	h.FirstLeaf = binary.BigEndian.Uint64(b[16:])
	if h.FirstLeaf%256 != 0 {
		return h, fmt.Errorf("segment header: first leaf %d is not a multiple of 256", h.FirstLeaf)
	}
	copy(h.Instance[:], b[24:])
	h.Created = unixNano(b[40:])
	copy(h.Previous[:], b[48:])
	copy(h.Root[:], b[80:])
	copy(h.SM3Root[:], b[112:])
	return h, nil
}

// Hash is what the first frame links to.
func (h *Header) Hash() suite.Hash { return suite.SHA256.Sum(h.Marshal()) }

// Kind says what a frame holds.
type Kind uint8

// The kinds of frames.
const (
	Events     Kind = 1 // leaves
	Checkpoint Kind = 2 // a signed note over the tree so far
)

// Flags of a frame.
type Flags uint8

const (
	// PreviousDurable says that everything before this frame was on stable
	// storage before this frame was written. A whole frame with this flag
	// proves that damage before it is not the tail of a crash.
	PreviousDurable Flags = 1 << iota
	hasSM3
)

// FrameHeader goes before a frame's body.
type FrameHeader struct {
	Kind      Kind
	Flags     Flags
	FirstLeaf uint64
	Count     int // leaves; 0 in a checkpoint frame
	BodySize  int
	Time      time.Time
	Lost      uint64 // events refused or not made durable since the log began, as far as known
	KeyEpoch  uint32
	Previous  suite.Hash  // SHA-256 of the frame header before, or of the segment header
	Root      suite.Hash  // of the tree after this frame
	SM3Root   *suite.Hash // nil without SM3
	bodyCRC   uint32
}

// AppendFrame appends a frame to dst whose body is the given parts, one behind
// the other. It fills in the header's size and checksum, and returns the
// header's hash, which the next frame links to.
func AppendFrame(dst []byte, h *FrameHeader, body ...[]byte) ([]byte, suite.Hash) {
	dst, hash := AppendFrameHeader(dst, h, body...)
	for _, part := range body {
		dst = append(dst, part...)
	}
	return dst, hash
}

// AppendFrameHeader is AppendFrame without appending the body.
func AppendFrameHeader(dst []byte, h *FrameHeader, body ...[]byte) ([]byte, suite.Hash) {
	h.BodySize, h.bodyCRC = 0, 0
	for _, part := range body {
		h.BodySize += len(part)
		h.bodyCRC = crc32.Update(h.bodyCRC, castagnoli, part)
	}
	start := len(dst)
	dst = h.append(dst)
	return dst, suite.SHA256.Sum(dst[start:])
}

func (h *FrameHeader) size() int {
	if h.SM3Root != nil {
		return frameHeaderSize + suite.Size
	}
	return frameHeaderSize
}

func (h *FrameHeader) append(b []byte) []byte {
	start := len(b)
	flags := h.Flags &^ hasSM3
	if h.SM3Root != nil {
		flags |= hasSM3
	}
	b = append(b, frameMagic...)
	b = append(b, byte(h.Kind), byte(flags))
	b = binary.BigEndian.AppendUint16(b, uint16(h.size()))
	b = binary.BigEndian.AppendUint64(b, h.FirstLeaf)
	b = binary.BigEndian.AppendUint32(b, uint32(h.Count))
	b = binary.BigEndian.AppendUint32(b, uint32(h.BodySize))
	b = binary.BigEndian.AppendUint64(b, uint64(h.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, h.Lost)
	b = binary.BigEndian.AppendUint32(b, h.KeyEpoch)
	b = binary.BigEndian.AppendUint32(b, h.bodyCRC)
	b = append(b, h.Previous[:]...)
	b = append(b, h.Root[:]...)
	if h.SM3Root != nil {
		b = append(b, h.SM3Root[:]...)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// parseFrameHeader decodes the frame header at the start of b, which may be
// cut short: then the error is ErrShort.
func parseFrameHeader(b []byte) (h FrameHeader, hash suite.Hash, err error) {
	if len(b) < frameHeaderSize {
		return h, hash, ErrShort
	}
	if !bytes.Equal(b[:3], frameMagic[:3]) {
		return h, hash, errors.New("no frame begins here")
	}
	if b[3] != frameMagic[3] {
		return h, hash, fmt.Errorf("frame of format version %d: this program reads version 1", b[3])
	}
	h.Kind, h.Flags = Kind(b[4]), Flags(b[5])
	size := int(binary.BigEndian.Uint16(b[6:]))
	want := frameHeaderSize
	if h.Flags&hasSM3 != 0 {
		want += suite.Size
	}
	if size != want {
		return h, hash, fmt.Errorf("frame header of %d bytes: want %d", size, want)
	}
	if len(b) < size {
		return h, hash, ErrShort
	}
	b = b[:size]
	if binary.BigEndian.Uint32(b[size-4:]) != crc32.Checksum(b[:size-4], castagnoli) {
		return h, hash, errors.New("frame header: checksum does not match")
	}
	h.FirstLeaf = binary.BigEndian.Uint64(b[8:])
	count, body := binary.BigEndian.Uint32(b[16:]), binary.BigEndian.Uint32(b[20:])
	if count > MaxFrameLeaves || body > MaxFrameBody {
		return h, hash, fmt.Errorf("frame of %d leaves and %d bytes: more than the format allows", count, body)
	}
	h.Count, h.BodySize = int(count), int(body)
	h.Time = unixNano(b[24:])
	h.Lost = binary.BigEndian.Uint64(b[32:])
	h.KeyEpoch = binary.BigEndian.Uint32(b[40:])
	h.bodyCRC = binary.BigEndian.Uint32(b[44:])
	copy(h.Previous[:], b[48:])
	copy(h.Root[:], b[80:])
	if h.Flags&hasSM3 != 0 {
		h.SM3Root = new(suite.Hash)
		copy(h.SM3Root[:], b[112:])
	}
	if err := h.check(); err != nil {
		return h, hash, err
	}
	return h, suite.SHA256.Sum(b), nil
}

func (h *FrameHeader) check() error {
	switch {
	case h.Kind != Events && h.Kind != Checkpoint:
		return fmt.Errorf("frame of unknown kind %d", h.Kind)
	case h.Flags&^(PreviousDurable|hasSM3) != 0:
		return fmt.Errorf("frame with unknown flags %#02x", uint8(h.Flags))
	case h.Kind == Events && (h.Count == 0 || h.BodySize < h.Count*(fingerprintSize+1)):
		return fmt.Errorf("frame of %d leaves in %d bytes", h.Count, h.BodySize)
	case h.Kind == Checkpoint && (h.Count != 0 || h.BodySize == 0):
		return fmt.Errorf("checkpoint frame of %d leaves and %d bytes", h.Count, h.BodySize)
	}
	return nil
}

// AppendFingerprints appends the first part of an events frame's body, the
// fingerprint of each leaf, given the leaves' SHA-256 leaf hashes. The second
// part are the lines: each leaf and a newline.
func AppendFingerprints(dst []byte, hashes []suite.Hash) []byte {
	for i := range hashes {
		dst = append(dst, hashes[i][:fingerprintSize]...)
	}
	return dst
}

// Frame is a frame as read. Body is only valid until the reader's next step.
type Frame struct {
	FrameHeader
	Offset int64      // in the segment file
	Hash   suite.Hash // of the header
	Body   []byte
}

// Size is the number of bytes the frame takes in the file.
func (f *Frame) Size() int64 { return int64(f.size() + f.BodySize) }

// CheckBody compares the body with its checksum.
func (f *Frame) CheckBody() error {
	if crc32.Checksum(f.Body, castagnoli) != f.bodyCRC {
		return errors.New("frame body: checksum does not match")
	}
	return nil
}

// Fingerprint is what the frame remembers of its leaf i: the first bytes of
// the leaf's SHA-256 leaf hash.
func (f *Frame) Fingerprint(i int) []byte {
	return f.Body[i*fingerprintSize : (i+1)*fingerprintSize]
}

// HasFingerprint tells whether the leaf of this hash can be the frame's leaf i.
func (f *Frame) HasFingerprint(i int, leaf *suite.Hash) bool {
	return bytes.Equal(f.Fingerprint(i), leaf[:fingerprintSize])
}

// Lines are the leaves, each followed by a newline.
func (f *Frame) Lines() []byte { return f.Body[f.Count*fingerprintSize:] }

// LineOffset is the place in the segment file of the byte at of Lines.
func (f *Frame) LineOffset(at int) int64 {
	return f.Offset + int64(f.size()+f.Count*fingerprintSize+at)
}

// Ends appends to dst where each line ends: the offset in Lines of its newline.
// It fails when there are not Count lines of at most MaxLeaf bytes.
func (f *Frame) Ends(dst []int) ([]int, error) {
	dst = SplitLines(dst, f.Lines())
	if lines := f.Lines(); len(lines) == 0 || lines[len(lines)-1] != '\n' {
		return dst, errors.New("frame body: the last line is not ended")
	}
	if len(dst) != f.Count {
		return dst, fmt.Errorf("frame body: want %d lines, got %d", f.Count, len(dst))
	}
	start := 0
	for i, end := range dst {
		if end-start > MaxLeaf {
			return dst, fmt.Errorf("frame body: line %d of %d bytes: a leaf has at most %d", i, end-start, MaxLeaf)
		}
		start = end + 1
	}
	return dst, nil
}

// SplitLines appends to dst the offset of every newline in lines.
func SplitLines(dst []int, lines []byte) []int {
	for at := 0; ; {
		n := bytes.IndexByte(lines[at:], '\n')
		if n < 0 {
			return dst
		}
		dst = append(dst, at+n)
		at += n + 1
	}
}

func unixNano(b []byte) time.Time {
	return time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC()
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
