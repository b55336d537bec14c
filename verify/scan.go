package verify

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"

	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// One goroutine reads the segments in order and cuts them into pieces, several
// check and hash the pieces, and the caller takes them in order again. What is
// between them are chunks of bounded size that are used again, so memory does
// not grow with the trail.

const (
	chunkBytes = 1 << 20
	// maxStretch bounds the bytes kept of a stretch without sound frames.
	maxStretch = segment.MaxFrameBody + 1<<20
)

var frameMagic = []byte("VTF\x01")

// seg is one segment file, as the listing and its header say.
type seg struct {
	trail.SegmentFile
	header    segment.Header
	headerErr error // the header is damaged, and header is what the name tells
	err       error // the file can't be read
	size      int64
	last      bool
	nextFirst uint64 // the leaf the next segment begins with; 0 in the last
}

// piece is one frame, or a stretch of a segment in which none could be found.
type piece struct {
	seg   *seg
	begin bool // the segment begins here; there is no frame
	err   error
	frame segment.Frame

	header bool // frame.FrameHeader is sound
	whole  bool // frame.Body is as long as the header says, and the next frame begins behind it
	final  bool // nothing of the segment comes behind
	tail   bool // this stretch goes to the end of the file
	after  bool // comes behind a stretch: its link can't be compared
	cut    bool // the stretch was too long to keep
	end    int64
	known  bool   // next is
	next   uint64 // the leaf that the next sound frame, or segment, begins with

	from, to int // of the body in the chunk
	leaf0    int // of the hashes in the chunk

	// What a worker found.
	bodyErr  error
	linesErr error
	printsOK bool
	hashes   [2][]suite.Hash
	note     opened
}

type chunk struct {
	pieces []piece
	buf    []byte
	hashes [2][]suite.Hash
	read   int64 // bytes of the files, for the progress
	done   chan struct{}
}

type scanner struct {
	segs    []*seg
	digests []suite.Digest
	trust   *trust
	order   chan *chunk
	jobs    chan *chunk
	free    chan *chunk
	cur     *chunk
}

// scan starts the goroutines. They have ended when wait returns, which takes no
// longer than a chunk's work once ctx has ended. The caller gives each chunk
// back through free.
func scan(ctx context.Context, segs []*seg, digests []suite.Digest, t *trust, workers int) (s *scanner, wait func()) {
	n := workers + 2 // one being read, one being taken, one for each worker
	s = &scanner{
		segs: segs, digests: digests, trust: t,
		order: make(chan *chunk, n), jobs: make(chan *chunk, n), free: make(chan *chunk, n),
	}
	for range n {
		s.free <- &chunk{done: make(chan struct{}, 1)}
	}
	var group sync.WaitGroup
	group.Go(func() {
		defer close(s.order)
		defer close(s.jobs)
		s.readAll(ctx)
	})
	for range workers {
		group.Go(func() {
			var ends []int
			for c := range s.jobs {
				ends = s.work(c, ends)
				c.done <- struct{}{}
			}
		})
	}
	return s, group.Wait
}

func (s *scanner) readAll(ctx context.Context) {
	for _, g := range s.segs {
		if !s.readSegment(ctx, g) {
			return
		}
	}
	s.flush()
}

// room makes sure that there is a chunk to add to. It is false when ctx ended.
func (s *scanner) room(ctx context.Context) bool {
	if s.cur != nil {
		return true
	}
	select {
	case s.cur = <-s.free:
	case <-ctx.Done():
		return false
	}
	c := s.cur
	c.pieces, c.buf, c.read = c.pieces[:0], c.buf[:0], 0
	return ctx.Err() == nil
}

func (s *scanner) flush() {
	c := s.cur
	if c == nil || len(c.pieces) == 0 {
		return
	}
	for i := range c.pieces {
		p := &c.pieces[i]
		p.frame.Body = c.buf[p.from:p.to:p.to]
	}
	s.cur = nil
	s.order <- c // neither blocks: there are no more chunks than places
	s.jobs <- c
}

// put adds a piece with its bytes. The chunk is handed on before, when full.
func (s *scanner) put(ctx context.Context, p piece, body []byte) bool {
	if s.cur != nil && len(s.cur.pieces) > 0 && (len(s.cur.buf)+len(body) > chunkBytes || len(s.cur.pieces) >= 1<<14) {
		s.flush()
	}
	if !s.room(ctx) {
		return false
	}
	c := s.cur
	p.from = len(c.buf)
	if need := p.from + len(body); need > cap(c.buf) {
		// Not append's growth: a chunk is one large frame or many small ones.
		c.buf = append(make([]byte, 0, max(need, int(min(chunkBytes, p.seg.size)))), c.buf...)
	}
	c.buf = append(c.buf, body...)
	p.to = len(c.buf)
	c.pieces = append(c.pieces, p)
	c.read += int64(len(body))
	return true
}

// held is the piece added last, which a look behind it may yet change.
func (s *scanner) held() *piece {
	p := &s.cur.pieces[len(s.cur.pieces)-1]
	p.frame.Body = s.cur.buf[p.from:p.to:p.to]
	return p
}

