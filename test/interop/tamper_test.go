package interop

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// checkRefused changes one byte of the log in dir at a time, in every kind of resource that a tree of size n has,
// and fails the test when a reader accepts the result. Each byte is put back before the next is changed.
func checkRefused(t *testing.T, dir string, n int64, v note.Verifier) {
	t.Helper()
	checkAccepted(t, inDirectory(t, dir), v, nil) // else a refusal below could have any cause

	type change struct {
		name   string
		path   string
		offset func(content []byte) int
		reason string // what fsck's refusal must name
	}
	middle := func(content []byte) int { return len(content) / 2 }
	var changes []change
	for _, tile := range edgeTiles(n) {
		path := torchwood.TilePath(tile)
		if tile.L >= 0 {
			changes = append(changes, change{path, path, middle, path})
			continue
		}
		// Fsck finds a changed entry in the tile of hashes above its bundle.
		above := torchwood.TilePath(tlog.Tile{H: tile.H, L: 0, N: tile.N, W: tile.W})
		inFirstEntry := func([]byte) int { return 2 + 1 } // past the length, inside the entry
		changes = append(changes, change{path, path, inFirstEntry, above})
	}
	changes = append(changes,
		change{"root", "checkpoint", func(c []byte) int { return endOfLine(c, 2) + 3 }, "checkpoint"}, // in the third line
		change{"signature", "checkpoint", func(c []byte) int { return inSignature(t, c, v) }, "checkpoint"},
	)

	for _, c := range changes {
		t.Run(strings.ReplaceAll(c.name, "/", "-"), func(t *testing.T) {
			file := filepath.Join(dir, filepath.FromSlash(c.path))
			intact, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			changed := bytes.Clone(intact)
			changed[c.offset(intact)] = other(intact[c.offset(intact)])
			write(t, file, changed)
			defer write(t, file, intact)

			switch err := runFsck(t.Context(), inDirectory(t, dir), v); {
			case err == nil:
				t.Errorf("fsck accepted %s with a byte changed", c.path)
			case !strings.Contains(err.Error(), c.reason):
				t.Errorf("fsck refused, but not for %s: %s", c.reason, shorten(err))
			}
			if _, err := readLog(t.Context(), inDirectory(t, dir), v, nil); err == nil {
				t.Errorf("torchwood accepted %s with a byte changed", c.path)
			}
		})
	}
	checkAccepted(t, inDirectory(t, dir), v, nil) // every byte is back in its place
}

// edgeTiles names, for each level of a tree of size n and for its entries (level -1), the first full tile and the
// partial one.
func edgeTiles(n int64) []tlog.Tile {
	var tiles []tlog.Tile
	level := func(l int, width int64) {
		if width >= torchwood.TileWidth {
			tiles = append(tiles, tlog.Tile{H: torchwood.TileHeight, L: l, N: 0, W: torchwood.TileWidth})
		}
		if w := width % torchwood.TileWidth; w > 0 {
			tiles = append(tiles, tlog.Tile{H: torchwood.TileHeight, L: l, N: width / torchwood.TileWidth, W: int(w)})
		}
	}
	level(-1, n)
	for l, width := 0, n; width > 0; l, width = l+1, width/torchwood.TileWidth {
		level(l, width)
	}
	return tiles
}

// other is a byte that differs from b and is base64 where b is.
func other(b byte) byte {
	if b == 'A' {
		return 'B'
	}
	return 'A'
}

// inSignature is an offset inside v's signature of a checkpoint, which may carry others.
func inSignature(t *testing.T, checkpoint []byte, v note.Verifier) int {
	t.Helper()
	n, err := note.Open(checkpoint, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Index(checkpoint, []byte(n.Sigs[0].Base64)) + len(n.Sigs[0].Base64)/2
}

// endOfLine is the offset just past the nth line of b.
func endOfLine(b []byte, n int) int {
	at := 0
	for range n {
		at += bytes.IndexByte(b[at:], '\n') + 1
	}
	return at
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	// An exported log may be read-only; this copy is ours to break.
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
