package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	veritrail "github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/evidence"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

// Case checks a case, the ZIP of size bytes in r: that it is whole, that its
// checkpoint is signed, that every event is under that checkpoint in every
// tree, and is one event in its canonical form.
//
// A case holds some leaves of a trail, so kept checkpoints can be compared when
// they have the case's size; otherwise the report says that they could not be.
//
// The error is for Options that can't be meant, and for ctx.
func Case(ctx context.Context, r io.ReaderAt, size int64, opts Options) (*Report, error) {
	start := time.Now()
	t, err := newTrust(opts.Keys)
	if err != nil {
		return nil, err
	}
	rep := &Report{Kind: KindCase, Findings: []Finding{}, Compared: []string{}}
	if err := checkCase(ctx, r, size, opts, t, rep); err != nil {
		return nil, err
	}
	t.finish(rep)
	rep.Elapsed = Duration(time.Since(start))
	return rep, nil
}

func checkCase(ctx context.Context, r io.ReaderAt, size int64, opts Options, t *trust, rep *Report) error {
	in, err := evidence.NewReader(r, size)
	if err != nil {
		rep.add(caseFinding(err))
		return nil
	}
	if err := in.CheckFiles(); err != nil {
		rep.add(caseFinding(err))
	}
	t.adopt(rep, []byte(strings.Join(in.VKeys(), "\n")+"\n"), nil)
	o := t.open(in.Checkpoint())
	rep.Origin, rep.Size, rep.Digests = o.Origin, o.Size, in.Manifest().Digests
	f, signed := judge(&o, in.Manifest().Origin, "the checkpoint")
	if !signed {
		f.Segment = evidence.CheckpointFile
		rep.add(f)
		if o.bad != nil {
			return nil //nolint:nilerr // it is a finding, above
		}
	}
	for _, s := range o.sigs {
		t.signed[s] = true
	}
	c := caseCheck{rep: rep, o: &o, total: in.Manifest().Events, progress: opts.progress}
	if sm3 := in.Manifest().HasSM3(); sm3 && o.SM3Root == nil && signed {
		rep.add(Finding{Outcome: CouldNotCheck, Check: unknownKey, Segment: evidence.CheckpointFile,
			Detail: "there are SM3 proofs, but no trusted SM2 key to sign their root"})
	} else if !sm3 && o.SM3Root != nil {
		rep.add(Finding{Outcome: Contradicted, Check: proofMismatch, Segment: evidence.ManifestFile,
			Detail: "the checkpoint has an SM3 root, and no event a proof for it"})
	}
	if err := c.events(ctx, in); err != nil {
		return err
	}
	c.compareKept(t, opts.Checkpoints)
	if rep.Outcome != Contradicted {
		rep.Root = encodeRoot(o.Root)
		if o.SM3Root != nil {
			rep.SM3Root = encodeRoot(*o.SM3Root)
		}
		if signed {
			rep.Sealed = o.Size
		}
	}
	return nil
}

// caseFinding says what a case's reader found wrong.
func caseFinding(err error) Finding {
	var mismatch *evidence.Mismatch
	if errors.As(err, &mismatch) {
		return Finding{Outcome: Contradicted, Check: caseFileChanged, Segment: mismatch.File, Detail: err.Error()}
	}
	f := Finding{Outcome: CouldNotCheck, Check: caseDamaged, Detail: err.Error()}
	var malformed *evidence.Malformed
	if errors.As(err, &malformed) {
		f.Segment = malformed.File
	}
	return f
}

type caseCheck struct {
	rep      *Report
	o        *opened
	total    uint64
	progress func(done, total int64)
}

func (c *caseCheck) events(ctx context.Context, in *evidence.Reader) error {
	for e, err := range in.Events() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if f := caseFinding(err); !c.rep.has(f.Check) || f.Check == caseDamaged {
				c.rep.add(f)
			}
			return nil
		}
		c.event(&e)
		c.rep.Events++
		c.rep.Bytes += uint64(len(e.Leaf))
		if c.rep.Events%1024 == 0 || c.rep.Events == c.total {
			c.progress(int64(c.rep.Events), int64(c.total))
		}
	}
	return ctx.Err()
}

func (c *caseCheck) event(e *evidence.Event) {
	f := Finding{Outcome: Contradicted, Segment: evidence.EventsFile, Leaf: e.Index, LastLeaf: e.Index, HasLeaf: true, EventID: eventID(e.Leaf)}
	add := func(check, detail string) {
		f.Check, f.Detail = check, detail
		c.rep.add(f)
	}
	if err := tlog.CheckInclusion(suite.SHA256, e.Index, c.o.Size, suite.SHA256.LeafHash(e.Leaf), e.SHA256, c.o.Root); err != nil {
		add(proofMismatch, "the event is not this leaf under the checkpoint")
		return
	}
	if c.o.SM3Root != nil && e.SM3 != nil {
		if err := tlog.CheckInclusion(suite.SM3, e.Index, c.o.Size, suite.SM3.LeafHash(e.Leaf), e.SM3, *c.o.SM3Root); err != nil {
			add(proofMismatch, "the event is this leaf under the SHA-256 root, and not under the SM3 root")
			return
		}
	}
	event, err := veritrail.ParseCanonical(e.Leaf)
	if err != nil {
		f.Outcome = CouldNotCheck // it is what was sealed, whatever it says
		add(eventMalformed, "the sealed bytes are not an event in its canonical form")
		return
	}
	if event.ID != e.ID {
		f.Segment = evidence.ProofsFile
		add(eventIDDiffers, "the proof is filed under the id of another event")
	}
	if c.rep.FirstTime.IsZero() || event.Timestamp.Before(c.rep.FirstTime) {
		c.rep.FirstTime = event.Timestamp
	}
	if event.Timestamp.After(c.rep.LastTime) {
		c.rep.LastTime = event.Timestamp
	}
}

func (c *caseCheck) compareKept(t *trust, kept []Kept) {
	x := trailCheck{trust: t, rep: c.rep}
	x.id.Origin = c.o.Origin
	for _, k := range kept {
		x.addMark(&mark{kept: k.Name, opened: t.open(k.Note)})
	}
	for _, m := range x.marks {
		f := Finding{Outcome: Contradicted, Check: historyDiffers, Segment: m.kept}
		switch {
		case m.Size != c.o.Size:
			f.Outcome, f.Check = CouldNotCheck, historyUnchecked
			f.Detail = fmt.Sprintf("%s covers %d leaves, the case's %d: only the trail can show that one extends the other", m.where(), m.Size, c.o.Size)
		case m.Root != c.o.Root:
			f.Detail = fmt.Sprintf("%s and the case's are of %d leaves both, and have different roots", m.where(), m.Size)
		case m.SM3Root != nil && c.o.SM3Root != nil && *m.SM3Root != *c.o.SM3Root:
			f.Check, f.Detail = sm3RootMismatch, m.where()+" has another SM3 root than the case's"
		default:
			c.rep.Compared = append(c.rep.Compared, m.kept)
			continue
		}
		c.rep.add(f)
	}
}
