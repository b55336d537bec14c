package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

func newTail() *cobra.Command {
	var f struct {
		data   string
		query  queryFlags
		n      uint64
		follow bool
		asJSON bool
	}
	c := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest events, and with -f those that come",
		Example: `  veritrail tail -f
  veritrail tail -n 100 --where 'sev>=WARN'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := f.query.query()
			if err != nil {
				return err
			}
			dir, err := dataDir(f.data)
			if err != nil {
				return err
			}
			view, _, err := trail.OpenView(dir)
			if err != nil {
				return explainNoTrail(dir, err)
			}
			defer view.Close()
			show := func(h search.Hit) error {
				if f.asJSON {
					_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", h.Bytes)
					return err
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), eventLine(h.Leaf, h.Event))
				return err
			}
			first := view.Size() - min(view.Size(), f.n)
			gaps, err := search.Scan(cmd.Context(), view.Leaves(), first, view.Size(), q, show)
			if err != nil {
				return err
			}
			if len(gaps) > 0 {
				return fmt.Errorf("leaves %d to %d: %w", gaps[0].First, gaps[0].End-1, gaps[0].Err)
			}
			if !f.follow {
				return nil
			}
			t := &follower{cmd: cmd, dir: dir, leaves: view.Leaves(), next: view.Size(), query: q, show: show}
			return t.follow()
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().Uint64VarP(&f.n, "lines", "n", 10, "look at so many of the newest events")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with events as they come, until interrupted")
	c.Flags().BoolVar(&f.asJSON, "json", false, "the events as they are stored, one a line")
	return c
}

// follower shows leaves as they appear. It goes on in the next segment when one
// begins, and says what it had to leave out.
type follower struct {
	cmd    *cobra.Command
	dir    string
	leaves *trail.Leaves
	next   uint64
	query  *search.Query
	show   func(search.Hit) error
	failed time.Time // since when the next leaf cannot be read
}

func (t *follower) follow() error {
	const interval = 200 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-t.cmd.Context().Done():
			return nil
		case <-tick.C:
		}
		for more := true; more; {
			var err error
			if more, err = t.step(); err != nil {
				return err
			}
		}
	}
}

// step shows what is there of the next bundle. It tells whether there may be
// more.
func (t *follower) step() (more bool, err error) {
	n := uint64(tlog.TileWidth) - t.next%tlog.TileWidth
	_, err = t.leaves.Read(t.next, int(n))
	if errors.Is(err, trail.ErrMissing) && n > 1 {
		n = 1 // not yet the whole bundle
		_, err = t.leaves.Read(t.next, 1)
	}
	switch {
	case errors.Is(err, trail.ErrMissing):
		return t.passGap()
	case err != nil:
		// What looks damaged may be on its way to the disk.
		const patience = 5 * time.Second
		if t.failed.IsZero() {
			t.failed = time.Now()
		}
		if time.Since(t.failed) < patience {
			return false, nil
		}
		return false, err
	}
	t.failed = time.Time{}
	gaps, err := search.Scan(t.cmd.Context(), t.leaves, t.next, t.next+n, t.query, t.show)
	if errors.Is(err, context.Canceled) {
		return false, nil
	}
	for _, g := range gaps {
		fmt.Fprintf(t.cmd.ErrOrStderr(), "not shown: leaves %d to %d: %v\n", g.First, g.End-1, g.Err)
	}
	t.next += n
	return true, err
}

// passGap goes on behind leaves whose segment is gone. Leaves that are not
// there yet are no gap.
func (t *follower) passGap() (bool, error) {
	files, err := trail.Segments(t.dir)
	if err != nil {
		return false, err
	}
	for _, file := range files {
		if file.FirstLeaf > t.next {
			if _, err := t.leaves.Read(t.next, 1); !errors.Is(err, trail.ErrMissing) {
				return true, nil // it came in between
			}
			fmt.Fprintf(t.cmd.ErrOrStderr(), "not shown: leaves %d to %d: %v\n", t.next, file.FirstLeaf-1, trail.ErrMissing)
			t.next = file.FirstLeaf
			return true, nil
		}
	}
	return false, nil
}
