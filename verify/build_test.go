package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	veritrail "github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

const origin = "example.com/verify"

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func idOf(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", i) }

func leafOf(t testing.TB, i int) []byte {
	t.Helper()
	e := veritrail.ComplianceEvent{
		ID: idOf(i), Timestamp: epoch.Add(time.Duration(i) * time.Second), Action: "AUTH.LOGIN.FAIL",
		Subject: map[string]string{"user": fmt.Sprint(i % 7)}, Object: map[string]string{"api": "/v1/login"},
	}
	leaf, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func leavesOf(t testing.TB, first, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = leafOf(t, first+i)
	}
	return out
}

// author writes a trail a frame at a time, as the writer does, or as somebody
// would who has its keys.
type author struct {
	t       testing.TB
	dir     string
	id      trail.Identity
	signers []checkpoint.Signer
	vkeys   []string
	trees   trail.Trees
	now     time.Time
	seg     []byte
	first   uint64
	link    suite.Hash
	note    []byte
	// sm3 is put into frames in place of the root, when set.
	sm3 *suite.Hash
}

func signersOf(t testing.TB, origin string, seed byte, digests ...suite.Digest) ([]checkpoint.Signer, []string) {
	t.Helper()
	var signers []checkpoint.Signer
	var vkeys []string
	for _, d := range suite.NewSet(digests...).Digests() {
		generate := checkpoint.GenerateEd25519
		if d == suite.SM3 {
			generate = checkpoint.GenerateSM2
		}
		private, vkey, err := generate(origin, bytes.NewReader(bytes.Repeat([]byte{seed}, 4096)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := checkpoint.ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		signers, vkeys = append(signers, s), append(vkeys, vkey)
	}
	return signers, vkeys
}

func newAuthor(t testing.TB, digests ...suite.Digest) *author {
	t.Helper()
	return newAuthorOf(t, origin, 7, [16]byte{1, 2, 3}, digests...)
}

func newAuthorOf(t testing.TB, origin string, seed byte, instance [16]byte, digests ...suite.Digest) *author {
	t.Helper()
	a := &author{t: t, dir: filepath.Join(t.TempDir(), "trail"), now: epoch}
	a.signers, a.vkeys = signersOf(t, origin, seed, digests...)
	a.id = trail.Identity{Origin: origin, Instance: instance, Digests: suite.NewSet(digests...), Created: epoch}
	if err := trail.Create(durable.OS, a.dir, a.id); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(a.dir, "keys", "vkeys"), []byte(strings.Join(a.vkeys, "\n")+"\n"))
	a.trees = trail.NewTrees(a.id.Digests, a.keep)
	a.begin()
	return a
}

func put(t testing.TB, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (a *author) keep(d suite.Digest, t tlog.Tile, hashes []suite.Hash) {
	if t.Level > 0 {
		put(a.t, trail.TilePath(a.dir, d, t), tlog.MarshalTile(hashes))
	}
}

func (a *author) begin() {
	h := segment.Header{Digests: a.id.Digests, FirstLeaf: a.trees.Size(), Instance: a.id.Instance, Created: a.now, Previous: a.link, Root: a.trees.Root()}
	if sm3 := a.trees.SM3Root(); sm3 != nil {
		h.SM3Root = *sm3
	}
	a.first, a.link, a.seg = h.FirstLeaf, h.Hash(), h.Marshal()
}

func (a *author) frame(kind segment.Kind, first uint64, n int, body ...[]byte) {
	a.now = a.now.Add(time.Second)
	h := segment.FrameHeader{Kind: kind, Flags: segment.PreviousDurable, FirstLeaf: first, Count: n, Time: a.now, KeyEpoch: 1,
		Previous: a.link, Root: a.trees.Root(), SM3Root: a.trees.SM3Root()}
	if a.sm3 != nil {
		h.SM3Root = a.sm3
	}
	a.seg, a.link = segment.AppendFrame(a.seg, &h, body...)
}

// write adds one frame of leaves.
func (a *author) write(leaves ...[]byte) *author {
	first := a.trees.Size()
	var hashes []suite.Hash
	for _, leaf := range leaves {
		for _, tree := range a.trees {
			tree.Append(tree.Digest().LeafHash(leaf))
		}
		hashes = append(hashes, suite.SHA256.LeafHash(leaf))
	}
	lines := append(bytes.Join(leaves, []byte("\n")), '\n')
	a.frame(segment.Events, first, len(leaves), segment.AppendFingerprints(nil, hashes), lines)
	return a
}

// more adds n leaves in frames of the given size.
func (a *author) more(n, frame int) *author {
	for n > 0 {
		k := min(n, frame)
		a.write(leavesOf(a.t, int(a.trees.Size()), k)...)
		n -= k
	}
	return a
}

func (a *author) sign() *author {
	note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: a.id.Origin, Size: a.trees.Size(), Root: a.trees.Root(), SM3Root: a.trees.SM3Root()}, a.signers...)
	if err != nil {
		a.t.Fatal(err)
	}
	a.note = note
	a.frame(segment.Checkpoint, a.trees.Size(), 0, note)
	return a
}

func (a *author) flush() *author {
	put(a.t, trail.SegmentPath(a.dir, a.first), a.seg)
	return a
}

func (a *author) rotate() *author {
	a.flush()
	for _, tree := range a.trees {
		for t, hashes := range tree.Edge() {
			a.keep(tree.Digest(), t, hashes)
		}
	}
	a.begin()
	return a.flush()
}

func (a *author) publish() *author {
	put(a.t, filepath.Join(a.dir, "checkpoint"), a.note)
	return a.flush()
}

func (a *author) check(opts Options) *Report {
	a.t.Helper()
	if opts.Keys == nil {
		opts.Keys = a.vkeys
	}
	rep, err := Trail(context.Background(), a.dir, opts)
	if err != nil {
		a.t.Fatal(err)
	}
	return rep
}

func (a *author) segment(first int) string { return trail.SegmentPath(a.dir, uint64(first)) }

// part is a frame taken apart.
type part struct {
	segment.FrameHeader
	at     int64
	prints []byte
	leaves [][]byte
	note   []byte
}

// takeApart reads a sound segment.
func takeApart(t testing.TB, b []byte) (segment.Header, []*part) {
	t.Helper()
	r, err := segment.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var out []*part
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Header, out
		}
		if err != nil {
			t.Fatal(err)
		}
		p := &part{FrameHeader: f.FrameHeader, at: f.Offset}
		if f.Kind == segment.Checkpoint {
			p.note = bytes.Clone(f.Body)
		} else {
			p.prints = bytes.Clone(f.Body[:4*f.Count])
			p.leaves = bytes.Split(bytes.TrimSuffix(bytes.Clone(f.Lines()), []byte("\n")), []byte("\n"))
		}
		out = append(out, p)
	}
}

