package trail

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// lines is one frame of the given leaves, and the hash of its header.
func lines(first uint64, previous suite.Hash, leaves ...string) ([]byte, suite.Hash) {
	var body []byte
	hashes := make([]suite.Hash, len(leaves))
	for _, leaf := range leaves {
		body = append(append(body, leaf...), '\n')
	}
	h := segment.FrameHeader{Kind: segment.Events, FirstLeaf: first, Count: len(leaves), Time: time.Unix(1, 0), Previous: previous}
	return segment.AppendFrame(nil, &h, segment.AppendFingerprints(nil, hashes), body)
}

// writeSegment makes a trail's only segment.
func writeSegment(t *testing.T, dir string, frames ...[]byte) {
	t.Helper()
	h := segment.Header{Digests: suite.NewSet(), Created: time.Unix(1, 0)}
	b := h.Marshal()
	for _, f := range frames {
		b = append(b, f...)
	}
	// In place, as a writer cuts and goes on in the file that is open.
	if err := os.WriteFile(SegmentPath(dir, 0), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func emptyTrail(t *testing.T) (dir string, link suite.Hash) {
	t.Helper()
	dir = t.TempDir()
	if err := Create(durable.OS, dir, exampleIdentity()); err != nil {
		t.Fatal(err)
	}
	h := segment.Header{Digests: suite.NewSet(), Created: time.Unix(1, 0)}
	return dir, h.Hash()
}

// A frame that was seen behind the acknowledged ones may be cut, after a failed
// sync, and another take its place.
func TestLeavesForgetACutTail(t *testing.T) {
	dir, link := emptyTrail(t)
	one, link := lines(0, link, "one")
	unsynced, _ := lines(1, link, "was never acknowledged", "nor was this", "nor this")
	for _, longer := range []bool{false, true} {
		writeSegment(t, dir, one, unsynced)
		l := NewLeaves(dir)
		if leaf, _, err := l.ReadPlace(0); err != nil || string(leaf) != "one" {
			t.Fatalf("%q, %v", leaf, err)
		}
		want := []string{"two", "3"}
		if longer {
			for i := range 100 {
				want = append(want, fmt.Sprint(i))
			}
		}
		frame, _ := lines(1, link, want...)
		writeSegment(t, dir, one, frame)
		for i, w := range want {
			if leaf, _, err := l.ReadPlace(uint64(i) + 1); err != nil || string(leaf) != w {
				t.Errorf("leaf %d: got %q, %v; want %q", i+1, leaf, err, w)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A file that somebody changes under its reader is reported, never a panic.
func TestSegmentChangedUnderItsReader(t *testing.T) {
	dir, link := emptyTrail(t)
	frame, _ := lines(0, link, "one", "two", "three")
	joined, _ := lines(0, link, "one two", "three")
	for what, b := range map[string][]byte{"lines joined": append(joined[:len(joined):len(joined)], "xxxx"...), "cut": frame[:len(frame)-3]} {
		writeSegment(t, dir, frame)
		l := NewLeaves(dir)
		if _, err := l.Read(0, 3); err != nil {
			t.Fatal(err)
		}
		writeSegment(t, dir, b)
		if leaves, err := l.Read(0, 3); err == nil {
			t.Errorf("%s: read %q", what, leaves)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDamagedFrameCostsItsOwnLeavesOnly damages one frame of a segment that is
// not the last: the leaves behind it can be read all the same.
func TestDamagedFrameCostsItsOwnLeavesOnly(t *testing.T) {
	dir, sizes := manyFrames(t)
	segments, err := Segments(dir)
	if err != nil || len(segments) < 2 {
		t.Fatal(segments, err)
	}
	b, err := os.ReadFile(segments[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(leafText(sizes[0]))) // the first leaf of the second frame
	if at < 0 {
		t.Fatal("no such leaf")
	}
	b[at] ^= 1
	if err := os.WriteFile(segments[0].Path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	leaves := NewLeaves(dir)
	t.Cleanup(func() { _ = leaves.Close() })
	for i := range segments[1].FirstLeaf {
		bundle := i / tlog.TileWidth * tlog.TileWidth
		lost := bundle < sizes[1] && bundle+tlog.TileWidth > sizes[0] && i >= sizes[0]/tlog.TileWidth*tlog.TileWidth
		got, err := leaves.Read(i, 1)
		var damage *segment.DamageError
		switch {
		case err == nil && string(got[0]) != leafText(i):
			t.Fatalf("leaf %d is %q", i, got[0])
		case err == nil && i >= sizes[0] && i < sizes[1]:
			t.Fatalf("leaf %d of the damaged frame was read", i)
		case err != nil && (!lost || !errors.As(err, &damage)):
			t.Fatalf("leaf %d: %v", i, err)
		}
	}
}

// TestFirstLookReadsOnlyTheFrameItNeeds looks into the last of three
// frames: the bodies of the others are not read for it.
func TestFirstLookReadsOnlyTheFrameItNeeds(t *testing.T) {
	dir, sizes := manyFrames(t)
	leaves := NewLeaves(dir)
	t.Cleanup(func() { _ = leaves.Close() })
	last := sizes[1] + tlog.TileWidth // in the third frame, as its whole bundle is
	if got, err := leaves.Read(last, 1); err != nil || string(got[0]) != leafText(last) {
		t.Fatal(got, err)
	}
	x := leaves.open[0]
	for i := range x.frames {
		if read := x.frames[i].unread == nil; read != (i == 2) {
			t.Errorf("frame %d: its body was read: %v", i, read)
		}
	}
	for i := range uint64(2048) {
		if got, err := leaves.Read(i, 1); err != nil || string(got[0]) != leafText(i) {
			t.Fatalf("leaf %d: %q, %v", i, got, err)
		}
	}
}

func leafText(i uint64) string { return fmt.Sprintf(`{"n":"%06d"}`, i) }

// manyFrames is a trail of two segments, the first of three frames; sizes are
// the leaves before the second frame, and before the third.
func manyFrames(t *testing.T) (dir string, sizes [2]uint64) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "trail")
	id := Identity{Origin: "example.com/frames", Instance: [16]byte{7}, Digests: suite.NewSet(), Created: time.Unix(1e9, 0)}
	if err := Create(durable.OS, dir, id); err != nil {
		t.Fatal(err)
	}
	trees := NewTrees(id.Digests, nil)
	var link suite.Hash
	for _, frames := range [][]uint64{{700, 600, 748}, {10}} {
		h := segment.Header{Digests: id.Digests, FirstLeaf: trees.Size(), Instance: id.Instance, Created: id.Created, Previous: link, Root: trees.Root()}
		b := h.Marshal()
		link = h.Hash()
		for _, n := range frames {
			fh := segment.FrameHeader{Kind: segment.Events, Flags: segment.PreviousDurable, FirstLeaf: trees.Size(), Count: int(n), Time: id.Created, Previous: link}
			var text []byte
			var hashes []suite.Hash
			for range n {
				leaf := leafText(trees.Size())
				text = append(text, leaf+"\n"...)
				hashes = append(hashes, suite.SHA256.LeafHash([]byte(leaf)))
				trees[0].Append(hashes[len(hashes)-1])
			}
			fh.Root = trees.Root()
			b, link = segment.AppendFrame(b, &fh, segment.AppendFingerprints(nil, hashes), text)
		}
		if err := os.WriteFile(SegmentPath(dir, h.FirstLeaf), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, [2]uint64{700, 1300}
}
