package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

func TestCheckpoints(t *testing.T) {
	other, _ := signersOf(t, origin, 99)
	elsewhere, elsewhereKeys := signersOf(t, "example.com/elsewhere", 7)
	for _, test := range []struct {
		name string
		note func(a *author) []byte
		want Finding
	}{
		{"another key", func(a *author) []byte {
			a.signers = other
			return a.sign().note
		}, Finding{Outcome: CouldNotCheck, Check: unknownKey}},
		{"another origin", func(a *author) []byte {
			a.id.Origin, a.signers = "example.com/elsewhere", elsewhere
			return a.sign().note
		}, Finding{Outcome: Contradicted, Check: checkpointOrigin}},
		{"signature of another text", func(a *author) []byte {
			return bytes.Replace(a.note, []byte("\n20\n"), []byte("\n10\n"), 1)
		}, Finding{Outcome: Contradicted, Check: checkpointForged}},
		{"no note", func(*author) []byte { return []byte("gone\n") }, Finding{Outcome: CouldNotCheck, Check: checkpointDamaged}},
		{"another root", func(a *author) []byte {
			note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: origin, Size: 20, Root: suite.Hash{1}}, a.signers...)
			if err != nil {
				t.Fatal(err)
			}
			return note
		}, contradiction(rootMismatch, "", 0, 10, 19, "")},
		{"missing", func(*author) []byte { return nil }, Finding{Outcome: CouldNotCheck, Check: checkpointMissing}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := small(t)
			note := test.note(a)
			file := filepath.Join(a.dir, "checkpoint")
			if note == nil {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, file, note)
			}
			test.want.Segment = "checkpoint"
			wantFindings(t, a.check(Options{Keys: append(elsewhereKeys, a.vkeys...)}), test.want)
		})
	}
}

func TestKeysMayHaveBeenRotated(t *testing.T) {
	a := newAuthor(t).more(5, 5).sign()
	newSigners, newKeys := signersOf(t, origin, 99)
	a.signers = newSigners
	a.more(5, 5).sign().publish()
	wantFindings(t, a.check(Options{Keys: append(newKeys, a.vkeys...)}))
	rep := a.check(Options{})
	if rep.Outcome != CouldNotCheck || !rep.has(unknownKey) || rep.Sealed != 5 {
		t.Errorf("with the old key alone: %+v", rep)
	}
}

func TestTrailWithoutKeysCouldNotBeChecked(t *testing.T) {
	a := small(t)
	if err := os.Remove(filepath.Join(a.dir, "keys", "vkeys")); err != nil {
		t.Fatal(err)
	}
	rep := a.check(Options{Keys: []string{}})
	if rep.Outcome != CouldNotCheck || !rep.has(keysUnread) || rep.Sealed != 0 {
		t.Errorf("%+v", rep)
	}
}

func TestKeptCheckpoints(t *testing.T) {
	a := newAuthor(t).more(10, 5).sign()
	early := Kept{"early", a.note}
	a.more(10, 5).sign().publish()
	rep := a.check(Options{Checkpoints: []Kept{early, {"late", a.note}}})
	wantFindings(t, rep)
	if !reflect.DeepEqual(rep.Compared, []string{"early", "late"}) {
		t.Errorf("compared %q", rep.Compared)
	}

	t.Run("rolled back", func(t *testing.T) {
		b := newAuthor(t).more(10, 5).sign().publish()
		wantFindings(t, b.check(Options{}))
		wantFindings(t, b.check(Options{Checkpoints: []Kept{{"late", a.note}}}), contradiction(rolledBack, "late", 0, 10, 19, ""))
	})
	t.Run("split view", func(t *testing.T) {
		b := newAuthor(t).write(leavesOf(t, 500, 12)...).sign().more(10, 10).sign().publish()
		wantFindings(t, b.check(Options{}))
		// Early ends within a frame of this history.
		wantFindings(t, b.check(Options{Checkpoints: []Kept{early}}), contradiction(historyDiffers, "early", 0, 0, 9, ""))
	})
	t.Run("the same history in other frames", func(t *testing.T) {
		b := newAuthor(t).more(17, 17).sign().more(3, 3).sign().publish()
		rep := b.check(Options{Checkpoints: []Kept{early}})
		wantFindings(t, rep)
		if len(rep.Compared) != 1 {
			t.Errorf("compared %q", rep.Compared)
		}
	})
	t.Run("of a key not trusted", func(t *testing.T) {
		signers, _ := signersOf(t, origin, 99)
		b := newAuthor(t).write(leavesOf(t, 500, 12)...)
		b.signers = signers
		rep := a.check(Options{Checkpoints: []Kept{{"foreign", b.sign().note}}})
		if !rep.has(unknownKey) || !rep.has(historyDiffers) {
			t.Errorf("%v", rep.Findings)
		}
	})
	t.Run("before expired segments", func(t *testing.T) {
		b := newAuthor(t).more(256, 100).sign()
		whole := Kept{"whole bundle", b.note}
		b.more(44, 44).sign()
		within := Kept{"within a bundle", b.note}
		b.more(212, 212).sign().rotate().more(5, 5).sign().publish()
		if err := os.Remove(b.segment(0)); err != nil {
			t.Fatal(err)
		}
		rep := b.check(Options{Checkpoints: []Kept{whole, within}})
		wantFindings(t, rep, Finding{Outcome: CouldNotCheck, Check: segmentMissing, Segment: trail.SegmentName(0), LastLeaf: 511, HasLeaf: true},
			Finding{Outcome: CouldNotCheck, Check: historyUnchecked, Segment: "within a bundle"})
		if !reflect.DeepEqual(rep.Compared, []string{"whole bundle"}) {
			t.Errorf("compared %q", rep.Compared)
		}
	})
}

