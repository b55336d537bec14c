package segment

import (
	"bytes"
	"errors"
	"io"

	"github.com/veritrail/veritrail/internal/suite"
)

// sector is the unit a disk writes whole or not at all.
const sector = 512

// Tail is what follows a segment's last whole frame.
type Tail struct {
	Offset int64 // where it begins
	Size   int64
	// Err is nil when the tail can be cut: it is what a crash leaves of one
	// write that was never acknowledged. Otherwise it says why the bytes may
	// be acknowledged data that was damaged later.
	Err error
}

// Recover reads a segment to its last whole frame, calling visit for each, and
// judges what follows. Only a write that was not yet synced can be torn, and
// all a tear can do is leave sectors out: the file ends early, or zeros stand
// where the sector should be. So a tail that does not look like this, or has a
// frame behind it that was begun after a sync, is damage and must not be cut.
func Recover(src io.ReaderAt, size int64, visit func(*Frame) error) (*Reader, Tail, error) {
	r, err := NewReader(src, size)
	if err != nil {
		return nil, Tail{}, err
	}
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, Tail{Offset: r.off}, nil
		}
		var damage *DamageError
		if errors.As(err, &damage) {
			tail := Tail{Offset: r.off, Size: size - r.off}
			torn, err := r.torn()
			if !torn {
				tail.Err = damage
			}
			return r, tail, err
		}
		if err != nil {
			return nil, Tail{}, err
		}
		if err := visit(&f); err != nil {
			return nil, Tail{}, err
		}
	}
}

// torn tells whether the bytes from r.off on are an unacknowledged write.
func (r *Reader) torn() (bool, error) {
	later, err := r.durableFrameBehind(r.off + 1)
	if later || err != nil {
		return false, err
	}
	f, err := r.frame(r.off)
	var damage *DamageError
	if err != nil && !errors.As(err, &damage) {
		return false, err
	}
	if sound := f.Hash != (suite.Hash{}); sound {
		belongs, short := r.follows(&f) == nil, errors.Is(err, ErrShort)
		whole := !short && f.CheckBody() == nil // what is wrong with it is no tear's doing
		if short || whole || !belongs {
			return short && belongs, nil
		}
		return r.lacksSector(r.off, r.off+f.Size())
	}
	// No sound header, so it is the header that lacks a sector, or its end:
	// zeros further on explain nothing.
	header := FrameHeader{}
	if r.Header.Digests.Has(suite.SM3) {
		header.SM3Root = &suite.Hash{}
	}
	end := min(r.off+int64(header.size()), r.size)
	if errors.Is(err, ErrShort) {
		n := int(min(int64(len(frameMagic)), end-r.off))
		b, err := r.at(r.off, n)
		if err != nil || bytes.Equal(b, frameMagic[:n]) {
			return err == nil, err
		}
	}
	return r.lacksSector(r.off, end)
}

// lacksSector tells whether any sector in [from, to) holds nothing but zeros
// there. Lines hold no zero bytes, so what was written never looks like this.
func (r *Reader) lacksSector(from, to int64) (bool, error) {
	for at := from; at < to; {
		end := min((at/sector+1)*sector, to)
		b, err := r.at(at, int(end-at))
		if err != nil {
			return false, err
		}
		if allZero(b) {
			return true, nil
		}
		at = end
	}
	return false, nil
}

// durableFrameBehind looks for a frame header from off on that was written
// after everything before it was durable.
func (r *Reader) durableFrameBehind(off int64) (bool, error) {
	for ; off+frameHeaderSize <= r.size; off++ {
		at, err := r.find(frameMagic, off)
		if at < 0 || err != nil {
			return false, err
		}
		off = at
		b, err := r.at(off, int(min(frameHeaderSize+32, r.size-off)))
		if err != nil {
			return false, err
		}
		h, _, err := parseFrameHeader(b)
		if err == nil && h.Flags&PreviousDurable != 0 && h.FirstLeaf >= r.next {
			return true, nil
		}
	}
	return false, nil
}
