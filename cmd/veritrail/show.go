package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

func newShow() *cobra.Command {
	var f struct {
		data          string
		asJSON, proof bool
	}
	c := &cobra.Command{
		Use:   "show ID|LEAF",
		Short: "Show one event, where it lies, and its proof",
		Example: `  veritrail show 1907
  veritrail show 0b54dd2e-6f3c-4d39-9f5a-2f1f6b7e8f10
  veritrail show 1907 --proof > 1907.tlog-proof      # C2SP tlog-proof, for other tools`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := dataDir(f.data)
			if err != nil {
				return err
			}
			s, err := openSealed(dir)
			if err != nil {
				return err
			}
			defer s.Close()
			index, err := findLeaf(cmd, s, args[0])
			if err != nil {
				return err
			}
			leaf, place, err := s.Leaves().ReadPlace(index)
			if err != nil {
				return err
			}
			if f.proof {
				return printTlogProof(cmd.OutOrStdout(), s, index, leaf)
			}
			status, detail := prove(s, index, leaf)
			if f.asJSON {
				err = printJSON(cmd.OutOrStdout(), struct {
					hitJSON
					Segment string    `json:"segment"`
					Offset  int64     `json:"offset"`
					Written time.Time `json:"written"`
				}{hitJSON{index, status, detail, leaf}, place.Segment, place.Offset, place.Time})
			} else {
				err = printEvent(cmd.OutOrStdout(), s, index, leaf, place, status, detail)
			}
			if err == nil && (status == proofFails || status == proofUnchecked) {
				err = &coded{exitNotHeld, errReported}
			}
			return err
		},
	}
	dataFlag(c, &f.data)
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	c.Flags().BoolVar(&f.proof, "proof", false, "print the inclusion proof as a C2SP tlog-proof")
	c.MarkFlagsMutuallyExclusive("json", "proof")
	return c
}

// findLeaf is the index of the event named by index or id.
func findLeaf(cmd *cobra.Command, s *source, name string) (uint64, error) {
	if n, err := strconv.ParseUint(name, 10, 64); err == nil {
		if n >= s.Size() {
			return 0, usageError("leaf %d: the trail has %d", n, s.Size())
		}
		return n, nil
	}
	if _, err := veritrail.ParseUUID(name); err != nil {
		return 0, usageError("%.60q is neither a leaf index nor an event id (a UUID)", name)
	}
	q, err := search.Parse([]string{"id=" + name})
	if err != nil {
		return 0, usageError("%w", err)
	}
	x, err := openFinder(s, false)
	if err != nil {
		return 0, err
	}
	defer x.Close()
	var found uint64
	gaps, err := x.Search(cmd.Context(), q, 0, s.Size(), true, func(h search.Hit) error {
		found = h.Leaf
		return errEnough
	})
	switch {
	case errors.Is(err, errEnough):
		return found, nil
	case err != nil:
		return 0, err
	case len(gaps) > 0:
		return 0, fmt.Errorf("event %s: not found, but leaves %d to %d could not be searched: %w", name, gaps[0].First, gaps[0].End-1, gaps[0].Err)
	}
	return 0, fmt.Errorf("event %s: not in the trail", name)
}

// printTlogProof writes a proof in the format of c2sp.org/tlog-proof.
func printTlogProof(w io.Writer, s *source, index uint64, leaf []byte) error {
	if s.damage != nil {
		return &coded{exitNotHeld, s.damage}
	}
	if index >= s.Checkpoint.Size {
		return fmt.Errorf("leaf %d: durable, not yet under a checkpoint", index)
	}
	p, err := s.Prove(index, leaf)
	if err != nil {
		return &coded{exitNotHeld, err}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, h := range p.SHA256 {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	fmt.Fprintf(&b, "\n%s", s.Note)
	_, err = io.WriteString(w, b.String())
	return err
}

func printEvent(out io.Writer, s *source, index uint64, leaf []byte, place trail.Place, status, detail string) error {
	e, err := veritrail.ParseEvent(leaf)
	if err != nil {
		return fmt.Errorf("leaf %d: not an event", index)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, safe(value)) }
	row("id", e.ID)
	row("time", e.Timestamp.Format(time.RFC3339Nano))
	row("severity", e.Severity.String())
	row("action", e.Action)
	var d veritrail.Draft
	if err := d.SetEvent(e); err != nil {
		return err
	}
	for _, part := range []struct {
		name  string
		pairs veritrail.Pairs
	}{{"subject", d.Subject}, {"object", d.Object}, {"context", d.Context}} {
		part.pairs.Sort()
		for _, p := range part.pairs {
			row(part.name, p.Key+" = "+p.Value)
		}
	}
	row("leaf", fmt.Sprintf("%d of %d", index, s.Size()))
	row("leaf hash", base64Hash(suite.SHA256.LeafHash(leaf))+"  (SHA-256, RFC 6962)")
	row("place", fmt.Sprintf("segment %s at %d, %d bytes, written %s", place.Segment, place.Offset, len(leaf), place.Time.Format(time.RFC3339Nano)))
	switch status {
	case proofHolds:
		row("proof", fmt.Sprintf("holds, under the checkpoint of %d leaves of %s", s.Checkpoint.Size, s.Checkpoint.Origin))
	case proofNotSealed:
		row("proof", "none yet: "+detail)
	case proofUnchecked:
		row("proof", "could not be made: "+detail)
	default:
		row("proof", "FAILS: "+detail)
	}
	return w.Flush()
}

func base64Hash(h suite.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }
