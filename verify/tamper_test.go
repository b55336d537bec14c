package verify

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// small is a trail of 20 leaves in frames of 5, with two checkpoints.
func small(t testing.TB, digests ...suite.Digest) *author {
	return newAuthor(t, digests...).more(10, 5).sign().more(10, 5).sign().publish()
}

func line(t testing.TB, i int) []byte { return append(leafOf(t, i), '\n') }

func contradiction(check, seg string, at int64, first, last uint64, id string) Finding {
	return Finding{Outcome: Contradicted, Check: check, Segment: seg, Offset: at, Leaf: first, LastLeaf: last, HasLeaf: true, EventID: id}
}

func TestIntactTrail(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		a := small(t, digests...)
		rep := a.check(Options{})
		wantFindings(t, rep)
		if rep.Size != 20 || rep.Sealed != 20 || rep.Events != 20 || rep.Frames != 6 || rep.Segments != 1 || !rep.KeysPinned || rep.Origin != origin ||
			rep.Root != encodeRoot(a.trees.Root()) || (rep.SM3Root != "") != (digests != nil) || rep.FirstTime.IsZero() || !rep.LastTime.After(rep.FirstTime) {
			t.Errorf("report %+v", rep)
		}
		var bytes int
		for i := range 20 {
			bytes += len(leafOf(t, i))
		}
		if rep.Bytes != uint64(bytes) {
			t.Errorf("bytes %d, want %d", rep.Bytes, bytes)
		}
		for _, k := range rep.Keys {
			if !k.Signed {
				t.Errorf("key %s has signed and is not reported so", k.KeyID)
			}
		}
		if rep := a.check(Options{Keys: []string{}}); rep.KeysPinned || rep.Outcome != Intact {
			t.Errorf("with the trail's own keys: %+v", rep)
		}
	}
}

func TestLeavesBehindTheCheckpointAreNotSealed(t *testing.T) {
	a := small(t).more(3, 3).flush()
	rep := a.check(Options{})
	wantFindings(t, rep)
	if rep.Size != 23 || rep.Sealed != 20 {
		t.Errorf("size %d, sealed %d", rep.Size, rep.Sealed)
	}
}

// TestBytesEditedInPlace edits the file as with an editor: nothing is repaired.
func TestBytesEditedInPlace(t *testing.T) {
	const at = 6 // the leaf; the second of its frame
	swap := func(b []byte) []byte {
		both := append(line(t, at), line(t, at+1)...)
		return bytes.Replace(b, both, append(line(t, at+1), line(t, at)...), 1)
	}
	for _, test := range []struct {
		name string
		edit func([]byte) []byte
		want func(off int64) Finding
	}{
		{"changed", func(b []byte) []byte {
			return bytes.Replace(b, line(t, at), bytes.Replace(line(t, at), []byte("FAIL"), []byte("PASS"), 1), 1)
		},
			func(o int64) Finding { return contradiction(leafChanged, trail.SegmentName(0), o, at, at, idOf(at)) }},
		{"longer", func(b []byte) []byte {
			return bytes.Replace(b, line(t, at), bytes.Replace(line(t, at), []byte("FAIL"), []byte("FAILED"), 1), 1)
		},
			func(o int64) Finding { return contradiction(leafChanged, trail.SegmentName(0), o, at, at, idOf(at)) }},
		{"removed", func(b []byte) []byte { return bytes.Replace(b, line(t, at), nil, 1) },
			func(o int64) Finding { return contradiction(leafRemoved, trail.SegmentName(0), o, at, at, "") }},
		{"inserted", func(b []byte) []byte { return bytes.Replace(b, line(t, at), append(line(t, 999), line(t, at)...), 1) },
			func(o int64) Finding { return contradiction(leafInserted, trail.SegmentName(0), o, at, at, idOf(999)) }},
		{"duplicated", func(b []byte) []byte { return bytes.Replace(b, line(t, at), append(line(t, at+1), line(t, at)...), 1) },
			func(o int64) Finding {
				return contradiction(leafDuplicated, trail.SegmentName(0), o, at, at, idOf(at+1))
			}},
		{"swapped", swap,
			func(o int64) Finding {
				return contradiction(leavesSwapped, trail.SegmentName(0), o, at, at+1, idOf(at+1))
			}},
		{"split", func(b []byte) []byte {
			return bytes.Replace(b, line(t, at), bytes.Replace(line(t, at), []byte(","), []byte("\n"), 1), 1)
		},
			func(o int64) Finding { return contradiction(leafChanged, trail.SegmentName(0), o, at, at, "") }},
	} {
		for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
			t.Run(test.name, func(t *testing.T) {
				a := small(t, digests...)
				b := get(t, a.segment(0))
				off := int64(bytes.Index(b, line(t, at)))
				put(t, a.segment(0), test.edit(b))
				want := test.want(off)
				if test.name == "split" {
					want.EventID = idOf(at)
				}
				wantFindings(t, a.check(Options{}), want)
			})
		}
	}
}

