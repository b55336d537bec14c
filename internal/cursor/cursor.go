// Package cursor owns how something follows a trail: a sink, an archive, an
// index. It reads the durable leaves in order, a batch at a time and at its own
// pace, and remembers durably how far the follower has come. The trail's writer
// knows nothing of it and never waits for it.
//
//	c, err := cursor.Open(cursor.Config{Dir: dir, Name: "siem", Durable: size})
//	for {
//		batch, err := c.Next(ctx, 1000) // waits for leaves
//		…deliver batch…
//		err = c.Acknowledge(batch.End())
//	}
//
// Delivery is at least once: what was handed out and not acknowledged is handed
// out again after a crash. Leaves whose segment has expired are not passed over
// in silence: Next returns a *GapError, and the follower says with Skip that it
// knows.
//
// A position is a file, DIR/cursors/NAME.json, laid out as docs/format/cursor.md
// says. It belongs to one instance of a log: to go on in another trail, or in
// one that was set back behind the position, is refused.
package cursor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// Dir is where positions lie in a trail's directory.
const Dir = "cursors"

var (
	// ErrOtherTrail says that a position is of another instance of a log.
	ErrOtherTrail = errors.New("the position is of another trail")
	// ErrAhead says that the trail ends before the position: it was set back.
	ErrAhead = errors.New("the trail ends before the position")
)

// GapError says that leaves cannot be handed out, because their segment is
// gone.
type GapError struct{ First, End uint64 }

func (e *GapError) Error() string {
	return fmt.Sprintf("leaves %d to %d: %v", e.First, e.End-1, trail.ErrMissing)
}

func (e *GapError) Unwrap() error { return trail.ErrMissing }

// Batch is leaves that follow each other.
type Batch struct {
	First  uint64
	Leaves [][]byte
}

// End is the position behind the batch.
func (b *Batch) End() uint64 { return b.First + uint64(len(b.Leaves)) }

// Follower reads the durable leaves of a trail in order. It is used by one
// goroutine.
type Follower struct {
	dir     string
	leaves  *trail.Leaves
	durable func() uint64
	every   time.Duration
	next    uint64
}

// Follow reads the trail in dir from leaf next on. durable tells how many of
// its leaves are durable: the writer's word, or the size of the newest
// checkpoint. Next asks it that often, 100 ms when 0. Close gives the files
// back.
func Follow(dir string, next uint64, durable func() uint64, every time.Duration) *Follower {
	if every <= 0 {
		every = 100 * time.Millisecond
	}
	return &Follower{dir: dir, leaves: trail.NewLeaves(dir), durable: durable, every: every, next: next}
}

// Close gives the files that were read back.
func (f *Follower) Close() error { return f.leaves.Close() }

// Position is the leaf that comes next.
func (f *Follower) Position() uint64 { return f.next }

// Take returns what is there now, at most so many leaves, perhaps none.
func (f *Follower) Take(most int) (Batch, error) {
	b := Batch{First: f.next}
	end := f.durable()
	for len(b.Leaves) < most && f.next < end {
		n := min(f.next/tlog.TileWidth*tlog.TileWidth+tlog.TileWidth, end) - f.next
		leaves, err := f.leaves.Read(f.next, int(min(n, uint64(most-len(b.Leaves)))))
		if err != nil {
			if len(b.Leaves) > 0 {
				return b, nil // and the error next time
			}
			return b, f.explain(err)
		}
		b.Leaves = append(b.Leaves, leaves...)
		f.next += uint64(len(leaves))
	}
	return b, nil
}

// explain turns a missing segment into the gap it leaves.
func (f *Follower) explain(problem error) error {
	if !errors.Is(problem, trail.ErrMissing) {
		return problem
	}
	files, err := trail.Segments(f.dir)
	if err != nil {
		return errors.Join(problem, err)
	}
	for _, file := range files {
		if file.FirstLeaf > f.next {
			return &GapError{f.next, file.FirstLeaf}
		}
	}
	return problem
}

// Next waits until there are leaves, and returns at most so many.
func (f *Follower) Next(ctx context.Context, most int) (Batch, error) {
	if b, err := f.Take(most); err != nil || len(b.Leaves) > 0 {
		return b, err
	}
	tick := time.NewTicker(f.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return Batch{First: f.next}, ctx.Err()
		case <-tick.C:
		}
		if b, err := f.Take(most); err != nil || len(b.Leaves) > 0 {
			return b, err
		}
	}
}

// Config says what follows which trail. Durable is required.
type Config struct {
	Dir     string        // the trail's
	Name    string        // of the position: a-z, 0-9 and -
	Durable func() uint64 // as Follow has it
	Every   time.Duration // as Follow has it
	Disk    durable.FS    // durable.OS when nil
}

// Cursor is a Follower whose position outlives the process.
type Cursor struct {
	*Follower
	disk     durable.FS
	file     string
	instance [16]byte
	acked    uint64
}

// Open goes on where the last Acknowledge of that name was, or begins with the
// first leaf.
func Open(cfg Config) (*Cursor, error) {
	if cfg.Disk == nil {
		cfg.Disk = durable.OS
	}
	if cfg.Name == "" || len(cfg.Name) > 64 || strings.Trim(cfg.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return nil, fmt.Errorf("cursor %.64q: want a name of a-z, 0-9 and -", cfg.Name)
	}
	id, err := trail.ReadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	c := &Cursor{disk: cfg.Disk, file: filepath.Join(cfg.Dir, Dir, cfg.Name+".json"), instance: id.Instance}
	b, err := os.ReadFile(c.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := cfg.Disk.MkdirAll(filepath.Dir(c.file)); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		instance, next, err := parsePosition(b)
		if err == nil && instance != id.Instance {
			err = ErrOtherTrail
		}
		if size := cfg.Durable(); err == nil && next > size {
			err = fmt.Errorf("%w: %d of %d leaves", ErrAhead, next, size)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.file, err)
		}
		c.acked = next
	}
	c.Follower = Follow(cfg.Dir, c.acked, cfg.Durable, cfg.Every)
	return c, nil
}

// Acknowledge says that everything before leaf next is done with. It is on
// stable storage when Acknowledge returns.
func (c *Cursor) Acknowledge(next uint64) error {
	if next < c.acked || next > c.next {
		return fmt.Errorf("cursor: acknowledging leaf %d: acknowledged are %d, handed out %d", next, c.acked, c.next)
	}
	if err := c.disk.WriteFile(c.file, marshalPosition(c.instance, next)); err != nil {
		return err
	}
	c.acked = next
	return nil
}

// Skip goes on behind a gap. The follower has said elsewhere that it misses
// those leaves; the position is durable when Skip returns.
func (c *Cursor) Skip(gap *GapError) error {
	if gap.First != c.next || gap.End <= gap.First {
		return fmt.Errorf("cursor: skipping %d to %d: the next leaf is %d", gap.First, gap.End, c.next)
	}
	before := c.next
	c.next = gap.End
	if err := c.Acknowledge(gap.End); err != nil {
		c.next = before
		return err
	}
	return nil
}

// Rewind hands out again what was not acknowledged.
func (c *Cursor) Rewind() { c.next = c.acked }

// Acknowledged is the durable position.
func (c *Cursor) Acknowledged() uint64 { return c.acked }

// Lag is how many durable leaves are not acknowledged yet.
func (c *Cursor) Lag() uint64 { return c.durable() - min(c.durable(), c.acked) }

const (
	positionFormat = "veritrail-cursor/1"
	maxPosition    = 512 // bytes of its file
)

type positionJSON struct {
	Format   string `json:"format"`
	Instance string `json:"instance"`
	Next     uint64 `json:"next"`
}

func marshalPosition(instance [16]byte, next uint64) []byte {
	b, err := json.Marshal(positionJSON{positionFormat, hex.EncodeToString(instance[:]), next})
	if err != nil {
		panic(err) // of strings and a number
	}
	return append(b, '\n')
}

// parsePosition reads what marshalPosition wrote, and no other spelling of it.
func parsePosition(b []byte) (instance [16]byte, next uint64, err error) {
	if len(b) > maxPosition {
		return instance, 0, fmt.Errorf("more than %d bytes", maxPosition)
	}
	var j positionJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return instance, 0, fmt.Errorf("%v", err)
	}
	if j.Format != positionFormat {
		return instance, 0, fmt.Errorf("format %.40q: this program reads %s", j.Format, positionFormat)
	}
	id, err := hex.DecodeString(j.Instance)
	if err != nil || len(id) != len(instance) {
		return instance, 0, errors.New("instance is not 32 hex digits")
	}
	copy(instance[:], id)
	if !bytes.Equal(marshalPosition(instance, j.Next), b) {
		return instance, 0, errors.New("not spelled the way it was written")
	}
	return instance, j.Next, nil
}
