package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// builder writes a segment the way a writer does, with true roots and links.
type builder struct {
	b      []byte
	link   suite.Hash
	next   uint64
	trees  []*tlog.Tree
	starts []int // where the frames begin
}

var created = time.Unix(1_700_000_000, 5).UTC()

func newBuilder(digests ...suite.Digest) *builder {
	w := &builder{}
	h := Header{Digests: suite.NewSet(digests...), Instance: [16]byte{1, 2, 3}, Created: created}
	for _, d := range h.Digests.Digests() {
		w.trees = append(w.trees, tlog.NewTree(d, nil))
	}
	h.Root = w.trees[0].Root()
	if len(w.trees) > 1 {
		h.SM3Root = w.trees[1].Root()
	}
	w.b, w.link = h.Marshal(), h.Hash()
	return w
}

func (w *builder) frame(h FrameHeader, body ...[]byte) {
	h.FirstLeaf, h.Previous, h.Root = w.next, w.link, w.trees[0].Root()
	if len(w.trees) > 1 {
		root := w.trees[1].Root()
		h.SM3Root = &root
	}
	if h.Kind == Events {
		h.FirstLeaf = w.next - uint64(h.Count)
	}
	w.starts = append(w.starts, len(w.b))
	w.b, w.link = AppendFrame(w.b, &h, body...)
}

func (w *builder) events(flags Flags, leaves ...string) {
	var lines []byte
	var hashes []suite.Hash
	for _, leaf := range leaves {
		lines = append(append(lines, leaf...), '\n')
		hashes = append(hashes, suite.SHA256.LeafHash([]byte(leaf)))
		for _, tree := range w.trees {
			tree.Append(tree.Digest().LeafHash([]byte(leaf)))
		}
	}
	w.next += uint64(len(leaves))
	h := FrameHeader{Kind: Events, Flags: flags, Count: len(leaves), Time: created.Add(time.Second), Lost: 7, KeyEpoch: 3}
	w.frame(h, AppendFingerprints(nil, hashes), lines)
}

func (w *builder) checkpoint(flags Flags, note []byte) {
	w.frame(FrameHeader{Kind: Checkpoint, Flags: flags, Time: created}, note)
}

func leaves(first, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(`{"n":"%d"}`, first+i)
	}
	return out
}

// sample has two event frames and a checkpoint, all written in turn durably.
func sample(digests ...suite.Digest) *builder {
	w := newBuilder(digests...)
	w.events(PreviousDurable, leaves(0, 3)...)
	w.events(PreviousDurable, leaves(3, 60)...)
	w.checkpoint(PreviousDurable, []byte("a note\n"))
	w.events(PreviousDurable, leaves(63, 2)...)
	return w
}