func TestIdentity(t *testing.T) {
	a := small(t)
	if err := os.Remove(filepath.Join(a.dir, "trail.json")); err != nil {
		t.Fatal(err)
	}
	wantFindings(t, a.check(Options{}), Finding{Outcome: CouldNotCheck, Check: identityUnread})
	if _, err := Trail(context.Background(), t.TempDir(), Options{}); !errors.Is(err, trail.ErrNoTrail) {
		t.Errorf("an empty directory: got %v, want ErrNoTrail", err)
	}
	if _, err := Trail(context.Background(), a.dir, Options{Keys: []string{"nonsense"}}); err == nil {
		t.Error("a key that is none was accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Trail(ctx, a.dir, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	empty := newAuthor(t).flush()
	wantFindings(t, empty.check(Options{}), Finding{Outcome: CouldNotCheck, Check: checkpointMissing, Segment: "checkpoint"})
}

func TestReportAsJSON(t *testing.T) {
	a := small(t)
	b := get(t, a.segment(0))
	b[bytes.Index(b, leafOf(t, 0))+60] ^= 1
	put(t, a.segment(0), b)
	rep := a.check(Options{})
	text, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"outcome":"contradicted"`, `"check":"leaf-changed"`, `"leaf":0,"last_leaf":0`, `"event_id":"` + idOf(0)} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if again.Elapsed = rep.Elapsed; !reflect.DeepEqual(&again, rep) {
		t.Errorf("read again: %+v\nwant %+v", again, rep)
	}
}

// TestAnySingleByteFlipIsFound flips every byte of every file of a small trail.
func TestAnySingleByteFlipIsFound(t *testing.T) {
	flipAll(t, newAuthor(t).more(3, 2).sign().more(2, 2).sign().publish(), 1)
}

// TestByteFlipsWithTilesAndSM3 does the same with tiles, two trees and two
// segments, and leaves out most bytes of lines and some of the others.
func TestByteFlipsWithTilesAndSM3(t *testing.T) {
	a := newAuthor(t, suite.SM3)
	a.more(1, 1).more(255, 255).rotate().more(2, 2).sign().publish()
	flipAll(t, a, 499)
}

func flipAll(t *testing.T, a *author, sparse int) {
	t.Helper()
	wantFindings(t, a.check(Options{}))
	pinned := a.vkeys
	err := filepath.WalkDir(a.dir, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		intact := get(t, file)
		name, _ := filepath.Rel(a.dir, file)
		name = filepath.ToSlash(name)
		for i := 0; i < len(intact); i++ {
			if strings.HasSuffix(name, ".seg") && i > 500 {
				i += sparse - 1
			}
			if sparse > 1 {
				i += 3
			}
			if i >= len(intact) {
				break
			}
			masks := []byte{[...]byte{0x01, 0x20, 0x80}[i%3]}
			for _, mask := range masks {
				b := bytes.Clone(intact)
				b[i] ^= mask
				put(t, file, b)
				opts := Options{Keys: pinned, Workers: 1}
				switch name {
				case "trail.json":
					id, err := trail.ReadIdentity(a.dir)
					id.Created = a.id.Created // nothing signs it, and nothing rests on it
					if err == nil && id == a.id {
						continue
					}
				case "keys/vkeys":
					opts.Keys = nil
					if vs, err := keys.ParseVKeys(b); err == nil && strings.TrimSpace(string(intact)) == strings.TrimSpace(string(b)) && len(vs) == len(a.vkeys) {
						continue // the same keys, with other white space
					}
				}
				rep, err := Trail(context.Background(), a.dir, opts)
				if err != nil {
					t.Fatalf("%s at %d: %v", name, i, err)
				}
				if rep.Outcome == Intact || strings.HasSuffix(name, ".seg") && (rep.Outcome != Contradicted || len(rep.Findings) != 1) {
					t.Fatalf("%s at %d ^ %#x: %s, %v", name, i, mask, rep.Outcome, rep.Findings)
				}
			}
		}
		put(t, file, intact)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, a.check(Options{}))
}
