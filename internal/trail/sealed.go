package trail

import (
	"fmt"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// Sealed is a view together with a signed checkpoint of it, or of less of it:
// what events are proved against.
type Sealed struct {
	*View
	Note       []byte
	Checkpoint checkpoint.Checkpoint

	recent recentTiles
}

// Seal opens the note with the trusted keys. The checkpoint must be of this
// log, at a size the view reaches, with the view's roots.
func (v *View) Seal(note []byte, trusted []checkpoint.Verifier) (*Sealed, error) {
	c, _, err := checkpoint.Open(note, trusted)
	if err != nil {
		return nil, err
	}
	if c.Size > v.size {
		return nil, fmt.Errorf("the trail has %d leaves, its checkpoint %d: run veritrail verify", v.size, c.Size)
	}
	return &Sealed{View: v, Note: note, Checkpoint: c}, nil
}

// Proof shows that one leaf is under a checkpoint.
type Proof struct {
	Leaf   uint64
	SHA256 []suite.Hash
	SM3    []suite.Hash // nil without SM3
}

// Prove makes the proof of a leaf, and checks it against the checkpoint. It
// fails for leaves the checkpoint does not cover.
func (s *Sealed) Prove(index uint64, leaf []byte) (Proof, error) {
	p := Proof{Leaf: index}
	var err error
	if p.SHA256, err = s.prove(suite.SHA256, index, leaf, s.Checkpoint.Root); err != nil {
		return p, err
	}
	if s.Checkpoint.SM3Root != nil {
		p.SM3, err = s.prove(suite.SM3, index, leaf, *s.Checkpoint.SM3Root)
	}
	return p, err
}

func (s *Sealed) prove(d suite.Digest, index uint64, leaf []byte, root suite.Hash) ([]suite.Hash, error) {
	path, err := tlog.InclusionProof(d, recentReader{&s.recent, d, s.Tiles(d)}, index, s.Checkpoint.Size)
	if err != nil {
		return nil, err
	}
	return path, tlog.CheckInclusion(d, index, s.Checkpoint.Size, d.LeafHash(leaf), path, root)
}
