//go:build unix

package interop

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// These tests prove the harness on a log that is none of ours. Tessera's POSIX driver needs Unix file locks.

func TestReadersAcceptTesserasLog(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 65537} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			v := makeTesseraLog(t, dir, n)
			checkLayout(t, dir)
			c := checkAccepted(t, inDirectory(t, dir), v, func(i int64, entry []byte) error {
				if want := string(eventLine(int(i))); string(entry) != want {
					return fmt.Errorf("got %q, want %q", entry, want)
				}
				return nil
			})
			if c.N != int64(n) {
				t.Errorf("checkpoint of size %d, want %d", c.N, n)
			}
		})
	}
}

func TestReadersAcceptTesserasLogOverHTTP(t *testing.T) {
	const token = "0123456789abcdef"
	dir := t.TempDir()
	v := makeTesseraLog(t, dir, 600)
	files := http.StripPrefix(logPrefix, http.FileServer(http.Dir(dir)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "unauthorized", http.StatusUnauthorized)
			return
		}
		files.ServeHTTP(w, r)
	}))
	defer s.Close()

	checkAccepted(t, atURL(t, s.URL+logPrefix, token), v, nil)
	refused := atURL(t, s.URL+logPrefix, "another")
	if err := runFsck(t.Context(), refused, v); err == nil {
		t.Error("fsck accepted a log that it may not read")
	}
	if _, err := readLog(t.Context(), refused, v, nil); err == nil {
		t.Error("torchwood accepted a log that it may not read")
	}
}

func TestReadersRefuseTesserasLogWithAByteChanged(t *testing.T) {
	const n = 70_000
	dir := t.TempDir()
	checkRefused(t, dir, n, makeTesseraLog(t, dir, n))
}

func TestReadersRefuseAnotherKeyOrOrigin(t *testing.T) {
	dir := t.TempDir()
	makeTesseraLog(t, dir, 3)
	for _, name := range []string{origin, "other.example/log"} {
		_, vkey, err := note.GenerateKey(rand.Reader, name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if err := runFsck(t.Context(), inDirectory(t, dir), v); err == nil {
			t.Errorf("fsck accepted another key named %s", name)
		}
		if _, err := readLog(t.Context(), inDirectory(t, dir), v, nil); err == nil {
			t.Errorf("torchwood accepted another key named %s", name)
		}
	}
}

func TestConsistencyIsCheckedAgainstTesserasLog(t *testing.T) {
	const n = 300
	dir := t.TempDir()
	v := makeTesseraLog(t, dir, n)
	log := inDirectory(t, dir)
	newer, err := readCheckpoint(t.Context(), log, v)
	if err != nil {
		t.Fatal(err)
	}
	leaves := make([]tlog.Hash, 0, 2*n)
	hashes := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, i := range at {
			found = append(found, leaves[i])
		}
		return found, nil
	})
	for i := range n {
		stored, err := tlog.StoredHashes(int64(i), eventLine(i), hashes)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, stored...)

		root, err := tlog.TreeHash(int64(i+1), hashes)
		if err != nil {
			t.Fatal(err)
		}
		older := torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: int64(i + 1), Hash: root}}
		if err := checkExtends(t.Context(), log, older, newer); err != nil {
			t.Errorf("size %d: %v", older.N, err)
		}
		older.Hash[0] ^= 1
		if err := checkExtends(t.Context(), log, older, newer); err == nil {
			t.Errorf("size %d: another history accepted", older.N)
		}
	}
	longer := torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: n + 1}}
	if err := checkExtends(t.Context(), log, longer, newer); err == nil {
		t.Error("a shorter log accepted after a longer one")
	}
}

// makeTesseraLog makes a log of n event lines in dir and returns the verifier of its key.
func makeTesseraLog(t *testing.T, dir string, n int) note.Verifier {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	driver, err := posix.New(ctx, posix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1<<15, 50*time.Millisecond).
		WithPushback(1<<20))
	if err != nil {
		t.Fatal(err)
	}
	futures := make([]tessera.IndexFuture, n)
	for i := range futures {
		futures[i] = appender.Add(ctx, tessera.NewEntry(eventLine(i)))
	}
	for i, future := range futures {
		got, err := future()
		if err != nil {
			t.Fatal(err)
		}
		if got.Index != uint64(i) {
			t.Fatalf("entry %d became %d", i, got.Index)
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return v
}
