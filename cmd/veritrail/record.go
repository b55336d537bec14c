package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/recorder"
)

func newRecord() *cobra.Command {
	var f struct {
		data, to, token, ca, config, origin, ack, shape string
		sm3                                             bool
	}
	c := &cobra.Command{
		Use:   "record [flags] < events.jsonl",
		Short: "Record events from standard input, one JSON object a line",
		Long: `Reads events, one JSON object a line, and records them into the trail in --data,
which is made when it does not exist, or sends them to a server with --to.

An event needs "act" and "sub"; id and ts are filled in:

  {"sub":{"user":"10086"},"act":"AUTH.LOGIN.FAIL","obj":{"api":"/login"},"ctx":{"ip":"192.0.2.7"}}

A line with "event_type" is read as a flat record, and the configuration can add
other forms with JSON Schemas of their own; --shape says which form all lines have.

A rejected line is named on standard error with the JSON Pointer to what is
wrong and the rule it breaks, never with a value; the other lines are recorded.
The exit code is 1 when lines were rejected, 3 when not all could be recorded.`,
		Example: `  veritrail record --data trail < events.jsonl
  echo '{"sub":{"user":"u1"},"act":"APP.DEMO"}' | veritrail record --to http://127.0.0.1:8790`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f.config)
			if err != nil {
				return err
			}
			if f.to != "" {
				if f.data != "" || f.origin != "" || f.sm3 || f.ack != "" {
					return usageError("--to sends to a server: --data, --origin, --sm3 and --ack are the server's business")
				}
				return recordTo(cmd.Context(), cmd.InOrStdin(), f.to, f.token, f.ca, f.shape)
			}
			dir, err := dataDir(f.data)
			if err != nil {
				return err
			}
			if f.ack != "" {
				cfg.Ack = f.ack
			}
			if f.origin != "" {
				cfg.Origin = f.origin
			}
			rc, err := cfg.recorder(dir)
			if err != nil {
				return err
			}
			rc.SM3 = rc.SM3 || f.sm3
			return recordInto(cmd.Context(), cmd.InOrStdin(), rc, f.shape)
		},
	}
	dataFlag(c, &f.data)
	c.Flags().StringVar(&f.to, "to", "", "send to the server at `URL` instead of writing a trail")
	c.Flags().StringVar(&f.token, "token-file", "", "`FILE` with the server's API token (default: $VERITRAIL_TOKEN, then the default trail's)")
	c.Flags().StringVar(&f.ca, "ca", "", "`FILE` with the certificates (PEM) to trust, with --to")
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE`")
	c.Flags().StringVar(&f.origin, "origin", "", "`NAME` of a trail that is made")
	c.Flags().BoolVar(&f.sm3, "sm3", false, "give a trail that is made an SM3 tree and SM2 signatures too")
	c.Flags().StringVar(&f.shape, "shape", "", "`NAME` of the form that the lines have: event, record, or one of the configuration (default: each line tells)")
	c.Flags().StringVar(&f.ack, "ack", "", "when an event counts as recorded: durable, sealed or buffered (default durable)")
	return c
}

// tally counts lines and reports on them. Several goroutines may add to it.
type tally struct {
	start    time.Time
	progress *progress

	mu                         sync.Mutex
	recorded, rejected, failed uint64
	firstFailure               error
}

func newTally() *tally { return &tally{start: time.Now(), progress: newProgress("recording")} }

func (t *tally) record(n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recorded += n
	t.progress.show("%s events, %.0f/s", count(t.recorded), float64(t.recorded)/time.Since(t.start).Seconds())
}

// reject says at once what is wrong with a line.
func (t *tally) reject(line uint64, err error) {
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) {
		t.rejectFor(line, err.Error())
		return
	}
	var what []string
	for _, v := range invalid.Violations {
		what = append(what, v.String())
	}
	t.rejectFor(line, what...)
}

func (t *tally) rejectFor(line uint64, what ...string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejected++
	t.progress.clear()
	for _, w := range what {
		fmt.Fprintf(os.Stderr, "line %d: %s\n", line, w)
	}
}

func (t *tally) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed++
	if t.firstFailure == nil {
		t.firstFailure = err
	}
}

// finish reports, and says how the command ends.
func (t *tally) finish(readErr error) error {
	t.progress.clear()
	took := time.Since(t.start)
	fmt.Fprintf(os.Stderr, "recorded %s events in %s (%s/s)", count(t.recorded), took.Round(time.Millisecond), count(int64(float64(t.recorded)/took.Seconds())))
	if t.rejected > 0 {
		fmt.Fprintf(os.Stderr, ", rejected %s", count(t.rejected))
	}
	if t.failed > 0 {
		fmt.Fprintf(os.Stderr, ", could not record %s", count(t.failed))
	}
	fmt.Fprintln(os.Stderr)
	switch {
	case t.firstFailure != nil:
		return fmt.Errorf("%s events were not recorded: %w", count(t.failed), t.firstFailure)
	case readErr != nil:
		return fmt.Errorf("reading events: %w", readErr)
	case t.rejected > 0:
		return &coded{exitNotHeld, errReported}
	}
	return nil
}

// recordInto records lines into a trail, with many events on their way at once.
func recordInto(ctx context.Context, in io.Reader, cfg recorder.Config, shape string) error {
	if !cfg.KnowsShape(shape) {
		return usageError("--shape %.64q: want event, record, or a name of schemas in the configuration", shape)
	}
	rec, kept, err := openKept(cfg)
	if err != nil {
		return explainOpen(err)
	}
	t := newTally()
	const inFlight = 32_768
	waiting := make(chan recorder.Future, inFlight)
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		for f := range waiting {
			// Not ctx: what was taken in is waited for, also after ^C.
			if err := f.Wait(context.WithoutCancel(ctx)); err != nil {
				t.fail(err)
			} else {
				t.record(1)
			}
		}
	}()
	lines := newLineReader(in)
	for ctx.Err() == nil && lines.next() {
		f, err := rec.RecordJSONAs(ctx, shape, lines.text)
		if err == nil {
			waiting <- f
			continue
		}
		if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
			t.fail(fmt.Errorf("line %d: %w", lines.number, err))
			break // the lines behind it would only fail as well
		}
		t.reject(lines.number, err)
	}
	close(waiting)
	<-settled
	if err := errors.Join(rec.Close(), kept.close()); err != nil {
		t.fail(err)
	}
	return t.finish(errors.Join(lines.err, ctx.Err()))
}

// lineReader reads lines of bounded length. A longer one is passed on cut, and
// is then rejected for what it is.
type lineReader struct {
	in     *bufio.Reader
	text   []byte
	number uint64
	err    error
}

const maxLine = 1 << 20

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 256<<10)}
}

// next reads the next line that is not blank.
func (l *lineReader) next() bool {
	for l.err == nil {
		l.text = l.text[:0]
		for {
			part, err := l.in.ReadSlice('\n')
			if room := maxLine + 1 - len(l.text); room > 0 {
				l.text = append(l.text, part[:min(room, len(part))]...)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				l.err = err
				break
			}
		}
		l.number++
		if l.text = bytes.TrimSpace(l.text); len(l.text) > 0 {
			if errors.Is(l.err, io.EOF) {
				l.err = nil // the last line had no end; the next call finds the end
			}
			return true
		}
	}
	if errors.Is(l.err, io.EOF) {
		l.err = nil
	}
	return false
}

// explainOpen says what to do about a trail that cannot be written.
func explainOpen(err error) error {
	switch {
	case errors.Is(err, recorder.ErrLocked):
		return fmt.Errorf("%w: another veritrail writes to this trail; send to it with --to URL, or use another --data", err)
	case errors.Is(err, recorder.ErrDamaged), errors.Is(err, recorder.ErrBehindCheckpoint):
		return &coded{exitNotHeld, fmt.Errorf("%w; see: veritrail verify DIR", err)}
	}
	return err
}
