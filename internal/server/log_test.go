package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	sumdb "golang.org/x/mod/sumdb/tlog"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

func withSM3(c *recorder.Config, _ *Config) { c.SM3 = true }

// served is what GET /v1/events/{id} says.
type served struct {
	Event   json.RawMessage
	Leaf    uint64
	Segment string
	Sealed  bool
	Proof   *struct {
		TreeSize uint64 `json:"tree_size"`
		Root     string
		SHA256   []string
		SM3Root  string `json:"sm3_root"`
		SM3      []string
	}
	Checkpoint string
}

func parseServed(t testing.TB, r reply) served {
	t.Helper()
	var e served
	if err := json.Unmarshal(r.body, &e); err != nil || r.status != http.StatusOK {
		t.Fatalf("status %d, %s: %v", r.status, r.body, err)
	}
	return e
}

func decodeHash(t testing.TB, text string) (h suite.Hash) {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || copy(h[:], b) != len(h) || len(b) != len(h) {
		t.Fatalf("hash %q: %v", text, err)
	}
	return h
}

func (s *site) openNote(note []byte) checkpoint.Checkpoint {
	s.t.Helper()
	c, _, err := checkpoint.Open(note, s.srv.trusted)
	if err != nil {
		s.t.Fatalf("checkpoint %q: %v", note, err)
	}
	return c
}

// checkProof checks a SHA-256 proof with another's code.
func checkProof(t testing.TB, leaf []byte, index uint64, hashes []string, c checkpoint.Checkpoint) {
	t.Helper()
	var path sumdb.RecordProof
	for _, h := range hashes {
		path = append(path, sumdb.Hash(decodeHash(t, h)))
	}
	if err := sumdb.CheckRecord(path, int64(c.Size), sumdb.Hash(c.Root), int64(index), sumdb.RecordHash(leaf)); err != nil {
		t.Errorf("leaf %d in %d: %v", index, c.Size, err)
	}
}

func TestEventComesWithAProofThatHolds(t *testing.T) {
	for _, size := range []int{1, 256, 257, 600} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newSite(t, withSM3)
			p := s.post(events(0, size-1)+`{"act":"APP.TEST","sub":{"user":"<&>\u2028é"}}`, "")
			s.seal()
			for i := range p.Results {
				if i > 2 && i < size-3 && i%197 != 0 {
					continue
				}
				id := p.Results[i].ID
				if i%2 == 1 {
					id = strings.ToUpper(id)
				}
				r := s.get("/v1/events/" + id)
				e := parseServed(t, r)
				leaf, place, err := s.rec.Trail().View().Leaves().ReadPlace(uint64(i))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.HasPrefix(r.body, append([]byte(`{"event":`), leaf...)) || !bytes.Equal(e.Event, leaf) {
					t.Errorf("event %d is not the leaf %s: %s", i, leaf, r.body)
				}
				if e.Leaf != uint64(i) || e.Segment != place.Segment || !e.Sealed {
					t.Errorf("event %d: leaf %d, segment %s, sealed %t", i, e.Leaf, e.Segment, e.Sealed)
				}
				c := s.openNote([]byte(e.Checkpoint))
				if e.Proof.TreeSize != c.Size || decodeHash(t, e.Proof.Root) != c.Root || decodeHash(t, e.Proof.SM3Root) != *c.SM3Root {
					t.Errorf("event %d: the proof is for another checkpoint", i)
				}
				checkProof(t, leaf, e.Leaf, e.Proof.SHA256, c)
				var path []suite.Hash
				for _, h := range e.Proof.SM3 {
					path = append(path, decodeHash(t, h))
				}
				if err := tlog.CheckInclusion(suite.SM3, e.Leaf, c.Size, suite.SM3.LeafHash(leaf), path, *c.SM3Root); err != nil {
					t.Error(err)
				}
				if got := r.header.Get("Cache-Control"); got != "no-store" {
					t.Errorf("cache control %q", got)
				}
			}
		})
	}
}

func TestEventWithoutSM3HasNoSM3Proof(t *testing.T) {
	s := newSite(t)
	p := s.post(event(1), "")
	s.seal()
	r := s.get("/v1/events/" + p.Results[0].ID)
	if e := parseServed(t, r); e.Proof == nil || e.Proof.SM3 != nil || strings.Contains(string(r.body), "sm3") {
		t.Errorf("got %s", r.body)
	}
}

