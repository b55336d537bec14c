package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/health"
	"github.com/veritrail/veritrail/internal/index"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/trail"
)

func newDoctor() *cobra.Command {
	var f struct {
		data, config, url, ca string
		asJSON                bool
	}
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what works on this machine for a trail, what does not, and what to do",
		Long: `Looks at the trail's directory, disk, keys, lock, clock, checkpoints and limits, and
changes nothing but a scratch file that it writes, syncs and removes. Each check is
ok, warn (it works; look at it) or fail, and says what would be expected and what to
do. With --url it also asks a server that runs whether it is ready.

Whether the events are unchanged is for veritrail verify to say. The exit code is 1
when a check fails.`,
		Example: `  veritrail doctor --data trail
  veritrail doctor --config veritrail.yaml --url https://audit.example:8790 --ca ca.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f.config)
			if err != nil {
				return err
			}
			if f.data != "" {
				cfg.Data = f.data
			}
			if cfg.Data, err = dataDir(cfg.Data); err != nil {
				return err
			}
			found := diagnose(cfg)
			if f.url != "" {
				c, err := diagnoseServer(cmd.Context(), f.url, f.ca)
				if err != nil {
					return err
				}
				found = append(found, c)
			}
			if f.asJSON {
				err = printJSON(cmd.OutOrStdout(), found)
			} else {
				err = printChecks(cmd.OutOrStdout(), found)
			}
			if err != nil {
				return err
			}
			if slices.ContainsFunc(found, func(c health.Check) bool { return c.Result == health.Fail }) {
				return &coded{exitNotHeld, errReported}
			}
			return nil
		},
	}
	dataFlag(c, &f.data)
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE`: for the data directory and the certificate")
	c.Flags().StringVar(&f.url, "url", "", "ask the server at `URL`, too")
	c.Flags().StringVar(&f.ca, "ca", "", "`FILE` with the certificates (PEM) to trust, with --url")
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	return c
}

func printChecks(out io.Writer, found []health.Check) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Result, c.Name, safe(c.Found))
		if c.Result != health.OK && c.Expected != "" {
			fmt.Fprintf(w, "\t\twant: %s\n", safe(c.Expected))
		}
		if c.Advice != "" {
			fmt.Fprintf(w, "\t\t→ %s\n", safe(c.Advice))
		}
	}
	return w.Flush()
}

// diagnose is everything that can be said of a trail and the machine under it.
func diagnose(cfg *config) []health.Check {
	clock := health.WatchClock()
	dir := cfg.Data
	machine := func(batch time.Time) []health.Check {
		out := []health.Check{diagnoseClock(clock, dir, batch)}
		if c, ok := certificateCheck(cfg, time.Now()); ok {
			out = append(out, c)
		}
		out = append(out, diagnoseLimits()...)
		return append(out, health.CPU())
	}
	id, err := trail.ReadIdentity(dir)
	if errors.Is(err, trail.ErrNoTrail) {
		c := health.Check{Name: "trail", Result: health.Warn, Found: "none in " + dir, Expected: "a trail", Advice: "begin one with: veritrail up"}
		return append([]health.Check{c}, machine(time.Time{})...)
	}
	if err != nil {
		c := health.Check{Name: "trail", Result: health.Fail, Found: err.Error(), Expected: "a trail", Advice: "restore trail.json from a backup"}
		return append([]health.Check{c}, machine(time.Time{})...)
	}
	out := []health.Check{{Name: "trail", Found: fmt.Sprintf("%s in %s, since %s", id.Origin, dir, id.Created.Format(time.RFC3339)), Expected: "a trail"}}
	out = append(out, diagnoseWriter(dir), diagnosePermissions(dir))
	out = append(out, diagnoseVolume(dir)...)
	segment, batch := diagnoseSegment(dir)
	out = append(out, diagnoseSync(dir), segment, diagnoseCheckpoint(dir), diagnoseKept(dir, id), diagnoseIndex(dir))
	return append(out, machine(batch)...)
}

// quickChecks are those that take no time and read no events.
func quickChecks(cfg *config) []health.Check {
	out := append([]health.Check{diagnosePermissions(cfg.Data)}, diagnoseVolume(cfg.Data)...)
	clock := health.WatchClock()()
	clock.Newest, clock.NewestWhat = newestCheckpoint(cfg.Data)
	out = append(out, clock.Check())
	if c, ok := certificateCheck(cfg, time.Now()); ok {
		out = append(out, c)
	}
	return append(out, diagnoseLimits()...)
}