// TestRepairedEdits changes the second frame's leaves and repairs more and more
// of what would show it.
func TestRepairedEdits(t *testing.T) {
	edits := map[string]func(*part){
		"changed":    func(p *part) { p.leaves[1] = leafOf(t, 1006) },
		"removed":    func(p *part) { p.leaves = slices.Delete(p.leaves, 1, 2) },
		"inserted":   func(p *part) { p.leaves = slices.Insert(p.leaves, 1, leafOf(t, 999)) },
		"duplicated": func(p *part) { p.leaves = slices.Insert(p.leaves, 1, p.leaves[1]) },
		"swapped":    func(p *part) { p.leaves[1], p.leaves[2] = p.leaves[2], p.leaves[1] },
	}
	seg := trail.SegmentName(0)
	first := func(b []byte) int64 { return int64(bytes.Index(b, line(t, 5))) }
	second := func(b []byte) int64 { return first(b) + int64(len(line(t, 5))) }
	third := func(b []byte) int64 { return second(b) + int64(len(line(t, 6))) }
	for _, test := range []struct {
		edit   string
		repair int
		want   func(b []byte) Finding
	}{
		{"changed", repairCRC, func(b []byte) Finding { return contradiction(leafChanged, seg, second(b), 6, 6, idOf(1006)) }},
		{"removed", repairCRC, func(b []byte) Finding { return contradiction(leafRemoved, seg, second(b), 6, 6, "") }},
		{"inserted", repairCRC, func(b []byte) Finding { return contradiction(leafInserted, seg, second(b), 6, 6, idOf(999)) }},
		{"duplicated", repairCRC, func(b []byte) Finding { return contradiction(leafDuplicated, seg, third(b), 7, 7, idOf(6)) }},
		{"swapped", repairCRC, func(b []byte) Finding { return contradiction(leavesSwapped, seg, second(b), 6, 7, idOf(7)) }},

		{"changed", repairPrints, func(b []byte) Finding { return contradiction(rootMismatch, seg, first(b), 5, 9, "") }},
		{"removed", repairPrints, func(b []byte) Finding { return contradiction(leafRemoved, seg, first(b), 5, 9, "") }},
		{"inserted", repairPrints, func(b []byte) Finding { return contradiction(leafInserted, seg, first(b), 5, 10, "") }},
		{"duplicated", repairPrints, func(b []byte) Finding { return contradiction(leafInserted, seg, first(b), 5, 10, "") }},
		{"swapped", repairPrints, func(b []byte) Finding { return contradiction(rootMismatch, seg, first(b), 5, 9, "") }},

		{"changed", repairRoots, nil}, {"removed", repairRoots, nil}, {"inserted", repairRoots, nil}, {"duplicated", repairRoots, nil}, {"swapped", repairRoots, nil},
	} {
		for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
			t.Run(test.edit, func(t *testing.T) {
				a := small(t, digests...)
				h, parts := takeApart(t, get(t, a.segment(0)))
				edits[test.edit](parts[1])
				b := putTogether(t, h, parts, test.repair)
				put(t, a.segment(0), b)
				rep := a.check(Options{})
				if test.want != nil {
					wantFindings(t, rep, test.want(b))
					return
				}
				// Only the signatures contradict now.
				f := rep.Findings[0]
				wantCheck := map[string]string{"changed": rootMismatch, "swapped": rootMismatch}[test.edit]
				if wantCheck == "" {
					wantCheck = checkpointPlace
				}
				if rep.Outcome != Contradicted || f.Check != wantCheck || f.Segment != seg || wantCheck == rootMismatch && (f.Leaf != 0 || f.LastLeaf != 9 || len(rep.Findings) != 1) {
					t.Errorf("%v", rep.Findings)
				}
			})
		}
	}
}