func TestEventAsTlogProof(t *testing.T) {
	s := newSite(t)
	s.fill(300)
	p := s.post(event(1), "")
	s.seal()
	r := s.get("/v1/events/"+p.Results[0].ID, "Accept", "text/plain;q=0.9, */*")
	if r.status != http.StatusOK || r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Fatalf("got %d %q", r.status, r.header.Get("Content-Type"))
	}
	proof, note, ok := strings.Cut(string(r.body), "\n\n")
	lines := strings.Split(proof, "\n")
	if !ok || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" || lines[1] != "index 300" {
		t.Fatalf("got %s", r.body)
	}
	leaf, _, err := s.rec.Trail().View().Leaves().ReadPlace(300)
	if err != nil {
		t.Fatal(err)
	}
	checkProof(t, leaf, 300, lines[2:], s.openNote([]byte(note)))
}

func TestEventThatIsNotSealed(t *testing.T) {
	for _, before := range []int{0, 3} {
		s := newSite(t)
		if before > 0 {
			s.fill(before)
		}
		p := s.post(event(1), "")
		path := "/v1/events/" + p.Results[0].ID
		r := s.get(path)
		if e := parseServed(t, r); e.Sealed || e.Proof != nil || e.Checkpoint != "" || e.Leaf != uint64(before) {
			t.Errorf("got %s", r.body)
		}
		if r := s.get(path, "Accept", "text/plain"); r.status != http.StatusNotFound || !strings.Contains(string(r.body), `"not_sealed"`) {
			t.Errorf("proof: %d %s", r.status, r.body)
		}
		s.seal()
		if e := parseServed(t, s.get(path)); !e.Sealed || e.Proof.TreeSize != uint64(before+1) {
			t.Errorf("after the seal: %+v", e)
		}
	}
}

func TestEventThatIsNotThere(t *testing.T) {
	s := newSite(t)
	s.fill(600)
	for path, want := range map[string]int{
		"/v1/events/00000000-0000-4000-8000-000000000000":   http.StatusNotFound,
		"/v1/events/00000000-0000-4000-8000-00000000000":    http.StatusBadRequest,
		"/v1/events/{00000000-0000-4000-8000-000000000000}": http.StatusBadRequest,
		"/v1/events/%22":    http.StatusBadRequest,
		"/v1/events/":       http.StatusNotFound,
		"/v1/events/x/more": http.StatusNotFound,
	} {
		if r := s.get(path); r.status != want {
			t.Errorf("%s: got %d, want %d: %s", path, r.status, want, r.body)
		}
	}
}

// Two events can have one id when the first is older than what is remembered.
func TestOfTwoEventsWithOneIDTheLaterIsFound(t *testing.T) {
	s := newSite(t, func(_ *recorder.Config, c *Config) { c.RememberIDs = -1 })
	const id = "6f1c4a0e-35b1-4a52-9d6c-0d7c1d0f5a11"
	e := `{"id":"` + id + `","act":"APP.TEST","sub":{"user":"u1"}}`
	s.post(e+"\n"+event(1)+"\n"+e, "")
	if got := parseServed(t, s.get("/v1/events/"+id)); got.Leaf != 2 {
		t.Errorf("leaf %d", got.Leaf)
	}
}

// TestProofsHoldWhileTheTrailGrows reads while checkpoints are signed.
func TestProofsHoldWhileTheTrailGrows(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.CheckpointEvery = time.Millisecond })
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 40 {
			p := s.post(events(i*20, 20), "")
			if p.status != http.StatusCreated {
				t.Errorf("got %d", p.status)
			}
			e := parseServed(t, s.get("/v1/events/"+p.Results[7].ID))
			if e.Sealed {
				checkProof(t, e.Event, e.Leaf, e.Proof.SHA256, s.openNote([]byte(e.Checkpoint)))
			}
		}
	})
	var last uint64
	for going := true; going; {
		select {
		case <-done:
			going = false
		default:
		}
		r := s.get("/v1/checkpoint")
		if r.status == http.StatusNotFound {
			continue
		}
		c := s.openNote(r.body)
		if c.Size < last {
			t.Fatalf("checkpoint of %d after that of %d", c.Size, last)
		}
		if last = c.Size; c.Size == 0 {
			continue
		}
		tile := tlog.Tile{N: c.Size / tlog.TileWidth, Width: int(c.Size % tlog.TileWidth)}
		if tile.Width == 0 {
			tile.N, tile.Width = tile.N-1, tlog.TileWidth
		}
		if r := s.get("/v1/" + tile.Path()); r.status != http.StatusOK {
			t.Fatalf("%s of the checkpoint of %d: %d %s", tile.Path(), c.Size, r.status, r.body)
		}
	}
	wg.Wait()
	if last == 0 {
		t.Error("no checkpoint was seen")
	}
}