// diagnoseWriter is about who holds the lock. The operating system lets go of
// it when its holder ends, however: there are no stale locks, only names of
// former holders.
func diagnoseWriter(dir string) health.Check {
	c := health.Check{Name: "writer", Expected: "one that runs"}
	name := filepath.Join(dir, trail.LockFile)
	owner, held, err := durable.LockOwner(name)
	if err != nil {
		c.Result, c.Found, c.Advice = health.Warn, err.Error(), "the file is made when something writes to the trail"
		return c
	}
	if !held {
		c.Result, c.Found, c.Advice = health.Warn, "none; the last was "+owner, "nothing is being recorded: veritrail up"
		return c
	}
	c.Found = "running: " + owner
	if st, err := os.Stat(name); err == nil {
		c.Found += ", since " + st.ModTime().UTC().Format(time.RFC3339) // when it wrote its name
	}
	var pid int
	var host string
	if _, err := fmt.Sscanf(owner, "pid %d on %s", &pid, &host); err != nil {
		return c
	}
	here, err := os.Hostname()
	if err != nil || here != host {
		c.Result, c.Advice = health.Warn, "it is another machine's: let one machine alone use the directory"
		return c
	}
	switch p, err := health.ReadProcess(pid); {
	case errors.Is(err, os.ErrNotExist):
		c.Result, c.Found, c.Advice = health.Warn, c.Found+"; no process of that number is seen from here", "it may run in a container: look for who has the directory's lock open"
	case err == nil && p.Name != "":
		c.Found += ": " + p.Name
	}
	return c
}

// diagnoseIndex is about the speed of searches alone.
func diagnoseIndex(dir string) health.Check {
	c := health.Check{Name: "index", Found: "none", Expected: "one that is whole, where searches must be fast", Advice: "veritrail up keeps one; without it: veritrail index build"}
	leaves := trail.NewLeaves(dir)
	defer leaves.Close()
	x, err := index.OpenReader(dir, leaves)
	if err != nil {
		c.Result, c.Found = health.Warn, err.Error()
		return c
	}
	defer x.Close()
	st := x.Status()
	if st.Indexed == 0 && !index.Kept(dir) {
		return c
	}
	c.Found = st.String()
	if st.Rebuilding() || st.Failed > 0 {
		c.Result = health.Warn
		return c
	}
	c.Advice = ""
	return c
}

func diagnosePermissions(dir string) health.Check {
	var names []string
	for _, name := range []string{"", trail.KeysDir, trail.SegmentsDir, trail.TokenFile} {
		names = append(names, filepath.Join(dir, name))
	}
	private, err := filepath.Glob(filepath.Join(dir, trail.KeysDir, "*.key"))
	if err != nil {
		private = nil // only of a pattern that is wrong
	}
	return health.Readers(append(names, private...), durable.RestrictCommand)
}

func diagnoseVolume(dir string) []health.Check {
	v, err := health.ReadVolume(dir)
	if err != nil {
		return []health.Check{health.Unknown("space", err, "1 GiB or more")}
	}
	return []health.Check{v.Space(), v.FileSystem()}
}

// diagnoseSync measures what an acknowledgement costs at the least.
func diagnoseSync(dir string) health.Check {
	const rounds = 100
	cost, err := health.MeasureSync(dir, rounds)
	if err != nil {
		return health.Check{Name: "sync", Result: health.Fail, Found: err.Error(), Expected: "a directory that can be written", Advice: "the trail's directory must be writable"}
	}
	return cost.Check()
}

func diagnoseLimits() []health.Check {
	l, err := health.ReadLimits()
	if err != nil {
		return []health.Check{health.Unknown("open files", err, "")}
	}
	out := []health.Check{l.Files()}
	if c, ok := l.Memory(); ok {
		out = append(out, c)
	}
	return out
}

// diagnoseSegment reads the last segment, and says when its last batch was
// written.
func diagnoseSegment(dir string) (c health.Check, batch time.Time) {
	c = health.Check{Name: "last segment", Expected: "whole frames, the roots that they name"}
	const readOnly = "veritrail verify says more; the trail can only be read"
	view, tail, err := trail.OpenView(dir)
	if err != nil {
		c.Result, c.Found, c.Advice = health.Fail, err.Error(), readOnly
		return c, batch
	}
	defer view.Close()
	c.Found = count(view.Size()) + " events in the trail"
	switch {
	case tail.Err != nil:
		c.Result, c.Found, c.Advice = health.Fail, c.Found+"; behind them: "+tail.Err.Error(), readOnly
	case tail.Size > 0:
		c.Result = health.Warn
		c.Found += fmt.Sprintf("; behind them %d bytes of a write that was not acknowledged", tail.Size)
		c.Advice = "the next writer cuts them off and keeps a copy"
	}
	if view.Size() == 0 {
		return c, batch
	}
	_, place, err := view.Leaves().ReadPlace(view.Size() - 1)
	if err != nil {
		c.Result, c.Found, c.Advice = health.Fail, err.Error(), readOnly
		return c, batch
	}
	return c, place.Time
}

