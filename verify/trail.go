package verify

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// Trail checks a trail's directory: every frame of every segment, every leaf's
// place, the trees over them, the tiles that are stored, all signatures, and
// what Options give to compare with. A trail that is being written may be
// checked; what is added meanwhile is not looked at.
//
// The error is for a directory that holds no trail, for Options that can't be
// meant, and for ctx. Whatever is wrong with the trail is a finding.
func Trail(ctx context.Context, dir string, opts Options) (*Report, error) {
	start := time.Now()
	t, err := newTrust(opts.Keys)
	if err != nil {
		return nil, err
	}
	c := &trailCheck{dir: dir, trust: t, rep: &Report{Kind: KindTrail, Findings: []Finding{}, Compared: []string{}}, disordered: -1}
	// The checkpoint before the segments: a trail that is being written grows
	// meanwhile, and would seem to be shorter than what it signed.
	published, publishedErr := trail.ReadCheckpoint(dir)
	if err := c.identify(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, trail.KeysDir, "vkeys"))
	t.adopt(c.rep, text, err)
	c.readMarks(published, publishedErr, opts.Checkpoints)

	var total int64
	for _, g := range c.segs {
		total += g.size
	}
	ctx, cancel := context.WithCancel(ctx)
	s, wait := scan(ctx, c.segs, c.id.Digests.Digests(), t, opts.workers())
	defer wait()
	defer cancel()
	var done int64
	for ch := range s.order {
		<-ch.done
		for i := range ch.pieces {
			c.take(&ch.pieces[i])
		}
		done += ch.read
		opts.progress(min(done, total), total)
		s.free <- ch
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("checking %s: %w", dir, err)
	}
	c.finish()
	opts.progress(total, total)
	c.rep.Elapsed = Duration(time.Since(start))
	return c.rep, nil
}

// trailCheck takes the pieces of a trail in order.
type trailCheck struct {
	dir   string
	id    trail.Identity
	trust *trust
	rep   *Report
	segs  []*seg
	trees []*treeState // SHA-256 first
	marks []*mark      // in rising order of their sizes

	g         *seg
	next      uint64     // the leaf that must come next
	link      suite.Hash // what the next header must link to
	linked    bool       // link is known
	reader    int        // marks reached
	skip      bool       // the rest of this segment is not of the log, or was never acknowledged
	lastTime  time.Time
	backwards int
	good      uint64 // under the last checkpoint whose root was confirmed
	unsealed  bool   // a checkpoint contradicts the leaves; those after it do too
	sealed    opened // the newest checkpoint that holds
	isSealed  bool
	unknown   int   // checkpoints no trusted key signed
	tailAt    int64 // where the last segment was cut off, 0 when it was not
	// The finding about the frame before, when it may yet turn out to be due
	// to a leaf too few or too many in it; -1 when none.
	disordered int
}

// mark is a checkpoint that came from outside of the segments.
type mark struct {
	kept string // its name; "" for the published one
	opened
	roots []suite.Hash // computed, when its size was passed within a frame
	done  bool
}

// identify reads who the log is, and lists its segments.
func (c *trailCheck) identify() error {
	id, idErr := trail.ReadIdentity(c.dir)
	files, err := trail.Segments(c.dir)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || idErr != nil) {
		if errors.Is(idErr, trail.ErrNoTrail) {
			return idErr
		}
		return err
	}
	for i, f := range files {
		g := &seg{SegmentFile: f, last: i == len(files)-1}
		if !g.last {
			g.nextFirst = files[i+1].FirstLeaf
		}
		c.readHeader(g)
		c.segs = append(c.segs, g)
	}
	if idErr != nil {
		c.rep.add(Finding{Outcome: CouldNotCheck, Check: identityUnread, Detail: idErr.Error()})
	}
	c.settleIdentity(id, idErr == nil)
	for _, g := range c.segs {
		if g.headerErr != nil {
			g.header = segment.Header{Digests: c.id.Digests, FirstLeaf: g.FirstLeaf, Instance: c.id.Instance}
		}
	}
	c.rep.Origin, c.rep.Instance = c.id.Origin, hex.EncodeToString(c.id.Instance[:])
	for _, d := range c.id.Digests.Digests() {
		c.rep.Digests = append(c.rep.Digests, d.String())
		s := &treeState{stored: storedTiles{c.dir, d}}
		s.tree = tlog.NewTree(d, c.full(s))
		c.trees = append(c.trees, s)
	}
	c.rep.Segments, c.linked = len(c.segs), true
	return nil
}

func (c *trailCheck) readHeader(g *seg) {
	file, err := os.Open(g.Path)
	if err != nil {
		g.err = err
		return
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		g.err = err
		return
	}
	g.size = st.Size()
	b := make([]byte, min(segment.HeaderSize, g.size))
	if _, err := io.ReadFull(file, b); err != nil {
		g.err = err
		return
	}
	g.header, g.headerErr = segment.ParseHeader(b)
}

// settleIdentity decides which log this is: the one trail.json names, unless
// all segments agree on another.
func (c *trailCheck) settleIdentity(id trail.Identity, known bool) {
	var instances [][16]byte
	digests := suite.NewSet()
	for _, g := range c.segs {
		if g.err == nil && g.headerErr == nil {
			if !slices.Contains(instances, g.header.Instance) {
				instances = append(instances, g.header.Instance)
			}
			digests = g.header.Digests
		}
	}
	c.id = id
	if !known {
		c.id = trail.Identity{Digests: digests}
		if len(instances) > 0 {
			c.id.Instance = instances[0]
		}
		if note, err := trail.ReadCheckpoint(c.dir); err == nil && note != nil {
			if cp, err := checkpoint.ParseUnverified(note); err == nil {
				c.id.Origin = cp.Origin
			}
		}
		return
	}
	if len(instances) == 1 && instances[0] != id.Instance && len(c.segs) > 1 {
		c.rep.add(Finding{Outcome: Contradicted, Check: otherLog, Segment: "trail.json",
			Detail: fmt.Sprintf("names the instance %x, but all %d segments are of %x", id.Instance, len(c.segs), instances[0])})
		c.id.Instance = instances[0]
	}
}

// readMarks opens the published checkpoint and the kept ones.
func (c *trailCheck) readMarks(note []byte, err error, kept []Kept) {
	switch {
	case err != nil:
		c.rep.add(Finding{Outcome: CouldNotCheck, Check: checkpointMissing, Segment: trail.CheckpointFile, Detail: err.Error()})
	case note == nil:
		c.rep.add(Finding{Outcome: CouldNotCheck, Check: checkpointMissing, Segment: trail.CheckpointFile,
			Detail: "there is no published checkpoint: nothing says how far the trail should reach"})
	default:
		c.addMark(&mark{opened: c.trust.open(note)})
	}
	for _, k := range kept {
		c.addMark(&mark{kept: k.Name, opened: c.trust.open(k.Note)})
	}
	slices.SortStableFunc(c.marks, func(a, b *mark) int {
		switch {
		case a.Size < b.Size:
			return -1
		case a.Size > b.Size:
			return 1
		}
		return 0
	})
	c.reachMarks()
}

func (m *mark) where() string {
	if m.kept == "" {
		return "the published checkpoint"
	}
	return "the kept checkpoint " + m.kept
}

func (c *trailCheck) addMark(m *mark) {
	file := trail.CheckpointFile
	if m.kept != "" {
		file = m.kept
	}
	if !c.signature(&m.opened, file, 0, m.where()) {
		// A kept checkpoint is as good as the place where it was kept, also
		// when its key is not known.
		if m.kept == "" || m.bad != nil || !errors.Is(m.err, checkpoint.ErrUnknownKey) {
			return
		}
	}
	c.marks = append(c.marks, m)
}

// signature reports what is wrong with a checkpoint's signatures and origin.
func (c *trailCheck) signature(o *opened, file string, at int64, where string) bool {
	f, ok := judge(o, c.id.Origin, where)
	if ok {
		for _, s := range o.sigs {
			c.trust.signed[s] = true
		}
		return true
	}
	f.Segment, f.Offset = file, at
	if f.Check == unknownKey {
		if c.unknown++; c.unknown > 1 {
			return false // the first one says it
		}
	}
	c.rep.add(f)
	return false
}

// judge says what is wrong with a checkpoint that should be of an origin.
func judge(o *opened, origin, where string) (Finding, bool) {
	switch {
	case o.bad != nil:
		return Finding{Outcome: CouldNotCheck, Check: checkpointDamaged, Detail: fmt.Sprintf("%s can't be read: %v", where, o.bad)}, false
	case origin != "" && o.Origin != origin:
		return Finding{Outcome: Contradicted, Check: checkpointOrigin,
			Detail: fmt.Sprintf("%s is of %s, the log of %s", where, o.Origin, origin)}, false
	case o.err == nil:
		return Finding{}, true
	case errors.Is(o.err, checkpoint.ErrBadSignature):
		return Finding{Outcome: Contradicted, Check: checkpointForged, Detail: fmt.Sprintf("%s: %v", where, o.err)}, false
	case errors.Is(o.err, checkpoint.ErrMalformed):
		return Finding{Outcome: CouldNotCheck, Check: checkpointDamaged, Detail: fmt.Sprintf("%s: %v", where, o.err)}, false
	}
	return Finding{Outcome: CouldNotCheck, Check: unknownKey, Detail: fmt.Sprintf("%s: %v", where, o.err)}, false
}