func open(t testing.TB, b []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readAll returns what the reader gives before its error, and that error.
func readAll(r *Reader) (frames []Frame, err error) {
	for {
		f, err := r.Next()
		if err != nil {
			return frames, err
		}
		f.Body = bytes.Clone(f.Body)
		frames = append(frames, f)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		w := sample(digests...)
		r := open(t, w.b)
		if h := r.Header; h.Digests != suite.NewSet(digests...) || h.Created != created || h.Instance != [16]byte{1, 2, 3} ||
			h.Root != suite.SHA256.EmptyRoot() || (h.SM3Root != suite.Hash{}) != (digests != nil) {
			t.Errorf("%v: header %+v", digests, h)
		}
		frames, err := readAll(r)
		if !errors.Is(err, io.EOF) || len(frames) != 4 {
			t.Fatalf("%v: got %d frames, %v", digests, len(frames), err)
		}
		if r.NextLeaf() != 65 || r.Offset() != int64(len(w.b)) || r.Link() != w.link {
			t.Errorf("%v: the reader ends at leaf %d, offset %d", digests, r.NextLeaf(), r.Offset())
		}
		var got []string
		for i, f := range frames {
			if f.Offset != int64(w.starts[i]) || (f.SM3Root != nil) != (digests != nil) {
				t.Errorf("%v: frame %d: %+v", digests, i, f.FrameHeader)
			}
			if f.Kind == Checkpoint {
				if string(f.Body) != "a note\n" || f.FirstLeaf != 63 || f.Count != 0 {
					t.Errorf("%v: checkpoint frame: %+v, body %q", digests, f.FrameHeader, f.Body)
				}
				continue
			}
			if f.Lost != 7 || f.KeyEpoch != 3 || f.Time != created.Add(time.Second) || f.Flags&PreviousDurable == 0 {
				t.Errorf("%v: frame %d: %+v", digests, i, f.FrameHeader)
			}
			ends, err := f.Ends(nil)
			if err != nil {
				t.Fatal(err)
			}
			start := 0
			for j, end := range ends {
				leaf := f.Lines()[start:end]
				if at := f.LineOffset(start); !bytes.Equal(w.b[at:at+int64(len(leaf))], leaf) {
					t.Errorf("%v: leaf %d is not at %d", digests, len(got), at)
				}
				hash, other := suite.SHA256.LeafHash(leaf), suite.SHA256.LeafHash([]byte("other"))
				if !f.HasFingerprint(j, &hash) || f.HasFingerprint(j, &other) {
					t.Errorf("%v: fingerprint of leaf %d", digests, len(got))
				}
				got = append(got, string(leaf))
				start = end + 1
			}
		}
		if !slices.Equal(got, leaves(0, 65)) {
			t.Errorf("%v: leaves %q", digests, got)
		}
		if last := frames[3]; last.Root != w.trees[0].Root() {
			t.Errorf("%v: the last frame's root is not the tree's", digests)
		}
	}
}

func TestTimesBefore1970AndTheirBounds(t *testing.T) {
	for _, nanos := range []int64{0, -1, 1<<63 - 1, -1 << 63} {
		h := Header{Digests: suite.NewSet(), Created: time.Unix(0, nanos)}
		got, err := ParseHeader(h.Marshal())
		if err != nil || got.Created.UnixNano() != nanos {
			t.Errorf("%d ns: got %d, %v", nanos, got.Created.UnixNano(), err)
		}
	}
}

// fixHeader and fixFrame make checksums right again after a change.
func fixHeader(b []byte) {
	binary.BigEndian.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], castagnoli))
}

func fixFrame(b []byte) {
	size := frameHeaderSize
	if Flags(b[5])&hasSM3 != 0 {
		size += suite.Size
	}
	binary.BigEndian.PutUint32(b[size-4:], crc32.Checksum(b[:size-4], castagnoli))
}

func TestEveryByteOfTheSegmentHeaderCounts(t *testing.T) {
	w := sample()
	for at := range headerSize {
		b := bytes.Clone(w.b)
		b[at] ^= 0x04
		want := "segment header: checksum does not match"
		switch {
		case at < 7:
			want = "segment header: not a segment file"
		case at == 7:
			want = "segment header: format version 5: this program reads version 1"
		}
		if _, err := NewReader(bytes.NewReader(b), int64(len(b))); err == nil || err.Error() != want {
			t.Errorf("byte %d: got %v, want %s", at, err, want)
		}
		if at < 8 || at >= headerSize-4 {
			continue
		}
		fixHeader(b) // somebody who knows the format changed it
		want = "at 148: leaf 0: frame does not link to the one before it"
		switch {
		case at == 8:
			want = "segment header: digest set 0x05: want sha256 or sha256+sm3"
		case at < 16:
			want = "segment header: reserved bytes are not zero"
		case at < 23: // in multiples of 256
			want = fmt.Sprintf("at 148: leaf %d: frame begins with leaf 0", uint64(4)<<(8*(23-at)))
		case at == 23:
			want = "segment header: first leaf 4 is not a multiple of 256"
		}
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			_, err = r.Next()
		}
		if err == nil || err.Error() != want {
			t.Errorf("byte %d, checksum made right: got %v, want %s", at, err, want)
		}
	}
	for size := range headerSize {
		want := fmt.Sprintf("segment of %d bytes: want 148 bytes at 0", size)
		if _, err := NewReader(bytes.NewReader(w.b[:size]), int64(size)); err == nil || err.Error() != want {
			t.Errorf("%d bytes: got %v, want %s", size, err, want)
		}
		if _, err := ParseHeader(w.b[:size]); err == nil {
			t.Errorf("ParseHeader takes %d bytes", size)
		}
	}
}

