package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"

	"github.com/veritrail/veritrail"
)

// errUnread: an event that has the id of another can't be compared with it.
var errUnread = errors.New("the event with this id can't be read")

// identified is an event that was read to see whether it has an id: what is
// compared when the id comes again is what was sent, not what the recorder made
// of it.
type identified struct {
	draft  veritrail.Draft
	text   []byte
	digest uint64 // 0 when there is no id, or the event breaks a rule
}

var identifieds = sync.Pool{New: func() any { return new(identified) }}

// identify reads an event that may have an id. It is nil when it surely has none,
// or is no event: the recorder reads it then, and says why.
func (s *Server) identify(shape string, text []byte) *identified {
	// Where there is none, the recorder reads the event right into its own memory. A
	// key can be spelled with escapes, and another shape has another name for it.
	escaped := bytes.IndexByte(text, '\\') >= 0
	if s.window.max < 1 || !escaped && !bytes.Contains(text, []byte(`"id"`)) && s.cfg.Recorder.IsEvent(shape, text) {
		return nil
	}
	in, _ := identifieds.Get().(*identified)
	if s.cfg.Recorder.ReadJSON(&in.draft, shape, text) != nil {
		in.release()
		return nil
	}
	if in.digest = 0; in.draft.ID.IsZero() || in.draft.Validate() != nil {
		return in
	}
	in.text = in.draft.AppendCanonical(in.text[:0])
	in.digest = s.window.digest(in.text)
	return in
}

func (in *identified) release() {
	if in == nil {
		return
	}
	in.draft.Reset()
	clear(in.text)
	identifieds.Put(in)
}

// claim asks for the event's id: what the way tells is either that it is free,
// or who has it.
func (s *Server) claim(ctx context.Context, in *identified) (way, error) {
	if in == nil || in.digest == 0 {
		return way{}, nil
	}
	before, first, mine, err := s.window.claim(ctx, in.draft.ID, in.digest)
	switch {
	case err != nil:
		return way{}, fmt.Errorf("waiting for an event with the same id: %w", err)
	case mine != nil:
		return way{mine: mine}, nil
	case first != nil:
		w := way{future: first.future, again: true, other: first.digest != in.digest}
		if first.digest == 0 { // its id was made here: the trail knows what it says
			leaf, durable := first.future.Leaf()
			if w.other = false; durable {
				w.other, err = s.differs(in, leaf)
			}
		}
		return w, err
	}
	w := way{again: true, known: true, leaf: before.leaf, other: before.digest != in.digest}
	if before.digest == 0 { // from before the program began, or of an event whose id was made here
		if w.other, err = s.differs(in, before.leaf); err != nil {
			return way{}, err
		}
		if !w.other {
			s.window.learn(in.draft.ID, in.digest)
		}
	}
	return w, nil
}

// differs compares an event with a leaf.
func (s *Server) differs(in *identified, leaf uint64) (bool, error) {
	line, _, err := s.cfg.View().Leaves().ReadPlace(leaf)
	if err != nil {
		return false, fmt.Errorf("%w: leaf %d: %w", errUnread, leaf, err)
	}
	var stored veritrail.Draft
	if err := stored.Parse(line); err != nil {
		return false, fmt.Errorf("%w: leaf %d: %w", errUnread, leaf, err)
	}
	return stored.ID != in.draft.ID || !sameContent(&in.draft, &stored, s.cfg.Redacts), nil
}

// conflict notes that another event has the id.
func (a *answer) conflict(res *result) {
	a.Rejected++
	a.conflicts++
	res.Status = conflict
	res.Violations = []violation{{Path: "/id", Rule: ruleConflict, Shape: "the id of an event that says something else"}}
}

const ruleConflict = "want an id that no other event has"

// settleKnown answers for an event whose id was acknowledged before.
func (a *answer) settleKnown(res *result, w *way, in *identified) {
	res.ID, res.Leaf = in.draft.ID.String(), &w.leaf
	if w.other {
		a.conflict(res)
		return
	}
	res.Status, res.Duplicate = recorded, true
	a.Accepted++
}

// noteConflicts leaves one event for all of a request's conflicts, as the
// recorder does for other rejections.
func (s *Server) noteConflicts(ctx context.Context, a *answer) {
	if a.conflicts == 0 {
		return
	}
	object := map[string]string{"path": "/id", "rule": ruleConflict}
	if a.conflicts > 1 {
		object["more"] = strconv.Itoa(a.conflicts - 1)
	}
	err := s.cfg.Recorder.RecordOwn(ctx, &veritrail.ComplianceEvent{
		Severity: veritrail.SeverityWarn, Action: "TRAIL.EVENT.REJECTED", Subject: map[string]string{"svc": "veritrail"}, Object: object,
	})
	if err != nil {
		s.cfg.Log.Warn("a conflict of ids is not on record", slog.Int("conflicts", a.conflicts), slog.Any("error", err))
	}
}