func (c *trailCheck) lastFirst() uint64 {
	if len(c.segs) == 0 {
		return 0
	}
	return c.segs[len(c.segs)-1].FirstLeaf
}

// take goes on by one piece.
func (c *trailCheck) take(p *piece) {
	if p.begin {
		c.begin(p.seg, p.err)
		return
	}
	if c.skip {
		return
	}
	switch {
	case p.err != nil:
		c.segmentFinding(CouldNotCheck, segmentUnreadable, p.frame.Offset, p.err.Error())
		c.skipTo(p.seg.nextFirst)
	case !p.header || !p.whole:
		c.stretch(p)
	default:
		c.frame(p)
	}
}

// segmentFinding is about the leaves that this segment should still have.
func (c *trailCheck) segmentFinding(o Outcome, check string, at int64, detail string) {
	f := Finding{Outcome: o, Check: check, Segment: c.g.Name, Offset: at, Detail: detail}
	if c.g.nextFirst > c.next {
		f.Leaf, f.LastLeaf, f.HasLeaf = c.next, c.g.nextFirst-1, true
	}
	c.rep.add(f)
}

// skipTo gives up the rest of a segment.
func (c *trailCheck) skipTo(next uint64) {
	c.skip, c.linked, c.disordered = true, false, -1
	if next > c.next {
		c.next = next
		c.lose()
	}
}

func (c *trailCheck) lose() {
	for _, s := range c.trees {
		s.lose()
	}
}

// begin goes on to the next segment.
func (c *trailCheck) begin(g *seg, err error) {
	prev := c.g
	c.g, c.skip = g, false
	if g.err != nil {
		err = g.err
	}
	if g.FirstLeaf < c.next {
		if c.disordered >= 0 && c.next-g.FirstLeaf < segment.MaxFrameLeaves {
			c.miscounted(g.FirstLeaf)
		} else {
			c.rep.add(Finding{Outcome: Contradicted, Check: segmentOverlap, Segment: g.Name, Leaf: g.FirstLeaf, LastLeaf: c.next - 1, HasLeaf: true,
				Detail: "leaves that the segments before have already"})
			c.skip, c.linked = true, false
			return
		}
	}
	if g.FirstLeaf > c.next {
		c.gap(prev, g.FirstLeaf)
	}
	c.disordered = -1
	if err != nil {
		c.segmentFinding(CouldNotCheck, segmentUnreadable, 0, err.Error())
		c.skipTo(g.nextFirst)
		return
	}
	h := &g.header
	switch {
	case g.headerErr != nil:
		c.rep.add(Finding{Outcome: Contradicted, Check: headerDamaged, Segment: g.Name, Detail: g.headerErr.Error()})
		c.linked = false
		return
	case h.Instance != c.id.Instance:
		c.segmentFinding(Contradicted, otherLog, 24, fmt.Sprintf("is of the instance %x, the trail is %x", h.Instance, c.id.Instance))
		c.skipTo(g.nextFirst)
		return
	case h.FirstLeaf != g.FirstLeaf:
		c.segmentFinding(Contradicted, segmentMisnamed, 16, fmt.Sprintf("begins with leaf %d", h.FirstLeaf))
		c.skipTo(g.nextFirst)
		return
	case h.Digests != c.id.Digests:
		c.rep.add(Finding{Outcome: Contradicted, Check: headerDamaged, Segment: g.Name, Offset: 8,
			Detail: "its digests are not those of the trail"})
	case c.linked && h.Previous != c.link:
		c.rep.add(Finding{Outcome: Contradicted, Check: linkBroken, Segment: g.Name, Offset: 48,
			Detail: "does not link to the end of the segment before"})
	}
	c.link, c.linked = h.Hash(), true
	c.beginTrees(g)
}

