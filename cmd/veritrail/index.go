package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/index"
	"github.com/veritrail/veritrail/internal/trail"
)

// indexConfig is how much of a trail is indexed.
type indexConfig struct {
	Off    bool   `yaml:"off" json:"off,omitempty"`       // up keeps no index
	Events uint64 `yaml:"events" json:"events,omitempty"` // the newest ones that have postings
	Days   int    `yaml:"days" json:"days,omitempty"`     // for how long events have them; 0: no bound
}

// config is the index of the trail in dir, of which so many leaves are durable.
func (c *indexConfig) config(dir string, durable func() uint64) (index.Config, error) {
	const mostDays = 100 * 366
	if c.Days < 0 || c.Days > mostDays {
		return index.Config{}, usageError("configuration: index: days: %d: want 0 to %d", c.Days, mostDays)
	}
	return index.Config{Dir: dir, Durable: durable, HotEvents: c.Events, HotFor: time.Duration(c.Days) * 24 * time.Hour}, nil
}

func newIndex() *cobra.Command {
	c := &cobra.Command{
		Use:   "index",
		Short: "The index that makes searches fast: build, status, drop",
		Long: `Beside each closed segment of a trail lie files that say what occurs in it, in
DATA/index. "veritrail up" keeps them while it runs; "index build" makes what is
missing when it does not. They prove nothing and can be deleted at any time: each
event that they name is read from the sealed records, and what they do not cover
is read through.`,
		Args: cobra.NoArgs,
	}
	c.AddCommand(newIndexBuild(), newIndexStatus(), newIndexDrop())
	return c
}

func newIndexBuild() *cobra.Command {
	var data, file string
	c := &cobra.Command{
		Use:     "build",
		Short:   "Make what is missing of a trail's index",
		Example: "  veritrail index build --data trail",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			dir, err := dataDir(data)
			if err != nil {
				return err
			}
			if _, err := trail.ReadIdentity(dir); err != nil {
				return explainNoTrail(dir, err)
			}
			// Closed segments are all that is indexed here; their ends are durable.
			ic, err := cfg.Index.config(dir, func() uint64 { return 0 })
			if err != nil {
				return err
			}
			p := newProgress("indexing")
			start := time.Now()
			st, err := index.Build(cmd.Context(), ic, func(st index.Status) {
				p.show("%s of %s segments", count(st.Indexed), count(st.Segments))
			})
			p.clear()
			if errors.Is(err, index.ErrLocked) {
				return fmt.Errorf("%w; it makes the index", err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s; %s events, %s bytes; took %s\n", &st, count(st.Leaves), count(st.Bytes), time.Since(start).Round(time.Millisecond))
			if st.Failed > 0 {
				return fmt.Errorf("%s segments could not be indexed, and are searched by reading them: %s", count(st.Failed), st.Problem)
			}
			return nil
		},
	}
	dataFlag(c, &data)
	c.Flags().StringVar(&file, "config", "", "configuration `FILE`: its part index says how much")
	return c
}

func newIndexStatus() *cobra.Command {
	var data string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how much of a trail is indexed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(data)
			if err != nil {
				return err
			}
			x, err := index.OpenReader(dir, nil)
			if err != nil {
				return explainNoTrail(dir, err)
			}
			st := x.Status()
			if err := x.Close(); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			kept := "by nobody now; veritrail up does, or: veritrail index build"
			if index.Kept(dir) {
				kept = "by a running veritrail"
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "segments\t%s closed\n", count(st.Segments))
			fmt.Fprintf(w, "indexed\t%s, %s of them with postings\n", count(st.Indexed), count(st.Hot))
			fmt.Fprintf(w, "events\t%s\n", count(st.Leaves))
			fmt.Fprintf(w, "bytes\t%s\n", count(st.Bytes))
			fmt.Fprintf(w, "kept\t%s\n", kept)
			return w.Flush()
		},
	}
	dataFlag(c, &data)
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func newIndexDrop() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "drop",
		Short: "Delete a trail's index",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := dataDir(data)
			if err != nil {
				return err
			}
			if _, err := trail.ReadIdentity(dir); err != nil {
				return explainNoTrail(dir, err)
			}
			return index.Drop(dir)
		},
	}
	dataFlag(c, &data)
	return c
}