// How thorough somebody is who changes a segment.
const (
	repairCRC    = iota // checksums alone
	repairPrints        // fingerprints, counts and links too
	repairRoots         // all roots and places as well: everything but signatures
)

// putTogether writes frames again, with what they say of themselves repaired.
func putTogether(t testing.TB, h segment.Header, parts []*part, repair int) []byte {
	t.Helper()
	b, link := h.Marshal(), h.Hash()
	trees := trail.NewTrees(h.Digests, nil)
	for _, p := range parts {
		f := p.FrameHeader
		body := [][]byte{p.note}
		if f.Kind == segment.Events {
			var hashes []suite.Hash
			for _, leaf := range p.leaves {
				hashes = append(hashes, suite.SHA256.LeafHash(leaf))
				for _, tree := range trees {
					tree.Append(tree.Digest().LeafHash(leaf))
				}
			}
			body = [][]byte{p.prints, append(bytes.Join(p.leaves, []byte("\n")), '\n')}
			if repair >= repairPrints {
				body[0], f.Count = segment.AppendFingerprints(nil, hashes), len(hashes)
			}
		}
		if repair >= repairPrints {
			f.Previous = link
		}
		if repair >= repairRoots {
			f.Root, f.SM3Root, f.FirstLeaf = trees.Root(), trees.SM3Root(), trees.Size()-uint64(f.Count)
		}
		b, link = segment.AppendFrame(b, &f, body...)
	}
	return b
}

// wantFindings compares all findings but remarks, by what programs act upon.
func wantFindings(t testing.TB, rep *Report, want ...Finding) {
	t.Helper()
	var got []string
	for _, f := range rep.Findings {
		if f.Outcome != Intact {
			f.Detail = ""
			got = append(got, f.String())
		}
	}
	var wanted []string
	outcome := Intact
	for _, f := range want {
		wanted = append(wanted, f.String())
		outcome = max(outcome, f.Outcome)
	}
	if strings.Join(got, "\n") != strings.Join(wanted, "\n") || rep.Outcome != outcome {
		t.Errorf("%s:\n%s\nwant %s:\n%s", rep.Outcome, strings.Join(got, "\n"), outcome, strings.Join(wanted, "\n"))
		for _, f := range rep.Findings {
			t.Log(f)
		}
	}
}
