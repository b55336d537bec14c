package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// Fetcher hands out the resources of a log as C2SP tlog-tiles names them, and
// ours beside them: "keys" and "sm3/tile/…". The error matches fs.ErrNotExist
// when there is no such resource. Fetch is called by several goroutines at
// once; it may refuse a resource longer than MaxResource.
type Fetcher interface {
	Fetch(ctx context.Context, path string) ([]byte, error)
}

// MaxResource is the most bytes that any resource of a log has: a full entry
// bundle of the longest leaves. A Fetcher may refuse what is longer.
const MaxResource = tlog.TileWidth * (2 + tlog.MaxBundleEntry)

// Dir is the Fetcher of a log exported to a directory.
func Dir(dir string) Fetcher { return dirFetcher(dir) }

type dirFetcher string

func (d dirFetcher) Fetch(ctx context.Context, path string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !filepath.IsLocal(filepath.FromSlash(path)) {
		return nil, fmt.Errorf("%.80q: not a path in a log", path)
	}
	file, err := os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, MaxResource+1))
	if err == nil && len(b) > MaxResource {
		err = fmt.Errorf("%s: longer than %d bytes", path, MaxResource)
	}
	return b, err
}

// Tiles checks a log as its tiles show it: it reads every entry bundle, builds
// the tree again, and compares every tile that a log of the checkpoint's size
// must have.
//
// The error is for Options that can't be meant, a log without a checkpoint, and
// ctx.
func Tiles(ctx context.Context, from Fetcher, opts Options) (*Report, error) {
	start := time.Now()
	t, err := newTrust(opts.Keys)
	if err != nil {
		return nil, err
	}
	c := &tilesCheck{from: from, rep: &Report{Kind: KindTiles, Findings: []Finding{}, Compared: []string{}}}
	rep := c.rep
	note, err := from.Fetch(ctx, "checkpoint")
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("no log here: checkpoint: %w", err)
	}
	if !t.pinned {
		text, err := from.Fetch(ctx, "keys")
		t.adopt(rep, text, err)
	}
	o := t.open(note)
	if o.bad != nil {
		f, _ := judge(&o, "", "the checkpoint")
		f.Segment = "checkpoint"
		rep.add(f)
		t.finish(rep)
		return rep, nil //nolint:nilerr // it is a finding, above
	}
	rep.Origin, rep.Size = o.Origin, o.Size
	f, signed := judge(&o, o.Origin, "the checkpoint")
	if signed {
		for _, s := range o.sigs {
			t.signed[s] = true
		}
	} else {
		f.Segment = "checkpoint"
		rep.add(f)
	}
	digests := suite.NewSet()
	if o.SM3Root != nil {
		digests = suite.NewSet(suite.SM3)
	}
	for _, d := range digests.Digests() {
		rep.Digests = append(rep.Digests, d.String())
		s := &tileTree{digest: d}
		s.tree = tlog.NewTree(d, func(t tlog.Tile, hashes []suite.Hash) { c.compare(ctx, s, t, hashes) })
		c.trees = append(c.trees, s)
	}
	c.size = o.Size
	kept := c.readKept(t, opts.Checkpoints, o.Origin)
	if err := c.read(ctx, opts, kept); err != nil {
		return nil, err
	}
	c.finish(ctx, &o, signed, kept)
	t.finish(rep)
	rep.Elapsed = Duration(time.Since(start))
	return rep, ctx.Err()
}

type tilesCheck struct {
	from  Fetcher
	rep   *Report
	size  uint64
	trees []*tileTree
	lost  bool // the tree can't be built on
	next  uint64
}

// tileTree is one digest's tree, built from leaves.
type tileTree struct {
	digest suite.Digest
	tree   *tlog.Tree
	// The last bundle, when it differs from its tile and no tile is above it;
	// how it differs; and the tree before it.
	doubtful *bundle
	doubts   []edit
	before   *tlog.Tree
}

func (s *tileTree) path(t tlog.Tile) string {
	if s.digest == suite.SM3 {
		return "sm3/" + t.Path()
	}
	return t.Path()
}

// readKept opens the kept checkpoints, in rising order of their sizes.
func (c *tilesCheck) readKept(t *trust, kept []Kept, origin string) []*mark {
	x := trailCheck{trust: t, rep: c.rep}
	x.id.Origin = origin
	for _, k := range kept {
		x.addMark(&mark{kept: k.Name, opened: t.open(k.Note)})
	}
	return x.marks
}

