//go:build !windows

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

const tesseraName = "Tessera, POSIX"

const (
	tesseraAge      = 10 * time.Millisecond
	tesseraInterval = 100 * time.Millisecond // the least it takes
)

func tesseraSettings(recorders int) string {
	return fmt.Sprintf("batch of %d or %v, checkpoint every %v", recorders, tesseraAge, tesseraInterval)
}

// tessera lets Tessera's POSIX log have its turn. A batch is full when all
// recorders wait, so that none waits for the clock. An entry counts when it is
// integrated, as its future says, and before a checkpoint covers it.
func (b *bench) tessera(recorders int) func(string) (result, error) {
	return func(dir string) (result, error) {
		skey, _, err := note.GenerateKey(nil, "example.com/bench")
		if err != nil {
			return result{}, err
		}
		signer, err := note.NewSigner(skey)
		if err != nil {
			return result{}, err
		}
		lines, err := someLines()
		if err != nil {
			return result{}, err
		}
		ctx, cancel := context.WithCancel(background)
		defer cancel()
		driver, err := posix.New(ctx, posix.Config{Path: dir})
		if err != nil {
			return result{}, err
		}
		appender, shutdown, _, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
			WithCheckpointSigner(signer).
			WithCheckpointInterval(tesseraInterval).
			WithBatching(uint(recorders), tesseraAge).
			WithPushback(1<<20))
		if err != nil {
			return result{}, err
		}
		waits, elapsed, err := oneByOne(recorders, b.ackTurn, func(i int) error {
			_, err := appender.Add(ctx, tessera.NewEntry(lines[i%len(lines)]))()
			return err
		})
		if err := errors.Join(err, shutdown(ctx)); err != nil {
			return result{}, err
		}
		return result{events: len(waits), elapsed: elapsed, waits: waits, lineSize: float64(len(lines[0]))}, nil
	}
}
