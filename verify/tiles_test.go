package verify

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// export writes the tiles of a log of n leaves, as any C2SP log would have them.
func export(t testing.TB, n int, digests ...suite.Digest) (*author, string) {
	t.Helper()
	a := newAuthor(t, digests...)
	dir := t.TempDir()
	path := func(d suite.Digest, p string) string {
		if d == suite.SM3 {
			p = "sm3/" + p
		}
		return filepath.Join(dir, filepath.FromSlash(p))
	}
	for _, d := range a.id.Digests.Digests() {
		tree := tlog.NewTree(d, func(x tlog.Tile, hashes []suite.Hash) { put(t, path(d, x.Path()), tlog.MarshalTile(hashes)) })
		for i := range n {
			tree.Append(d.LeafHash(leafOf(t, i)))
		}
		for x, hashes := range tree.Edge() {
			put(t, path(d, x.Path()), tlog.MarshalTile(hashes))
		}
	}
	for i := 0; i < n; i += 256 {
		var b []byte
		width := min(256, n-i)
		for _, leaf := range leavesOf(t, i, width) {
			var err error
			if b, err = tlog.AppendBundleEntry(b, leaf); err != nil {
				t.Fatal(err)
			}
		}
		put(t, path(suite.SHA256, tlog.BundlePath(uint64(i/256), width)), b)
	}
	a.more(n, n).sign()
	put(t, filepath.Join(dir, "checkpoint"), a.note)
	put(t, filepath.Join(dir, "keys"), []byte(strings.Join(a.vkeys, "\n")+"\n"))
	return a, dir
}

func checkTiles(t testing.TB, dir string, opts Options) *Report {
	t.Helper()
	rep, err := Tiles(context.Background(), Dir(dir), opts)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestExportedTiles(t *testing.T) {
	for _, n := range []int{1, 255, 256, 257, 600} {
		for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
			a, dir := export(t, n, digests...)
			rep := checkTiles(t, dir, Options{Keys: a.vkeys, Checkpoints: []Kept{{"same", a.note}}})
			wantFindings(t, rep)
			if rep.Sealed != uint64(n) || rep.Events != uint64(n) || rep.Root != encodeRoot(a.trees.Root()) || len(rep.Compared) != 1 || (rep.SM3Root != "") != (digests != nil) {
				t.Errorf("%d leaves: %+v", n, rep)
			}
			if rep := checkTiles(t, dir, Options{}); rep.KeysPinned || rep.Outcome != Intact {
				t.Errorf("%d leaves, own keys: %v", n, rep.Findings)
			}
		}
	}
	if _, err := Tiles(context.Background(), Dir(t.TempDir()), Options{}); err == nil {
		t.Error("an empty directory is no log")
	}
}

func TestExportedTilesTampered(t *testing.T) {
	const n = 600
	a, dir := export(t, n, suite.SM3)
	entry := func(i int) []byte {
		b, _ := tlog.AppendBundleEntry(nil, leafOf(t, i))
		return b
	}
	replace := func(old, now []byte) func([]byte) []byte {
		return func(b []byte) []byte { return bytes.Replace(b, old, now, 1) }
	}
	flip := func(i int) func([]byte) []byte {
		return func(b []byte) []byte { b[i] ^= 1; return b }
	}
	leaf := func(check, file string, before, first, last int, id string) Finding {
		f := contradiction(check, file, 0, uint64(first), uint64(last), id)
		for i := before; i < first; i++ {
			f.Offset += int64(len(entry(i)))
		}
		return f
	}
	gone := func(check, file string, first, last uint64) Finding {
		return Finding{Outcome: CouldNotCheck, Check: check, Segment: file, Leaf: first, LastLeaf: last, HasLeaf: true}
	}
	const full, partial = "tile/entries/001", "tile/entries/002.p/88"
	for _, test := range []struct {
		file string
		edit func([]byte) []byte
		want Finding
	}{
		{full, replace(entry(300), entry(9300)), leaf(leafChanged, full, 256, 300, 300, idOf(9300))},
		{full, replace(entry(300), nil), leaf(leafRemoved, full, 256, 300, 300, "")},
		{full, replace(entry(300), append(entry(9300), entry(300)...)), leaf(leafInserted, full, 256, 300, 300, idOf(9300))},
		{full, replace(entry(300), append(entry(299), entry(300)...)), leaf(leafDuplicated, full, 256, 300, 300, idOf(299))},
		{full, replace(append(entry(300), entry(301)...), append(entry(301), entry(300)...)), leaf(leavesSwapped, full, 256, 300, 301, idOf(301))},
		{partial, replace(entry(550), entry(9550)), leaf(leafChanged, partial, 512, 550, 550, idOf(9550))},
		{partial, func(b []byte) []byte { return append(b, 0) }, contradiction(bundleDamaged, partial, 0, 512, 599, "")},
		{full, nil, gone(bundleMissing, full, 256, 511)},
		{"tile/0/001", flip(7 * 32), contradiction(tileChanged, "tile/0/001", 7*32, 263, 263, "")},
		{"tile/0/002.p/88", flip(7 * 32), contradiction(tileChanged, "tile/0/002.p/88", 7*32, 519, 519, "")},
		{"sm3/tile/0/002.p/88", flip(7 * 32), contradiction(tileChanged, "sm3/tile/0/002.p/88", 7*32, 519, 519, "")},
		{"sm3/tile/0/001", flip(7 * 32), contradiction(tileChanged, "sm3/tile/0/001", 7*32, 263, 263, "")},
		{"tile/1/000.p/2", flip(32), contradiction(tileChanged, "tile/1/000.p/2", 32, 256, 511, "")},
		{"tile/0/001", nil, gone(tileMissing, "tile/0/001", 256, 511)},
		{"tile/1/000.p/2", nil, gone(tileMissing, "tile/1/000.p/2", 0, 511)},
		{"tile/0/000", func(b []byte) []byte { return b[:100] }, contradiction(tileChanged, "tile/0/000", 0, 0, 255, "")},
		{"checkpoint", replace([]byte("\n600\n"), []byte("\n500\n")), Finding{Outcome: Contradicted, Check: checkpointForged, Segment: "checkpoint"}},
	} {
		t.Run(test.file, func(t *testing.T) {
			file := filepath.Join(dir, filepath.FromSlash(test.file))
			intact := get(t, file)
			defer func() { put(t, file, intact) }()
			if test.edit == nil {
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			} else {
				put(t, file, test.edit(bytes.Clone(intact)))
			}
			rep := checkTiles(t, dir, Options{Keys: a.vkeys})
			if test.want.Check == checkpointForged { // what follows is not of interest
				rep.Findings = rep.Findings[:1]
			}
			wantFindings(t, rep, test.want)
		})
	}
	wantFindings(t, checkTiles(t, dir, Options{Keys: a.vkeys}))
}