func (s *scanner) readSegment(ctx context.Context, g *seg) bool {
	if !s.put(ctx, piece{seg: g, begin: true}, nil) {
		return false
	}
	if g.err != nil {
		return true
	}
	file, err := os.Open(g.Path)
	if err != nil {
		s.held().err = err
		return true
	}
	defer file.Close()
	src := io.ReaderAt(file)
	if g.headerErr != nil {
		src = &patched{file, g.header.Marshal()}
	}
	r, err := segment.NewReader(src, g.size)
	if err != nil {
		s.held().err = err
		return true
	}
	after, following := g.headerErr != nil, false
	for {
		f, err := r.Peek()
		var damage *segment.DamageError
		switch {
		case err == nil:
			p := piece{seg: g, frame: f, header: true, whole: true, after: after, end: f.Offset + f.Size()}
			if !s.put(ctx, p, f.Body) {
				return false
			}
			r.Accept(&f)
			after, following = false, true
			continue
		case errors.Is(err, io.EOF):
			s.held().final = true
			return true
		case !errors.As(err, &damage):
			return s.put(ctx, piece{seg: g, err: err, frame: segment.Frame{Offset: r.Offset()}, tail: true, final: true}, nil)
		}
		at, sound := r.Offset(), false
		if following && s.overlong(src, g.size) {
			// The frame before does not end where its header says: the
			// stretch begins with it.
			h := s.held()
			at, f, sound, after = h.frame.Offset, h.frame, true, h.after
			s.cur.buf = s.cur.buf[:h.from]
			s.cur.pieces = s.cur.pieces[:len(s.cur.pieces)-1]
		} else if f.Hash != (suite.Hash{}) {
			sound = true // cut short by the end of the file, or by what was removed
		}
		next, err := s.findFrame(r, src, g.size, at+1)
		p := piece{seg: g, header: sound, frame: f, after: after, end: g.size, tail: next == nil, final: next == nil}
		p.frame.Offset = at
		if next != nil {
			p.end, p.known, p.next = next.Offset, true, next.FirstLeaf
		} else if !g.last {
			p.known, p.next = true, g.nextFirst
		}
		if err != nil {
			p.err = err
		}
		from := at
		if sound {
			from += f.Size() - int64(f.BodySize)
		}
		var body []byte
		if p.cut = p.end-from > maxStretch || p.err != nil; !p.cut && p.end > from {
			body = make([]byte, p.end-from)
			if _, err := src.ReadAt(body, from); err != nil && !errors.Is(err, io.EOF) {
				p.err, p.cut, body = err, true, nil
			}
		}
		if !s.put(ctx, p, body) {
			return false
		}
		if next == nil {
			return true
		}
		goTo(r, next.Offset)
		after, following = true, false
	}
}

// goTo makes a reader go on at off, as if a frame had ended there.
func goTo(r *segment.Reader, off int64) {
	var before segment.Frame
	before.Offset = off - before.Size()
	r.Accept(&before)
}

// overlong tells whether bytes were put into the held frame or taken out of it,
// so that what follows it is elsewhere: it does not hold, and what stands
// behind it is nothing like a frame.
func (s *scanner) overlong(src io.ReaderAt, size int64) bool {
	h := s.held()
	if h.begin || !h.header || h.frame.CheckBody() == nil {
		return false
	}
	b := make([]byte, min(int64(len(frameMagic)), size-h.end))
	if _, err := src.ReadAt(b, h.end); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	alike := 0
	for i := range b {
		if b[i] == frameMagic[i] {
			alike++
		}
	}
	return alike < 3
}

// findFrame is the first frame with a sound header from off on, nil when there
// is none.
func (s *scanner) findFrame(r *segment.Reader, src io.ReaderAt, size, off int64) (*segment.Frame, error) {
	buf := make([]byte, max(0, min(256<<10, size-off)))
	for off+int64(len(frameMagic)) <= size {
		n := int(min(int64(len(buf)), size-off))
		if _, err := src.ReadAt(buf[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		i := bytes.Index(buf[:n], frameMagic)
		if i < 0 {
			off += int64(n - len(frameMagic) + 1)
			continue
		}
		off += int64(i)
		goTo(r, off)
		f, err := r.Peek()
		if err == nil || errors.Is(err, segment.ErrShort) && f.Hash != (suite.Hash{}) {
			return &f, nil
		}
		off++
	}
	return nil, nil
}

// patched is a segment file whose header is replaced by what it should be, as
// far as that is known.
type patched struct {
	io.ReaderAt
	header []byte
}

func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.ReaderAt.ReadAt(b, off)
	if off < int64(len(p.header)) {
		copy(b[:n], p.header[off:])
	}
	return n, err
}

// work checks what can be checked of each piece alone.
func (s *scanner) work(c *chunk, ends []int) []int {
	total := 0
	for i := range c.pieces {
		p := &c.pieces[i]
		p.leaf0 = total
		if p.whole && p.frame.Kind == segment.Events {
			total += p.frame.Count
		}
	}
	for d := range s.digests {
		if cap(c.hashes[d]) < total {
			c.hashes[d] = make([]suite.Hash, total)
		}
		c.hashes[d] = c.hashes[d][:total]
	}
	for i := range c.pieces {
		p := &c.pieces[i]
		if !p.whole {
			continue
		}
		f := &p.frame
		p.bodyErr = f.CheckBody()
		if f.Kind == segment.Checkpoint {
			if p.bodyErr == nil {
				p.note = s.trust.open(f.Body)
			}
			continue
		}
		if ends, p.linesErr = f.Ends(ends[:0]); p.linesErr != nil {
			continue
		}
		for d, digest := range s.digests {
			p.hashes[d] = c.hashes[d][p.leaf0 : p.leaf0+f.Count]
			digest.LeafHashes(p.hashes[d], f.Lines(), ends)
		}
		p.printsOK = true
		for i := range p.hashes[0] {
			if !f.HasFingerprint(i, &p.hashes[0][i]) {
				p.printsOK = false
				break
			}
		}
	}
	return ends
}
