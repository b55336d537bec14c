package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// stateDir is where this user's trails and kept checkpoints lie:
// $XDG_STATE_HOME/veritrail, %LOCALAPPDATA%\veritrail on Windows.
func stateDir() (string, error) {
	if runtime.GOOS == "windows" {
		if dir := os.Getenv("LOCALAPPDATA"); dir != "" {
			return filepath.Join(dir, "veritrail"), nil
		}
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "veritrail"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", usageError("no home directory: say where with --data DIR: %w", err)
	}
	return filepath.Join(home, ".local", "state", "veritrail"), nil
}

// dataFlag adds --data. When it is not given, the trail is the one that up
// writes by default.
func dataFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "data", "", "the trail's directory (default: the one `veritrail up` makes)")
}

func dataDir(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	state, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, "trail"), nil
}

// keptPath is where the newest checkpoint of a log is kept outside its
// directory, by the log's instance: without it nobody could tell a trail that
// was set back to an older state.
func keptPath(id trail.Identity) (string, error) {
	state, err := stateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, "checkpoints", hex.EncodeToString(id.Instance[:])), nil
}

// readKept reads the checkpoint kept of a log, nil when there is none.
func readKept(id trail.Identity) (note []byte, name string, err error) {
	if name, err = keptPath(id); err != nil {
		return nil, "", err
	}
	note, err = durable.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, name, nil
	}
	return note, name, err
}

// keeper keeps the newest checkpoint of a trail outside its directory, in the
// background: the trail's writer does not wait for it.
type keeper struct {
	notes chan []byte // holds the newest note not yet kept
	name  string
	ended sync.WaitGroup
	err   error
}

// openKept opens a trail to write to, and keeps its checkpoints.
func openKept(cfg recorder.Config) (*recorder.Recorder, *keeper, error) {
	k := &keeper{notes: make(chan []byte, 1)}
	cfg.Published = k.keep
	rec, err := recorder.Open(cfg)
	if err != nil {
		return nil, nil, err
	}
	if k.name, err = keptPath(rec.Trail().Identity()); err == nil {
		err = durable.MkdirAll(filepath.Dir(k.name))
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("keeping checkpoints outside the trail: %w", err), rec.Close())
	}
	k.ended.Go(func() {
		for note := range k.notes {
			k.err = durable.WriteFile(k.name, note)
		}
	})
	return rec, k, nil
}

// keep is called by one goroutine, the trail's writer.
func (k *keeper) keep(note []byte) {
	for {
		select {
		case k.notes <- note:
			return
		default:
		}
		select {
		case <-k.notes: // a newer one supersedes it
		default:
		}
	}
}

// close returns when the last note is kept. The trail is closed by then.
func (k *keeper) close() error {
	close(k.notes)
	k.ended.Wait()
	if k.err != nil {
		return fmt.Errorf("keeping the checkpoint outside the trail: %w", k.err)
	}
	return nil
}

// source is a trail to read from, under its newest checkpoint.
type source struct {
	*trail.Sealed
	dir string
	// damage says why nothing of it can be proved: it ends before what the
	// checkpoint signed. What is left can be read all the same.
	damage error
}

// openSealed reads a trail as it is now. The keys are the trail's own.
func openSealed(dir string) (*source, error) {
	// The checkpoint first: the trail may grow meanwhile, and must not be
	// shorter than what was signed.
	note, err := trail.ReadCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	view, _, err := trail.OpenView(dir)
	if err != nil {
		return nil, explainNoTrail(dir, err)
	}
	if note == nil {
		return nil, errors.Join(fmt.Errorf("%s: no checkpoint was signed yet", dir), view.Close())
	}
	trusted, _, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	c, _, err := checkpoint.Open(note, trusted)
	if err != nil {
		return nil, errors.Join(&coded{exitNotHeld, fmt.Errorf("%w; see: veritrail verify %s", err, dir)}, view.Close())
	}
	if c.Size > view.Size() {
		damage := fmt.Errorf("only the first %s of %s signed events can be read, and none can be proved; see: veritrail verify %s", count(view.Size()), count(c.Size), dir)
		return &source{&trail.Sealed{View: view, Note: note, Checkpoint: c}, dir, damage}, nil
	}
	sealed, err := view.Seal(note, trusted)
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return &source{Sealed: sealed, dir: dir}, nil
}

func explainNoTrail(dir string, err error) error {
	if errors.Is(err, trail.ErrNoTrail) || errors.Is(err, fs.ErrNotExist) {
		return usageError("%w; name the directory with --data DIR, or begin a trail with: veritrail up", err)
	}
	return err
}