// beginTrees compares the trees with the roots a segment begins with.
func (c *trailCheck) beginTrees(g *seg) {
	declared := []suite.Hash{g.header.Root, g.header.SM3Root}
	for i, s := range c.trees {
		if !g.header.Digests.Has(s.digest()) {
			s.lose()
			continue
		}
		if s.tree != nil && s.tree.Size() == g.FirstLeaf && s.tree.Root() == declared[i] {
			s.off, s.other = false, nil
			continue
		}
		if s.off {
			s.other = c.restore(s, g.FirstLeaf)
			if s.other != nil && s.other.Root() == declared[i] {
				s.tree, s.other, s.off = s.other, nil, false
			} else if s.other != nil && c.rep.Outcome != Contradicted {
				s.other = nil
				c.rep.add(Finding{Outcome: Contradicted, Check: rootCheck(i), Segment: g.Name, Offset: rootOffset(i), Leaf: 0, LastLeaf: g.FirstLeaf - 1,
					HasLeaf: true, Detail: "the stored tiles do not have the root this segment begins with"})
			}
			continue
		}
		c.rep.add(Finding{Outcome: Contradicted, Check: rootCheck(i), Segment: g.Name, Offset: rootOffset(i),
			Detail: "the segment begins with a root that the leaves before it do not have"})
	}
}

func rootOffset(tree int) int64 { return 80 + int64(tree)*suite.Size }

func rootCheck(tree int) string {
	if tree == 0 {
		return rootMismatch
	}
	return sm3RootMismatch
}

// gap goes on at a later leaf than the one that should come.
func (c *trailCheck) gap(prev *seg, first uint64) {
	f := Finding{Outcome: CouldNotCheck, Check: segmentMissing, Segment: trail.SegmentName(c.next), Leaf: c.next, LastLeaf: first - 1, HasLeaf: true,
		Detail: "no segment holds these leaves: it expired, or was removed"}
	switch {
	case prev != nil && c.disordered >= 0 && first-c.next < segment.MaxFrameLeaves:
		c.miscounted(first)
		return
	case prev != nil && c.next%tlog.TileWidth != 0:
		f.Outcome, f.Check, f.Segment, f.Offset = Contradicted, segmentTruncated, prev.Name, prev.size
		f.Detail = "the segment ends before the next one begins"
	}
	c.rep.add(f)
	c.linked = false
	for _, s := range c.trees {
		c.checkGap(s, c.next, first)
	}
	c.lose()
	c.next = first
}

// miscounted turns the finding that the frame before does not have its root
// into the reason for it: what comes next says that it should have had more
// leaves, or fewer.
func (c *trailCheck) miscounted(next uint64) {
	f := &c.rep.Findings[c.disordered]
	if next > c.next {
		f.Check, f.LastLeaf = leafRemoved, next-1
		f.Detail = fmt.Sprintf("%d of these leaves removed, and the frame made to agree", next-c.next)
	} else {
		f.Check = leafInserted
		f.Detail = fmt.Sprintf("%d of these leaves inserted, and the frame made to agree", c.next-next)
	}
	f.EventID = ""
	c.disordered = -1
	c.next = next
	c.lose()
}

// enter goes on to a frame whose header is sound, after comparing its place and
// its link. It returns false when the frame has no place here.
func (c *trailCheck) enter(p *piece) bool {
	if !c.inOrder(p) {
		return false
	}
	if c.linked && !p.after && p.frame.Previous != c.link {
		c.frameFinding(Contradicted, linkBroken, p, "the frame does not link to the one before it")
	}
	c.link, c.linked = p.frame.Hash, true
	c.disordered = -1
	c.rep.Frames++
	return true
}

// frame checks a frame whose header is sound.
func (c *trailCheck) frame(p *piece) {
	f := &p.frame
	holds := p.bodyErr == nil && (f.Kind == segment.Checkpoint || p.linesErr == nil && p.printsOK)
	if !holds && c.torn(p) {
		return
	}
	if !c.enter(p) {
		return
	}
	if (f.SM3Root != nil) != (len(c.trees) > 1) {
		c.frameFinding(Contradicted, frameDamaged, p, "the frame's digests are not those of the trail")
		c.next = f.FirstLeaf + uint64(f.Count)
		c.lose()
		return
	}
	c.clock(f.Time)
	c.rep.Lost = max(c.rep.Lost, f.Lost)
	switch {
	case f.Kind == segment.Checkpoint && !holds:
		c.rep.add(Finding{Outcome: Contradicted, Check: frameDamaged, Segment: c.g.Name, Offset: f.Offset,
			Detail: "a checkpoint: " + p.bodyErr.Error()})
	case f.Kind == segment.Checkpoint:
		if c.compareRoots(p) {
			c.checkpointFrame(p)
		}
	case holds:
		c.events(f, p.hashes[:len(c.trees)])
		c.addLeaves(f.FirstLeaf, p.hashes[:len(c.trees)])
		c.next = f.FirstLeaf + uint64(f.Count)
		c.compareRoots(p)
	default:
		c.diagnose(p)
	}
	c.reachMarks()
}

