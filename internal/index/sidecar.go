package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/veritrail/veritrail/internal/suite"
)

// A sidecar is a file beside one segment. It is written once, whole, and never
// changed. docs/format/sidecar.md has its layout:
//
//	header      128 bytes: which leaves of which log, the sections' sizes
//	sections    one behind the other
//	checksums   CRC-32C of each 4,096 bytes of the sections
//
// Nothing is used before its checksum was compared, so a changed byte costs the
// file, never an answer.
const (
	sidecarHeader = 128
	blockSize     = 4096
	maxSections   = 4
	sidecarFormat = 1 // version
)

// The kinds of sidecars, as their magic numbers and names say.
const (
	kindSummary  = "VTRLSUM"
	kindPostings = "VTRLIDX"
)

// errSidecar is every error that says a sidecar cannot be used. Reading the
// segment is the answer to it.
var errSidecar = errors.New("sidecar")

func sidecarError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errSidecar}, args...)...)
}

// identity says which leaves of which log a sidecar is about.
type identity struct {
	first    uint64
	leaves   uint64
	instance [16]byte
	link     suite.Hash // of the segment's last frame header: its content and everything before it
	span     span       // of the events' times
	bytes    uint64     // of the leaves
}

func (id *identity) sameSegment(other *identity) bool {
	return id.first == other.first && id.leaves == other.leaves && id.instance == other.instance && id.link == other.link
}

// sidecar is the part of a sidecar that is kept in memory.
type sidecar struct {
	identity
	sections [maxSections]uint32 // sizes
	sums     []byte              // of the blocks
}

// marshalSidecar puts a sidecar together.
func marshalSidecar(kind string, id identity, sections ...[]byte) ([]byte, error) {
	size := 0
	for _, s := range sections {
		size += len(s)
	}
	if size > math.MaxUint32 {
		return nil, sidecarError("%d bytes: more than the format allows", size)
	}
	b := make([]byte, 0, sidecarHeader+size+4*(size/blockSize+1))
	b = append(b, kind...)
	b = append(b, sidecarFormat)
	b = binary.BigEndian.AppendUint64(b, id.first)
	b = binary.BigEndian.AppendUint64(b, id.leaves)
	b = append(b, id.instance[:]...)
	b = append(b, id.link[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(id.span.min))
	b = binary.BigEndian.AppendUint64(b, uint64(id.span.max))
	for i := range maxSections {
		n := 0
		if i < len(sections) {
			n = len(sections[i])
		}
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = binary.BigEndian.AppendUint64(b, id.bytes)
	b = b[:sidecarHeader] // the rest comes last
	for _, s := range sections {
		b = append(b, s...)
	}
	body := b[sidecarHeader:]
	for at := 0; at < size; at += blockSize {
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body[at:min(at+blockSize, size)], castagnoli))
	}
	binary.BigEndian.PutUint32(b[112:], crc32.Checksum(b[sidecarHeader+size:], castagnoli))
	binary.BigEndian.PutUint32(b[124:], crc32.Checksum(b[:124], castagnoli))
	return b, nil
}

