package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/veritrail/veritrail/internal/health"
	"github.com/veritrail/veritrail/recorder"
)

// reloads are what up does anew when it is asked to (SIGHUP): each on its own,
// so that one that fails keeps what it had and holds up no other.
type reloads struct {
	asked <-chan os.Signal
	names []string
	hooks []func() error
}

// newReloads listens from here on: a signal that comes while the trail is
// opened waits, and one that comes while it is closed does no harm.
func newReloads() *reloads { return &reloads{asked: notifyHangup()} }

// add is called before up serves.
func (r *reloads) add(name string, again func() error) {
	r.names, r.hooks = append(r.names, name), append(r.hooks, again)
}

func (r *reloads) run(log *slog.Logger) {
	for i, again := range r.hooks {
		if err := again(); err != nil {
			log.Error("not reloaded", "what", r.names[i], "problem", err)
		} else {
			log.Info("reloaded", "what", r.names[i])
		}
	}
}

// watch looks after a trail that is served: it reloads when asked to, ends the
// returned context when the terminal is gone that up was started in, and logs
// when the trail is halted, goes on, or runs out of room. settle ends it.
func watch(ctx context.Context, log *slog.Logger, rec *recorder.Recorder, dir string, reload *reloads) (inner context.Context, settle func()) {
	inner, cancel := context.WithCancel(ctx)
	onTerminal := isTerminal(os.Stderr)
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var state watched
		if v, err := health.ReadVolume(dir); err == nil {
			state.space = v.Space().Result // said when up began
		}
		for {
			select {
			case <-inner.Done():
				return
			case <-reload.asked:
				if onTerminal && !isTerminal(os.Stderr) {
					log.Info("the terminal is gone: stopping")
					cancel()
					return
				}
				reload.run(log)
			case <-tick.C:
				state.look(log, rec, dir)
			}
		}
	})
	return inner, func() {
		cancel()
		ended.Wait()
	}
}

// watched is what was last said.
type watched struct {
	halted error
	space  health.Result
	turns  int
}

func (w *watched) look(log *slog.Logger, rec *recorder.Recorder, dir string) {
	if rec != nil {
		switch halted := rec.Stats().Halted; {
		case halted != nil && w.halted == nil:
			log.Error("the trail is halted: events are refused until its disk works", "problem", halted)
			w.halted = halted
		case halted == nil && w.halted != nil:
			log.Info("the trail goes on")
			w.halted = nil
		}
	}
	const everyTurns = 30
	if w.turns++; w.turns%everyTurns != 0 {
		return
	}
	v, err := health.ReadVolume(dir)
	if err != nil {
		return // the trail's own writes say more
	}
	c := v.Space()
	if c.Result > w.space {
		logCheck(log, c)
	} else if c.Result < w.space {
		log.Info("there is room again", "found", c.Found)
	}
	w.space = c.Result
}

func logCheck(log *slog.Logger, c health.Check) {
	level := slog.LevelWarn
	if c.Result == health.Fail {
		level = slog.LevelError
	}
	log.Log(context.Background(), level, "degraded", "check", c.Name, "found", c.Found, "do", c.Advice)
}

// degraded is what is not as it should be when up begins, as far as a look
// tells: doctor measures, too.
func degraded(cfg *config) []health.Check {
	var out []health.Check
	for _, c := range quickChecks(cfg) {
		if c.Result != health.OK {
			out = append(out, c)
		}
	}
	return out
}

func announceDegraded(out io.Writer, log *slog.Logger, checks []health.Check) {
	if len(checks) == 0 {
		return
	}
	fmt.Fprintln(out, "\ndegraded (veritrail doctor says more):")
	for _, c := range checks {
		fmt.Fprintf(out, "  %-4s  %s: %s\n", c.Result, c.Name, safe(c.Found))
	}
	for _, c := range checks { // a log in a file goes elsewhere
		logCheck(log, c)
	}
}

// certificateCheck is about the certificate that is configured, if one is.
func certificateCheck(cfg *config, now time.Time) (health.Check, bool) {
	if cfg.TLS.Cert == "" {
		return health.Check{}, false
	}
	text, err := os.ReadFile(cfg.TLS.Cert)
	if err != nil {
		return health.Check{Name: "certificate", Result: health.Fail, Found: err.Error(), Expected: "a file with the certificate", Advice: "name it in tls.cert"}, true
	}
	return health.Certificate(text, now), true
}
