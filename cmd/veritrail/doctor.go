package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/trail"
)

// diagnosis is one thing that was looked at.
type diagnosis struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warning, problem
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

const (
	diagOK      = "ok"
	diagWarning = "warning"
	diagProblem = "problem"
)

func newDoctor() *cobra.Command {
	var f struct {
		data   string
		asJSON bool
	}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine for a trail, what does not, and what to do",
		Long: `Looks at the trail's directory, disk, keys, lock, clock and checkpoints, and changes
nothing but a scratch file that it writes and removes. Whether the events are
unchanged is for veritrail verify to say. The exit code is 1 when there is a problem.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(f.data)
			if err != nil {
				return err
			}
			found := diagnose(dir)
			if f.asJSON {
				err = printJSON(cmd.OutOrStdout(), found)
			} else {
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				for _, d := range found {
					fmt.Fprintf(w, "%s\t%s\t%s\n", d.Result, d.Check, safe(d.Found))
					if d.Advice != "" {
						fmt.Fprintf(w, "\t\t→ %s\n", d.Advice)
					}
				}
				err = w.Flush()
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(d diagnosis) bool { return d.Result == diagProblem }) {
				return &coded{exitNotHeld, errReported}
			}
			return nil
		},
	}
	dataFlag(c, &f.data)
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	return c
}

func diagnose(dir string) []diagnosis {
	id, err := trail.ReadIdentity(dir)
	if errors.Is(err, trail.ErrNoTrail) {
		return []diagnosis{{"trail", diagWarning, "none in " + dir, "begin one with: veritrail up"}}
	}
	if err != nil {
		return []diagnosis{{"trail", diagProblem, err.Error(), "restore trail.json from a backup"}}
	}
	out := []diagnosis{{Check: "trail", Result: diagOK, Found: fmt.Sprintf("%s in %s, since %s", id.Origin, dir, id.Created.Format(time.RFC3339))}}
	return append(out, diagnoseWriter(dir), diagnosePermissions(dir), diagnoseSpace(dir), diagnoseSync(dir), diagnoseSegment(dir),
		diagnoseCheckpoint(dir), diagnoseKept(dir, id), diagnoseClock(dir))
}

func diagnoseWriter(dir string) diagnosis {
	owner, held, err := durable.LockOwner(filepath.Join(dir, trail.LockFile))
	switch {
	case err != nil:
		return diagnosis{"writer", diagWarning, err.Error(), "the file is made when something writes to the trail"}
	case held:
		return diagnosis{"writer", diagOK, "running: " + owner, ""}
	}
	return diagnosis{"writer", diagWarning, "none; the last was " + owner, "nothing is being recorded: veritrail up"}
}

func diagnosePermissions(dir string) diagnosis {
	for _, name := range []string{"", trail.KeysDir, trail.SegmentsDir, trail.TokenFile, trail.KeysDir + "/ed25519.key"} {
		name = filepath.Join(dir, filepath.FromSlash(name))
		others, err := durable.OthersCanRead(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return diagnosis{"permissions", diagProblem, err.Error(), ""}
		}
		if others {
			return diagnosis{"permissions", diagProblem, name + " can be read by others", "run " + durable.RestrictCommand(name)}
		}
	}
	return diagnosis{"permissions", diagOK, "for the owner alone", ""}
}

func diagnoseSpace(dir string) diagnosis {
	free, err := durable.FreeBytes(dir)
	if err != nil {
		return diagnosis{"space", diagProblem, err.Error(), ""}
	}
	d := diagnosis{"space", diagOK, count(free>>20) + " MB free", ""}
	if free < 1<<30 {
		d.Result, d.Advice = diagWarning, "make room: a full disk halts the trail"
	}
	return d
}

// diagnoseSync measures what an acknowledgement costs at the least.
func diagnoseSync(dir string) diagnosis {
	const rounds = 20
	name := filepath.Join(dir, ".doctor")
	took := make([]time.Duration, rounds)
	for i := range took {
		start := time.Now()
		if err := durable.WriteFile(name, []byte("x")); err != nil {
			return diagnosis{"sync", diagProblem, err.Error(), "the trail's directory must be writable"}
		}
		took[i] = time.Since(start)
	}
	if err := os.Remove(name); err != nil {
		return diagnosis{"sync", diagProblem, err.Error(), ""}
	}
	slices.Sort(took)
	median := took[rounds/2]
	d := diagnosis{"sync", diagOK, fmt.Sprintf("a synced file takes %s (median of %d)", median.Round(10*time.Microsecond), rounds), ""}
	if median > 50*time.Millisecond {
		d.Result, d.Advice = diagWarning, "a slow disk: events are acknowledged in groups, so this delays rather than limits them"
	}
	return d
}

func diagnoseSegment(dir string) diagnosis {
	view, tail, err := trail.OpenView(dir)
	if err != nil {
		return diagnosis{"last segment", diagProblem, err.Error(), "veritrail verify says more; the trail can only be read"}
	}
	defer view.Close()
	found := count(view.Size()) + " events in the trail"
	switch {
	case tail.Err != nil:
		return diagnosis{"last segment", diagProblem, found + "; behind them: " + tail.Err.Error(), "veritrail verify says more; the trail can only be read"}
	case tail.Size > 0:
		return diagnosis{"last segment", diagWarning, fmt.Sprintf("%s; behind them %d bytes of a write that was not acknowledged", found, tail.Size), "the next writer cuts them off and keeps a copy"}
	}
	return diagnosis{"last segment", diagOK, found, ""}
}

func diagnoseCheckpoint(dir string) diagnosis {
	note, err := trail.ReadCheckpoint(dir)
	if err == nil && note == nil {
		return diagnosis{"checkpoint", diagWarning, "none yet", ""}
	}
	if err != nil {
		return diagnosis{"checkpoint", diagProblem, err.Error(), ""}
	}
	trusted, _, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
	if err != nil {
		return diagnosis{"checkpoint", diagProblem, err.Error(), ""}
	}
	c, signatures, err := checkpoint.Open(note, trusted)
	if err != nil {
		return diagnosis{"checkpoint", diagProblem, err.Error(), "veritrail verify says more"}
	}
	return diagnosis{"checkpoint", diagOK, fmt.Sprintf("of %s events, %d signatures", count(c.Size), len(signatures)), ""}
}

func diagnoseKept(dir string, id trail.Identity) diagnosis {
	note, name, err := readKept(id)
	switch {
	case err != nil:
		return diagnosis{"kept checkpoint", diagProblem, err.Error(), ""}
	case note == nil:
		return diagnosis{"kept checkpoint", diagWarning, "none on this machine", "keep one elsewhere: without it nobody can tell a trail set back to an older state"}
	}
	c, err := checkpoint.ParseUnverified(note)
	if err != nil {
		return diagnosis{"kept checkpoint", diagProblem, name + ": " + err.Error(), ""}
	}
	d := diagnosis{"kept checkpoint", diagOK, fmt.Sprintf("of %s events, in %s", count(c.Size), name), ""}
	if published, err := trail.ReadCheckpoint(dir); err == nil && published != nil {
		if p, err := checkpoint.ParseUnverified(published); err == nil && p.Size < c.Size {
			d.Result, d.Advice = diagProblem, "the trail's own checkpoint is older: it was set back; run veritrail verify"
		}
	}
	return d
}

// diagnoseClock compares the clock with what the trail saw last.
func diagnoseClock(dir string) diagnosis {
	now := time.Now()
	info, err := os.Stat(filepath.Join(dir, trail.CheckpointFile))
	if err == nil && info.ModTime().After(now.Add(time.Minute)) {
		return diagnosis{"clock", diagProblem, fmt.Sprintf("it is %s, the checkpoint is of %s", now.Format(time.RFC3339), info.ModTime().Format(time.RFC3339)), "set the clock: events would go back in time"}
	}
	return diagnosis{"clock", diagOK, now.Format(time.RFC3339), ""}
}