// events counts what was read.
func (c *trailCheck) events(f *segment.Frame, hashes [][]suite.Hash) {
	n := len(hashes[0])
	c.rep.Events += uint64(n)
	c.rep.Bytes += uint64(max(0, len(f.Body)-f.Count*5))
	if c.rep.FirstTime.IsZero() {
		c.rep.FirstTime = f.Time
	}
	c.rep.LastTime = f.Time
}

func (c *trailCheck) clock(t time.Time) {
	if t.Before(c.lastTime) {
		if c.backwards++; c.backwards == 1 {
			c.rep.add(Finding{Outcome: Intact, Check: timeBackwards, Segment: c.g.Name, Leaf: c.next, LastLeaf: c.next, HasLeaf: true,
				Detail: fmt.Sprintf("the recorder's clock went back by %s; the order of leaves does not depend on it", c.lastTime.Sub(t))})
		}
	}
	c.lastTime = t
}

// frameFinding is about all leaves of a frame.
func (c *trailCheck) frameFinding(o Outcome, check string, p *piece, detail string) {
	f := Finding{Outcome: o, Check: check, Segment: c.g.Name, Offset: p.frame.Offset, Detail: detail}
	if n := p.frame.Count; n > 0 {
		f.Leaf, f.LastLeaf, f.HasLeaf = p.frame.FirstLeaf, p.frame.FirstLeaf+uint64(n)-1, true
	}
	c.rep.add(f)
}

// inOrder compares a frame's place with the one it should have. It is false for
// a frame that is not to be looked into.
func (c *trailCheck) inOrder(p *piece) bool {
	first := p.frame.FirstLeaf
	switch {
	case first == c.next:
		return true
	case c.disordered >= 0 && max(first, c.next)-min(first, c.next) < segment.MaxFrameLeaves:
		c.miscounted(first)
		return true
	case first > c.next:
		c.rep.add(Finding{Outcome: Contradicted, Check: leafRemoved, Segment: c.g.Name, Offset: p.frame.Offset, Leaf: c.next, LastLeaf: first - 1,
			HasLeaf: true, Detail: "the frames with these leaves are gone from before this place"})
		c.next, c.linked = first, false
		c.lose()
		return true
	}
	c.linked = false
	end := first + uint64(p.frame.Count)
	for i := range c.rep.Findings {
		f := &c.rep.Findings[i]
		if f.Check == leafRemoved && f.HasLeaf && f.Leaf == first && f.LastLeaf+1 == end && p.frame.Count > 0 {
			f.Check, f.Segment, f.Offset = frameOrder, c.g.Name, p.frame.Offset
			f.Detail = fmt.Sprintf("the frame stands behind leaf %d", c.next-1)
			return false
		}
	}
	c.frameFinding(Contradicted, frameOrder, p, fmt.Sprintf("the frame begins with leaf %d where leaf %d should", first, c.next))
	return false
}

// addLeaves appends leaves to the trees, and looks at the roots on the way
// where a checkpoint from outside ends within them.
func (c *trailCheck) addLeaves(first uint64, hashes [][]suite.Hash) {
	n := uint64(len(hashes[0]))
	at := uint64(0)
	for _, m := range c.marks[c.reader:] {
		if m.Size >= first+n {
			break
		}
		if m.Size <= first+at || m.done || m.roots != nil {
			continue
		}
		c.addRun(first, hashes, at, m.Size-first)
		at = m.Size - first
		for _, s := range c.trees {
			if s.tree == nil {
				m.roots = nil
				break
			}
			m.roots = append(m.roots, s.tree.Root())
		}
	}
	c.addRun(first, hashes, at, n)
}

func (c *trailCheck) addRun(first uint64, hashes [][]suite.Hash, from, to uint64) {
	for i, s := range c.trees {
		c.add(s, first+from, hashes[i][from:to])
	}
}

// compareRoots compares the trees with the roots a frame declares, and reports
// the first frame of several that do not agree. It is true when all do.
func (c *trailCheck) compareRoots(p *piece) bool {
	f := &p.frame
	declared := []*suite.Hash{&f.Root, f.SM3Root}
	bad := -1
	ok := true
	for i, s := range c.trees {
		switch {
		case s.tree != nil && s.tree.Root() == *declared[i]:
			s.off, s.other = false, nil
			continue
		case s.off:
			if s.other != nil && s.other.Root() == *declared[i] {
				s.tree, s.off = s.other, false
			} else {
				ok = false
			}
			s.other = nil
			continue
		}
		ok, s.off = false, true
		if bad < 0 {
			bad = i
		}
	}
	if bad >= 0 {
		c.wrongRoot(p, bad)
	}
	return ok
}

