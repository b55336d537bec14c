package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

// reseal makes checksums and links right again as far as frames can be made out
// in b, so that mutations get past them.
func reseal(b []byte) {
	if len(b) < headerSize {
		return
	}
	fixHeader(b)
	link := suite.SHA256.Sum(b[:headerSize])
	for b = b[headerSize:]; len(b) >= frameHeaderSize; {
		size := frameHeaderSize
		if Flags(b[5])&hasSM3 != 0 {
			size += suite.Size
		}
		if size > len(b) {
			return
		}
		end := int64(size) + int64(binary.BigEndian.Uint32(b[20:]))
		if end > int64(len(b)) {
			return
		}
		copy(b[48:], link[:])
		binary.BigEndian.PutUint32(b[44:], crc32.Checksum(b[size:end], castagnoli))
		fixFrame(b)
		link = suite.SHA256.Sum(b[:size])
		b = b[end:]
	}
}

func FuzzReader(f *testing.F) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		w, off := tornSample(digests...)
		for _, seal := range []bool{false, true} {
			f.Add(w.b, uint32(0), byte(0), seal)
			f.Add(w.b, uint32(w.starts[1]+4), byte(2), seal)
			f.Add(w.b[:off+200], uint32(off+21), byte(0x40), seal)
			f.Add(append(w.b[:off:off], make([]byte, 600)...), uint32(11), byte(1), seal)
		}
	}
	f.Add([]byte("VTRLSEG\x02"), uint32(0), byte(0), false)
	f.Add(frameMagic, uint32(0), byte(0), false)
	f.Fuzz(func(t *testing.T, b []byte, at uint32, xor byte, seal bool) {
		b = bytes.Clone(b)
		if len(b) > 0 {
			b[int(at)%len(b)] ^= xor
		}
		if seal {
			reseal(b)
		}
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if !bytes.Equal(r.Header.Marshal(), b[:headerSize]) {
			t.Fatal("the segment header does not encode to itself")
		}
		for {
			before := r.Offset()
			frame, err := r.Next()
			if err != nil {
				if r.Offset() != before {
					t.Fatalf("the reader moved from %d to %d and returned %v", before, r.Offset(), err)
				}
				if !errors.Is(err, io.EOF) {
					_, _ = r.Peek()
				}
				break
			}
			h := frame.FrameHeader
			again, hash := AppendFrame(nil, &h, frame.Body)
			if !bytes.Equal(again, b[before:r.Offset()]) || hash != frame.Hash || hash != r.Link() {
				t.Fatalf("the frame at %d does not encode to itself", before)
			}
			if frame.Kind != Events {
				continue
			}
			if ends, err := frame.Ends(nil); err == nil && len(ends) != frame.Count {
				t.Fatalf("the frame at %d has %d leaves and %d lines", before, frame.Count, len(ends))
			}
			for i := range frame.Count {
				_ = frame.Fingerprint(i)
			}
		}
		if cap(r.win) > len(b) {
			t.Fatalf("the reader holds %d bytes for a file of %d", cap(r.win), len(b))
		}
	})
}

// durableBehind is the slow and plain way to find a frame that was written
// after everything before it was durable.
func durableBehind(b []byte, from int, next uint64) bool {
	for at := from; at < len(b); at++ {
		h, _, err := parseFrameHeader(b[at:])
		if err == nil && h.Flags&PreviousDurable != 0 && h.FirstLeaf >= next {
			return true
		}
	}
	return false
}

