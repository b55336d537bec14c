package trail

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
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
