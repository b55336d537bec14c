package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

func recoverBytes(t testing.TB, b []byte) (*Reader, Tail, int) {
	t.Helper()
	n := 0
	r, tail, err := Recover(bytes.NewReader(b), int64(len(b)), func(*Frame) error { n++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return r, tail, n
}

// dropSectors zeroes what a disk leaves out of a write from off on when it
// does not put down those sectors.
func dropSectors(b []byte, off int, sectors ...int) {
	for _, s := range sectors {
		if from, to := max(s*sector, off), min((s+1)*sector, len(b)); from < to {
			clear(b[from:to])
		}
	}
}

// tornSample has acknowledged frames and, from the returned offset on, a last
// write of several sectors.
func tornSample(digests ...suite.Digest) (*builder, int) {
	w := sample(digests...)
	w.events(PreviousDurable, leaves(65, 120)...)
	return w, w.starts[4]
}

func TestTornTailsAreCut(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		w, off := tornSample(digests...)
		check := func(what string, b []byte) {
			t.Helper()
			r, tail, n := recoverBytes(t, b)
			if tail.Err != nil || n != 4 || tail.Offset != int64(off) || tail.Size != int64(len(b)-off) || r.NextLeaf() != 65 {
				t.Errorf("%v, %s: %d frames, tail %+v", digests, what, n, tail)
			}
		}
		for end := off; end < len(w.b); end++ {
			check(fmt.Sprintf("ends at %d", end), w.b[:end])
		}
		last := (len(w.b) - 1) / sector
		for first := off / sector; first <= last; first++ {
			for to := first + 1; to <= last+1; to++ {
				b := bytes.Clone(w.b)
				var lost []int
				for s := first; s < to; s++ {
					lost = append(lost, s)
				}
				dropSectors(b, off, lost...)
				check(fmt.Sprintf("sectors %d to %d missing", first, to-1), b)
				check(fmt.Sprintf("sectors %d to %d missing, cut", first, to-1), b[:max(off, len(b)-700)])
			}
		}
		for _, n := range []int{1, 3, 115, 116, 147, 148, 511, 512, 100_000} {
			check(fmt.Sprintf("%d zeros", n), append(w.b[:off:off], make([]byte, n)...))
		}
	}
}

// A segment whose header's tail lies in the next sector, at every place the
// sector's edge can have in it.
func TestSectorEdgeInAHeader(t *testing.T) {
	for pad := range 2 * frameHeaderSize {
		w := newBuilder(suite.SM3)
		w.checkpoint(PreviousDurable, bytes.Repeat([]byte{'x'}, 3*sector-headerSize-2*148-pad))
		off := len(w.b)
		w.events(PreviousDurable, leaves(0, 100)...)
		for s := off / sector; s*sector < len(w.b); s++ {
			b := bytes.Clone(w.b)
			dropSectors(b, off, s)
			if _, tail, n := recoverBytes(t, b); tail.Err != nil || n != 1 {
				t.Fatalf("frame at %d, sector %d missing: %d frames, %+v", off, s, n, tail)
			}
		}
	}
}

func TestWhatNoTearLeavesIsDamage(t *testing.T) {
	w, off := tornSample()
	zeros := make([]byte, 3*sector)
	frame := w.b[off:]
	with := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(w.b)) }
	foreign := newBuilder()
	foreign.events(PreviousDurable, leaves(0, 90)...)
	for _, c := range []struct {
		name string
		b    []byte
		leaf string
		want string
	}{
		{"bit flipped in the last header", with(func(b []byte) []byte { b[off+20] ^= 1; return b }), "leaf 65", "frame header: checksum does not match"},
		{"and zeros behind it", with(func(b []byte) []byte { b[off+20] ^= 1; return append(b, zeros...) }), "leaf 65", "frame header: checksum does not match"},
		{"and a zero sector in its body", with(func(b []byte) []byte {
			b[off+20] ^= 1
			dropSectors(b, off, len(b)/sector-1)
			return b
		}), "leaf 65", "frame header: checksum does not match"},
		{"bit flipped in the last body", with(func(b []byte) []byte { b[len(b)-9] ^= 1; return b }), "leaf 65", "frame body: checksum does not match"},
		{"and zeros behind it", with(func(b []byte) []byte { b[len(b)-9] ^= 1; return append(b, zeros...) }), "leaf 65", "frame body: checksum does not match"},
		{"zeros that are no sector", with(func(b []byte) []byte { clear(b[off+200 : off+300]); return b }), "leaf 65", "frame body: checksum does not match"},
		{"short foreign bytes", append(w.b[:off:off], "hello"...), "leaf 65", ErrShort.Error()},
		{"long foreign bytes", append(w.b[:off:off], strings.Repeat("hello", 500)...), "leaf 65", "no frame begins here"},
		{"a frame of a later version", with(func(b []byte) []byte { b[off+3]++; return b }), "leaf 65", "frame of format version 2: this program reads version 1"},
		{"a kind of frame we do not know", with(func(b []byte) []byte {
			b[off+4] = 3
			fixFrame(b[off:])
			dropSectors(b, off+frameHeaderSize, len(b)/sector-1)
			return b
		}), "leaf 65", "frame of unknown kind 3"},
		{"a whole frame twice", with(func(b []byte) []byte { return append(b, frame...) }), "leaf 185", "frame begins with leaf 65"},
		{"half a frame of another place", append(w.b[:off:off], foreign.b[headerSize:headerSize+800]...), "leaf 65", ErrShort.Error()},
		{"a frame of another place with a zero sector", with(func(b []byte) []byte {
			b = append(b[:off], foreign.b[headerSize:]...)
			dropSectors(b, off, len(b)/sector-1)
			return b
		}), "leaf 65", "frame body: checksum does not match"},
	} {
		_, tail, _ := recoverBytes(t, c.b)
		var damage *DamageError
		if !errors.As(tail.Err, &damage) || fmt.Sprintf("leaf %d", damage.Leaf) != c.leaf || damage.Problem.Error() != c.want {
			t.Errorf("%s: got %v, want %s: %s", c.name, tail.Err, c.leaf, c.want)
			continue
		}
		if damage.Offset != tail.Offset || tail.Offset+tail.Size != int64(len(c.b)) {
			t.Errorf("%s: damage at %d, tail %+v", c.name, damage.Offset, tail)
		}
	}
}