// checkRecovered holds for the recovery of any bytes.
func checkRecovered(t *testing.T, b []byte) (*Reader, Tail, bool) {
	t.Helper()
	r, tail, err := Recover(bytes.NewReader(b), int64(len(b)), func(*Frame) error { return nil })
	if err != nil {
		return nil, tail, false
	}
	if tail.Offset != r.Offset() || tail.Offset+tail.Size != int64(len(b)) || tail.Size == 0 && tail.Err != nil {
		t.Fatalf("reader at %d of %d, tail %+v", r.Offset(), len(b), tail)
	}
	if tail.Err == nil && durableBehind(b, int(tail.Offset)+1, r.NextLeaf()) {
		t.Fatalf("called torn at %d with a durable frame behind", tail.Offset)
	}
	again, rest, err := Recover(bytes.NewReader(b), tail.Offset, func(*Frame) error { return nil })
	if err != nil || rest.Size != 0 || rest.Err != nil {
		t.Fatalf("cut at %d: tail %+v, %v", tail.Offset, rest, err)
	}
	if again.NextLeaf() != r.NextLeaf() || again.Link() != r.Link() {
		t.Fatalf("cut at %d: leaf %d, before %d", tail.Offset, again.NextLeaf(), r.NextLeaf())
	}
	return r, tail, true
}

// FuzzRecover writes a segment as script says, has the power fail at its end,
// and then lets something else happen to it.
func FuzzRecover(f *testing.F) {
	f.Add([]byte{0, 60, 1, 40, 2, 30, 3}, uint64(0), uint16(0), uint32(0), byte(0), false)
	f.Add([]byte{200, 200, 200, 255, 2, 77, 77, 77}, uint64(0b1011), uint16(0), uint32(0), byte(0), true)
	f.Add([]byte{60, 3, 61, 99, 255, 40}, uint64(1), uint16(333), uint32(0), byte(0), false)
	f.Add([]byte{60, 3, 61, 99, 255, 40}, uint64(2), uint16(33), uint32(400), byte(1), true)
	f.Fuzz(func(t *testing.T, script []byte, lost uint64, cut uint16, at uint32, xor byte, sm3 bool) {
		var digests []suite.Digest
		if sm3 {
			digests = append(digests, suite.SM3)
		}
		w := newBuilder(digests...)
		synced := headerSize
		for _, c := range script[:min(len(script), 40)] {
			var flags Flags
			if synced == len(w.b) {
				flags = PreviousDurable
			}
			if c%8 == 7 {
				w.checkpoint(flags, []byte("note\n"))
			} else {
				w.events(flags, leaves(int(w.next), 1+int(c)/2)...)
			}
			if c%2 == 1 { // the others are acknowledged before they are synced
				synced = len(w.b)
			}
		}
		b := w.b
		if unsynced := len(b) - synced; unsynced > 0 {
			b = b[:synced+(unsynced+int(cut))%(unsynced+1)]
		}
		for i := range 64 {
			if lost>>i&1 == 1 {
				dropSectors(b, synced, synced/sector+i)
			}
		}
		r, tail, ok := checkRecovered(t, b)
		if !ok || tail.Err != nil || r.Offset() < int64(synced) {
			t.Fatalf("%d of %d bytes were synced: recovered %+v", synced, len(b), tail)
		}
		b[int(at)%len(b)] ^= xor
		r, tail, ok = checkRecovered(t, b)
		if !ok {
			return
		}
		if place := int64(at) % int64(len(b)); xor != 0 && place < r.Offset() {
			t.Fatalf("byte %d was changed, and read as sound up to %d", place, r.Offset())
		}
		if int64(synced) > r.Offset() && tail.Err == nil && r.Offset() < int64(lastStart(w, synced)) {
			t.Fatalf("synced up to %d, called torn at %d", synced, r.Offset())
		}
	})
}

// lastStart is where the last frame begins that was whole at size end.
func lastStart(w *builder, end int) int {
	start := headerSize
	for _, s := range w.starts {
		if s < end {
			start = s
		}
	}
	return start
}

// FuzzRecoverBytes takes bytes as they come.
func FuzzRecoverBytes(f *testing.F) {
	w, off := tornSample()
	f.Add(w.b, false)
	f.Add(w.b[:off+300], false)
	f.Add(append(w.b[:off:off], make([]byte, 1000)...), true)
	f.Add(append(w.b[:off:off], frameMagic...), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		b = bytes.Clone(b)
		if seal {
			reseal(b)
		}
		checkRecovered(t, b)
	})
}
