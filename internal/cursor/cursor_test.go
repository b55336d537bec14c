package cursor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// newTrail is a trail of n events in small segments, and its writer.
func newTrail(t *testing.T, n int) (string, *recorder.Recorder) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "trail")
	rec, err := recorder.Open(recorder.Config{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rec.Close() })
	for n > 0 { // in several frames
		record(t, rec, min(n, 100))
		n -= 100
	}
	return dir, rec
}

func record(t *testing.T, rec *recorder.Recorder, n int) {
	t.Helper()
	var last recorder.Future
	for i := range n {
		var err error
		if last, err = rec.RecordJSON(context.Background(), fmt.Appendf(nil, `{"sub":{"user":"u%d"},"act":"APP.X"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := last.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, cfg Config) *Cursor {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLeavesComeInOrderAndAgainUntilAcknowledged(t *testing.T) {
	dir, rec := newTrail(t, 1500)
	size := func() uint64 { return rec.Stats().Size }
	cfg := Config{Dir: dir, Name: "siem", Durable: size, Every: time.Millisecond}
	c := open(t, cfg)
	if c.Lag() != 1500 {
		t.Errorf("lag %d, want 1500", c.Lag())
	}
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	read := func(c *Cursor, most int) uint64 {
		t.Helper()
		b, err := c.Next(context.Background(), most)
		if err != nil {
			t.Fatal(err)
		}
		for i, leaf := range b.Leaves {
			want, _, err := leaves.ReadPlace(b.First + uint64(i))
			if err != nil || !bytes.Equal(leaf, want) {
				t.Fatalf("leaf %d: got %q, want %q, %v", b.First+uint64(i), leaf, want, err)
			}
		}
		return b.End()
	}
	for _, most := range []int{1, 300, 700} {
		end := read(c, most)
		if most == 700 {
			break // as if it crashed before the acknowledgement
		}
		if err := c.Acknowledge(end); err != nil {
			t.Fatal(err)
		}
	}
	if c.Position() != 1001 || c.Acknowledged() != 301 || c.Lag() != 1199 {
		t.Errorf("position %d, acknowledged %d, lag %d", c.Position(), c.Acknowledged(), c.Lag())
	}
	again := open(t, cfg)
	if again.Position() != 301 {
		t.Fatalf("goes on with leaf %d, want 301", again.Position())
	}
	for again.Position() < 1500 {
		read(again, 400)
	}
	again.Rewind()
	if again.Position() != 301 {
		t.Errorf("rewound to %d, want 301", again.Position())
	}
	for again.Position() < 1500 {
		read(again, 10_000)
	}
	// It waits for what comes, and ends with its context.
	done := make(chan uint64)
	go func() {
		b, err := again.Next(context.Background(), 10)
		if err != nil {
			t.Error(err)
		}
		done <- b.End()
	}()
	record(t, rec, 1)
	if end := <-done; end != 1501 {
		t.Errorf("got up to %d, want 1501", end)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := again.Next(ctx, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestAcknowledgementsThatCannotBe(t *testing.T) {
	dir, rec := newTrail(t, 10)
	c := open(t, Config{Dir: dir, Name: "x", Durable: func() uint64 { return rec.Stats().Size }})
	if _, err := c.Next(context.Background(), 5); err != nil {
		t.Fatal(err)
	}
	if err := c.Acknowledge(5); err != nil {
		t.Fatal(err)
	}
	for _, next := range []uint64{4, 6} {
		if err := c.Acknowledge(next); err == nil {
			t.Errorf("acknowledging %d after 5 of 5 is accepted", next)
		}
	}
}

func TestAnExpiredSegmentIsAGap(t *testing.T) {
	dir, rec := newTrail(t, 2000)
	files, err := trail.Segments(dir)
	if err != nil || len(files) < 4 {
		t.Fatalf("%d segments, %v", len(files), err)
	}
	if err := os.Remove(files[1].Path); err != nil {
		t.Fatal(err)
	}
	c := open(t, Config{Dir: dir, Name: "x", Durable: func() uint64 { return rec.Stats().Size }})
	var gap *GapError
	seen := uint64(0)
	for gap == nil {
		b, err := c.Next(context.Background(), 1000)
		seen += uint64(len(b.Leaves))
		if err != nil && !errors.As(err, &gap) {
			t.Fatal(err)
		}
	}
	if *gap != (GapError{files[1].FirstLeaf, files[2].FirstLeaf}) || seen != files[1].FirstLeaf {
		t.Fatalf("gap %+v after %d leaves, want %d to %d", gap, seen, files[1].FirstLeaf, files[2].FirstLeaf)
	}
	if err := c.Skip(&GapError{gap.First + 1, gap.End}); err == nil {
		t.Error("a gap elsewhere can be skipped")
	}
	if err := c.Skip(gap); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Next(context.Background(), 1); err != nil || b.First != files[2].FirstLeaf {
		t.Errorf("goes on with leaf %d, %v; want %d", b.First, err, files[2].FirstLeaf)
	}
}

// Whatever step of an acknowledgement fails, the position is the old one or the
// new one.
func TestAcknowledgeFails(t *testing.T) {
	dir, rec := newTrail(t, 10)
	cfg := Config{Dir: dir, Name: "x", Durable: func() uint64 { return rec.Stats().Size }}
	for _, fault := range []faulty.Fault{faulty.Before, faulty.After} {
		var fail bool
		cfg.Disk = &faulty.FS{FS: durable.OS, Decide: func(_ int, op faulty.Op, _ string) faulty.Fault {
			if fail && op == "writefile" {
				return fault
			}
			return faulty.Pass
		}}
		c := open(t, cfg)
		before := c.Acknowledged()
		if _, err := c.Next(context.Background(), 3); err != nil {
			t.Fatal(err)
		}
		fail = true
		if err := c.Acknowledge(c.Position()); !errors.Is(err, faulty.ErrInjected) {
			t.Fatalf("got %v", err)
		}
		if c.Acknowledged() != before {
			t.Errorf("acknowledged %d, want %d", c.Acknowledged(), before)
		}
		if got := open(t, Config{Dir: dir, Name: "x", Durable: cfg.Durable}).Position(); got != before && got != before+3 {
			t.Errorf("position %d, want %d or 3 more", got, before)
		}
	}
}

func documented(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "format", "cursor.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n```json cursor\n")
	text, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("docs/format/cursor.md has no block cursor")
	}
	return text
}

func TestPositionIsWrittenAsDocumented(t *testing.T) {
	instance := [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	if got := string(marshalPosition(instance, 1907)); got != documented(t) {
		t.Errorf("got %s, the page shows %s", got, documented(t))
	}
}

func TestPositionsThatAreRefused(t *testing.T) {
	dir, rec := newTrail(t, 5)
	id, err := trail.ReadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, Dir, "x.json")
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	good := string(marshalPosition(id.Instance, 5))
	for what, c := range map[string]struct {
		text string
		want error
	}{
		"empty": {text: ""}, "cut": {text: good[:20]}, "no newline": {text: strings.TrimSpace(good)}, "twice": {text: good + good},
		"other version": {text: strings.Replace(good, "/1", "/2", 1)}, "spaces": {text: " " + good}, "long": {text: good + strings.Repeat(" ", 600)},
		"not hex": {text: strings.Replace(good, `nce":"`, `nce":"x`, 1)}, "no number": {text: strings.Replace(good, "5}", `"5"}`, 1)},
		"another trail": {string(marshalPosition([16]byte{1}, 5)), ErrOtherTrail}, "ahead": {string(marshalPosition(id.Instance, 6)), ErrAhead},
	} {
		if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Config{Dir: dir, Name: "x", Durable: func() uint64 { return rec.Stats().Size }})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, name := range []string{"", "../x", "X", "a/b", strings.Repeat("a", 65)} {
		if _, err := Open(Config{Dir: dir, Name: name, Durable: func() uint64 { return 0 }}); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
}

func FuzzPosition(f *testing.F) {
	f.Add([]byte(documented(f)))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		instance, next, err := parsePosition(b)
		if err == nil && !bytes.Equal(marshalPosition(instance, next), b) {
			t.Errorf("%q is read and written differently", b)
		}
	})
}