// Whatever happens to a frame that a durable one follows, it is not a tear.
func TestDamageBeforeADurableFrameIsNeverCut(t *testing.T) {
	w, off := tornSample()
	for at := headerSize; at < off; at += 3 {
		for _, n := range []int{1, 60, sector, 5 * sector} {
			b := bytes.Clone(w.b)
			clear(b[at:min(at+n, off)])
			if bytes.Equal(b, w.b) {
				continue
			}
			if _, tail, _ := recoverBytes(t, b); tail.Err == nil {
				t.Fatalf("%d zeros at %d: called torn, with a durable frame at %d", n, at, off)
			}
			if n < sector {
				continue
			}
			// The durable frame itself may be torn: its header says enough.
			if _, tail, _ := recoverBytes(t, b[:off+frameHeaderSize+1]); tail.Err == nil {
				t.Fatalf("%d zeros at %d, last frame torn: called torn", n, at)
			}
		}
	}
}

// Frames that were acknowledged before they were synced can be missing from
// the middle of the file; none of them claims that what precedes it is durable.
func TestBufferedFramesMayBeLostTogether(t *testing.T) {
	w := sample()
	off := len(w.b)
	w.events(PreviousDurable, leaves(65, 60)...)
	for i := range 5 {
		w.events(0, leaves(125+60*i, 60)...)
	}
	for s := off / sector; s*sector < len(w.b); s++ {
		b := bytes.Clone(w.b)
		dropSectors(b, off, s)
		r, tail, _ := recoverBytes(t, b)
		if tail.Err != nil || r.NextLeaf() < 65 || tail.Size == 0 {
			t.Errorf("sector %d missing: %+v", s, tail)
		}
	}
	synced := len(w.b)
	w.checkpoint(PreviousDurable, []byte("note\n"))
	for s := off/sector + 1; (s+1)*sector < synced; s++ {
		b := bytes.Clone(w.b)
		dropSectors(b, off, s)
		if _, tail, _ := recoverBytes(t, b); tail.Err == nil {
			t.Errorf("sector %d missing from what was synced: called torn", s)
		}
	}
}

func TestStaleFrameOfAnOlderPlaceProvesNothing(t *testing.T) {
	w, off := tornSample()
	old := bytes.Clone(w.b[w.starts[1]:w.starts[2]]) // flagged durable, but of leaves before
	b := slices.Concat(w.b[:off], make([]byte, 2*sector), old)
	if _, tail, _ := recoverBytes(t, b); tail.Err != nil {
		t.Errorf("got %v, want a tail that can be cut", tail.Err)
	}
}

func TestRecoverPassesErrorsOn(t *testing.T) {
	w := sample()
	stop := errors.New("stop")
	if _, _, err := Recover(bytes.NewReader(w.b), int64(len(w.b)), func(*Frame) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("visit's error: got %v", err)
	}
	broken := errors.New("bad block")
	for at := 0; at < len(w.b); at += 50 {
		b := bytes.Clone(w.b)
		b[len(b)-1] ^= 1 // torn is asked as well
		src := &failing{b: b, at: int64(at), err: broken}
		if _, tail, err := Recover(src, int64(len(b)), func(*Frame) error { return nil }); !errors.Is(err, broken) {
			t.Errorf("bad block at %d: tail %+v, error %v", at, tail, err)
		}
	}
	if _, _, err := Recover(bytes.NewReader(nil), 0, nil); err == nil {
		t.Error("an empty file is a segment")
	}
}

