package server

import (
	"fmt"
	"sync"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/trail"
)

// newest is the newest checkpoint and a view that reaches it, together: what is
// proved and served must fit the checkpoint that is sent along.
type newest struct {
	mu     sync.Mutex
	of     *trail.View // sealed was looked for with this view
	sealed *trail.Sealed
}

// sealed is the log under its newest checkpoint, nil when there is none.
//
// The writer publishes a checkpoint first and the view of it after. So for a
// view not seen before the file holds its checkpoint or a newer one. Of the
// newer one the view comes in a moment; until then the pair before is served.
func (s *Server) sealed() (*trail.Sealed, error) {
	n := &s.newest
	n.mu.Lock()
	defer n.mu.Unlock()
	view := s.cfg.View()
	if view == n.of {
		return n.sealed, nil
	}
	note, err := trail.ReadCheckpoint(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if note == nil {
		n.of, n.sealed = view, nil
		return nil, nil
	}
	c, err := checkpoint.ParseUnverified(note)
	if err != nil {
		return nil, fmt.Errorf("the stored checkpoint: %w", err)
	}
	if c.Size > view.Size() && (n.sealed != nil || s.cfg.Recorder != nil) {
		return n.sealed, nil
	}
	sealed, err := view.Seal(note, s.trusted)
	if err != nil {
		return nil, fmt.Errorf("the stored checkpoint: %w", err)
	}
	n.of, n.sealed = view, sealed
	return sealed, nil
}