// tile fetches one tile, from the full one when the partial one is gone.
func (c *tilesCheck) tile(ctx context.Context, s *tileTree, t tlog.Tile) ([]suite.Hash, error) {
	b, err := c.from.Fetch(ctx, s.path(t))
	width := t.Width
	if errors.Is(err, fs.ErrNotExist) && width < tlog.TileWidth {
		full := tlog.Tile{Level: t.Level, N: t.N, Width: tlog.TileWidth}
		if other, otherErr := c.from.Fetch(ctx, s.path(full)); otherErr == nil {
			b, err, width = other, nil, tlog.TileWidth
		}
	}
	if err != nil {
		return nil, err
	}
	hashes, err := tlog.ParseTile(b, width)
	if err != nil {
		return nil, &badTile{s.path(t), err}
	}
	return hashes[:t.Width], nil
}

// bundle is what could be fetched of up to 256 leaves.
type bundle struct {
	n      uint64
	width  int
	bytes  int64
	err    error // why there are no leaves
	broken error // the bundle's form
	leaves [][]byte
	hashes [2][]suite.Hash // by tree, of the leaves
	stored [2][]suite.Hash // the tile of level 0
	tileEr [2]error
	done   chan struct{}
}

func (c *tilesCheck) fetch(ctx context.Context, b *bundle) {
	defer close(b.done)
	raw, err := c.from.Fetch(ctx, tlog.BundlePath(b.n, b.width))
	whole := b.width
	if errors.Is(err, fs.ErrNotExist) && b.width < tlog.TileWidth {
		if other, otherErr := c.from.Fetch(ctx, tlog.BundlePath(b.n, tlog.TileWidth)); otherErr == nil {
			raw, err, whole = other, nil, tlog.TileWidth
		}
	}
	b.err, b.bytes = err, int64(len(raw))
	if err == nil {
		if b.leaves, b.broken = tlog.ParseBundle(raw, whole); b.broken != nil {
			b.leaves = entries(raw)
		} else {
			b.leaves = b.leaves[:b.width]
		}
	}
	lines, ends := suite.Lines(b.leaves)
	for i, s := range c.trees {
		b.hashes[i] = make([]suite.Hash, len(ends))
		s.digest.LeafHashes(b.hashes[i], lines, ends)
		b.stored[i], b.tileEr[i] = c.tile(ctx, s, tlog.Tile{N: b.n, Width: b.width})
	}
}

// entries are as many leaves as a broken bundle still has.
func entries(b []byte) [][]byte {
	var out [][]byte
	for len(b) >= 2 {
		n := int(b[0])<<8 | int(b[1])
		if len(b) < 2+n {
			break
		}
		out = append(out, b[2:2+n])
		b = b[2+n:]
	}
	return out
}

// read goes through all bundles in order; workers fetch ahead.
func (c *tilesCheck) read(ctx context.Context, opts Options, kept []*mark) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := opts.workers()
	jobs, order := make(chan *bundle), make(chan *bundle, 2*workers)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		defer close(jobs)
		defer close(order)
		for n := uint64(0); n<<tlog.TileHeight < c.size; n++ {
			width := int(min(tlog.TileWidth, c.size-n<<tlog.TileHeight))
			b := &bundle{n: n, width: width, done: make(chan struct{})}
			select {
			case order <- b:
			case <-ctx.Done():
				return
			}
			select {
			case jobs <- b:
			case <-ctx.Done():
				close(b.done)
				return
			}
		}
	})
	for range workers {
		group.Go(func() {
			for b := range jobs {
				c.fetch(ctx, b)
			}
		})
	}
	for b := range order {
		<-b.done
		if err := ctx.Err(); err != nil {
			return err
		}
		c.take(ctx, b, kept)
		if c.lost {
			return nil
		}
		opts.progress(int64(c.next), int64(min(c.size, 1<<62)))
	}
	return ctx.Err()
}

// take compares a bundle with its tile of level 0, and appends to the trees
// whichever of the two the tile above confirms.
func (c *tilesCheck) take(ctx context.Context, b *bundle, kept []*mark) {
	first := b.n << tlog.TileHeight
	path := tlog.BundlePath(b.n, b.width)
	span := Finding{Segment: path, Leaf: first, LastLeaf: first + uint64(b.width) - 1, HasLeaf: true}
	c.rep.Events += uint64(len(b.leaves))
	for _, leaf := range b.leaves {
		c.rep.Bytes += uint64(len(leaf))
	}
	whole := b.err == nil && len(b.leaves) == b.width && b.broken == nil
	if b.err != nil {
		span.Outcome, span.Check, span.Detail = CouldNotCheck, bundleMissing, b.err.Error()
		c.rep.add(span)
	}
	roots := make([][]suite.Hash, len(c.trees)) // what goes on into the trees
	for i, s := range c.trees {
		if b.tileEr[i] != nil {
			f := Finding{Outcome: CouldNotCheck, Check: tileMissing, Segment: s.path(tlog.Tile{N: b.n, Width: b.width}), Leaf: first,
				LastLeaf: span.LastLeaf, HasLeaf: true, Detail: b.tileEr[i].Error()}
			var bad *badTile
			if errors.As(b.tileEr[i], &bad) {
				f.Outcome, f.Check = Contradicted, tileChanged
			}
			c.rep.add(f)
			roots[i] = b.hashes[i]
			if !whole {
				if b.err == nil {
					span.Outcome, span.Check, span.Detail = Contradicted, bundleDamaged, "the bundle does not hold the leaves of its width"
					c.rep.add(span)
				}
				c.lost = true
			}
			continue
		}
		roots[i] = b.stored[i]
		if b.err != nil {
			continue
		}
		edits := align(keysOf(b.stored[i]), keysOf(b.hashes[i]))
		switch {
		case len(edits) == 0 && whole:
			roots[i] = b.hashes[i]
		case len(edits) == 0:
			span.Outcome, span.Check, span.Detail = Contradicted, bundleDamaged, "there are bytes in the bundle behind its leaves"
			if i == 0 {
				c.rep.add(span)
			}
		case whole && c.confirmed(ctx, s, b, b.hashes[i]):
			c.changedTile(s, b, edits)
			roots[i] = b.hashes[i]
		case whole && b.width < tlog.TileWidth && c.last(b) && !c.confirmed(ctx, s, b, b.stored[i]):
			// No tile above has the last bundle: the checkpoint decides.
			s.doubtful, s.doubts, s.before = b, edits, s.tree.Clone()
			roots[i] = b.hashes[i]
		case i == 0:
			c.changedLeaves(b, edits)
		}
	}
	if c.lost {
		return
	}
	c.append(first, roots, kept)
	c.next = first + uint64(b.width)
}

func (c *tilesCheck) last(b *bundle) bool {
	return b.n<<tlog.TileHeight+uint64(b.width) == c.size
}

// append adds hashes to the trees, and compares the kept checkpoints that end
// among them.
func (c *tilesCheck) append(first uint64, hashes [][]suite.Hash, kept []*mark) {
	size := first + uint64(len(hashes[0]))
	for at := first; at < size; {
		next := size
		for _, m := range kept {
			if m.Size > at {
				next = min(next, m.Size)
			}
		}
		for i, s := range c.trees {
			s.tree.AppendAll(hashes[i][at-first : next-first])
		}
		at = next
		for _, m := range kept {
			if m.Size == at {
				for _, s := range c.trees {
					m.roots = append(m.roots, s.tree.Root())
				}
			}
		}
	}
}

func keysOf(hashes []suite.Hash) []uint64 {
	out := make([]uint64, len(hashes))
	for i := range hashes {
		out[i] = binary.BigEndian.Uint64(hashes[i][:])
	}
	return out
}

// confirmed tells whether the tile of level 1 has the root of these hashes.
func (c *tilesCheck) confirmed(ctx context.Context, s *tileTree, b *bundle, hashes []suite.Hash) bool {
	if len(hashes) != tlog.TileWidth {
		return false
	}
	at := b.n / tlog.TileWidth
	width := int(min(tlog.TileWidth, c.size>>tlog.TileHeight-at*tlog.TileWidth))
	above, err := c.tile(ctx, s, tlog.Tile{Level: 1, N: at, Width: width})
	if err != nil {
		return false
	}
	fold := tlog.NewTree(s.digest, nil)
	fold.AppendAll(hashes)
	return fold.Root() == above[b.n%tlog.TileWidth]
}

func (c *tilesCheck) changedTile(s *tileTree, b *bundle, edits []edit) {
	for _, e := range edits {
		leaf := b.n<<tlog.TileHeight + uint64(e.old)
		c.rep.add(Finding{Outcome: Contradicted, Check: tileChanged, Segment: s.path(tlog.Tile{N: b.n, Width: b.width}),
			Offset: int64(e.old) * suite.Size, Leaf: leaf, LastLeaf: leaf + uint64(max(e.olds, 1)) - 1, HasLeaf: true,
			Detail: "the hashes are not those of the leaves"})
	}
}

func (c *tilesCheck) changedLeaves(b *bundle, edits []edit) {
	for _, e := range edits {
		leaf := b.n<<tlog.TileHeight + uint64(e.old)
		f := Finding{Outcome: Contradicted, Check: e.check, Segment: tlog.BundlePath(b.n, b.width), Leaf: leaf,
			LastLeaf: leaf + uint64(max(e.olds, 1)) - 1, HasLeaf: true, Detail: "not the leaves that the tree was built of"}
		for _, l := range b.leaves[:min(e.now, len(b.leaves))] {
			f.Offset += int64(2 + len(l))
		}
		if e.now < len(b.leaves) && e.nows > 0 {
			f.EventID = eventID(b.leaves[e.now])
		}
		c.rep.add(f)
	}
}

