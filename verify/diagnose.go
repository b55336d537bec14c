package verify

import (
	"encoding/binary"
	"fmt"

	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
)

// found is what a damaged frame's body holds, taken line by line.
type found struct {
	ends   []int
	lines  []byte
	hashes [][]suite.Hash // by tree
	old    []uint64       // the fingerprints stored
	now    []uint64       // those of the lines
}

func (c *trailCheck) split(f *segment.Frame) (found, bool) {
	var x found
	if len(f.Body) < 4*f.Count {
		return x, false
	}
	for i := range f.Count {
		x.old = append(x.old, uint64(binary.BigEndian.Uint32(f.Fingerprint(i))))
	}
	x.lines = f.Lines()
	x.ends = lenientLines(x.lines)
	for _, s := range c.trees {
		hashes := make([]suite.Hash, len(x.ends))
		s.digest().LeafHashes(hashes, x.lines, x.ends)
		x.hashes = append(x.hashes, hashes)
	}
	for i := range x.hashes[0] {
		x.now = append(x.now, uint64(binary.BigEndian.Uint32(x.hashes[0][i][:])))
	}
	return x, true
}

func (x *found) start(line int) int {
	switch {
	case line == 0 || len(x.ends) == 0:
		return 0
	case line > len(x.ends):
		line = len(x.ends)
	}
	return x.ends[line-1] + 1
}

func (x *found) id(line int) string {
	if line >= len(x.ends) {
		return ""
	}
	return eventID(x.lines[x.start(line):x.ends[line]])
}

// diagnose says what was done to a frame whose header is sound and whose body
// is not, and goes on behind it.
func (c *trailCheck) diagnose(p *piece) {
	f := &p.frame
	end := f.FirstLeaf + uint64(f.Count)
	// Whoever changed the frame may have changed what the next one links to:
	// that follows from what is found here.
	defer func() { c.next, c.linked = end, false }()
	x, ok := c.split(f)
	if !ok {
		c.frameFinding(Contradicted, frameDamaged, p, "the frame's bytes are gone or replaced")
		c.lose()
		return
	}
	c.events(f, x.hashes)
	if len(x.ends) == f.Count && c.proved(f, &x) {
		c.prints(p, &x)
		return
	}
	edits := align(x.old, x.now)
	if len(edits) == 0 {
		problem := "the frame's bytes are not those its checksum was made of"
		if p.bodyErr == nil {
			problem = "the frame does not hold the lines its header says"
		}
		c.frameFinding(Contradicted, frameDamaged, p, problem)
	}
	for _, e := range edits {
		c.rep.add(c.describe(f, &x, e))
	}
	c.lose()
}

// proved tells whether the lines are the leaves that the frame's root says, and
// then adds them.
func (c *trailCheck) proved(f *segment.Frame, x *found) bool {
	s := c.trees[0]
	if s.tree == nil || s.off || s.tree.Size() != f.FirstLeaf {
		return false
	}
	try := s.tree.Clone()
	try.AppendAll(x.hashes[0])
	if try.Root() != f.Root {
		return false
	}
	c.addLeaves(f.FirstLeaf, x.hashes)
	return true
}

// prints reports what is wrong with a frame whose leaves are all right.
func (c *trailCheck) prints(p *piece, x *found) {
	f := &p.frame
	wrong := 0
	for i := range x.old {
		if x.old[i] == x.now[i] {
			continue
		}
		wrong++
		leaf := f.FirstLeaf + uint64(i)
		c.rep.add(Finding{Outcome: Contradicted, Check: fingerprintWrong, Segment: c.g.Name, Offset: f.LineOffset(0) - int64(4*(f.Count-i)),
			Leaf: leaf, LastLeaf: leaf, HasLeaf: true, EventID: x.id(i), Detail: "the leaf is the one sealed, the fingerprint stored of it is not"})
	}
	if wrong == 0 {
		c.frameFinding(Contradicted, frameDamaged, p, "its leaves hold, its checksum does not")
	}
}

// describe puts an edit into words.
func (c *trailCheck) describe(f *segment.Frame, x *found, e edit) Finding {
	leaf := f.FirstLeaf + uint64(e.old)
	g := Finding{Outcome: Contradicted, Check: e.check, Segment: c.g.Name, Offset: f.LineOffset(x.start(e.now)), Leaf: leaf, LastLeaf: leaf, HasLeaf: true}
	if e.olds > 1 {
		g.LastLeaf = leaf + uint64(e.olds) - 1
	}
	if e.nows > 0 {
		g.EventID = x.id(e.now)
	}
	switch e.check {
	case leafRemoved:
		g.Detail = "gone from this place"
	case leafInserted:
		g.Detail = fmt.Sprintf("%d lines that were never sealed stand before this leaf", e.nows)
	case leafDuplicated:
		g.Detail = fmt.Sprintf("%d lines that stand elsewhere in the frame are repeated before this leaf", e.nows)
	case leavesSwapped:
		g.Detail = "the leaves are all there, in another order"
	case leafChanged:
		g.Detail = "the bytes are not those that were sealed"
		if e.olds != e.nows {
			g.Detail = fmt.Sprintf("where %d leaves were sealed stand %d lines", e.olds, e.nows)
		}
	}
	return g
}

// stretch looks into bytes between sound frames.
func (c *trailCheck) stretch(p *piece) {
	if p.tail && c.torn(p) {
		return
	}
	if size, ok := c.published(); p.tail && c.g.last && ok && size > c.next {
		p.known, p.next = true, size // leaves that must have stood here
	}
	if p.header {
		c.misfit(p)
		return
	}
	c.linked = false
	f := Finding{Outcome: Contradicted, Check: frameDamaged, Segment: c.g.Name, Offset: p.frame.Offset, Detail: "no frame can be read here"}
	if !p.known || p.next <= c.next {
		if p.known && p.next == c.next && !p.tail {
			f.Detail += "; it held no leaf"
			c.rep.add(f)
			return
		}
		// What is left of the header tells what it was, though not how much.
		note := len(p.frame.Body) > 4 && p.frame.Body[4] == byte(segment.Checkpoint)
		if !p.known && !note {
			f.Leaf, f.LastLeaf, f.HasLeaf = c.next, c.next, true
			f.Detail += ", nor what it held from this leaf on"
			c.lose()
		}
		c.rep.add(f)
		return
	}
	f.Leaf, f.LastLeaf, f.HasLeaf = c.next, p.next-1, true
	if c.headless(p) {
		f.Detail = "the frame's header is damaged; its leaves are whole"
		c.rep.add(f)
		c.reachMarks()
		return
	}
	c.rep.add(f)
	c.next = p.next
	c.lose()
}

// headless reads the leaves of a frame whose header alone is damaged: how many
// there are follows from the next one.
func (c *trailCheck) headless(p *piece) bool {
	count := p.next - c.next
	if p.cut || count > segment.MaxFrameLeaves {
		return false
	}
	f := segment.Frame{Offset: p.frame.Offset}
	f.FirstLeaf, f.Count = c.next, int(count)
	if len(c.trees) > 1 {
		f.SM3Root = new(suite.Hash)
	}
	size := int(f.Size())
	if len(p.frame.Body) < size {
		return false
	}
	f.Body = p.frame.Body[size:]
	x, ok := c.split(&f)
	if !ok || len(x.ends) != f.Count || len(align(x.old, x.now)) > 0 {
		return false
	}
	f.Time = c.lastTime
	c.events(&f, x.hashes)
	c.addLeaves(f.FirstLeaf, x.hashes)
	c.next = p.next
	return true
}

// misfit checks a frame whose body is longer or shorter than its header says.
func (c *trailCheck) misfit(p *piece) {
	f := &p.frame
	if p.tail {
		g := Finding{Outcome: Contradicted, Check: segmentTruncated, Segment: c.g.Name, Offset: c.g.size, Detail: "the segment ends within a frame"}
		next := f.FirstLeaf + uint64(f.Count)
		if p.known {
			next = max(next, p.next)
		}
		if next > c.next {
			g.Leaf, g.LastLeaf, g.HasLeaf = c.next, next-1, true
			c.next = next
			c.lose()
		}
		c.rep.add(g)
		c.linked = false
		return
	}
	if !c.enter(p) {
		return
	}
	if f.Kind == segment.Checkpoint || p.cut {
		c.frameFinding(Contradicted, frameDamaged, p, "the frame is not as long as its header says")
		c.next += uint64(f.Count)
		if f.Count > 0 {
			c.lose()
		}
		return
	}
	c.diagnose(p)
	c.reachMarks()
}