// TestTilesAreThoseOfTheTree makes the tree again from the served entries, with
// another's code, and compares every tile of every earlier size.
func TestTilesAreThoseOfTheTree(t *testing.T) {
	s := newSite(t, withSM3, func(c *recorder.Config, _ *Config) { c.SegmentBytes = 1 << 16 })
	const size = 573 // more than two bundles, and not a whole number of them
	s.fill(size - 250)
	s.post(events(0, 250), "")
	s.seal()
	c := s.openNote(s.get("/v1/checkpoint").body)
	if c.Size != size {
		t.Fatalf("checkpoint of %d", c.Size)
	}
	var leaves [][]byte
	var stored []sumdb.Hash
	read := sumdb.HashReaderFunc(func(indexes []int64) (out []sumdb.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := uint64(0); n*256 < size; n++ {
		width := int(min(256, size-n*256))
		r := s.get("/v1/" + tlog.BundlePath(n, width))
		bundle, err := tlog.ParseBundle(r.body, width)
		if err != nil {
			t.Fatalf("bundle %d: status %d: %v", n, r.status, err)
		}
		leaves = append(leaves, bundle...)
	}
	for i, leaf := range leaves {
		hashes, err := sumdb.StoredHashes(int64(i), leaf, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	if root, err := sumdb.TreeHash(size, read); err != nil || suite.Hash(root) != c.Root {
		t.Fatalf("the root of the entries is not the checkpoint's: %v", err)
	}
	check := func(tile tlog.Tile) {
		t.Helper()
		var want []byte
		for i := range tile.Width {
			h := stored[sumdb.StoredHashIndex(8*tile.Level, int64(tile.N*256)+int64(i))]
			want = append(want, h[:]...)
		}
		for _, prefix := range []string{"/v1/", "/"} {
			r := s.get(prefix+tile.Path(), "Authorization", "")
			if r.status != http.StatusOK || !bytes.Equal(r.body, want) {
				t.Errorf("%s%s: status %d, %d bytes", prefix, tile.Path(), r.status, len(r.body))
			}
			cache := "public, max-age=31536000, immutable"
			if tile.Width < 256 {
				cache = "public, max-age=60"
			}
			if got := r.header.Get("Cache-Control"); got != cache || r.header.Get("Content-Type") != "application/octet-stream" {
				t.Errorf("%s: cache control %q, content type %q", tile.Path(), got, r.header.Get("Content-Type"))
			}
		}
	}
	for older := 1; older <= size; older += 1 + older/7 {
		for level := 0; older>>(8*level) > 0; level++ {
			have := uint64(older) >> (8 * level)
			if width := int(have % 256); width > 0 {
				check(tlog.Tile{Level: level, N: have / 256, Width: width})
			}
			if have >= 256 {
				check(tlog.Tile{Level: level, N: have/256 - 1, Width: 256})
			}
		}
	}
	var sm3 []byte
	for _, leaf := range leaves[256:] {
		h := suite.SM3.LeafHash(leaf)
		sm3 = append(sm3, h[:]...)
	}
	path := tlog.Tile{N: 1, Width: 256}.Path()
	if r := s.get("/v1/sm3/"+path, "Authorization", ""); r.status != http.StatusOK || !bytes.Equal(r.body, sm3[:256*32]) {
		t.Errorf("SM3 tile: status %d, %d bytes", r.status, len(r.body))
	}
}

func TestTilesOutsideTheLogAreNotThere(t *testing.T) {
	s := newSite(t)
	if r := s.get("/v1/checkpoint"); r.status != http.StatusNotFound || !strings.Contains(string(r.body), `"no_checkpoint"`) {
		t.Errorf("checkpoint of nothing: %d %s", r.status, r.body)
	}
	if r := s.get("/v1/tile/0/000.p/1"); r.status != http.StatusNotFound {
		t.Errorf("tile of nothing: %d %s", r.status, r.body)
	}
	s.fill(300)
	s.post(events(0, 10), "") // not sealed
	for _, path := range []string{
		"tile/0/000.p/255", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
		"tile/entries/000", "tile/entries/001.p/44", "tile/entries/000.p/7",
	} {
		if r := s.get("/v1/" + path); r.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	for _, path := range []string{
		"tile/0/001.p/45", "tile/0/001", "tile/0/002.p/1", "tile/1/000.p/2", "tile/2/000.p/1", "tile/7/000.p/1", "tile/8/000.p/1",
		"tile/0/x001/000.p/1", "tile/0/999", "tile/entries/001.p/45", "tile/entries/002", "tile/entries/x999/x999/x999/x999/x999/999",
		"tile/0/001.p/0", "tile/0/001.p/256", "tile/0/1", "tile/0/0001", "tile/00/000", "tile/-1/000", "tile/a/000", "tile/0", "tile/0/",
		"tile/0/000.p/", "tile/entries/", "tile/entries", "tile/entries%2F000", "tile/0/%2e%2e", "sm3/tile/0/000", "sm3/tile/entries/000", "sm3/checkpoint",
	} {
		if r := s.get("/v1/" + path); r.status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, r.status)
		}
	}
}

func TestCheckpointAndKeys(t *testing.T) {
	s := newSite(t, withSM3)
	s.fill(3)
	note, err := trail.ReadCheckpoint(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/checkpoint", "/checkpoint"} {
		r := s.get(path, "Authorization", "")
		if r.status != http.StatusOK || !bytes.Equal(r.body, note) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
		if r.header.Get("Content-Type") != "text/plain; charset=utf-8" || r.header.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %v", path, r.header)
		}
	}
	if r := s.do(http.MethodHead, "/v1/checkpoint", nil); r.status != http.StatusOK || len(r.body) != 0 {
		t.Errorf("HEAD: %d %s", r.status, r.body)
	}
	r := s.get("/v1/keys", "Authorization", "")
	if want := strings.Join(s.rec.Keys(), "\n") + "\n"; string(r.body) != want || len(s.rec.Keys()) != 2 {
		t.Errorf("keys: got %s, want %s", r.body, want)
	}
}

// TestDamagedTrailIsServedForReading: what is whole is shown, nothing is taken.
func TestDamagedTrailIsServedForReading(t *testing.T) {
	first := newSite(t)
	first.fill(5)
	p := first.post(event(7), "") // behind the checkpoint
	note, err := trail.ReadCheckpoint(first.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.rec.Close(); err != nil { // signs a newer one, which is put away
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(first.dir, trail.CheckpointFile), note, 0o600); err != nil {
		t.Fatal(err)
	}
	view, _, err := trail.OpenView(first.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	s := &site{t: t, dir: first.dir, rec: first.rec, log: new(logBuffer)}
	const reason = "segment 000 at 77: leaf 9 is damaged"
	s.serve(Config{
		Dir: first.dir, Problem: errors.New(reason), View: func() *trail.View { return view },
		Origin: "example.com/test", VKeys: first.rec.Keys(), Token: testToken,
	})
	r := s.do(http.MethodPost, "/v1/events", strings.NewReader(event(1)))
	if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" || !strings.Contains(string(r.body), `"read_only"`) {
		t.Errorf("post: %d %s", r.status, r.body)
	}
	if r := s.get("/readyz"); r.status != http.StatusServiceUnavailable || !strings.Contains(string(r.body), `"read_only"`) || strings.Contains(string(r.body), reason) {
		t.Errorf("readyz: %d %s", r.status, r.body)
	}
	if r := s.get("/healthz"); r.status != http.StatusOK {
		t.Errorf("healthz: %d", r.status)
	}
	if r := s.get("/v1/checkpoint"); r.status != http.StatusOK || !bytes.Equal(r.body, note) {
		t.Errorf("checkpoint: %d %s", r.status, r.body)
	}
	if e := parseServed(t, s.get("/v1/events/"+p.Results[0].ID)); e.Sealed || e.Leaf != 5 {
		t.Errorf("event behind the checkpoint: %+v", e)
	}
	leaf, _, err := view.Leaves().ReadPlace(2)
	if err != nil {
		t.Fatal(err)
	}
	e := parseServed(t, s.get("/v1/events/"+string(leaf[7:43])))
	checkProof(t, leaf, 2, e.Proof.SHA256, s.openNote([]byte(e.Checkpoint)))
	if r := s.get("/v1/tile/0/000.p/6"); r.status != http.StatusNotFound {
		t.Errorf("tile behind the checkpoint: %d", r.status)
	}
	for _, want := range []string{"veritrail_read_only 1", "veritrail_leaves 6", "veritrail_sealed_leaves 5"} {
		if !strings.Contains(string(s.get("/metrics").body), "\n"+want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// A checkpoint that no trusted key signed is not passed on.
func TestForgedCheckpointIsNotServed(t *testing.T) {
	s := newSite(t)
	p := s.post(event(1), "")
	s.seal()
	name := filepath.Join(s.dir, trail.CheckpointFile)
	note, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, bytes.Replace(note, []byte("\n1\n"), []byte("\n0\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/checkpoint", "/v1/tile/0/000.p/1", "/v1/events/" + p.Results[0].ID} {
		if r := s.get(path); r.status != http.StatusInternalServerError || !strings.Contains(string(r.body), `"unreadable"`) || strings.Contains(string(r.body), s.dir) {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	if !strings.Contains(s.log.String(), "signature") {
		t.Errorf("the log does not say why: %s", s.log)
	}
}

func TestLookupEndsWithItsRequest(t *testing.T) {
	s := newSite(t)
	s.fill(1)
	for range lookups {
		s.srv.looking <- struct{}{} // as if others were at it
	}
	settled := checkNoLeak(t)
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/events/00000000-0000-4000-8000-000000000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			t.Errorf("answered %d", resp.StatusCode)
		}
	}()
	await(t, "the request is there", func() bool {
		return strings.Contains(string(s.get("/metrics").body), "\nveritrail_http_requests_in_flight 2\n")
	})
	cancel()
	<-ended
	settled()
}
