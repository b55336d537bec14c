package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
)

// entryOf is the event of that number, always the same.
func entryOf(t testing.TB, n int) *entry {
	t.Helper()
	e := event(n)
	e.ID = fmt.Sprintf("0b54dd2e-6f3c-4d39-9f5a-%012x", n+1)
	e.Timestamp = time.Unix(int64(n), 0)
	line, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	id, err := idOf(line)
	if err != nil {
		t.Fatal(err)
	}
	return &entry{id: id, line: line, done: make(chan struct{})}
}

func batchOf(t testing.TB, from, n int) (batch []*entry) {
	t.Helper()
	for i := range n {
		batch = append(batch, entryOf(t, from+i))
	}
	return batch
}

func openTestSpool(t testing.TB, disk durable.FS, dir string) *spool {
	t.Helper()
	s, err := openSpool(disk, dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// numbersOf are the events of a batch.
func numbersOf(t testing.TB, batch []*entry) (out []int) {
	t.Helper()
	for _, e := range batch {
		ev, err := veritrail.ParseCanonical(e.line)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(ev.Object["n"], &n); err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

// drain takes everything out of a spool.
func drain(t testing.TB, s *spool, events, bytes int) (out []int) {
	t.Helper()
	for {
		batch, err := s.oldest(events, bytes)
		if err != nil {
			t.Fatal(err)
		}
		if len(batch) == 0 {
			if s.events() != 0 {
				t.Fatalf("%d events are counted, none is there", s.events())
			}
			return out
		}
		out = append(out, numbersOf(t, batch)...)
		if err := s.remove(len(batch)); err != nil && !errors.Is(err, faulty.ErrInjected) {
			t.Fatal(err)
		}
	}
}

func checkRange(t testing.TB, what string, got []int, from, to int) {
	t.Helper()
	if len(got) != to-from {
		t.Fatalf("%s: %d events, want %d to %d: %v", what, len(got), from, to, got)
	}
	for i, n := range got {
		if n != from+i {
			t.Fatalf("%s: event %d at place %d, want %d", what, n, i, from+i)
		}
	}
}

func TestSpoolGivesBackWhatWasPutThere(t *testing.T) {
	disk := &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(int, faulty.Op, string) faulty.Fault { return faulty.Pass }}
	const total = 30_000 // several segments
	events := batchOf(t, 0, total+1)
	for _, step := range []struct{ events, bytes int }{{1, 1}, {700, 1 << 20}, {100_000, 1 << 30}} {
		dir := filepath.Join(t.TempDir(), "spool")
		s := openTestSpool(t, disk, dir)
		for n := 0; n < total; n += 1000 {
			if err := s.append(events[n : n+1000]); err != nil {
				t.Fatal(err)
			}
		}
		if len(spoolFiles(t, dir)) < 2 {
			t.Fatal("one segment only")
		}
		if step.events == 1 { // the slow way, for some
			for n := range 50 {
				batch, err := s.oldest(1, 1)
				if err != nil {
					t.Fatal(err)
				}
				checkRange(t, "one", numbersOf(t, batch), n, n+1)
				if err := s.remove(1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			s = openTestSpool(t, disk, dir)
			checkRange(t, "the rest", drain(t, s, 1000, 1<<20), 50, total)
		} else {
			checkRange(t, "all", drain(t, s, step.events, step.bytes), 0, total)
		}
		if files := spoolFiles(t, dir); len(files) != 0 || s.size() != 0 {
			t.Errorf("%v, %d bytes are left", files, s.size())
		}
		if err := s.append(events[total:]); err != nil {
			t.Fatal(err)
		}
		checkRange(t, "afterwards", drain(t, s, 10, 10), total, total+1)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// onlySegment is the one there is.
func onlySegment(t testing.TB, dir string) string {
	t.Helper()
	files := spoolFiles(t, dir)
	if len(files) != 1 {
		t.Fatalf("segments %v", files)
	}
	return filepath.Join(dir, files[0])
}

// TestTornTailIsCutAndKept cuts the last batch short at every byte, or fills its
// place with zeros, as a crash does.
func TestTornTailIsCutAndKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openTestSpool(t, durable.OS, dir)
	if err := s.append(batchOf(t, 0, 3)); err != nil {
		t.Fatal(err)
	}
	before := s.size()
	if err := s.append(batchOf(t, 3, 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	segment := onlySegment(t, dir)
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	second := int(before) + (len(whole)-int(before))/2 // both frames are of one length
	for size := int(before); size < len(whole); size++ {
		for _, zeros := range []bool{false, true} {
			torn := bytes.Clone(whole[:size])
			if zeros {
				torn = append(torn, make([]byte, len(whole)-size)...)
			}
			again := filepath.Join(t.TempDir(), "spool")
			if err := os.MkdirAll(again, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(again, filepath.Base(segment)), torn, 0o600); err != nil {
				t.Fatal(err)
			}
			s := openTestSpool(t, &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(int, faulty.Op, string) faulty.Fault { return faulty.Pass }}, again)
			want := 3
			if size >= second {
				want = 4
			}
			end := int(before)
			if want == 4 {
				end = second
			}
			if cut := len(torn) - end; s.cutBytes() != uint64(cut) {
				t.Fatalf("%d of %d bytes: cut %d, want %d", size, len(whole), s.cutBytes(), cut)
			} else if cut > 0 {
				kept, err := os.ReadFile(filepath.Join(again, fmt.Sprintf("cut-00000001-%d", end)))
				if err != nil || !bytes.Equal(kept, torn[end:]) {
					t.Fatalf("what was cut is not kept: %v", err)
				}
			}
			if err := s.append(batchOf(t, want, 1)); err != nil {
				t.Fatal(err)
			}
			checkRange(t, fmt.Sprint("torn at ", size), drain(t, s, 100, 1<<20), 0, want+1)
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestChangedBytesAreFound: no changed byte of a segment becomes part of an
// event, and what is before it is still there.
func TestChangedBytesAreFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openTestSpool(t, durable.OS, dir)
	if err := s.append(batchOf(t, 0, 5)); err != nil {
		t.Fatal(err)
	}
	frame := int(s.size()-int64(len(spoolHeader))) / 5
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	segment := onlySegment(t, dir)
	whole, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	for at := range whole {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x10
		again := filepath.Join(t.TempDir(), "spool")
		if err := os.MkdirAll(again, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(again, filepath.Base(segment)), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(&faulty.FS{FS: durable.OS, NoSync: true, Decide: func(int, faulty.Op, string) faulty.Fault { return faulty.Pass }}, again, 1<<20)
		if at < len(spoolHeader) {
			if err == nil {
				t.Fatalf("byte %d: an unknown version was read", at)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkRange(t, fmt.Sprint("byte ", at), drain(t, s, 100, 1<<20), 0, (at-len(spoolHeader))/frame)
		if s.cutBytes() == 0 {
			t.Fatalf("byte %d: nothing was set aside", at)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatACrashLeftOfARenameIsRemoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, ".position.123.tmp")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openTestSpool(t, durable.OS, dir)
	defer func() { _ = s.close() }()
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
}

// A position that can't be read, or that is none, makes events be sent again,
// and none be left out.
func TestWrongPositionCostsNoEvent(t *testing.T) {
	for text, first := range map[string]int{
		"": 0, "{}": 0, "nonsense": 0, `{"segment":1,"offset":19}`: 0, `{"segment":1,"offset":-5}`: 0, `{"segment":0,"offset":99999}`: 0,
		`{"segment":1,"offset":999999999}`: 10, `{"segment":2,"offset":0}`: 10, `{"segment":1,"offset":%d}`: 4,
	} {
		dir := filepath.Join(t.TempDir(), "spool")
		s := openTestSpool(t, durable.OS, dir)
		if err := s.append(batchOf(t, 0, 10)); err != nil {
			t.Fatal(err)
		}
		frame := (s.size() - int64(len(spoolHeader))) / 10
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "%d") {
			text = fmt.Sprintf(text, int64(len(spoolHeader))+4*frame)
		}
		if err := os.WriteFile(filepath.Join(dir, positionFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s = openTestSpool(t, durable.OS, dir)
		checkRange(t, text, drain(t, s, 3, 1<<20), first, 10)
		if err := s.append(batchOf(t, 10, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		s = openTestSpool(t, durable.OS, dir)
		checkRange(t, text+" and on", drain(t, s, 3, 1<<20), 10, 11)
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSpoolOnAFailingDisk makes each single step fail, before and after it took
// effect, and half of it. What append took is there afterwards, in order; what it
// refused may be, once.
func TestSpoolOnAFailingDisk(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Before, faulty.After, faulty.Torn} {
		for failing := 0; ; failing++ {
			dir := filepath.Join(t.TempDir(), "spool")
			failed := false
			disk := &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(n int, _ faulty.Op, _ string) faulty.Fault {
				if n == failing {
					failed = true
					return fault
				}
				return faulty.Pass
			}}
			s, err := openSpool(disk, dir, 1<<20)
			if err != nil {
				if !errors.Is(err, faulty.ErrInjected) {
					t.Fatal(err)
				}
				continue
			}
			var taken, sent []int
			refused := make(map[int]bool)
			put := func(from, n int) {
				if err := s.append(batchOf(t, from, n)); err != nil {
					if !errors.Is(err, ErrSpool) {
						t.Fatal(err)
					}
					for i := range n {
						refused[from+i] = true
					}
					return
				}
				for i := range n {
					taken = append(taken, from+i)
				}
			}
			get := func(n int) {
				batch, err := s.oldest(n, 1<<20)
				if err != nil {
					t.Fatalf("step %d: %v", failing, err)
				}
				sent = append(sent, numbersOf(t, batch)...)
				if err := s.remove(len(batch)); err != nil && !errors.Is(err, faulty.ErrInjected) {
					t.Fatal(err)
				}
			}
			put(0, 2)
			put(2, 2)
			get(1)
			put(4, 2)
			get(10)
			put(6, 2)
			get(1)
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			if s, err = openSpool(disk, dir, 1<<20); err != nil {
				if !errors.Is(err, faulty.ErrInjected) {
					t.Fatal(err)
				}
				s = openTestSpool(t, durable.OS, dir)
			}
			sent = append(sent, drain(t, s, 3, 1<<20)...)
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			// Sent twice is what the server sees through; not at all is what it can't.
			seen := make(map[int]bool)
			for _, n := range sent {
				seen[n] = true
			}
			for _, n := range taken {
				if !seen[n] {
					t.Fatalf("fault %d at step %d: event %d is lost: sent %v", fault, failing, n, sent)
				}
			}
			if len(taken)+len(refused) != 8 {
				t.Fatalf("%d taken, %d refused", len(taken), len(refused))
			}
			if !failed {
				if failing < 15 || len(sent) != 8 {
					t.Errorf("only %d steps, %d sent", failing, len(sent))
				}
				break
			}
		}
	}
}

func TestRejectedFileGoesOnBehindATornLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := openTestSpool(t, durable.OS, dir)
	defer func() { _ = s.close() }()
	why := &RejectedError{ID: "x", Violations: []veritrail.Violation{{Path: "/act", Rule: "r"}}}
	for range 2 {
		if err := s.reject(entryOf(t, 1), why, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(dir, rejectedFile)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b[:len(b)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.reject(entryOf(t, 2), why, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(name); err != nil || bytes.Count(b, []byte("\n")) != 3 || !bytes.Contains(b, []byte("\n{\"time\"")) {
		t.Errorf("%s, %v", b, err)
	}
}

// FuzzSpool opens any bytes as a segment. There is no panic, every event that
// comes out is canonical or is refused when it is read, and what is not read is
// kept.
func FuzzSpool(f *testing.F) {
	var good []byte
	good = append(good, spoolHeader...)
	for n := range 3 {
		good = appendFrame(good, entryOf(f, n).line)
	}
	f.Add(good, int64(0))
	f.Add(good, int64(len(spoolHeader)))
	f.Add(good[:len(good)-3], int64(50))
	f.Add([]byte(spoolHeader), int64(0))
	f.Add(append([]byte(spoolHeader), 0, 0, 0, 0, 0, 0, 0, 0), int64(0))
	f.Add(append([]byte(spoolHeader), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0), int64(0))
	f.Add(appendFrame([]byte(spoolHeader), []byte("x")), int64(0))
	disk := &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(int, faulty.Op, string) faulty.Fault { return faulty.Pass }}
	f.Fuzz(func(t *testing.T, segment []byte, offset int64) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "00000001.spool"), segment, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, positionFile), fmt.Appendf(nil, `{"segment":1,"offset":%d}`, offset), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openSpool(disk, dir, 1<<30)
		if err != nil {
			if bytes.HasPrefix(segment, []byte(spoolHeader)) {
				t.Fatal(err)
			}
			return
		}
		defer func() { _ = s.close() }()
		read := 0
		for s.events() > 0 {
			batch, err := s.oldest(10, 1<<20)
			if err != nil {
				break // its checksum holds, and it is no event
			}
			if len(batch) == 0 {
				t.Fatalf("%d events are counted, none is there", s.events())
			}
			for _, e := range batch {
				if !bytes.Contains(segment, e.line) {
					t.Fatal("an event that is not in the segment")
				}
			}
			read += len(batch)
			if err := s.remove(len(batch)); err != nil {
				t.Fatal(err)
			}
		}
		if s.cutBytes() > uint64(len(segment)) || read > len(segment)/spoolFrame {
			t.Fatalf("%d events, %d bytes cut", read, s.cutBytes())
		}
	})
}