// compare is called with every full tile; finish calls it with the others.
func (c *tilesCheck) compare(ctx context.Context, s *tileTree, t tlog.Tile, hashes []suite.Hash) {
	if t.Level == 0 || c.lost {
		return // take compared it
	}
	w := wrongTile{tile: t, first: -1}
	got, err := c.tile(ctx, s, t)
	var bad *badTile
	switch {
	case errors.As(err, &bad):
		w.first, w.last, w.problem = 0, t.Width-1, bad.err.Error()
	case err != nil:
		w.last = t.Width - 1
		w.first = 0
		first, last := w.leaves()
		c.rep.add(Finding{Outcome: CouldNotCheck, Check: tileMissing, Segment: s.path(t), Leaf: first, LastLeaf: last, HasLeaf: true, Detail: err.Error()})
		return
	default:
		for i := range got {
			if got[i] != hashes[i] {
				if w.first < 0 {
					w.first = i
				}
				w.last, w.problem = i, "the hashes are not those of the leaves"
			}
		}
	}
	if w.first < 0 {
		return
	}
	first, last := w.leaves()
	c.rep.add(Finding{Outcome: Contradicted, Check: tileChanged, Segment: s.path(t), Offset: int64(w.first) * suite.Size, Leaf: first, LastLeaf: last,
		HasLeaf: true, Detail: w.problem})
}

// finish compares the roots.
func (c *tilesCheck) finish(ctx context.Context, o *opened, signed bool, kept []*mark) {
	rep := c.rep
	if c.lost {
		rep.add(Finding{Outcome: CouldNotCheck, Check: rootUnchecked, Leaf: c.next, LastLeaf: c.size - 1, HasLeaf: true,
			Detail: "from this leaf on the tree can't be built, so nothing is compared with the checkpoint"})
	} else {
		c.compareRoot(ctx, o, signed)
	}
	for _, m := range kept {
		f := Finding{Outcome: Contradicted, Check: historyDiffers, Segment: m.kept}
		if m.Size == 0 {
			m.roots = append(m.roots, suite.SHA256.EmptyRoot())
		}
		switch {
		case m.Size > c.size:
			f.Check, f.Leaf, f.LastLeaf, f.HasLeaf = rolledBack, c.size, m.Size-1, true
			f.Detail = fmt.Sprintf("%s covers %d leaves, the log has %d", m.where(), m.Size, c.size)
		case len(m.roots) == 0:
			f.Outcome, f.Check, f.Detail = CouldNotCheck, historyUnchecked, m.where()+": the tree up to it can't be built"
		case m.roots[0] != m.Root:
			f.Detail = fmt.Sprintf("%s: its %d leaves are not the first %d of this log", m.where(), m.Size, m.Size)
		case m.SM3Root != nil && len(m.roots) > 1 && m.roots[1] != *m.SM3Root:
			f.Check, f.Detail = sm3RootMismatch, m.where()+": its SM3 root is another, the SHA-256 root is the same"
		default:
			rep.Compared = append(rep.Compared, m.kept)
			continue
		}
		rep.add(f)
	}
}

func (c *tilesCheck) compareRoot(ctx context.Context, o *opened, signed bool) {
	declared := []*suite.Hash{&o.Root, o.SM3Root}
	holds := true
	for i, s := range c.trees {
		root := s.tree.Root()
		if s.doubtful != nil {
			if root == *declared[i] {
				c.changedTile(s, s.doubtful, s.doubts)
			} else {
				s.before.AppendAll(s.doubtful.stored[i])
				if root = s.before.Root(); i == 0 {
					c.changedLeaves(s.doubtful, s.doubts)
				}
				s.tree = s.before
			}
		}
		if root != *declared[i] {
			holds = false
			if !c.rep.has(rootMismatch) {
				c.rep.add(Finding{Outcome: Contradicted, Check: rootCheck(i), Segment: "checkpoint", Detail: "the checkpoint's root is not that of the leaves"})
			}
			continue
		}
		for t, hashes := range s.tree.Edge() {
			c.compare(ctx, s, t, hashes)
		}
	}
	if !holds {
		return
	}
	c.rep.Root = encodeRoot(o.Root)
	if o.SM3Root != nil {
		c.rep.SM3Root = encodeRoot(*o.SM3Root)
	}
	if signed {
		c.rep.Sealed = o.Size
	}
}