func TestEveryByteOfAFrameHeaderCounts(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		w := sample(digests...)
		first := w.b[w.starts[0]:w.starts[1]]
		size := frameHeaderSize + len(digests)*suite.Size
		place := fmt.Sprintf("at %d: leaf 0: ", headerSize)
		for at := range size {
			b := bytes.Clone(w.b)
			b[headerSize+at] ^= 0x08
			want := place + "frame header: checksum does not match"
			switch at {
			case 0, 1, 2:
				want = place + "no frame begins here"
			case 3:
				want = place + "frame of format version 9: this program reads version 1"
			case 6:
				want = place + fmt.Sprintf("frame header of %d bytes: want %d", size^0x0800, size)
			case 7:
				want = place + fmt.Sprintf("frame header of %d bytes: want %d", size^0x08, size)
			}
			if _, err := readAll(open(t, b)); err.Error() != want {
				t.Errorf("%v, byte %d: got %v, want %s", digests, at, err, want)
			}
			if at < 4 || at == 6 || at == 7 || at >= size-4 {
				continue
			}
			fixFrame(b[headerSize:])
			body := uint32(len(first) - size)
			switch {
			case at == 4:
				want = place + "frame of unknown kind 9"
			case at == 5:
				want = place + fmt.Sprintf("frame with unknown flags %#02x", b[headerSize+5])
			case at < 16:
				want = place + fmt.Sprintf("frame begins with leaf %d", uint64(8)<<(8*(15-at)))
			case at < 19:
				n := 3 + uint32(8)<<(8*(19-at))
				want = place + fmt.Sprintf("frame of %d leaves and %d bytes: more than the format allows", n, body)
				if n <= MaxFrameLeaves {
					want = place + fmt.Sprintf("frame of %d leaves in %d bytes", n, body)
				}
			case at == 19:
				want = place + "frame of 11 leaves in 42 bytes"
			case at == 20:
				want = place + fmt.Sprintf("frame of 3 leaves and %d bytes: more than the format allows", body^8<<24)
			case at < 23:
				want = place + ErrShort.Error()
			case at == 23:
				want = place + "frame body: checksum does not match"
			case at >= 44 && at < 48:
				want = place + "frame body: checksum does not match"
			case at >= 48 && at < 80:
				want = place + "frame does not link to the one before it"
			default: // the frame alone can't tell; the next one links to its header
				want = fmt.Sprintf("at %d: leaf 3: frame does not link to the one before it", w.starts[1])
			}
			if _, err := readAll(open(t, b)); err.Error() != want {
				t.Errorf("%v, byte %d, checksum made right: got %v, want %s", digests, at, err, want)
			}
		}
	}
}

func TestEveryByteOfABodyCounts(t *testing.T) {
	w := sample()
	for at := w.starts[1] + frameHeaderSize; at < w.starts[2]; at++ {
		b := bytes.Clone(w.b)
		b[at] ^= 0x80
		r := open(t, b)
		frames, err := readAll(r)
		want := fmt.Sprintf("at %d: leaf 3: frame body: checksum does not match", w.starts[1])
		if len(frames) != 1 || err.Error() != want {
			t.Fatalf("byte %d: got %d frames, %v; want %s", at, len(frames), err, want)
		}
		if r.Offset() != int64(w.starts[1]) || r.NextLeaf() != 3 {
			t.Fatalf("byte %d: the reader moved to %d", at, r.Offset())
		}
	}
}

