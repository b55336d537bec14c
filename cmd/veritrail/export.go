package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/evidence"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/schemas"
)

func newExport() *cobra.Command {
	var f struct {
		data, out, tiles string
		query            queryFlags
	}
	c := &cobra.Command{
		Use:   "export",
		Short: "Export a case (events with their proofs, in one ZIP) or the log as tiles",
		Long: `With -o: writes the events that fulfil all conditions into a case, one ZIP with
their proofs, the checkpoint, the public keys, schemas, instructions for an expert
and a report to read. Anyone can check it, on a machine that has never seen the
trail:  veritrail verify case.zip

With --tiles: writes the whole log as a C2SP tlog-tiles directory (checkpoint,
tile/…), which any client of that format reads.

Events not yet under a checkpoint are counted and left out.`,
		Example: `  veritrail export --where 'act=AUTH.LOGIN.*' --since 30d -o case.zip
  veritrail export --data trail --tiles out/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (f.out == "") == (f.tiles == "") {
				return usageError("say what to write: -o CASE.zip or --tiles DIR")
			}
			q, s, err := f.query.open(f.data)
			if err != nil {
				return err
			}
			defer s.Close()
			if s.damage != nil {
				return &coded{exitNotHeld, fmt.Errorf("the trail is damaged: %w", s.damage)}
			}
			_, vkeys, err := keys.ReadVKeys(filepath.Join(s.dir, trail.KeysDir))
			if err != nil {
				return err
			}
			if f.tiles != "" {
				if len(f.query.where) > 0 || f.query.since != "" || f.query.until != "" {
					return usageError("--tiles exports the whole log: --where, --since and --until go with -o")
				}
				return exportTiles(cmd, s.Sealed, vkeys, f.tiles)
			}
			return exportCase(cmd, s.Sealed, vkeys, q, f.query.text(q), f.out)
		},
	}
	dataFlag(c, &f.data)
	f.query.add(c)
	c.Flags().StringVarP(&f.out, "output", "o", "", "write a case to `FILE`")
	c.Flags().StringVar(&f.tiles, "tiles", "", "write the log as tiles to `DIR`")
	return c
}

// exportCase writes the case beside its place and moves it there when it is
// whole.
func exportCase(cmd *cobra.Command, s *trail.Sealed, vkeys []string, q *search.Query, query []string, name string) (err error) {
	scratch, err := os.CreateTemp("", "veritrail-proofs-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close(), os.Remove(scratch.Name())) }()
	out, err := os.CreateTemp(filepath.Dir(name), ".veritrail-case-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreClosed(out.Close()), os.Remove(out.Name()))
		}
	}()
	// Events past the checkpoint are counted first: the case says how many.
	unsealed := uint64(0)
	gapsBehind, err := search.Scan(cmd.Context(), s.Leaves(), s.Checkpoint.Size, s.Size(), q, func(search.Hit) error {
		unsealed++
		return nil
	})
	if err != nil {
		return err
	}
	w, err := evidence.NewWriter(out, evidence.Config{
		Created: time.Now(), Origin: s.Checkpoint.Origin, Query: query, Checkpoint: s.Note, VKeys: vkeys,
		TreeSize: s.Checkpoint.Size, Root: s.Checkpoint.Root, SM3Root: s.Checkpoint.SM3Root, Unsealed: unsealed,
		Schemas: map[string][]byte{schemas.EventFile: schemas.Event()}, Scratch: scratch,
	})
	if err != nil {
		return err
	}
	events := 0
	p := newProgress("exporting")
	gaps, err := search.Scan(cmd.Context(), s.Leaves(), 0, s.Checkpoint.Size, q, func(h search.Hit) error {
		proof, err := s.Prove(h.Leaf, h.Bytes)
		if err != nil {
			return &coded{exitNotHeld, fmt.Errorf("%w: run veritrail verify", err)}
		}
		events++
		p.show("%s events", count(events))
		return w.Add(evidence.Event{Leaf: h.Bytes, Index: h.Leaf, ID: h.Event.ID.String(), SHA256: proof.SHA256, SM3: proof.SM3})
	})
	p.clear()
	if err != nil {
		return err
	}
	if gaps = append(gaps, gapsBehind...); len(gaps) > 0 {
		return fmt.Errorf("leaves %d to %d could not be searched, so the case would not be complete: %w", gaps[0].First, gaps[0].End-1, gaps[0].Err)
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := errors.Join(out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(out.Name(), name); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: %s events, each with its proof under the checkpoint of %s leaves\n", name, count(events), count(s.Checkpoint.Size))
	if unsealed > 0 {
		fmt.Fprintf(os.Stderr, "%s more match and are not yet under a checkpoint\n", count(unsealed))
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// exportTiles writes what a tlog-tiles client fetches. The checkpoint comes
// last: a directory without it was not finished.
func exportTiles(cmd *cobra.Command, s *trail.Sealed, vkeys []string, dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return usageError("%s: not empty", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	size := s.Checkpoint.Size
	p := newProgress("exporting")
	write := func(name string, data []byte) error {
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := durable.MkdirAll(filepath.Dir(name)); err != nil {
			return err
		}
		return durable.OS.WriteFileLazy(name, data)
	}
	for t := range tilesOf(size, 0) {
		b, err := s.Bundle(t.N, t.Width)
		if err != nil {
			return err
		}
		if err := write(tlog.BundlePath(t.N, t.Width), b); err != nil {
			return err
		}
		p.show("%s of %s events", count(t.N*tlog.TileWidth), count(size))
	}
	trees := map[string]suite.Digest{"": suite.SHA256}
	if s.Checkpoint.SM3Root != nil {
		trees["sm3/"] = suite.SM3
	}
	for prefix, digest := range trees {
		for level := 0; size>>(tlog.TileHeight*level) > 0; level++ {
			for t := range tilesOf(size, level) {
				hashes, err := s.Tiles(digest).ReadTile(t)
				if err != nil {
					return err
				}
				if err := write(prefix+t.Path(), tlog.MarshalTile(hashes)); err != nil {
					return err
				}
				p.show("%s", prefix+t.Path())
			}
		}
	}
	var text []byte
	for _, k := range vkeys {
		text = append(text, k+"\n"...)
	}
	if err := errors.Join(write("keys", text), write(trail.CheckpointFile, s.Note)); err != nil {
		return err
	}
	p.clear()
	fmt.Fprintf(os.Stderr, "%s: the log of %s leaves, as tiles\n", dir, count(size))
	return nil
}

// tilesOf are the tiles of one level of a log, the partial one last.
func tilesOf(size uint64, level int) func(yield func(tlog.Tile) bool) {
	hashes := size >> (tlog.TileHeight * level)
	return func(yield func(tlog.Tile) bool) {
		for n := uint64(0); n*tlog.TileWidth < hashes; n++ {
			width := int(min(tlog.TileWidth, hashes-n*tlog.TileWidth))
			if !yield(tlog.Tile{Level: level, N: n, Width: width}) {
				return
			}
		}
	}
}