func diagnoseCheckpoint(dir string) health.Check {
	c := health.Check{Name: "checkpoint", Expected: "one that the trail's keys signed"}
	fail := func(err error) health.Check {
		c.Result, c.Found, c.Advice = health.Fail, err.Error(), "veritrail verify says more"
		return c
	}
	note, err := trail.ReadCheckpoint(dir)
	if err == nil && note == nil {
		c.Result, c.Found, c.Advice = health.Warn, "none yet", "one is signed a second after the first event"
		return c
	}
	if err != nil {
		return fail(err)
	}
	trusted, _, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
	if err != nil {
		return fail(err)
	}
	signed, signatures, err := checkpoint.Open(note, trusted)
	if err != nil {
		return fail(err)
	}
	c.Found = fmt.Sprintf("of %s events, %d signatures", count(signed.Size), len(signatures))
	return c
}

func diagnoseKept(dir string, id trail.Identity) health.Check {
	c := health.Check{Name: "kept checkpoint", Expected: "the newest one, outside the trail's directory"}
	note, name, err := readKept(id)
	switch {
	case err != nil:
		c.Result, c.Found, c.Advice = health.Fail, err.Error(), "it must be readable and writable by who writes the trail"
		return c
	case note == nil:
		c.Result, c.Found = health.Warn, "none on this machine"
		c.Advice = "keep one elsewhere: without it nobody can tell a trail set back to an older state"
		return c
	}
	kept, err := checkpoint.ParseUnverified(note)
	if err != nil {
		c.Result, c.Found, c.Advice = health.Fail, name+": "+err.Error(), "veritrail verify cannot compare with it: look who changed it"
		return c
	}
	c.Found = fmt.Sprintf("of %s events, in %s", count(kept.Size), name)
	published, err := trail.ReadCheckpoint(dir)
	if err != nil || published == nil {
		return c
	}
	p, err := checkpoint.ParseUnverified(published)
	switch {
	case err != nil:
	case p.Size < kept.Size:
		c.Result, c.Found = health.Fail, c.Found+fmt.Sprintf("; the trail's own is of %s", count(p.Size))
		c.Advice = "the trail was set back to an older state: run veritrail verify"
	case p.Size > kept.Size && !written(dir): // while one writes, it may be a moment behind
		c.Result, c.Found = health.Warn, c.Found+fmt.Sprintf("; the trail's own is of %s", count(p.Size))
		c.Advice = "the last writer could not keep it, or was another user: veritrail up keeps it again"
	}
	return c
}

func written(dir string) bool {
	_, held, err := durable.LockOwner(filepath.Join(dir, trail.LockFile))
	return err == nil && held
}

// diagnoseClock compares the clock with what the trail saw last.
func diagnoseClock(read func() health.Clock, dir string, batch time.Time) health.Check {
	c := read()
	c.Newest, c.NewestWhat = newestCheckpoint(dir)
	if batch.After(c.Newest) {
		c.Newest, c.NewestWhat = batch, "the newest batch of events"
	}
	return c.Check()
}

// newestCheckpoint is when the newest checkpoint was written, as the file
// system has it.
func newestCheckpoint(dir string) (time.Time, string) {
	st, err := os.Stat(filepath.Join(dir, trail.CheckpointFile))
	if err != nil {
		return time.Time{}, ""
	}
	return st.ModTime(), "the checkpoint's file"
}

// diagnoseServer asks a server that runs whether it records.
func diagnoseServer(ctx context.Context, base, ca string) (health.Check, error) {
	c := health.Check{Name: "server", Expected: "one that is ready"}
	u, err := url.Parse(strings.TrimSuffix(base, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return c, usageError("--url: want a URL, as http://127.0.0.1:8790")
	}
	u.User = nil // a password in it is for nobody's eyes
	client, err := newHTTPClient(ca)
	if err != nil {
		return c, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("readyz").String(), nil)
	if err != nil {
		return c, usageError("--url: want a URL, as http://127.0.0.1:8790")
	}
	resp, err := client.Do(req)
	if err != nil {
		c.Result, c.Found, c.Advice = health.Fail, err.Error(), "begin one with: veritrail up"
		return c, nil
	}
	defer resp.Body.Close()
	c.Found = u.Host + ": ready"
	if resp.StatusCode == http.StatusOK {
		return c, nil
	}
	var answer struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	c.Result, c.Found, c.Advice = health.Fail, fmt.Sprintf("%s: %s", u.Host, resp.Status), "is it the address of a veritrail up?"
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(body, &answer) != nil || answer.Error.Code == "" {
		return c, nil
	}
	c.Found += ": " + answer.Error.Message
	switch answer.Error.Code {
	case "read_only":
		c.Advice = "the trail is damaged, and served for reading: veritrail verify says more"
	case "halted":
		c.Advice = "its disk failed or is full: make room; it goes on by itself"
	}
	return c, nil
}
