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
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/veritrail/veritrail/internal/index"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
)

type statsJSON struct {
	Origin     string            `json:"origin"`
	Size       uint64            `json:"size"`
	Sealed     uint64            `json:"sealed"`
	Segments   int               `json:"segments"`
	Stored     int64             `json:"stored_bytes"`
	Events     uint64            `json:"events"` // that fulfil the conditions
	LeafBytes  uint64            `json:"leaf_bytes"`
	First      *time.Time        `json:"first,omitempty"`
	Last       *time.Time        `json:"last,omitempty"`
	Actions    map[string]uint64 `json:"actions"`
	Severities map[string]uint64 `json:"severities"`
	Kinds      map[string]uint64 `json:"kinds"` // of subjects: their keys, as role+user
	Subjects   map[string]uint64 `json:"subjects"`
	Hours      map[string]uint64 `json:"hours"`
	Unread     uint64            `json:"unread"` // leaves that could not be read
	Index      index.Status      `json:"index"`
}

func newStats() *cobra.Command {
	var f struct {
		data   string
		query  queryFlags
		asJSON bool
		top    int
		scan   bool
	}
	c := &cobra.Command{
		Use:   "stats",
		Short: "Count events by action, subject, severity and hour",
		Long: `Counts the events that fulfil all conditions. Without conditions, and where there
is an index, it adds up what the index has counted and reads events only where
--since or --until divides an hour.`,
		Example: `  veritrail stats --since 24h
  veritrail stats --where 'act=AUTH.*' --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, s, err := f.query.open(f.data)
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := gatherStats(cmd, s, q, f.scan)
			if err != nil {
				return err
			}
			if s.damage != nil {
				fmt.Fprintf(os.Stderr, "the trail is damaged: %v\n", s.damage)
			}
			if f.asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			return st.print(cmd.OutOrStdout(), f.top, terminalWidth(cmd.OutOrStdout()))
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	c.Flags().IntVar(&f.top, "top", 10, "show so many of each")
	c.Flags().BoolVar(&f.scan, "scan", false, "read everything, and ask no index")
	return c
}

func gatherStats(cmd *cobra.Command, s *source, q *search.Query, scan bool) (*statsJSON, error) {
	st := &statsJSON{Origin: s.Checkpoint.Origin, Size: s.Size(), Sealed: min(s.Checkpoint.Size, s.Size()), Severities: map[string]uint64{}, Hours: map[string]uint64{}}
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
	x, err := openFinder(s, scan)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	counts, gaps, err := x.Count(cmd.Context(), q, 0, s.Size(), true)
	if err != nil {
		return nil, err
	}
	st.Index = x.Status()
	st.Events, st.LeafBytes, st.Actions, st.Kinds, st.Subjects = counts.Events, counts.LeafBytes, counts.Actions, counts.Kinds, counts.Subjects
	for name, n := range counts.Severities {
		st.Severities[cmp.Or(name, "-")] = n
	}
	for hour, n := range counts.Hours {
		st.Hours[time.Unix(hour*3600, 0).UTC().Format("2006-01-02T15")] = n
	}
	if counts.Events > 0 {
		st.First, st.Last = &counts.First, &counts.Last
	}
	for _, g := range gaps {
		st.Unread += g.End - g.First
	}
	return st, nil
}

func (st *statsJSON) print(w io.Writer, top, width int) error {
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
		counts map[string]uint64
		byKey  bool
	}{
		{"actions", st.Actions, false}, {"severities", st.Severities, false}, {"kinds of subjects", st.Kinds, false},
		{"subjects", st.Subjects, false}, {"hours", st.Hours, true},
	} {
		chart(&b, part.name, part.counts, part.byKey, top, width)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// chart lists the largest counts, or the last keys, and on a terminal that many
// columns wide draws them as bars.
func chart(b *strings.Builder, name string, counts map[string]uint64, byKey bool, top, columns int) {
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
	most, width := uint64(1), 0
	for _, k := range keys {
		most, width = max(most, counts[k]), max(width, cells(label(k)))
	}
	const numbers = 2 + 1 + 13 + 1 // around a label: spaces and the count
	for _, k := range keys {
		text := label(k)
		fmt.Fprintf(b, "  %s%s %13s", text, strings.Repeat(" ", width-cells(text)), count(counts[k]))
		if room := columns - width - numbers; room >= 8 {
			fmt.Fprintf(b, " %s", bar(counts[k], most, min(room, 60)))
		}
		b.WriteByte('\n')
	}
}

// label is a key as a chart shows it.
func label(key string) string { return short(safe(key)) }

// bar is n of most as a bar of at most so many columns, to an eighth of one.
func bar(n, most uint64, columns int) string {
	eighths := int(float64(n) / float64(most) * float64(8*columns))
	if eighths == 0 && n > 0 {
		eighths = 1
	}
	out := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		out += string(rune('█' + 8 - rest)) // ▏ to ▉
	}
	return out
}

// cells is how many columns of a terminal a text takes: East Asian wide and
// full-width characters take two (Unicode TR #11), marks that combine none.
func cells(s string) (n int) {
	for _, r := range s {
		switch {
		case unicode.Is(unicode.Mn, r):
		case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf && r != 0x303f, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
			r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
			n += 2
		default:
			n++
		}
	}
	return n
}

// terminalWidth is how wide the terminal is that w writes to, 0 when it is
// none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !isTerminal(f) {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 80
	}
	return columns
}
