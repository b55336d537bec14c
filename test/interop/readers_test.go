package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// fsckWorkers is how many resources fsck reads at once: enough to be quick, few enough for a loopback server.
const fsckWorkers = 8

// fsckPatience bounds one run of fsck. It needs a bound: when every one of its workers has met a bad tile, the
// producer of further work waits for ever.
const fsckPatience = 2 * time.Minute

// A place is one log as a directory or a server offers it, once for each reader.
type place struct {
	tessera   fsck.Fetcher
	torchwood torchwood.TileReader
}

// inDirectory is the log exported to dir.
func inDirectory(t *testing.T, dir string) place {
	t.Helper()
	tiles, err := torchwood.NewTileFS(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return place{tessera: client.FileFetcher{Root: dir}, torchwood: tiles}
}

// atURL is the log served under prefix, which ends in a slash. Every request carries the bearer token.
func atURL(t *testing.T, prefix, token string) place {
	t.Helper()
	root, err := url.Parse(prefix)
	if err != nil {
		t.Fatal(err)
	}
	fetcher, err := client.NewHTTPFetcher(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	fetcher.SetAuthorizationHeader("Bearer " + token)

	tiles, err := torchwood.NewTileFetcher(prefix,
		torchwood.WithHTTPClient(&http.Client{Transport: bearer{token}, Timeout: 30 * time.Second}),
		torchwood.WithConcurrencyLimit(fsckWorkers))
	if err != nil {
		t.Fatal(err)
	}
	return place{tessera: fetcher, torchwood: tiles}
}

// bearer adds an API token to every request.
type bearer struct{ token string }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return http.DefaultTransport.RoundTrip(r)
}

// checkAccepted runs both readers over p and fails the test when either refuses. It returns the checkpoint.
func checkAccepted(t *testing.T, p place, v note.Verifier, visit func(index int64, entry []byte) error) torchwood.Checkpoint {
	t.Helper()
	if err := runFsck(t.Context(), p, v); err != nil {
		t.Fatalf("fsck refused the log: %s", shorten(err))
	}
	c, err := readLog(t.Context(), p, v, visit)
	if err != nil {
		t.Fatalf("torchwood refused the log: %s", shorten(err))
	}
	return c
}

// runFsck has Tessera rebuild the log at p and compare. The origin must be the name of the key.
func runFsck(ctx context.Context, p place, v note.Verifier) error {
	ctx, cancel := context.WithTimeout(ctx, fsckPatience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		// A bundle with fewer entries than its path promises makes fsck index past the end. That is a
		// refusal like the others.
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("fsck panicked: %v", r)
			}
		}()
		done <- fsck.New(v.Name(), v, p.tessera, leafHashes, fsck.Opts{N: fsckWorkers}).Check(ctx)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("fsck did not come to an end: %w", ctx.Err())
	}
}

// leafHashes returns the RFC 6962 leaf hash of each entry of a C2SP entry bundle.
func leafHashes(bundle []byte) ([][]byte, error) {
	var b api.EntryBundle
	if err := b.UnmarshalText(bundle); err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(b.Entries))
	for i, e := range b.Entries {
		hashes[i] = rfc6962.DefaultHasher.HashLeaf(e)
	}
	return hashes, nil
}

// readLog has Torchwood read the log at p from its checkpoint on: all entries in order, then some of them again by
// index with an inclusion proof. It hands every entry to visit, unless that is nil.
func readLog(ctx context.Context, p place, v note.Verifier, visit func(index int64, entry []byte) error) (torchwood.Checkpoint, error) {
	none := torchwood.Checkpoint{}
	c, err := readCheckpoint(ctx, p, v)
	if err != nil {
		return none, err
	}

	reader, err := torchwood.NewClient(p.torchwood)
	if err != nil {
		return none, err
	}
	again := pick(c.N)
	seen := make(map[int64][]byte, len(again))
	next := int64(0)
	for i, entry := range reader.AllEntries(ctx, c.Tree, 0) {
		if i != next {
			return none, fmt.Errorf("entry %d came where %d was due", i, next)
		}
		next++
		if slices.Contains(again, i) {
			seen[i] = bytes.Clone(entry)
		}
		if visit == nil {
			continue
		}
		if err := visit(i, entry); err != nil {
			return none, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	if err := reader.Err(); err != nil {
		return none, err
	}
	if next != c.N {
		return none, fmt.Errorf("%d entries under a checkpoint of size %d", next, c.N)
	}

	for _, i := range again {
		entry, proof, err := reader.Entry(ctx, c.Tree, i)
		if err != nil {
			return none, err
		}
		if !bytes.Equal(entry, seen[i]) {
			return none, fmt.Errorf("entry %d differs from the one read in order", i)
		}
		if err := tlog.CheckRecord(proof, c.N, c.Hash, i, tlog.RecordHash(entry)); err != nil {
			return none, fmt.Errorf("entry %d: inclusion: %w", i, err)
		}
	}
	return c, nil
}

// readCheckpoint returns the checkpoint at p when v has signed it and it names v's origin.
func readCheckpoint(ctx context.Context, p place, v note.Verifier) (torchwood.Checkpoint, error) {
	signed, err := p.torchwood.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return torchwood.Checkpoint{}, err
	}
	policy := torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(v.Name()), torchwood.SingleVerifierPolicy(v))
	c, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return torchwood.Checkpoint{}, fmt.Errorf("checkpoint: %w", err)
	}
	return c, nil
}

// checkExtends proves with the tiles at p that newer's tree is older's with nothing but entries added at its end.
func checkExtends(ctx context.Context, p place, older, newer torchwood.Checkpoint) error {
	if newer.N < older.N {
		return fmt.Errorf("checkpoint of size %d after one of size %d", newer.N, older.N)
	}
	if older.N == 0 {
		return nil // every tree extends the empty one
	}
	tiles := torchwood.TileHashReaderWithContext(ctx, newer.Tree, p.torchwood)
	proof, err := tlog.ProveTree(newer.N, older.N, tiles)
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, newer.N, newer.Hash, older.N, older.Hash)
}

// pick names the entries of a tree of size n that sit at its edges and at the edges of its bundles and tiles.
func pick(n int64) []int64 {
	var picked []int64
	for _, i := range []int64{0, 1, 254, 255, 256, 257, n / 2, 65535, 65536, n - 257, n - 2, n - 1} {
		if i >= 0 && i < n && !slices.Contains(picked, i) {
			picked = append(picked, i)
		}
	}
	return picked
}

// checkLayout reports files below tile/ that no tlog-tiles client would ask for, and hash tiles of a wrong length.
// Neither reader looks for them.
func checkLayout(t *testing.T, dir string) {
	t.Helper()
	tiles := 0
	err := filepath.WalkDir(filepath.Join(dir, "tile"), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		tiles++
		tile, err := torchwood.ParseTilePath(filepath.ToSlash(rel))
		if err != nil {
			return fmt.Errorf("layout: %s is not a tlog-tiles path", rel)
		}
		if want := int64(tile.W) * tlog.HashSize; tile.L >= 0 && info.Size() != want {
			t.Errorf("layout: %s: %d bytes, want %d", rel, info.Size(), want)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	t.Logf("%d tiles and bundles", tiles)
}

// shorten keeps an error readable: fsck prints both tiles whole.
func shorten(err error) string {
	const most = 300
	s := err.Error()
	if len(s) > most {
		s = s[:most] + "…"
	}
	return s
}