func TestFrameFields(t *testing.T) {
	seg := trail.SegmentName(0)
	for _, test := range []struct {
		name string
		edit func(b []byte, parts []*part)
		want func(b []byte, parts []*part) Finding
	}{
		{"segment header", func(b []byte, _ []*part) { b[50] ^= 1 },
			func([]byte, []*part) Finding {
				return Finding{Outcome: Contradicted, Check: headerDamaged, Segment: seg}
			}},
		{"frame header", func(b []byte, p []*part) { b[p[1].at+30] ^= 1 },
			func(_ []byte, p []*part) Finding { return contradiction(frameDamaged, seg, p[1].at, 5, 9, "") }},
		{"frame magic", func(b []byte, p []*part) { b[p[1].at] ^= 1 },
			func(_ []byte, p []*part) Finding { return contradiction(frameDamaged, seg, p[1].at, 5, 9, "") }},
		{"checkpoint's frame header", func(b []byte, p []*part) { b[p[2].at+30] ^= 1 },
			func(_ []byte, p []*part) Finding {
				return Finding{Outcome: Contradicted, Check: frameDamaged, Segment: seg, Offset: p[2].at}
			}},
		{"checkpoint's bytes", func(b []byte, p []*part) { b[p[3].at-5] ^= 1 },
			func(_ []byte, p []*part) Finding {
				return Finding{Outcome: Contradicted, Check: frameDamaged, Segment: seg, Offset: p[2].at}
			}},
		{"last frame header", func(b []byte, p []*part) { b[p[5].at+30] ^= 1 },
			func(_ []byte, p []*part) Finding {
				return Finding{Outcome: Contradicted, Check: frameDamaged, Segment: seg, Offset: p[5].at}
			}},
		{"fingerprint", func(b []byte, p []*part) { b[p[1].at+116+4+1] ^= 1 },
			func(_ []byte, p []*part) Finding {
				return contradiction(fingerprintWrong, seg, p[1].at+116+4, 6, 6, idOf(6))
			}},
		{"newline", func(b []byte, p []*part) { b[bytes.Index(b, line(t, 7))-1] ^= 1 },
			func(b []byte, p []*part) Finding {
				return contradiction(leafChanged, seg, int64(bytes.Index(b, leafOf(t, 6))), 6, 7, idOf(6))
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := small(t)
			b := get(t, a.segment(0))
			_, parts := takeApart(t, b)
			test.edit(b, parts)
			put(t, a.segment(0), b)
			wantFindings(t, a.check(Options{}), test.want(b, parts))
		})
	}
}

func TestFramesMovedAbout(t *testing.T) {
	seg := trail.SegmentName(0)
	cut := func(b []byte, p []*part, i int) []byte { return b[p[i].at:p[i+1].at] }
	for _, test := range []struct {
		name string
		edit func(b []byte, p []*part) []byte
		want func(p []*part) Finding
	}{
		{"removed", func(b []byte, p []*part) []byte { return slices.Concat(b[:p[1].at], b[p[2].at:]) },
			func(p []*part) Finding { return contradiction(leafRemoved, seg, p[1].at, 5, 9, "") }},
		{"swapped", func(b []byte, p []*part) []byte {
			return slices.Concat(b[:p[0].at], cut(b, p, 1), cut(b, p, 0), b[p[2].at:])
		},
			func(p []*part) Finding { return contradiction(frameOrder, seg, p[0].at+p[2].at-p[1].at, 0, 4, "") }},
		{"repeated", func(b []byte, p []*part) []byte { return slices.Concat(b[:p[2].at], cut(b, p, 1), b[p[2].at:]) },
			func(p []*part) Finding { return contradiction(frameOrder, seg, p[2].at, 5, 9, "") }},
		{"checkpoint removed", func(b []byte, p []*part) []byte { return slices.Concat(b[:p[2].at], b[p[3].at:]) },
			func(p []*part) Finding { return contradiction(linkBroken, seg, p[2].at, 10, 14, "") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := small(t)
			b := get(t, a.segment(0))
			_, parts := takeApart(t, b)
			put(t, a.segment(0), test.edit(b, parts))
			wantFindings(t, a.check(Options{}), test.want(parts))
		})
	}
}

