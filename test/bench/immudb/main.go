// Command immudb is one turn of immudb's embedded store in the benchmarks of
// test/bench: so many recorders, each of which commits one event and waits until
// it is synced before the next. It reads the events, a line each, from stdin,
// and prints its result as JSON.
//
// It is a module and a program of its own because immudb is not open source:
// its Business Source License allows this comparison, and nothing of it is part
// of Veritrail.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/codenotary/immudb/embedded/logger"
	"github.com/codenotary/immudb/embedded/store"
)

// outcome is what test/bench/peers reads.
type outcome struct {
	Events   int
	Elapsed  time.Duration
	P50, P99 time.Duration
}

func main() {
	dir := flag.String("dir", "", "the store's `directory`, made anew")
	recorders := flag.Int("recorders", 1, "how many record at a time")
	during := flag.Duration("during", time.Second, "for how long")
	frequency := flag.Duration("sync", time.Millisecond, "SyncFrequency: how long a sync waits for more commits")
	flag.Parse()
	out, err := run(os.Stdin, *dir, *recorders, *during, *frequency)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "immudb:", err)
		os.Exit(1)
	}
}

func run(events io.Reader, dir string, recorders int, during, frequency time.Duration) (outcome, error) {
	var lines [][]byte
	for s := bufio.NewScanner(events); s.Scan(); {
		lines = append(lines, slices.Clone(s.Bytes()))
	}
	if len(lines) == 0 {
		return outcome{}, errors.New("no events on stdin")
	}
	options := store.DefaultOptions().WithSynced(true).WithSyncFrequency(frequency).
		WithMaxConcurrency(2 * recorders).WithMaxWaitees(4 * max(recorders, 1000)).WithMaxActiveTransactions(4 * max(recorders, 1000)).
		WithLogger(logger.NewMemoryLoggerWithLevel(logger.LogError))
	s, err := store.Open(dir, options)
	if err != nil {
		return outcome{}, err
	}
	waits, elapsed, err := record(s, lines, recorders, during)
	if err := errors.Join(err, s.Close()); err != nil {
		return outcome{}, err
	}
	slices.Sort(waits)
	return outcome{len(waits), elapsed, waits[len(waits)/2], waits[len(waits)*99/100]}, nil
}

func record(s *store.ImmuStore, lines [][]byte, recorders int, during time.Duration) ([]time.Duration, time.Duration, error) {
	waits, errs := make([][]time.Duration, recorders), make([]error, recorders)
	var all sync.WaitGroup
	start := time.Now()
	for g := range recorders {
		all.Go(func() {
			for i := 0; errs[g] == nil; i++ {
				began := time.Now()
				if began.Sub(start) >= during {
					return
				}
				key := binary.BigEndian.AppendUint64(nil, uint64(i*recorders+g))
				errs[g] = commit(s, key, lines[(i*recorders+g)%len(lines)])
				waits[g] = append(waits[g], time.Since(began))
			}
		})
	}
	all.Wait()
	return slices.Concat(waits...), time.Since(start), errors.Join(errs...)
}

// commit returns when the event is synced. It does not wait for the index.
func commit(s *store.ImmuStore, key, value []byte) error {
	ctx := context.Background()
	tx, err := s.NewWriteOnlyTx(ctx)
	if err != nil {
		return err
	}
	if err := tx.Set(key, nil, value); err != nil {
		return errors.Join(err, tx.Cancel())
	}
	_, err = tx.AsyncCommit(ctx)
	return err
}