// wrongRoot names the fewest leaves that must hold the reason why a frame's
// root is not that of the leaves up to it.
func (c *trailCheck) wrongRoot(p *piece, tree int) {
	c.linked = false // whoever changed the frame changed what the next one links to
	f := &p.frame
	detail := "every leaf agrees with its frame, but the frame's root is another"
	if tree > 0 {
		detail = "the SHA-256 tree holds, but the frame's SM3 root is another"
	}
	if f.Count == 0 {
		c.rep.add(Finding{Outcome: Contradicted, Check: rootCheck(tree), Segment: c.g.Name, Offset: f.Offset, Detail: detail})
		return
	}
	first, end := f.FirstLeaf, f.FirstLeaf+uint64(f.Count)
	s := c.trees[tree]
	if tree == 0 {
		if bundles := s.bundles(first, end); len(bundles) > 0 {
			for _, n := range bundles {
				c.rangeFinding(rootCheck(tree), p, max(first, n*tlog.TileWidth), min(end, (n+1)*tlog.TileWidth), detail)
			}
			s.lose()
			c.disordered = len(c.rep.Findings) - 1
			return
		}
	}
	c.rangeFinding(rootCheck(tree), p, first, end, detail)
	if tree == 0 {
		c.disordered = len(c.rep.Findings) - 1
	}
}

// rangeFinding is about some of a frame's leaves.
func (c *trailCheck) rangeFinding(check string, p *piece, first, end uint64, detail string) {
	f := Finding{Outcome: Contradicted, Check: check, Segment: c.g.Name, Offset: p.frame.Offset, Leaf: first, LastLeaf: end - 1, HasLeaf: true, Detail: detail}
	body := p.frame.Body[min(len(p.frame.Body), p.frame.Count*4):]
	ends := segment.SplitLines(nil, body)
	if i := int(first - p.frame.FirstLeaf); i < len(ends) {
		start := 0
		if i > 0 {
			start = ends[i-1] + 1
		}
		f.Offset = p.frame.LineOffset(start)
		if end-first == 1 {
			f.EventID = eventID(body[start:ends[i]])
		}
	}
	c.rep.add(f)
}

// checkpointFrame checks a checkpoint the segment keeps.
func (c *trailCheck) checkpointFrame(p *piece) {
	o := &p.note
	if !c.signature(o, c.g.Name, p.frame.Offset, "a checkpoint in the segment") {
		return
	}
	if o.Size != c.next {
		c.rep.add(Finding{Outcome: Contradicted, Check: checkpointPlace, Segment: c.g.Name, Offset: p.frame.Offset,
			Detail: fmt.Sprintf("a checkpoint of %d leaves stands behind %d", o.Size, c.next)})
		return
	}
	c.confirm(o, nil, c.g.Name, p.frame.Offset, "a checkpoint in the segment")
}

// confirm compares signed roots with the trees', or those given.
func (c *trailCheck) confirm(o *opened, roots []suite.Hash, file string, at int64, where string) bool {
	if roots == nil {
		for _, s := range c.trees {
			if s.tree == nil || s.off {
				break
			}
			roots = append(roots, s.tree.Root())
		}
	}
	f := Finding{Outcome: Contradicted, Segment: file, Offset: at}
	switch {
	case len(roots) == 0:
		return false
	case roots[0] != o.Root:
		f.Check, f.Detail = rootMismatch, where+fmt.Sprintf(" of %d leaves has another root than they have", o.Size)
	case o.SM3Root != nil && len(roots) > 1 && roots[1] != *o.SM3Root:
		f.Check, f.Detail = sm3RootMismatch, where+fmt.Sprintf(" of %d leaves has another SM3 root than they have, and the same SHA-256 root", o.Size)
	default:
		if !c.isSealed || o.Size >= c.sealed.Size {
			c.sealed, c.isSealed = *o, true
		}
		c.good = max(c.good, o.Size)
		for _, s := range c.trees {
			if !s.off {
				c.tilesAreWrong(s)
			}
		}
		return true
	}
	if c.unsealed {
		return false // follows from what was found before
	}
	c.unsealed = true
	c.narrow(f, o.Size)
	return false
}

