package seal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

const origin = "example.com/seal"

// newTrail makes a trail in a fresh directory and a Config that writes to it.
func newTrail(t testing.TB, digests ...suite.Digest) Config {
	t.Helper()
	cfg := Config{Dir: filepath.Join(t.TempDir(), "trail"), RetryEvery: time.Millisecond, CheckpointEvery: time.Hour}
	set := suite.NewSet(digests...)
	generate := map[suite.Digest]func() (string, string, error){
		suite.SHA256: func() (string, string, error) { return checkpoint.GenerateEd25519(origin, rand.Reader) },
		suite.SM3:    func() (string, string, error) { return checkpoint.GenerateSM2(origin, rand.Reader) },
	}
	for _, d := range set.Digests() {
		private, _, err := generate[d]()
		if err != nil {
			t.Fatal(err)
		}
		s, err := checkpoint.ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Signers = append(cfg.Signers, s)
	}
	id := trail.Identity{Origin: origin, Instance: [16]byte{1, 2, 3}, Digests: set, Created: time.Unix(1e9, 0)}
	if err := trail.Create(durable.OS, cfg.Dir, id); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func leafOf(i int) string { return fmt.Sprintf(`{"n":"%d"}`, i) }

func appendLeaf(l *Log, i int) error {
	p, err := l.Append(context.Background(), []byte(leafOf(i)))
	if err != nil {
		return err
	}
	return p.Wait(context.Background())
}

// appendMany appends leaves first to first+n-1 in order and waits for them.
func appendMany(t testing.TB, l *Log, first, n int) {
	t.Helper()
	pending := make([]Pending, n)
	for i := range n {
		var err error
		if pending[i], err = l.Append(context.Background(), []byte(leafOf(first+i))); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range pending {
		if err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
		if leaf, ok := p.Leaf(); !ok || leaf != uint64(first+i) {
			t.Fatalf("leaf %d got index %d, %v", first+i, leaf, ok)
		}
	}
}

// contents reads every leaf of a closed trail back, checking proofs on the way.
func contents(t testing.TB, dir string) []string {
	t.Helper()
	v, tail, err := trail.OpenView(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tail.Size != 0 {
		t.Fatalf("tail of %d bytes, %v", tail.Size, tail.Err)
	}
	defer v.Close()
	var out []string
	for n := uint64(0); n*tlog.TileWidth < v.Size(); n++ {
		leaves, err := v.Leaves().Read(n*tlog.TileWidth, int(min(tlog.TileWidth, v.Size()-n*tlog.TileWidth)))
		if err != nil {
			t.Fatal(err)
		}
		for _, leaf := range leaves {
			out = append(out, string(leaf))
		}
	}
	root, _ := v.Root(suite.SHA256)
	for i := 0; i < len(out); i += 1 + len(out)/50 {
		path, err := tlog.InclusionProof(suite.SHA256, v.Tiles(suite.SHA256), uint64(i), v.Size())
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckInclusion(suite.SHA256, uint64(i), v.Size(), suite.SHA256.LeafHash([]byte(out[i])), path, root); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func wantLeaves(t testing.TB, dir string, n int) {
	t.Helper()
	got := contents(t, dir)
	if len(got) != n {
		t.Fatalf("got %d leaves, want %d", len(got), n)
	}
	for i, leaf := range got {
		if leaf != leafOf(i) {
			t.Fatalf("leaf %d is %q", i, leaf)
		}
	}
}

func TestLeavesComeBackAcrossSegments(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		cfg := newTrail(t, digests...)
		cfg.SegmentBytes = 20_000
		n := 0
		for range 5 {
			l := open(t, cfg)
			appendMany(t, l, n, 1000)
			n += 1000
			for range 3 { // frames of one leaf too
				if err := appendLeaf(l, n); err != nil {
					t.Fatal(err)
				}
				n++
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wantLeaves(t, cfg.Dir, n)
		files, err := trail.Segments(cfg.Dir)
		if err != nil || len(files) < 3 {
			t.Fatalf("got %d segments, %v; want several", len(files), err)
		}
		for _, f := range files {
			if f.FirstLeaf%tlog.TileWidth != 0 {
				t.Errorf("segment %s does not begin with a whole bundle", f.Name)
			}
		}
	}
}

func TestLostTilesAreMadeAgain(t *testing.T) {
	cfg := newTrail(t, suite.SM3)
	cfg.SegmentBytes, cfg.QueueBytes = 1<<19, 1<<16
	l := open(t, cfg)
	appendMany(t, l, 0, 70_000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"tile", "sm3"} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, dir)); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, cfg)
	if !l.Recovery().RebuiltTiles {
		t.Error("Open does not say that it made the tiles again")
	}
	appendMany(t, l, 70_000, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if l.Recovery().RebuiltTiles {
		t.Error("the tiles were made again a second time")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantLeaves(t, cfg.Dir, 70_010)
}

func TestPartialTilesSharedByTwoEdgesStay(t *testing.T) {
	cfg := newTrail(t)
	cfg.SegmentBytes, cfg.QueueBytes = 100_000, 1<<16
	l := open(t, cfg)
	appendMany(t, l, 0, 90_000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	v, _, err := trail.OpenView(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if l.Recovery().RebuiltTiles {
		t.Error("tiles were missing")
	}
	appendMany(t, l, 90_000, 20_000)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	partial, err := filepath.Glob(filepath.Join(cfg.Dir, "tile", "*", "*.p", "*"))
	if err != nil || len(partial) > 3 {
		t.Errorf("partial tiles that nobody needs are left: %v, %v", partial, err)
	}
}

func TestExpiredSegmentsLeaveProofsWhole(t *testing.T) {
	cfg := newTrail(t)
	cfg.SegmentBytes = 20_000
	l := open(t, cfg)
	var old checkpoint.Checkpoint
	for i := range 10 {
		appendMany(t, l, i*1000, 1000)
		if i == 7 {
			if err := l.Seal(context.Background()); err != nil {
				t.Fatal(err)
			}
			v := l.View()
			old.Size = v.Size()
			old.Root, _ = v.Root(suite.SHA256)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := trail.Segments(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := trail.OpenView(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	half := files[len(files)/2].FirstLeaf
	inside, err := tlog.RootAt(suite.SHA256, before.Tiles(suite.SHA256), 301)
	if err != nil {
		t.Fatal(err)
	}
	for n := range half / tlog.TileWidth / 2 { // the hashes of the older half of them are kept
		tile := tlog.Tile{N: n, Width: tlog.TileWidth}
		hashes, err := before.Tiles(suite.SHA256).ReadTile(tile)
		if err != nil {
			t.Fatal(err)
		}
		name := trail.TilePath(cfg.Dir, suite.SHA256, tile)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, tlog.MarshalTile(hashes), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files[:len(files)/2] {
		if err := os.Remove(f.Path); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, cfg) // writing goes on as well
	appendMany(t, l, 10_000, 300)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	v, d := l.View(), suite.SHA256
	root, _ := v.Root(d)
	for i := files[len(files)/2].FirstLeaf; i < v.Size(); i += 97 {
		path, err := tlog.InclusionProof(d, v.Tiles(d), i, v.Size())
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckInclusion(d, i, v.Size(), d.LeafHash([]byte(leafOf(int(i)))), path, root); err != nil {
			t.Fatal(err)
		}
	}
	path, err := tlog.ConsistencyProof(d, v.Tiles(d), old.Size, v.Size())
	if err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckConsistency(d, old.Size, v.Size(), path, old.Root, root); err != nil {
		t.Fatal(err)
	}
	// An expired leaf whose hash was kept can be proved, and a tree that ended
	// there be shown to be a prefix; where hashes were not kept, neither.
	if path, err = tlog.InclusionProof(d, v.Tiles(d), 300, v.Size()); err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckInclusion(d, 300, v.Size(), d.LeafHash([]byte(leafOf(300))), path, root); err != nil {
		t.Fatal(err)
	}
	if path, err = tlog.ConsistencyProof(d, v.Tiles(d), 301, v.Size()); err != nil {
		t.Fatal(err)
	}
	if err := tlog.CheckConsistency(d, 301, v.Size(), path, inside, root); err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.ConsistencyProof(d, v.Tiles(d), half-100, v.Size()); !errors.Is(err, trail.ErrMissing) {
		t.Errorf("consistency with a tree that ended among hashes that were not kept: got %v, want ErrMissing", err)
	}
	if _, err := v.Leaves().Read(0, 1); !errors.Is(err, trail.ErrMissing) {
		t.Errorf("reading an expired leaf: got %v, want ErrMissing", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNoSingleFaultLosesAnAcknowledgedLeaf makes every step that reaches the
// disk fail once, in every way it can, and goes on writing.
func TestNoSingleFaultLosesAnAcknowledgedLeaf(t *testing.T) {
	for _, mode := range []struct {
		name     string
		buffered bool
		large    int
	}{{"durable", false, 0}, {"durable, synced beside", false, 1}, {"buffered", true, 0}} {
		t.Run(mode.name, func(t *testing.T) {
			for _, fault := range []faulty.Fault{faulty.Before, faulty.After, faulty.Torn} {
				// The faults are made above the system; where each takes long, Linux has taken them all.
				stride := 1
				if testing.Short() && runtime.GOOS == "windows" {
					stride = 11
				}
				for step := int(fault) % stride; ; step += stride {
					if !survives(t, mode.buffered, mode.large, fault, step) {
						break
					}
				}
			}
		})
	}
}

// survives runs a writer whose given step fails, and reports whether there was
// such a step.
func survives(t *testing.T, buffered bool, large int, fault faulty.Fault, step int) bool {
	t.Helper()
	cfg := newTrail(t)
	cfg.SegmentBytes, cfg.CheckpointLeaves, cfg.Buffered, cfg.QueueBytes = 3000, 100, buffered, 1000
	cfg.largeBytes = large
	disk := &faulty.FS{FS: durable.OS, NoSync: true}
	var where atomic.Value
	where.Store("")
	disk.Decide = func(n int, op faulty.Op, name string) faulty.Fault {
		if n != step {
			return faulty.Pass
		}
		where.Store(fmt.Sprintf("%s %s", op, filepath.Base(name)))
		return fault
	}
	cfg.Disk = disk
	l, err := Open(cfg)
	for tries := 0; err != nil; tries++ {
		if tries == 3 {
			t.Fatalf("fault %d at step %d (%v): Open: %v", fault, step, where.Load(), err)
		}
		l, err = Open(cfg)
	}
	acknowledged := make(map[string]bool)
	for group := range 12 {
		var pending []Pending
		for i := group * 25; i < group*25+25; {
			p, err := l.Append(context.Background(), []byte(leafOf(i)))
			if errors.Is(err, ErrHalted) {
				runtime.Gosched()
				continue
			}
			if err != nil {
				t.Fatalf("fault %d at step %d (%v): leaf %d: %v", fault, step, where.Load(), i, err)
			}
			pending = append(pending, p)
			i++
		}
		for i, p := range pending {
			switch err := p.Wait(context.Background()); {
			case err == nil:
				acknowledged[leafOf(group*25+i)] = true
			case !errors.Is(err, ErrHalted) && !errors.Is(err, ErrNotDurable):
				t.Fatalf("fault %d at step %d (%v): %v", fault, step, where.Load(), err)
			}
		}
	}
	if err := l.Close(); err != nil && !errors.Is(err, faulty.ErrInjected) {
		t.Fatalf("fault %d at step %d (%v): Close: %v", fault, step, where.Load(), err)
	}
	cfg.Disk = nil
	l, err = Open(cfg)
	if err != nil {
		t.Fatalf("fault %d at step %d (%v): opening again: %v", fault, step, where.Load(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, leaf := range contents(t, cfg.Dir) {
		delete(acknowledged, leaf)
	}
	if len(acknowledged) > 0 {
		t.Fatalf("fault %d at step %d (%v): %d acknowledged leaves are lost", fault, step, where.Load(), len(acknowledged))
	}
	return where.Load() != ""
}

func TestHaltedLogRefusesLoudlyAndCounts(t *testing.T) {
	cfg := newTrail(t)
	cfg.RetryEvery, cfg.CheckpointEvery = 5*time.Millisecond, 5*time.Millisecond
	disk := &faulty.FS{FS: durable.OS}
	var mu sync.Mutex
	failing := false
	disk.Decide = func(_ int, op faulty.Op, _ string) faulty.Fault {
		mu.Lock()
		defer mu.Unlock()
		if failing && op == "sync" {
			return faulty.Before
		}
		return faulty.Pass
	}
	set := func(f bool) { mu.Lock(); failing = f; mu.Unlock() }
	cfg.Disk = disk
	l := open(t, cfg)
	appendMany(t, l, 0, 10)
	set(true)
	if err := appendLeaf(l, 10); !errors.Is(err, ErrNotDurable) && !errors.Is(err, ErrHalted) {
		t.Fatalf("with a failing sync: got %v", err)
	}
	for range 3 {
		if err := appendLeaf(l, 10); !errors.Is(err, ErrHalted) {
			t.Fatalf("halted: got %v, want ErrHalted", err)
		}
	}
	if s := l.Stats(); s.Halted == nil || s.Lost < 4 {
		t.Errorf("stats of a halted log: %+v", s)
	}
	set(false)
	for {
		err := appendLeaf(l, 10)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrHalted) {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lost := l.Stats().Lost
	wantLeaves(t, cfg.Dir, 11)
	l = open(t, cfg)
	if got := l.Stats().Lost; got != lost || got < 4 {
		t.Errorf("after opening again %d leaves are counted as lost, want %d", got, lost)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLossIsCountedWhenTheLogIsClosedHalted(t *testing.T) {
	cfg := newTrail(t)
	cfg.RetryEvery = time.Hour // only Close looks again
	var failing atomic.Bool
	cfg.Disk = &faulty.FS{FS: durable.OS, Decide: func(_ int, op faulty.Op, _ string) faulty.Fault {
		if failing.Load() && op == "sync" {
			return faulty.Before
		}
		return faulty.Pass
	}}
	l := open(t, cfg)
	appendMany(t, l, 0, 10)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	failing.Store(true)
	for range 3 {
		if appendLeaf(l, 10) == nil {
			t.Fatal("a leaf was acknowledged without a sync")
		}
	}
	failing.Store(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, cfg)
	if got := l.Stats().Lost; got != 3 {
		t.Errorf("after opening again %d leaves are counted as lost, want 3", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantLeaves(t, cfg.Dir, 10)
}

// TestLoadThatNeverEndsStarvesNobody keeps the writer busy all the time:
// checkpoints come by the clock all the same, and Close returns.
func TestLoadThatNeverEndsStarvesNobody(t *testing.T) {
	cfg := newTrail(t)
	cfg.CheckpointEvery, cfg.CheckpointLeaves, cfg.QueueBytes = 5*time.Millisecond, 1<<40, 2000
	l := open(t, cfg)
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() { // never waits for an answer, so that the next batch is always there
			for err := error(nil); err == nil; {
				_, err = l.Append(context.Background(), []byte(leafOf(0)))
			}
		})
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); l.Stats().Checkpoints < 5; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("under load: %+v", l.Stats())
		}
	}
	// Counted in batches, so that a slow machine does not matter.
	const most = 100 // some 10 fit between two turns of the clock
	if s := l.Stats(); s.Batches > most*s.Checkpoints {
		t.Errorf("%d batches for %d checkpoints, want at most %d for each", s.Batches, s.Checkpoints, most)
	}
	if err := l.Seal(context.Background()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	callers.Wait()
}

// TestHashingAheadOfASlowDisk holds a sync back until the leaves behind it have
// been hashed, and looks that they come out right.
func TestHashingAheadOfASlowDisk(t *testing.T) {
	for _, digests := range [][]suite.Digest{nil, {suite.SM3}} {
		cfg := newTrail(t, digests...)
		cfg.largeBytes, cfg.SegmentBytes = 1, 40_000
		var held atomic.Bool
		gate := make(chan struct{})
		cfg.Disk = &faulty.FS{FS: durable.OS, NoSync: true, Decide: func(_ int, op faulty.Op, _ string) faulty.Fault {
			if op == "sync" && held.Load() {
				<-gate
			}
			return faulty.Pass
		}}
		l := open(t, cfg)
		held.Store(true)
		const n = 10*hashChunk + 17
		pending := make([]Pending, n)
		for i := range n {
			var err error
			if pending[i], err = l.Append(context.Background(), []byte(leafOf(i))); err != nil {
				t.Fatal(err)
			}
			if i == 0 { // in the air, alone
				for l.Stats().Waiting > 0 {
					runtime.Gosched()
				}
			}
		}
		// The owner reads the last of the pokes once it has hashed what came before.
		for len(l.wake) > 0 {
			runtime.Gosched()
		}
		if _, acknowledged := pending[0].Leaf(); acknowledged {
			t.Error("a leaf was acknowledged before its sync was done")
		}
		held.Store(false)
		close(gate)
		for i, p := range pending {
			if err := p.Wait(context.Background()); err != nil {
				t.Fatal(err)
			}
			if leaf, ok := p.Leaf(); !ok || leaf != uint64(i) {
				t.Fatalf("leaf %d got index %d, %v", i, leaf, ok)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		wantLeaves(t, cfg.Dir, n)
		l = open(t, cfg) // compares every fingerprint and root
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOneWriterAtATime(t *testing.T) {
	cfg := newTrail(t)
	l := open(t, cfg)
	if _, err := Open(cfg); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second writer: got %v, want ErrLocked", err)
	}
	appendMany(t, l, 0, 300)
	if v, _, err := trail.OpenView(cfg.Dir); err != nil || v.Size() != 300 {
		t.Errorf("reader beside the writer: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: got %v", err)
	}
	if err := appendLeaf(l, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: got %v", err)
	}
}

func TestTrailShorterThanItsCheckpointIsRefused(t *testing.T) {
	cfg := newTrail(t)
	l := open(t, cfg)
	appendMany(t, l, 0, 10)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	name := trail.SegmentPath(cfg.Dir, 0)
	older, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	appendMany(t, l, 10, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, older, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cfg); !errors.Is(err, ErrBehindCheckpoint) {
		t.Errorf("got %v, want ErrBehindCheckpoint", err)
	}
	if after, err := os.ReadFile(name); err != nil || string(after) != string(older) {
		t.Errorf("the segment was changed, %v", err)
	}
}

// TestTornTails cuts, zeroes and flips the last write in every place. What was
// acknowledged before it stays; what can't be a tear is left alone.
func TestTornTails(t *testing.T) {
	cfg := newTrail(t)
	l := open(t, cfg)
	appendMany(t, l, 0, 20)
	if err := l.Close(); err != nil { // with a checkpoint of 20
		t.Fatal(err)
	}
	name := trail.SegmentPath(cfg.Dir, 0)
	acknowledged, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	frame := lastFrame(t, cfg, 100)
	reopen := func(content []byte) (*Log, error) {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return Open(cfg)
	}
	base := len(acknowledged)
	whole := slices.Concat(acknowledged, frame)
	for cut := 1; cut < len(frame); cut += 37 {
		l, err := reopen(whole[:base+cut])
		if err != nil {
			t.Fatalf("torn after %d bytes: %v", cut, err)
		}
		if r := l.Recovery(); r.Size != 20 || r.CutBytes != int64(cut) {
			t.Fatalf("torn after %d bytes: %+v", cut, r)
		}
		kept, err := os.ReadFile(l.Recovery().CutFile)
		if err != nil || string(kept) != string(frame[:cut]) {
			t.Fatalf("torn after %d bytes: the cut bytes were not kept, %v", cut, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for at := (base/512 + 1) * 512; at+512 <= base+len(frame); at += 512 { // a sector that never reached the disk
		torn := append([]byte(nil), whole...)
		clear(torn[at : at+512])
		l, err := reopen(torn)
		if err != nil {
			t.Fatalf("sector at %d missing: %v", at, err)
		}
		if r := l.Recovery(); r.Size != 20 {
			t.Fatalf("sector at %d missing: %+v", at, r)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l, err = reopen(append(acknowledged[:base:base], make([]byte, 10_000)...))
	if err != nil || l.Recovery().Size != 20 {
		t.Fatalf("zeros behind the end: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for at := base; at < base+len(frame); at += 53 { // a flipped bit is no tear
		flipped := append([]byte(nil), whole...)
		flipped[at] ^= 0x04
		if _, err := reopen(flipped); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit flipped at %d: got %v, want ErrDamaged", at, err)
		}
		if after, err := os.ReadFile(name); err != nil || string(after) != string(flipped) {
			t.Fatalf("bit flipped at %d: the evidence was changed, %v", at, err)
		}
	}
	for at := segment.HeaderSize; at < base; at += 41 { // acknowledged data, even zeroed
		damaged := append([]byte(nil), whole...)
		clear(damaged[at:min(at+600, base)])
		if _, err := reopen(damaged); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrBehindCheckpoint) {
			t.Fatalf("zeros at %d: got %v, want ErrDamaged", at, err)
		}
	}
}

// lastFrame appends n leaves in one frame to a copy of the trail, and returns
// the frame.
func lastFrame(t *testing.T, cfg Config, n int) []byte {
	t.Helper()
	before, err := os.ReadFile(trail.SegmentPath(cfg.Dir, 0))
	if err != nil {
		t.Fatal(err)
	}
	r, tail, err := segment.Recover(readerAt(before), int64(len(before)), func(*segment.Frame) error { return nil })
	if err != nil || tail.Size != 0 {
		t.Fatal(err, tail)
	}
	trees := trail.NewTrees(suite.NewSet(), nil)
	for i := range int(r.NextLeaf()) {
		trees[0].Append(suite.SHA256.LeafHash([]byte(leafOf(i))))
	}
	h := segment.FrameHeader{Kind: segment.Events, Flags: segment.PreviousDurable, FirstLeaf: r.NextLeaf(), Count: n, Time: time.Unix(2e9, 0), Previous: r.Link()}
	var lines []byte
	var hashes []suite.Hash
	for i := range n {
		leaf := leafOf(int(r.NextLeaf()) + i)
		lines = append(lines, leaf+"\n"...)
		hashes = append(hashes, suite.SHA256.LeafHash([]byte(leaf)))
		trees[0].Append(hashes[i])
	}
	h.Root = trees.Root()
	frame, _ := segment.AppendFrame(nil, &h, segment.AppendFingerprints(nil, hashes), lines)
	return frame
}

type readerAt []byte

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return copy(p, r[off:]), nil }

func TestCallersWaitWhenTheQueueIsFull(t *testing.T) {
	cfg := newTrail(t)
	cfg.QueueBytes = 100
	gate := make(chan struct{})
	disk := &faulty.FS{FS: durable.OS}
	disk.Decide = func(_ int, op faulty.Op, name string) faulty.Fault {
		if op == "sync" {
			<-gate
		}
		return faulty.Pass
	}
	cfg.Disk = disk
	go func() { gate <- struct{}{} }() // Open's own
	l := open(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	var err error
	var accepted []Pending
	for i := 0; err == nil; i++ {
		var p Pending
		if p, err = l.Append(ctx, []byte(leafOf(i))); err == nil {
			accepted = append(accepted, p)
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the deadline", err)
	}
	close(gate)
	for _, p := range accepted {
		if err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wantLeaves(t, cfg.Dir, len(accepted))
}

func TestWaitSealedNeedsACheckpoint(t *testing.T) {
	cfg := newTrail(t)
	l := open(t, cfg)
	p, err := l.Append(context.Background(), []byte(leafOf(0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := p.WaitSealed(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before a checkpoint: got %v", err)
	}
	go func() { _ = l.Seal(context.Background()) }()
	if err := p.WaitSealed(context.Background()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOwnerDoesNotWaitForCallersWhoStayAway(t *testing.T) {
	l := &Log{}
	l.queue.filling = &batch{done: make(chan struct{})}
	l.expected, l.woken, l.syncTook = 100, 100, time.Hour
	l.gather() // comes back
	if l.expected != 0 || l.woken != 0 {
		t.Error("it would wait for them again")
	}
	l.queue.filling.ends = make([]int, 100) // all are here
	l.expected, l.woken, l.syncTook = 100, 100, time.Hour
	l.gather()
}
