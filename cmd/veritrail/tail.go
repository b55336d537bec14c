package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/search"
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
			return follow(cmd, view.Leaves(), view.Size(), q, show)
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().Uint64VarP(&f.n, "lines", "n", 10, "look at so many of the newest events")
	c.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with events as they come, until interrupted")
	c.Flags().BoolVar(&f.asJSON, "json", false, "the events as they are stored, one a line")
	return c
}

// follow shows leaves from next on as they appear.
func follow(cmd *cobra.Command, leaves *trail.Leaves, next uint64, q *search.Query, show func(search.Hit) error) error {
	const interval = 200 * time.Millisecond
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
		for {
			_, err := leaves.Read(next, 1)
			if errors.Is(err, trail.ErrMissing) {
				break // not yet
			}
			if err != nil {
				return err
			}
			if _, err := search.Scan(cmd.Context(), leaves, next, next+1, q, show); err != nil {
				return err
			}
			next++
		}
	}
}