// narrow reports that a checkpoint does not have its leaves' root, for the
// bundles whose stored root is not theirs, or for all leaves since the last
// checkpoint that was confirmed.
func (c *trailCheck) narrow(f Finding, size uint64) {
	s := c.trees[0]
	if f.Check == rootMismatch {
		var bundles []uint64
		for _, w := range s.wrong {
			if w.tile.Level == 1 && w.problem == "" {
				for i := w.first; i <= w.last; i++ {
					bundles = append(bundles, w.tile.N*tlog.TileWidth+uint64(i))
				}
			}
		}
		bundles = append(bundles, s.bundles(c.good, size)...)
		slices.Sort(bundles)
		bundles = slices.Compact(bundles)
		s.wrong = s.wrong[:0]
		for _, n := range bundles {
			first, end := max(c.good, n*tlog.TileWidth), min(size, (n+1)*tlog.TileWidth)
			if first >= end {
				continue
			}
			g := f
			g.Leaf, g.LastLeaf, g.HasLeaf = first, end-1, true
			g.Detail += "; nor have these the root that was stored of them"
			c.rep.add(g)
		}
		if c.rep.has(rootMismatch) {
			return
		}
	}
	if size > c.good {
		f.Leaf, f.LastLeaf, f.HasLeaf = c.good, size-1, true
	}
	c.rep.add(f)
}

// reachMarks compares the checkpoints from outside that end here, or ended
// within the last frame.
func (c *trailCheck) reachMarks() {
	for c.reader < len(c.marks) {
		m := c.marks[c.reader]
		if m.Size > c.next {
			return
		}
		c.reader++
		if c.trees[0].off || m.Size < c.next && len(m.roots) == 0 {
			continue // finish looks again
		}
		if m.Size == c.next {
			m.roots = nil
			for _, s := range c.trees {
				if s.tree == nil {
					break
				}
				m.roots = append(m.roots, s.tree.Root())
			}
		}
		c.compareMark(m)
	}
}

func (c *trailCheck) compareMark(m *mark) {
	m.done = true
	if m.kept == "" {
		c.confirm(&m.opened, m.roots, trail.CheckpointFile, 0, m.where())
		return
	}
	f := Finding{Outcome: Contradicted, Check: historyDiffers, Segment: m.kept}
	switch {
	case m.roots[0] != m.Root:
		f.Detail = fmt.Sprintf("%s: its %d leaves are not the first %d of this trail", m.where(), m.Size, m.Size)
	case m.SM3Root != nil && len(m.roots) > 1 && m.roots[1] != *m.SM3Root:
		f.Check = sm3RootMismatch
		f.Detail = fmt.Sprintf("%s: its SM3 root is another, the SHA-256 root is the same", m.where())
	default:
		c.rep.Compared = append(c.rep.Compared, m.kept)
		if m.err == nil {
			c.confirm(&m.opened, m.roots, m.kept, 0, m.where())
		}
		return
	}
	if m.Size > c.good {
		f.Leaf, f.LastLeaf, f.HasLeaf = c.good, m.Size-1, true
	}
	c.rep.add(f)
}

// torn tells whether a piece that does not hold, and what comes behind it, is
// what a crash or a writer at work leaves of a write that was not acknowledged.
func (c *trailCheck) torn(p *piece) bool {
	if !c.g.last {
		return false
	}
	size, covered := c.published()
	if covered && size > c.next && p.header && p.frame.Count > 0 && !p.tail {
		return false // what a checkpoint covers was acknowledged
	}
	file, err := os.Open(c.g.Path)
	if err != nil {
		return false
	}
	defer file.Close()
	_, tail, err := segment.Recover(file, c.g.size, func(*segment.Frame) error { return nil })
	if err != nil || tail.Err != nil || tail.Offset != p.frame.Offset {
		return false
	}
	c.skip = true
	c.tailAt = tail.Offset
	if covered && size > c.next {
		return true // finish says that signed leaves are gone
	}
	f := Finding{Outcome: CouldNotCheck, Check: tailTorn, Segment: c.g.Name, Offset: tail.Offset,
		Detail: fmt.Sprintf("%d bytes of a write that is not whole: as far as they tell it was never acknowledged, and the next writer cuts it off", tail.Size)}
	if c.grows(file) {
		f.Outcome, f.Detail = Intact, "the trail is being written: it was checked as far as it reached at the start"
	}
	c.rep.add(f)
	return true
}

// grows tells whether a writer is at the file: whether it changes its length
// within a moment.
func (c *trailCheck) grows(file *os.File) bool {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for range 50 {
		st, err := file.Stat()
		if err != nil {
			return false
		}
		if st.Size() != c.g.size {
			return true
		}
		<-poll.C
	}
	return false
}

// published is how far signed checkpoints say that the trail reaches.
func (c *trailCheck) published() (uint64, bool) {
	var size uint64
	found := false
	for _, m := range c.marks {
		if m.err == nil {
			size, found = max(size, m.Size), true
		}
	}
	return size, found
}

