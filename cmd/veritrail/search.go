package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/index"
	"github.com/veritrail/veritrail/internal/search"
)

// queryFlags are the conditions search, stats and export share.
type queryFlags struct {
	where        []string
	since, until string
}

func (f *queryFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.where, "where", nil, "`CONDITION`, as act=AUTH.LOGIN.*, sub.user=10086, obj.table=card*, ctx.ip!=10.*, sev>=WARN, id=…, text=…; all must hold")
	c.Flags().StringVar(&f.since, "since", "", "events from this `TIME` on: 2006-01-02, 2006-01-02T15:04:05Z, or how long ago, as 24h or 7d")
	c.Flags().StringVar(&f.until, "until", "", "events before this `TIME`")
}

func (f *queryFlags) query() (*search.Query, error) {
	q, err := search.Parse(f.where)
	if err != nil {
		return nil, usageError("%w", err)
	}
	now := time.Now()
	if f.since != "" {
		if q.Since, err = search.ParseTime(f.since, now); err != nil {
			return nil, usageError("--since: %w", err)
		}
	}
	if f.until != "" {
		if q.Until, err = search.ParseTime(f.until, now); err != nil {
			return nil, usageError("--until: %w", err)
		}
	}
	return q, nil
}

// open reads the conditions and opens the trail they are for. The caller
// closes the source.
func (f *queryFlags) open(data string) (*search.Query, *source, error) {
	q, err := f.query()
	if err != nil {
		return nil, nil, err
	}
	dir, err := dataDir(data)
	if err != nil {
		return nil, nil, err
	}
	s, err := openSealed(dir)
	return q, s, err
}

// text is the query as a case's manifest says it.
func (f *queryFlags) text(q *search.Query) []string {
	out := append([]string{}, f.where...)
	if !q.Since.IsZero() {
		out = append(out, "since "+q.Since.UTC().Format(time.RFC3339Nano))
	}
	if !q.Until.IsZero() {
		out = append(out, "until "+q.Until.UTC().Format(time.RFC3339Nano))
	}
	return out
}

// hitJSON is a found event as programs get it.
type hitJSON struct {
	Leaf   uint64          `json:"leaf"`
	Proof  string          `json:"proof"` // holds, not-sealed, fails, unchecked
	Detail string          `json:"detail,omitempty"`
	Event  json.RawMessage `json:"event"`
}

// Whether an event is proved.
const (
	proofHolds     = "holds"
	proofNotSealed = "not-sealed"
	proofFails     = "fails"
	proofUnchecked = "unchecked"
)

// prove says whether a leaf's proof holds, and if not, why.
func prove(s *source, index uint64, leaf []byte) (status, detail string) {
	if s.damage != nil {
		return proofUnchecked, s.damage.Error()
	}
	if index >= s.Checkpoint.Size {
		return proofNotSealed, "durable, not yet under a checkpoint"
	}
	if _, err := s.Prove(index, leaf); err != nil {
		return proofFails, err.Error()
	}
	return proofHolds, ""
}

var proofMarks = map[string]string{proofHolds: "✓", proofNotSealed: "…", proofFails: "✗", proofUnchecked: "?"}

