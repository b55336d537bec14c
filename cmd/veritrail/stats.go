package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
)

type statsJSON struct {
	Origin     string         `json:"origin"`
	Size       uint64         `json:"size"`
	Sealed     uint64         `json:"sealed"`
	Segments   int            `json:"segments"`
	Stored     int64          `json:"stored_bytes"`
	Events     uint64         `json:"events"` // that fulfil the conditions
	LeafBytes  uint64         `json:"leaf_bytes"`
	First      *time.Time     `json:"first,omitempty"`
	Last       *time.Time     `json:"last,omitempty"`
	Actions    map[string]int `json:"actions"`
	Severities map[string]int `json:"severities"`
	Subjects   map[string]int `json:"subjects"`
	Hours      map[string]int `json:"hours"`
	Unread     uint64         `json:"unread"` // leaves that could not be read
}

func newStats() *cobra.Command {
	var f struct {
		data   string
		query  queryFlags
		asJSON bool
		top    int
	}
	c := &cobra.Command{
		Use:   "stats",
		Short: "Count events by action, subject, severity and hour",
		Example: `  veritrail stats --since 24h
  veritrail stats --where 'act=AUTH.*' --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, s, err := f.query.open(f.data)
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := gatherStats(cmd, s, q)
			if err != nil {
				return err
			}
			if s.damage != nil {
				fmt.Fprintf(os.Stderr, "the trail is damaged: %v\n", s.damage)
			}
			if f.asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			return st.print(cmd.OutOrStdout(), f.top)
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	c.Flags().IntVar(&f.top, "top", 10, "show so many of each")
	return c
}

// maxSubjects bounds what is remembered of a trail with very many subjects.
const maxSubjects = 1 << 20

func gatherStats(cmd *cobra.Command, s *source, q *search.Query) (*statsJSON, error) {
	st := &statsJSON{
		Origin: s.Checkpoint.Origin, Size: s.Size(), Sealed: min(s.Checkpoint.Size, s.Size()),
		Actions: map[string]int{}, Severities: map[string]int{}, Subjects: map[string]int{}, Hours: map[string]int{},
	}
	files, err := trail.Segments(s.dir)
	if err != nil {
		return nil, err
	}
	st.Segments = len(files)
	for _, file := range files {
		info, err := os.Stat(file.Path)
		if err != nil {
			return nil, err
		}
		st.Stored += info.Size()
	}
	gaps, err := search.Scan(cmd.Context(), s.Leaves(), 0, s.Size(), q, func(h search.Hit) error {
		st.Events++
		st.LeafBytes += uint64(len(h.Bytes))
		st.Actions[strings.Clone(h.Event.Action)]++
		st.Severities[cmp.Or(h.Event.Severity.String(), "-")]++
		for _, p := range h.Event.Subject {
			if name := p.Key + "=" + p.Value; len(st.Subjects) < maxSubjects {
				st.Subjects[name]++
			}
		}
		st.Hours[h.Event.Timestamp.UTC().Format("2006-01-02T15")]++
		if t := h.Event.Timestamp; st.First == nil || t.Before(*st.First) {
			st.First = &t
		}
		if t := h.Event.Timestamp; st.Last == nil || t.After(*st.Last) {
			st.Last = &t
		}
		return nil
	})
	for _, g := range gaps {
		st.Unread += g.End - g.First
	}
	return st, err
}

func (st *statsJSON) print(w io.Writer, top int) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s events, %s of them sealed; %d segments, %s bytes\n", st.Origin, count(st.Size), count(st.Sealed), st.Segments, count(st.Stored))
	if st.First != nil {
		fmt.Fprintf(&b, "%s match, from %s to %s\n", count(st.Events), st.First.Format(time.RFC3339), st.Last.Format(time.RFC3339))
	}
	if st.Unread > 0 {
		fmt.Fprintf(&b, "%s could not be read: run veritrail verify\n", count(st.Unread))
	}
	for _, part := range []struct {
		name   string
		counts map[string]int
		byKey  bool
	}{{"actions", st.Actions, false}, {"severities", st.Severities, false}, {"subjects", st.Subjects, false}, {"hours", st.Hours, true}} {
		chart(&b, part.name, part.counts, part.byKey, top)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// chart draws the largest counts, or the last keys, as bars.
func chart(b *strings.Builder, name string, counts map[string]int, byKey bool, top int) {
	if len(counts) == 0 {
		return
	}
	keys := slices.Collect(maps.Keys(counts))
	slices.SortFunc(keys, func(x, y string) int {
		if byKey {
			return cmp.Compare(y, x)
		}
		return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y))
	})
	fmt.Fprintf(b, "\n%s (%s)\n", name, count(len(counts)))
	keys = keys[:min(len(keys), max(top, 1))]
	if byKey {
		slices.Reverse(keys)
	}
	most, width := 1, 0
	for _, k := range keys {
		most, width = max(most, counts[k]), max(width, len(safe(k)))
	}
	const bar = 40
	for _, k := range keys {
		fmt.Fprintf(b, "  %-*s %10s %s\n", width, safe(k), count(counts[k]), strings.Repeat("█", max(1, counts[k]*bar/most)))
	}
}