// finish compares what could only be compared at the end.
func (c *trailCheck) finish() {
	rep := c.rep
	for _, s := range c.trees {
		if s.tree == nil || s.off {
			continue
		}
		for t, hashes := range s.tree.Edge() {
			if t.Level > 0 {
				c.compareTile(s, t, hashes)
			}
		}
	}
	if !c.trees[0].off {
		for _, m := range c.marks {
			if !m.done && m.Size <= c.next {
				c.rootsAt(m)
			}
		}
	}
	for _, m := range c.marks {
		if !m.done {
			c.unmatched(m)
		}
	}
	for _, s := range c.trees {
		if s.off {
			if rep.Outcome != Contradicted {
				rep.add(Finding{Outcome: CouldNotCheck, Check: rootUnchecked,
					Detail: fmt.Sprintf("the %s tree could not be built to its end: leaves hold by their frames alone", s.digest())})
			}
		} else {
			c.tilesAreWrong(s)
		}
	}
	if !c.isSealed && !rep.has(checkpointMissing) && rep.Outcome == Intact {
		rep.add(Finding{Outcome: CouldNotCheck, Check: checkpointMissing, Detail: "no signed checkpoint covers any leaf"})
	}
	if c.backwards > 1 {
		for i := range rep.Findings {
			if f := &rep.Findings[i]; f.Check == timeBackwards {
				f.Detail = fmt.Sprintf("%s; %d more times", f.Detail, c.backwards-1)
			}
		}
	}
	rep.Size = c.next
	switch {
	case c.isSealed:
		rep.Sealed, rep.Root = c.sealed.Size, encodeRoot(c.sealed.Root)
		if c.sealed.SM3Root != nil {
			rep.SM3Root = encodeRoot(*c.sealed.SM3Root)
		}
	case !c.trees[0].off:
		rep.Root = encodeRoot(c.trees[0].tree.Root())
		if len(c.trees) > 1 && !c.trees[1].off {
			rep.SM3Root = encodeRoot(c.trees[1].tree.Root())
		}
	}
	c.trust.finish(rep)
}

// rootsAt finds the roots at a size that was passed over, from stored tiles.
func (c *trailCheck) rootsAt(m *mark) {
	if len(m.roots) == 0 {
		for _, s := range c.trees {
			root, err := tlog.RootAt(s.digest(), edgeTiles{s}, m.Size)
			if err != nil || s.off {
				break
			}
			m.roots = append(m.roots, root)
		}
	}
	if len(m.roots) > 0 {
		c.compareMark(m)
	}
}

// edgeTiles are the stored tiles and those at the tree's edge.
type edgeTiles struct{ s *treeState }

func (e edgeTiles) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	for at, hashes := range e.s.tree.Edge() {
		if at.Level == t.Level && at.N == t.N && len(hashes) >= t.Width {
			return slices.Clone(hashes), nil
		}
	}
	return e.s.stored.ReadTile(t)
}

// unmatched reports a checkpoint from outside that no root was found for.
func (c *trailCheck) unmatched(m *mark) {
	f := Finding{Outcome: Contradicted, Check: rolledBack, Segment: m.kept, Leaf: c.next, LastLeaf: m.Size - 1, HasLeaf: true,
		Detail: fmt.Sprintf("%s covers %d leaves, the trail has %d", m.where(), m.Size, c.next)}
	switch {
	case m.Size > c.next && m.kept == "":
		f.Check = segmentTruncated
		f.Segment = trail.SegmentName(c.next)
		if c.g != nil {
			f.Segment, f.Offset = c.g.Name, c.g.size
			if c.tailAt > 0 {
				f.Offset = c.tailAt
			}
		}
		f.Detail += ": the end of this segment is gone, or the segments after it"
	case m.Size > c.next:
	case m.kept == "" && c.rep.Outcome == Contradicted:
		return // follows from what was found
	case m.kept == "":
		f = Finding{Outcome: CouldNotCheck, Check: rootUnchecked, Segment: trail.CheckpointFile,
			Detail: "the leaves up to " + m.where() + " are not all there to compute its root"}
	default:
		f = Finding{Outcome: CouldNotCheck, Check: historyUnchecked, Segment: m.kept,
			Detail: m.where() + ": the leaves up to it are not all there, or are damaged, so its root can't be compared"}
	}
	c.rep.add(f)
}

// lenientLines are the lines of a body as found: the last one may lack its end.
func lenientLines(body []byte) []int {
	ends := segment.SplitLines(nil, body)
	if n := len(body); n > 0 && !bytes.HasSuffix(body, []byte("\n")) {
		ends = append(ends, n)
	}
	return ends
}