type failing struct {
	b   []byte
	at  int64
	err error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if off <= f.at && f.at < off+int64(len(p)) {
		return 0, f.err
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// The search for a frame behind must not read a file of false beginnings over
// and over.
func TestTailFullOfMagicsIsReadOnce(t *testing.T) {
	w := sample()
	b := append(bytes.Clone(w.b), bytes.Repeat(frameMagic, 3*windowSize/len(frameMagic))...)
	src := &counting{b: b}
	_, tail, err := Recover(src, int64(len(b)), func(*Frame) error { return nil })
	if err != nil || tail.Err == nil {
		t.Fatalf("%+v, %v", tail, err)
	}
	if src.read > 4*int64(len(b)) {
		t.Errorf("read %d bytes of a file of %d", src.read, len(b))
	}
}

type counting struct {
	b    []byte
	read int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.read += int64(len(p))
	return bytes.NewReader(c.b).ReadAt(p, off)
}

func TestDurableFrameIsFoundAcrossTheWindow(t *testing.T) {
	for d := -frameHeaderSize - 2; d < 6; d++ {
		w := newBuilder()
		w.checkpoint(PreviousDurable, bytes.Repeat([]byte{'x'}, windowSize+d-frameHeaderSize))
		w.checkpoint(PreviousDurable, []byte("note\n"))
		b := bytes.Clone(w.b)
		clear(b[headerSize+frameHeaderSize : w.starts[1]])
		if _, tail, _ := recoverBytes(t, b); tail.Err == nil {
			t.Errorf("body of %d zeros: called torn", windowSize+d-frameHeaderSize)
		}
	}
}

// growing is a file that somebody appends to.
type growing struct {
	mu   sync.Mutex
	b    []byte
	more chan struct{}
}

func (g *growing) ReadAt(p []byte, off int64) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return bytes.NewReader(g.b).ReadAt(p, off)
}

func (g *growing) write(p []byte) {
	g.mu.Lock()
	g.b = append(g.b, p...)
	g.mu.Unlock()
	select {
	case g.more <- struct{}{}:
	default:
	}
}

func (g *growing) size() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(len(g.b))
}

func TestReaderFollowsAWriter(t *testing.T) {
	w := newBuilder()
	for i := range 200 {
		if i%7 == 0 {
			w.checkpoint(PreviousDurable, []byte("note\n"))
			continue
		}
		w.events(PreviousDurable, leaves(int(w.next), 1+i%30)...)
	}
	g := &growing{b: bytes.Clone(w.b[:headerSize]), more: make(chan struct{}, 1)}
	r, err := NewReader(g, g.size())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for at, n := headerSize, 1; at < len(w.b); n = n*7%1231 + 1 { // pieces that end anywhere in a frame
			end := min(at+n, len(w.b))
			g.write(w.b[at:end])
			at = end
		}
	}()
	for seen := 0; seen < 200; {
		switch _, err := r.Next(); {
		case err == nil:
			seen++
		case errors.Is(err, io.EOF) || errors.Is(err, ErrShort):
			before := r.Offset()
			for g.size() == r.size {
				<-g.more
			}
			r.Grow(g.size())
			if r.Offset() != before {
				t.Fatal("Grow moved the reader")
			}
		default:
			t.Fatalf("frame %d: %v", seen, err)
		}
	}
	if r.NextLeaf() != w.next || r.Link() != w.link {
		t.Errorf("ended at leaf %d of %d", r.NextLeaf(), w.next)
	}
}

// A write whose sync failed is cut and another one takes its place, shorter or
// longer, while a reader has already read ahead.
func TestReaderForgetsACutTail(t *testing.T) {
	for _, n := range []int{1, 100} {
		w := sample()
		off := len(w.b)
		first, second := *w, *w
		first.trees, second.trees = sample().trees, sample().trees
		first.b, second.b = bytes.Clone(w.b), bytes.Clone(w.b)
		first.events(PreviousDurable, leaves(1000, 20)...)
		second.events(PreviousDurable, leaves(65, n)...)
		g := &growing{b: first.b, more: make(chan struct{}, 1)}
		r, err := NewReader(g, g.size())
		if err != nil {
			t.Fatal(err)
		}
		for r.Offset() < int64(off) {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
		}
		g.mu.Lock()
		g.b = second.b
		g.mu.Unlock()
		r.Grow(g.size())
		f, err := r.Next()
		if err != nil || f.Count != n {
			t.Fatalf("got a frame of %d leaves, %v; want %d", f.Count, err, n)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Errorf("behind it: %v", err)
		}
	}
}
