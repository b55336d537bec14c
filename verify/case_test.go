package verify

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/veritrail/veritrail/internal/evidence"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

type memoryTiles [][]suite.Hash

func (m memoryTiles) ReadTile(t tlog.Tile) ([]suite.Hash, error) { return m[t.Level], nil }

// caseOf makes a case of some leaves of a trail of 20. edit changes each event.
func caseOf(t testing.TB, a *author, edit func(*evidence.Event)) []byte {
	t.Helper()
	scratch, err := os.Create(filepath.Join(t.TempDir(), "scratch"))
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	var out bytes.Buffer
	w, err := evidence.NewWriter(&out, evidence.Config{
		Created: epoch, Origin: origin, Checkpoint: a.note, VKeys: a.vkeys, TreeSize: 20, Root: a.trees.Root(), SM3Root: a.trees.SM3Root(),
		Schemas: map[string][]byte{"event.schema.json": []byte("{}\n")}, Scratch: scratch,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 7, 19} {
		e := evidence.Event{Leaf: leafOf(t, i), Index: uint64(i), ID: idOf(i)}
		for _, tree := range a.trees {
			var hashes []suite.Hash
			for j := range 20 {
				hashes = append(hashes, tree.Digest().LeafHash(leafOf(t, j)))
			}
			path, err := tlog.InclusionProof(tree.Digest(), memoryTiles{hashes}, uint64(i), 20)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Digest() == suite.SM3 {
				e.SM3 = path
			} else {
				e.SHA256 = path
			}
		}
		if edit != nil {
			edit(&e)
		}
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func checkCaseBytes(t testing.TB, b []byte, opts Options) *Report {
	t.Helper()
	rep, err := Case(context.Background(), bytes.NewReader(b), int64(len(b)), opts)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// rezip changes one file of a case, and the manifest with it when repair is set.
func rezip(t testing.TB, b []byte, name string, edit func([]byte) []byte, repair bool) []byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	var old, now string
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(content)
		if f.Name == name {
			old = hex.EncodeToString(sum[:])
			content = edit(content)
			sum = sha256.Sum256(content)
			now = hex.EncodeToString(sum[:])
		}
		if f.Name == evidence.ManifestFile && repair {
			content = bytes.ReplaceAll(content, []byte(old), []byte(now))
		}
		h := f.FileHeader
		e, err := w.CreateHeader(&zip.FileHeader{Name: h.Name, Method: h.Method, Modified: h.Modified})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCase(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		a := small(t, digests...)
		b := caseOf(t, a, nil)
		rep := checkCaseBytes(t, b, Options{Keys: a.vkeys, Checkpoints: []Kept{{"same", a.note}}})
		wantFindings(t, rep)
		if rep.Events != 3 || rep.Size != 20 || rep.Sealed != 20 || rep.Root != encodeRoot(a.trees.Root()) || len(rep.Compared) != 1 || !rep.KeysPinned {
			t.Errorf("%+v", rep)
		}
		if rep := checkCaseBytes(t, b, Options{}); rep.KeysPinned || rep.Outcome != Intact {
			t.Errorf("own keys: %v", rep.Findings)
		}
	}
}

func TestCaseTampered(t *testing.T) {
	a := small(t, suite.SM3)
	good := caseOf(t, a, nil)
	fail := []byte("FAIL")
	pass := func(b []byte) []byte { return bytes.Replace(b, fail, []byte("PASS"), 1) }
	_, strangers := signersOf(t, origin, 99)
	event := func(check string, leaf uint64) Finding {
		return Finding{Outcome: Contradicted, Check: check, Segment: evidence.EventsFile, Leaf: leaf, LastLeaf: leaf, HasLeaf: true, EventID: idOf(int(leaf))}
	}
	proofsFile := event(eventIDDiffers, 7)
	proofsFile.Segment = evidence.ProofsFile
	early := newAuthor(t, suite.SM3).more(5, 5).sign().note
	other := newAuthor(t, suite.SM3).write(leavesOf(t, 100, 20)...).sign().note
	for _, test := range []struct {
		name string
		b    []byte
		opts Options
		want []Finding
	}{
		{"an event, naively", rezip(t, good, evidence.EventsFile, pass, false), Options{},
			[]Finding{{Outcome: Contradicted, Check: caseFileChanged, Segment: evidence.EventsFile}, event(proofMismatch, 2)}},
		{"an event, with its digest", rezip(t, good, evidence.EventsFile, pass, true), Options{}, []Finding{event(proofMismatch, 2)}},
		{"a proof's hash", caseOf(t, a, func(e *evidence.Event) {
			if e.Index == 7 {
				e.SHA256[1][0] ^= 1
			}
		}), Options{}, []Finding{event(proofMismatch, 7)}},
		{"an SM3 proof's hash", caseOf(t, a, func(e *evidence.Event) {
			if e.Index == 7 {
				e.SM3[1][0] ^= 1
			}
		}), Options{}, []Finding{event(proofMismatch, 7)}},
		{"an id", rezip(t, good, evidence.ProofsFile, func(b []byte) []byte { return bytes.Replace(b, []byte(idOf(7)), []byte(idOf(8)), 1) }, true),
			Options{}, []Finding{proofsFile}},
		{"a place", caseOf(t, a, func(e *evidence.Event) {
			if e.Index == 7 {
				e.Index = 8
			}
		}), Options{}, []Finding{{Outcome: Contradicted, Check: proofMismatch, Segment: evidence.EventsFile, Leaf: 8, LastLeaf: 8, HasLeaf: true, EventID: idOf(7)}}},
		{"the size", rezip(t, good, evidence.CheckpointFile, func(b []byte) []byte { return bytes.Replace(b, []byte("\n20\n"), []byte("\n21\n"), 1) }, true), Options{}, nil},
		{"no ZIP", good[:len(good)/2], Options{}, []Finding{{Outcome: CouldNotCheck, Check: caseDamaged}}},
		{"other keys", good, Options{Keys: strangers}, []Finding{{Outcome: CouldNotCheck, Check: unknownKey, Segment: evidence.CheckpointFile}}},
		{"kept, earlier", good, Options{Checkpoints: []Kept{{"early", early}}}, []Finding{{Outcome: CouldNotCheck, Check: historyUnchecked, Segment: "early"}}},
		{"kept, of another history", good, Options{Checkpoints: []Kept{{"other", other}}}, []Finding{{Outcome: Contradicted, Check: historyDiffers, Segment: "other"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.opts.Keys == nil {
				test.opts.Keys = a.vkeys
			}
			rep := checkCaseBytes(t, test.b, test.opts)
			if test.want == nil {
				if rep.Outcome != Contradicted || !rep.has(checkpointForged) {
					t.Errorf("%v", rep.Findings)
				}
				return
			}
			wantFindings(t, rep, test.want...)
		})
	}
}

// TestAnyFlipInACaseIsFound flips bytes all over a case. What says of a file when
// and by what version of a ZIP program it was packed is not evidence: where a
// flip goes unnoticed, everything in the case is the same.
func TestAnyFlipInACaseIsFound(t *testing.T) {
	a := small(t)
	good := caseOf(t, a, nil)
	want := unzip(t, good)
	for i := 0; i < len(good); i += 29 {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		if rep := checkCaseBytes(t, b, Options{Keys: a.vkeys}); rep.Outcome == Intact && !maps.Equal(unzip(t, b), want) {
			t.Errorf("at %d of %d: intact", i, len(good))
		}
	}
}

func unzip(t testing.TB, b []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(content)
	}
	return out
}