func TestFramesThatAreDroppedSwappedOrDoubledAreNoticed(t *testing.T) {
	w := sample()
	part := func(i int) []byte { return w.b[w.starts[i]:append(w.starts, len(w.b))[i+1]] }
	for _, c := range []struct {
		name   string
		frames []int
		want   string
	}{
		{"dropped", []int{0, 2, 3}, "leaf 3: frame begins with leaf 63"},
		{"checkpoint dropped", []int{0, 1, 3}, "leaf 63: frame does not link to the one before it"},
		{"swapped", []int{1, 0, 2, 3}, "leaf 0: frame begins with leaf 3"},
		{"doubled", []int{0, 1, 1, 2, 3}, "leaf 63: frame begins with leaf 3"},
		{"checkpoint doubled", []int{0, 1, 2, 2, 3}, "leaf 63: frame does not link to the one before it"},
	} {
		b := bytes.Clone(w.b[:headerSize])
		for _, i := range c.frames {
			b = append(b, part(i)...)
		}
		if _, err := readAll(open(t, b)); !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	other := newBuilder(suite.SM3)
	other.events(0, leaves(0, 3)...)
	frame := other.b[headerSize:]
	copy(frame[48:], w.b[w.starts[0]+48:][:suite.Size]) // linked, but of another set of digests
	fixFrame(frame)
	b := append(bytes.Clone(w.b[:headerSize]), frame...)
	if _, err := readAll(open(t, b)); err.Error() != "at 148: leaf 0: frame's digests are not the segment's" {
		t.Errorf("SM3 frame in a SHA-256 segment: got %v", err)
	}
}

func TestBounds(t *testing.T) {
	header := func(change func(*FrameHeader)) []byte {
		h := FrameHeader{Kind: Events, Count: 1, BodySize: 10}
		change(&h)
		return h.append(nil)
	}
	for _, c := range []struct {
		name   string
		change func(*FrameHeader)
		want   string
	}{
		{"one leaf", func(*FrameHeader) {}, ""},
		{"most leaves", func(h *FrameHeader) { h.Count, h.BodySize = MaxFrameLeaves, MaxFrameBody }, ""},
		{"a leaf more", func(h *FrameHeader) { h.Count, h.BodySize = MaxFrameLeaves+1, MaxFrameBody },
			"frame of 65537 leaves and 16777216 bytes: more than the format allows"},
		{"a byte more", func(h *FrameHeader) { h.BodySize = MaxFrameBody + 1 },
			"frame of 1 leaves and 16777217 bytes: more than the format allows"},
		{"no leaf", func(h *FrameHeader) { h.Count = 0 }, "frame of 0 leaves in 10 bytes"},
		{"empty lines only", func(h *FrameHeader) { h.Count = 2 }, ""},
		{"less than empty lines", func(h *FrameHeader) { h.Count = 3 }, "frame of 3 leaves in 10 bytes"},
		{"checkpoint", func(h *FrameHeader) { h.Kind, h.Count = Checkpoint, 0 }, ""},
		{"checkpoint of leaves", func(h *FrameHeader) { h.Kind = Checkpoint }, "checkpoint frame of 1 leaves and 10 bytes"},
		{"empty checkpoint", func(h *FrameHeader) { h.Kind, h.Count, h.BodySize = Checkpoint, 0, 0 },
			"checkpoint frame of 0 leaves and 0 bytes"},
		{"kind 0", func(h *FrameHeader) { h.Kind = 0 }, "frame of unknown kind 0"},
		{"kind 3", func(h *FrameHeader) { h.Kind = 3 }, "frame of unknown kind 3"},
		{"flag 4", func(h *FrameHeader) { h.Flags = 4 }, "frame with unknown flags 0x04"},
	} {
		_, _, err := parseFrameHeader(header(c.change))
		if got := fmt.Sprint(err); err == nil && c.want != "" || err != nil && got != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLinesAreCountedAndBounded(t *testing.T) {
	line := func(n int) string { return strings.Repeat("x", n) + "\n" }
	for _, c := range []struct {
		name, lines string
		count       int
		want        string
	}{
		{"longest leaf", line(MaxLeaf), 1, ""},
		{"empty leaves", "\n\n", 2, ""},
		{"longer", line(3) + line(MaxLeaf+1), 2, "frame body: line 1 of 65536 bytes: a leaf has at most 65535"},
		{"too few", line(3), 2, "frame body: want 2 lines, got 1"},
		{"too many", line(3) + line(4), 1, "frame body: want 1 lines, got 2"},
		{"not ended", "abc", 1, "frame body: the last line is not ended"},
		{"bytes behind", line(3) + "abc", 1, "frame body: the last line is not ended"},
		{"none", "", 0, "frame body: the last line is not ended"},
	} {
		f := Frame{FrameHeader: FrameHeader{Count: c.count}}
		f.Body = append(make([]byte, c.count*fingerprintSize), c.lines...)
		_, err := f.Ends(nil)
		if err == nil && c.want != "" || err != nil && err.Error() != c.want {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// Frames of exactly the reader's window, a byte less and more, and the largest
// there is; and frames behind them whose headers lie across the window's edge.
func TestFramesAcrossTheReadersWindow(t *testing.T) {
	const fits = windowSize - frameHeaderSize
	var sizes []int
	for _, base := range []int{fits, 2 * fits, windowSize - headerSize - frameHeaderSize, windowSize} {
		for d := -frameHeaderSize - 1; d <= 2; d += 7 {
			sizes = append(sizes, base+d)
		}
		sizes = append(sizes, base-1, base, base+1)
	}
	sizes = append(sizes, MaxFrameBody)
	for _, size := range sizes {
		w := newBuilder()
		w.checkpoint(PreviousDurable, []byte("before"))
		w.checkpoint(PreviousDurable, bytes.Repeat([]byte{'x'}, size))
		w.checkpoint(PreviousDurable, []byte("after"))
		frames, err := readAll(open(t, w.b))
		if !errors.Is(err, io.EOF) || len(frames) != 3 || len(frames[1].Body) != size || string(frames[2].Body) != "after" {
			t.Fatalf("body of %d bytes: %d frames, %v", size, len(frames), err)
		}
	}
}

func TestReaderHoldsNoMoreThanOneFrame(t *testing.T) {
	w := newBuilder()
	for range 20 {
		w.checkpoint(PreviousDurable, bytes.Repeat([]byte{'x'}, windowSize-1000))
	}
	r := open(t, w.b)
	if frames, err := readAll(r); !errors.Is(err, io.EOF) || len(frames) != 20 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	if cap(r.win) > windowSize {
		t.Errorf("the reader holds %d bytes", cap(r.win))
	}
}

func TestPeekAndAcceptGoOnBehindDamage(t *testing.T) {
	w := sample()
	b := bytes.Clone(w.b)
	b[w.starts[2]-2] ^= 1 // in the second frame's body
	r := open(t, b)
	if frames, err := readAll(r); len(frames) != 1 || errors.Is(err, io.EOF) {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	f, err := r.Peek()
	if err != nil || f.CheckBody() == nil || f.FirstLeaf != 3 {
		t.Fatalf("Peek: %+v, %v", f.FrameHeader, err)
	}
	r.Accept(&f)
	if frames, err := readAll(r); len(frames) != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the damage: %d frames, %v", len(frames), err)
	}
}

// shortFile has fewer bytes than its reader was told.
func TestFileShorterThanSaidIsNotAnEnd(t *testing.T) {
	w := sample()
	for _, at := range []int{w.starts[3], w.starts[3] + 10} {
		// A reader that has not looked ahead that far, so small a file.
		r, err := NewReader(&cutAfterHeader{b: w.b, to: at}, int64(len(w.b)))
		if err != nil {
			t.Fatal(err)
		}
		r.win = r.win[:0]
		r.off, r.next = int64(w.starts[3]), 63
		if _, err := r.Next(); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("file ends at %d: got %v, want an unexpected EOF", at, err)
		}
	}
}

type cutAfterHeader struct {
	b  []byte
	to int
	n  int
}

func (c *cutAfterHeader) ReadAt(p []byte, off int64) (int, error) {
	c.n++
	b := c.b
	if c.n > 1 {
		b = b[:c.to]
	}
	return bytes.NewReader(b).ReadAt(p, off)
}