func TestTruncatedTails(t *testing.T) {
	seg := trail.SegmentName(0)
	for _, test := range []struct {
		name string
		more int // unsealed leaves
		cut  func(b []byte, p []*part) int64
		want func(at int64) []Finding
	}{
		{"sealed, within a frame", 0, func(b []byte, p []*part) int64 { return p[4].at + 200 },
			func(at int64) []Finding { return []Finding{contradiction(segmentTruncated, seg, at-200, 15, 19, "")} }},
		{"sealed, between frames", 0, func(b []byte, p []*part) int64 { return p[4].at },
			func(at int64) []Finding { return []Finding{contradiction(segmentTruncated, seg, at, 15, 19, "")} }},
		{"unsealed, within a frame", 4, func(b []byte, p []*part) int64 { return int64(len(b)) - 7 },
			func(int64) []Finding { return []Finding{{Outcome: CouldNotCheck, Check: tailTorn, Segment: seg}} }},
		{"unsealed, between frames", 4, func(b []byte, p []*part) int64 { return p[6].at }, func(int64) []Finding { return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := small(t)
			if test.more > 0 {
				a.more(test.more, test.more).flush()
			}
			b := get(t, a.segment(0))
			_, parts := takeApart(t, b)
			at := test.cut(b, parts)
			put(t, a.segment(0), b[:at])
			want := test.want(at)
			if test.more > 0 && want != nil {
				want[0].Offset = parts[6].at
			}
			wantFindings(t, a.check(Options{}), want...)
		})
	}
}

// TestZeroedSectors: what a crash leaves of an unacknowledged write is not the
// same where a checkpoint covers it.
func TestZeroedSectors(t *testing.T) {
	zero := func(a *author, from int64) {
		b := get(t, a.segment(0))
		from = (from + 511) / 512 * 512
		clear(b[from : from+512])
		put(t, a.segment(0), b)
	}
	a := small(t).more(20, 20).flush()
	_, parts := takeApart(t, get(t, a.segment(0)))
	zero(a, parts[6].at+300)
	wantFindings(t, a.check(Options{}), Finding{Outcome: CouldNotCheck, Check: tailTorn, Segment: trail.SegmentName(0), Offset: parts[6].at})
	a.sign().publish()
	zero(a, parts[6].at+300)
	if rep := a.check(Options{}); rep.Outcome != Contradicted || rep.has(tailTorn) || !rep.has(leafChanged) {
		t.Errorf("sealed: %v", rep.Findings)
	}
}

// large is a trail of three segments of 512 leaves.
func large(t testing.TB, digests ...suite.Digest) *author {
	a := newAuthor(t, digests...)
	for range 2 {
		a.more(512, 100).sign().rotate()
	}
	return a.more(500, 100).sign().publish()
}

func TestSegmentsMissing(t *testing.T) {
	missing := func(first, last uint64) Finding {
		return Finding{Outcome: CouldNotCheck, Check: segmentMissing, Segment: trail.SegmentName(first), Leaf: first, LastLeaf: last, HasLeaf: true}
	}
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		for _, test := range []struct {
			name   string
			remove []int
			want   []Finding
			sealed uint64
		}{
			{"first", []int{0}, []Finding{missing(0, 511)}, 1524},
			{"middle", []int{512}, []Finding{missing(512, 1023)}, 1524},
			{"two", []int{0, 512}, []Finding{missing(0, 1023)}, 1524},
			{"last", []int{1024}, []Finding{contradiction(segmentTruncated, trail.SegmentName(512), 0, 1024, 1523, "")}, 1024},
		} {
			t.Run(test.name, func(t *testing.T) {
				a := large(t, digests...)
				for _, first := range test.remove {
					if err := os.Remove(a.segment(first)); err != nil {
						t.Fatal(err)
					}
				}
				if test.name == "last" {
					test.want[0].Offset = int64(len(get(t, a.segment(512))))
				}
				rep := a.check(Options{})
				wantFindings(t, rep, test.want...)
				if rep.Sealed != test.sealed {
					t.Errorf("sealed %d, want %d", rep.Sealed, test.sealed)
				}
				if test.sealed == 1524 {
					b := get(t, a.segment(1024)) // the rest is still checked, to the root
					put(t, a.segment(1024), bytes.Replace(b, line(t, 1130), bytes.ToUpper(line(t, 1130)), 1))
					rep := a.check(Options{})
					if rep.Outcome != Contradicted || !rep.has(leafChanged) {
						t.Errorf("a changed leaf behind: %v", rep.Findings)
					}
				}
			})
		}
	}
}

func TestSegmentOfAnotherLog(t *testing.T) {
	a, b := large(t), newAuthorOf(t, origin, 7, [16]byte{9})
	for range 2 {
		b.more(512, 100).sign().rotate()
	}
	b.more(500, 100).sign().publish()
	put(t, a.segment(512), get(t, b.segment(512)))
	wantFindings(t, a.check(Options{}), contradiction(otherLog, trail.SegmentName(512), 24, 512, 1023, ""))

	a = large(t)
	put(t, a.segment(512), get(t, a.segment(1024)))
	wantFindings(t, a.check(Options{}), contradiction(segmentMisnamed, trail.SegmentName(512), 16, 512, 1023, ""))
}

func TestDamageDoesNotHideWhatIsBehind(t *testing.T) {
	a := large(t)
	for _, i := range []int{3, 700, 1500} {
		name := a.segment(i / 512 * 512)
		b := get(t, name)
		b[bytes.Index(b, leafOf(t, i))+len(leafOf(t, i))/2] ^= 4
		put(t, name, b)
	}
	rep := a.check(Options{})
	var leaves []uint64
	for _, f := range rep.Findings {
		if f.Check != leafChanged || f.LastLeaf != f.Leaf {
			t.Errorf("unexpected: %s", f)
		}
		leaves = append(leaves, f.Leaf)
	}
	if !slices.Equal(leaves, []uint64{3, 700, 1500}) {
		t.Errorf("leaves %d", leaves)
	}
}

// TestStoredTilesNarrowARepairedFrame: 256 leaves are named, not a frame of
// thousands.
func TestStoredTilesNarrowARepairedFrame(t *testing.T) {
	for _, repair := range []int{repairPrints, repairRoots} {
		a := newAuthor(t).more(1024, 1024).sign().rotate().more(10, 10).sign().publish()
		h, parts := takeApart(t, get(t, a.segment(0)))
		parts[0].leaves[600] = leafOf(t, 99)
		b := putTogether(t, h, parts, repair)
		put(t, a.segment(0), b)
		rep := a.check(Options{})
		if f := rep.Findings[0]; f.Check != rootMismatch || f.Leaf != 512 || f.LastLeaf != 767 {
			t.Errorf("repair %d: %v", repair, rep.Findings)
		}
	}
}

func TestSM3TreeDisagrees(t *testing.T) {
	a := newAuthor(t, suite.SM3).more(5, 5)
	a.sm3 = &suite.Hash{1}
	a.more(5, 5)
	a.sm3 = nil
	a.more(5, 5).sign().publish()
	rep := a.check(Options{})
	_, parts := takeApart(t, get(t, a.segment(0)))
	wantFindings(t, rep, contradiction(sm3RootMismatch, trail.SegmentName(0), parts[1].at+148+20, 5, 9, ""))
}

func TestTiles(t *testing.T) {
	// One trail reaches a full tile; hashing as much with SM3 would take long.
	full := newAuthor(t).more(65_536+512, 8192).sign().rotate().more(10, 10).sign().publish()
	both := newAuthor(t, suite.SM3).more(512, 100).sign().rotate().more(10, 10).sign().publish()
	for _, test := range []struct {
		a    *author
		name string
	}{
		{full, "tile/1/000"}, {full, "tile/1/001.p/2"}, {full, "tile/2/000.p/1"}, {both, "tile/1/000.p/2"}, {both, "sm3/tile/1/000.p/2"},
	} {
		file := filepath.Join(test.a.dir, filepath.FromSlash(test.name))
		b := get(t, file)
		c := bytes.Clone(b)
		c[len(c)-1] ^= 1
		put(t, file, c)
		rep := test.a.check(Options{})
		if len(rep.Findings) != 1 || rep.Findings[0].Check != tileChanged || rep.Findings[0].Segment != test.name || rep.Outcome != Contradicted {
			t.Errorf("%s changed: %v", test.name, rep.Findings)
		}
		put(t, file, b)
	}
	wantFindings(t, both.check(Options{}))
	if err := os.Remove(filepath.Join(full.dir, "tile", "1", "000")); err != nil {
		t.Fatal(err)
	}
	wantFindings(t, full.check(Options{}), Finding{Outcome: CouldNotCheck, Check: tileMissing, Segment: "tile/1/000", LastLeaf: 65_535, HasLeaf: true})
}