func TestTilesAgainstKeptCheckpoints(t *testing.T) {
	a, dir := export(t, 300)
	b := newAuthor(t).more(100, 100).sign()
	good := Kept{"good", b.note}
	late := Kept{"late", newAuthor(t).more(301, 301).sign().note}
	other := Kept{"other", newAuthor(t).write(leavesOf(t, 5000, 100)...).sign().note}
	rep := checkTiles(t, dir, Options{Keys: a.vkeys, Checkpoints: []Kept{good, late, other}})
	wantFindings(t, rep, contradiction(rolledBack, "late", 0, 300, 300, ""), Finding{Outcome: Contradicted, Check: historyDiffers, Segment: "other"})
	if fmt.Sprint(rep.Compared) != "[good]" {
		t.Errorf("compared %q", rep.Compared)
	}
}

func TestLogWithoutEntriesIsNotIntact(t *testing.T) {
	a, dir := export(t, 600)
	if err := os.RemoveAll(filepath.Join(dir, "tile")); err != nil {
		t.Fatal(err)
	}
	if rep := checkTiles(t, dir, Options{Keys: a.vkeys}); rep.Outcome != CouldNotCheck || !rep.has(rootUnchecked) || rep.Sealed != 0 {
		t.Errorf("%+v", rep)
	}
}

// TestExportedTilesAreThoseDocumented reads the list in docs/format/tiles.md.
func TestExportedTilesAreThoseDocumented(t *testing.T) {
	_, dir := export(t, 600)
	page := string(get(t, filepath.Join("..", "docs", "format", "tiles.md")))
	_, example, ok := strings.Cut(page, "A log of 600 leaves has these files:")
	if !ok {
		t.Fatal("the page has no worked example")
	}
	wanted := map[string]bool{"keys": true} // ours, beside the standard's
	for line := range strings.Lines(example) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "    ") {
			wanted[fields[0]] = true
			if len(fields) > 2 && fields[2] == "bytes" {
				if b := get(t, filepath.Join(dir, filepath.FromSlash(fields[0]))); strings.ReplaceAll(fields[1], ",", "") != fmt.Sprint(len(b)) {
					t.Errorf("%s has %d bytes, the page says %s", fields[0], len(b), fields[1])
				}
			}
		}
	}
	fetched := &recorder{from: Dir(dir), paths: map[string]bool{}}
	rep, err := Tiles(context.Background(), fetched, Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	wantFindings(t, rep)
	for path := range wanted {
		if !fetched.paths[path] {
			t.Errorf("%s was not read", path)
		}
	}
	for path := range fetched.paths {
		if !wanted[path] {
			t.Errorf("%s was read and is not on the page", path)
		}
	}

}

type recorder struct {
	from  Fetcher
	mu    sync.Mutex
	paths map[string]bool
}

func (r *recorder) Fetch(ctx context.Context, path string) ([]byte, error) {
	r.mu.Lock()
	r.paths[path] = true
	r.mu.Unlock()
	return r.from.Fetch(ctx, path)
}

// TestEveryCodeIsDocumented compares the codes with docs/design/verification.md.
func TestEveryCodeIsDocumented(t *testing.T) {
	source := string(get(t, "verify.go"))
	page := string(get(t, filepath.Join("..", "docs", "design", "verification.md")))
	_, source, _ = strings.Cut(source, "They are stable: programs act upon them.")
	source, _, _ = strings.Cut(source, ")")
	codes := 0
	for line := range strings.Lines(source) {
		if _, code, ok := strings.Cut(line, `= "`); ok {
			codes++
			if code = strings.TrimSuffix(strings.TrimSpace(code), `"`); !strings.Contains(page, "| `"+code+"` |") {
				t.Errorf("%s is not on the page", code)
			}
		}
	}
	if rows := strings.Count(page, "\n| `"); codes == 0 || rows != codes {
		t.Errorf("%d codes, %d on the page", codes, rows)
	}
}