func newSearch() *cobra.Command {
	var f struct {
		data   string
		query  queryFlags
		asJSON bool
		limit  int
		newest bool
		scan   bool
		why    bool
	}
	c := &cobra.Command{
		Use:   "search",
		Short: "Find events, and say for each whether its proof holds",
		Long: `Finds events that fulfil all conditions, oldest first, reads each from the sealed
records, and checks that it is under the newest checkpoint:

  ✓  its proof holds     …  durable, not yet under a checkpoint
  ✗  its proof fails     ?  the trail is damaged, and nothing can be proved

Where there is an index (see: veritrail index --help) it says where to look;
whatever it does not cover is read through. The answer is the same.

The exit code is 1 when a proof fails or none can be made, and 3 when a part of
the trail could not be searched.`,
		Example: `  veritrail search --where 'act=AUTH.LOGIN.*' --where 'sub.user=10086' --since 7d
  veritrail search --where 'text=转账失败' --newest --limit 20
  veritrail search --where 'sev>=ERROR' --json | jq .event.act`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, sealed, err := f.query.open(f.data)
			if err != nil {
				return err
			}
			defer sealed.Close()
			out := bufio.NewWriter(cmd.OutOrStdout())
			r := &hitPrinter{out: out, sealed: sealed, asJSON: f.asJSON, limit: f.limit}
			find, err := openFinder(sealed, f.scan)
			if err != nil {
				return err
			}
			defer find.Close()
			used, gaps, err := find.SearchUsed(cmd.Context(), q, 0, sealed.Size(), f.newest, r.print)
			if f.why {
				explainSearch(find, &used, f.scan)
			}
			if errFlush := out.Flush(); err == nil {
				err = errFlush
			}
			if err != nil && err != errEnough { //nolint:errorlint // returned as it is
				return err
			}
			return r.finish(gaps)
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().BoolVar(&f.asJSON, "json", false, "one JSON object a hit: leaf, proof, event")
	c.Flags().IntVar(&f.limit, "limit", 0, "stop after so many hits (0: all)")
	c.Flags().BoolVar(&f.newest, "newest", false, "the newest events first")
	c.Flags().BoolVar(&f.scan, "scan", false, "read everything, and ask no index")
	c.Flags().BoolVarP(&f.why, "explain", "v", false, "say where it looked, on stderr")
	return c
}

// openFinder is what searches a trail: with the index that is there, or with
// none. It says when an index is being made.
func openFinder(s *source, scan bool) (*index.Index, error) {
	if scan {
		return index.None(s.dir, s.Leaves())
	}
	x, err := index.OpenReader(s.dir, s.Leaves())
	if err != nil {
		return nil, err
	}
	if st := x.Status(); st.Rebuilding() && (st.Indexed > 0 || index.Kept(s.dir)) {
		fmt.Fprintf(os.Stderr, "%s; the others are read\n", &st)
	}
	return x, nil
}

func explainSearch(x *index.Index, used *index.Used, scan bool) {
	how := "no index was asked"
	if !scan {
		st := x.Status()
		how = fmt.Sprintf("%s, %s of them with postings", &st, count(st.Hot))
	}
	fmt.Fprintf(os.Stderr, "%s\nlooked at %s segments: %s by postings, %s read; %s passed by; %s bundles of 256 events opened\n", how,
		count(used.Segments), count(used.Postings), count(used.Read), count(used.PassedBy), count(used.Bundles))
	if used.Distrust > 0 {
		fmt.Fprintf(os.Stderr, "%s sidecars did not hold, and their segments were read; %s events they named were left out\n", count(used.Distrust), count(used.Lies))
	}
}

var errEnough = fmt.Errorf("enough hits")

type hitPrinter struct {
	out         io.Writer
	sealed      *source
	asJSON      bool
	limit       int
	hits, fails int
	unsealed    int
}

func (p *hitPrinter) print(h search.Hit) error {
	if p.limit > 0 && p.hits == p.limit {
		return errEnough
	}
	p.hits++
	status, detail := prove(p.sealed, h.Leaf, h.Bytes)
	switch status {
	case proofFails:
		p.fails++
	case proofNotSealed:
		p.unsealed++
	}
	if p.asJSON {
		return json.NewEncoder(p.out).Encode(hitJSON{h.Leaf, status, detail, h.Bytes})
	}
	_, err := fmt.Fprintf(p.out, "%s %s\n", proofMarks[status], eventLine(h.Leaf, h.Event))
	return err
}

func (p *hitPrinter) finish(gaps []search.Gap) error {
	if !p.asJSON {
		fmt.Fprintf(os.Stderr, "%s events found of %s; checkpoint of %s leaves", count(p.hits), count(p.sealed.Size()), count(p.sealed.Checkpoint.Size))
		if p.unsealed > 0 {
			fmt.Fprintf(os.Stderr, "; %s not yet under it", count(p.unsealed))
		}
		if p.fails > 0 {
			fmt.Fprintf(os.Stderr, "; the proof of %s FAILS: run veritrail verify", count(p.fails))
		}
		fmt.Fprintln(os.Stderr)
	}
	for _, g := range gaps {
		fmt.Fprintf(os.Stderr, "not searched: leaves %d to %d: %v\n", g.First, g.End-1, g.Err)
	}
	if p.sealed.damage != nil {
		fmt.Fprintf(os.Stderr, "the trail is damaged: %v\n", p.sealed.damage)
	}
	switch {
	case p.fails > 0, p.sealed.damage != nil:
		return &coded{exitNotHeld, errReported}
	case len(gaps) > 0:
		return &coded{exitNotDone, errReported}
	}
	return nil
}