// openSidecar reads the header and the checksums of a sidecar of size bytes.
func openSidecar(kind string, src io.ReaderAt, size int64) (*sidecar, error) {
	var h [sidecarHeader]byte
	if size < sidecarHeader {
		return nil, sidecarError("%d bytes: no header", size)
	}
	if _, err := src.ReadAt(h[:], 0); err != nil {
		return nil, sidecarError("%v", err)
	}
	if string(h[:7]) != kind {
		return nil, sidecarError("does not begin with %s", kind)
	}
	if h[7] != sidecarFormat {
		return nil, sidecarError("format version %d: this program reads version %d", h[7], sidecarFormat)
	}
	if binary.BigEndian.Uint32(h[124:]) != crc32.Checksum(h[:124], castagnoli) {
		return nil, sidecarError("header: checksum does not match")
	}
	if !bytes.Equal(h[116:124], make([]byte, 8)) {
		return nil, sidecarError("header: reserved bytes are not zero")
	}
	s := &sidecar{identity: identity{
		first: binary.BigEndian.Uint64(h[8:]), leaves: binary.BigEndian.Uint64(h[16:]),
		span:  span{int64(binary.BigEndian.Uint64(h[72:])), int64(binary.BigEndian.Uint64(h[80:]))},
		bytes: binary.BigEndian.Uint64(h[104:]),
	}}
	copy(s.instance[:], h[24:])
	copy(s.link[:], h[40:])
	if s.leaves == 0 || s.leaves > math.MaxUint32 || s.first > math.MaxUint64-s.leaves || s.span.min > s.span.max {
		return nil, sidecarError("header: %d leaves from %d on", s.leaves, s.first)
	}
	for i := range s.sections {
		s.sections[i] = binary.BigEndian.Uint32(h[88+4*i:])
	}
	body := s.size()
	sums := (body + blockSize - 1) / blockSize * 4
	if size != sidecarHeader+body+sums {
		return nil, sidecarError("%d bytes: want %d", size, sidecarHeader+body+sums)
	}
	s.sums = make([]byte, sums)
	if _, err := io.ReadFull(io.NewSectionReader(src, sidecarHeader+body, sums), s.sums); err != nil {
		return nil, sidecarError("%v", err)
	}
	if binary.BigEndian.Uint32(h[112:]) != crc32.Checksum(s.sums, castagnoli) {
		return nil, sidecarError("checksums: checksum does not match")
	}
	return s, nil
}

// size is the number of bytes in the sections.
func (s *sidecar) size() (n int64) {
	for _, size := range s.sections {
		n += int64(size)
	}
	return n
}

// start is where a section begins.
func (s *sidecar) start(section int) (at int64) {
	for _, size := range s.sections[:section] {
		at += int64(size)
	}
	return at
}

// reader reads a sidecar's sections. What it returns is valid until its next
// call.
type reader struct {
	*sidecar
	src io.ReaderAt
	buf []byte
}

// read returns n bytes of a section, after comparing the checksums of the
// blocks they are in.
func (r *reader) read(section int, at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at+n > int64(r.sections[section]) {
		return nil, sidecarError("section %d of %d bytes: want %d at %d", section, r.sections[section], n, at)
	}
	if n == 0 {
		return nil, nil
	}
	at += r.start(section)
	from := at / blockSize * blockSize
	to := min((at+n+blockSize-1)/blockSize*blockSize, r.size())
	if int64(cap(r.buf)) < to-from {
		r.buf = make([]byte, to-from)
	}
	b := r.buf[:to-from]
	if _, err := r.src.ReadAt(b, sidecarHeader+from); err != nil {
		return nil, sidecarError("at %d: %v", from, err)
	}
	for i := int64(0); i < to-from; i += blockSize {
		block := b[i:min(i+blockSize, to-from)]
		if binary.BigEndian.Uint32(r.sums[(from+i)/blockSize*4:]) != crc32.Checksum(block, castagnoli) {
			return nil, sidecarError("at %d: checksum does not match", from+i)
		}
	}
	return b[at-from : at-from+n], nil
}

// section returns all of a section.
func (r *reader) section(section int) ([]byte, error) {
	return r.read(section, 0, int64(r.sections[section]))
}

// scrub compares all checksums.
func (r *reader) scrub() error {
	const step = 1 << 20
	for section, size := range r.sections {
		for at := int64(0); at < int64(size); at += step {
			if _, err := r.read(section, at, min(step, int64(size)-at)); err != nil {
				return err
			}
		}
	}
	return nil
}

// decoder takes numbers and texts from the front of b. Past the end it gives
// zeros and is bad.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 { // also what could have been shorter
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// text reads a string behind its length.
func (d *decoder) text() string { return string(d.bytes(d.uvarint())) }

// count reads how many entries of at least so many bytes follow.
func (d *decoder) count(least uint64) uint64 {
	n := d.uvarint()
	if n > uint64(len(d.b))/least {
		d.bad, d.b = true, nil
		return 0
	}
	return n
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendVarint(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v)<<1^uint64(v>>63))
}
