package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/veritrail/veritrail/internal/suite"
)

// ErrShort says that a file ends inside a frame.
var ErrShort = errors.New("the file ends inside a frame")

// DamageError says where a segment stops making sense.
type DamageError struct {
	Offset  int64  // of the frame
	Leaf    uint64 // the first leaf that can't be trusted
	Problem error
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("at %d: leaf %d: %v", e.Offset, e.Leaf, e.Problem)
}

func (e *DamageError) Unwrap() error { return e.Problem }

// Reader goes through a segment's frames in order.
type Reader struct {
	Header Header
	src    io.ReaderAt
	size   int64
	off    int64
	next   uint64     // the leaf the next frame must begin with
	prev   suite.Hash // what the next frame must link to
	win    []byte     // bytes of the file from winOff
	winOff int64
}

const windowSize = 1 << 20

// NewReader reads the header of the segment of size bytes. A file that grows
// behind size is read up to size.
func NewReader(src io.ReaderAt, size int64) (*Reader, error) {
	r := &Reader{src: src, size: size}
	b, err := r.at(0, headerSize)
	if err != nil {
		return nil, err
	}
	if r.Header, err = ParseHeader(b); err != nil {
		return nil, err
	}
	r.off, r.next, r.prev = headerSize, r.Header.FirstLeaf, r.Header.Hash()
	return r, nil
}

// Grow lets the reader see a file that is now size bytes long. What it has not
// read yet may have been cut and written anew since.
func (r *Reader) Grow(size int64) {
	r.size = max(r.off, size)
	r.win = r.win[:0]
}

// Offset is where the next frame is expected.
func (r *Reader) Offset() int64 { return r.off }

// NextLeaf is the leaf the next frame is expected to begin with.
func (r *Reader) NextLeaf() uint64 { return r.next }

// Link is the hash of the last header read, of a frame or of the segment.
func (r *Reader) Link() suite.Hash { return r.prev }

// Next reads one frame and checks its checksums and its link to the frame
// before. At the end of the file the error is io.EOF; anything that is not a
// whole frame there is a *DamageError, and the reader stays where it is.
func (r *Reader) Next() (Frame, error) {
	f, err := r.frame(r.off)
	if err != nil {
		return f, err
	}
	if err := f.CheckBody(); err != nil {
		return f, r.damage(err)
	}
	if err := r.follows(&f); err != nil {
		return f, r.damage(err)
	}
	r.Accept(&f)
	return f, nil
}

// NextHeader is Next without the body: it reads and checks the header alone, and
// that the file is long enough for the body. Whoever needs the body calls
// ReadBody.
func (r *Reader) NextHeader() (Frame, error) {
	f := Frame{Offset: r.off}
	if r.off == r.size {
		return f, io.EOF
	}
	var b [frameHeaderSize + suite.Size]byte
	n, err := r.src.ReadAt(b[:min(int64(len(b)), r.size-r.off)], r.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return f, fmt.Errorf("at %d: %w", r.off, err)
	}
	if f.FrameHeader, f.Hash, err = parseFrameHeader(b[:n]); err != nil {
		return f, r.damage(err)
	}
	if r.off+f.Size() > r.size {
		return f, r.damage(ErrShort)
	}
	if err := r.follows(&f); err != nil {
		return f, r.damage(err)
	}
	r.Accept(&f)
	return f, nil
}

// ReadBody reads the body of a frame from NextHeader, and checks it.
func (f *Frame) ReadBody(src io.ReaderAt) error {
	body := make([]byte, f.BodySize)
	if _, err := src.ReadAt(body, f.Offset+int64(f.size())); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("at %d: %w", f.Offset, err)
	}
	f.Body = body // what the file lacks is zero, and the checksum tells
	if err := f.CheckBody(); err != nil {
		return &DamageError{Offset: f.Offset, Leaf: f.FirstLeaf, Problem: err}
	}
	return nil
}

// follows says why f is not a frame that can come next.
func (r *Reader) follows(f *Frame) error {
	switch {
	case f.FirstLeaf != r.next:
		return fmt.Errorf("frame begins with leaf %d", f.FirstLeaf)
	case f.Previous != r.prev:
		return errors.New("frame does not link to the one before it")
	case (f.SM3Root != nil) != r.Header.Digests.Has(suite.SM3):
		return errors.New("frame's digests are not the segment's")
	}
	return nil
}

// Peek reads the frame that Next would, whatever its body and links say. On an
// error the header is sound exactly when Hash is not zero, as when the file
// ends inside the body.
func (r *Reader) Peek() (Frame, error) { return r.frame(r.off) }

// Accept goes on behind f, a frame from Peek.
func (r *Reader) Accept(f *Frame) {
	r.off = f.Offset + f.Size()
	r.next = f.FirstLeaf + uint64(f.Count)
	r.prev = f.Hash
}

func (r *Reader) damage(problem error) error {
	return &DamageError{Offset: r.off, Leaf: r.next, Problem: problem}
}

func (r *Reader) frame(off int64) (Frame, error) {
	f := Frame{Offset: off}
	if off == r.size {
		return f, io.EOF
	}
	b, err := r.at(off, int(min(frameHeaderSize+suite.Size, r.size-off)))
	if err != nil {
		return f, err
	}
	if f.FrameHeader, f.Hash, err = parseFrameHeader(b); err != nil {
		return f, r.damage(err)
	}
	if off+f.Size() > r.size {
		return f, r.damage(ErrShort)
	}
	b, err = r.at(off, int(f.Size()))
	if err != nil {
		return f, err
	}
	f.Body = b[f.size():]
	return f, nil
}

// at is the n bytes of the file at off, valid until the next call.
func (r *Reader) at(off int64, n int) ([]byte, error) {
	if off+int64(n) > r.size {
		return nil, fmt.Errorf("segment of %d bytes: want %d bytes at %d", r.size, n, off)
	}
	if start := off - r.winOff; start >= 0 && start+int64(n) <= int64(len(r.win)) {
		return r.win[start : start+int64(n)], nil
	}
	want := int(min(int64(max(n, windowSize)), r.size-off))
	if cap(r.win) < want {
		r.win = make([]byte, want)
	}
	r.win, r.winOff = r.win[:want], off
	if _, err := io.ReadFull(io.NewSectionReader(r.src, off, int64(want)), r.win); err != nil {
		r.win = r.win[:0]
		if errors.Is(err, io.EOF) { // before size: not the end of the segment, but of the file
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("at %d: %w", off, err)
	}
	return r.win[:n], nil
}

// find is the offset of the first occurrence of pattern from off on, or -1.
func (r *Reader) find(pattern []byte, off int64) (int64, error) {
	for off+int64(len(pattern)) <= r.size {
		n := int(min(windowSize, r.size-off))
		// Go on in the bytes at hand: hits may be many.
		if held := r.winOff + int64(len(r.win)) - off; off >= r.winOff && held >= int64(len(pattern)) {
			n = int(min(held, r.size-off))
		}
		b, err := r.at(off, n)
		if err != nil {
			return -1, err
		}
		if i := bytes.Index(b, pattern); i >= 0 {
			return off + int64(i), nil
		}
		off += int64(n - len(pattern) + 1)
	}
	return -1, nil
}
