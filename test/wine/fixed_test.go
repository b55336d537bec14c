// Package wine runs the Windows program under Wine beside the one of this
// system: each must take the other's trails, and write the same bytes. Wine is
// set up by the scripts in this directory; `test/run wine` calls them.
package wine

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/seal"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// With this set, the test binary writes the fixed trails into the directory
// that it names, and ends. That is all it does on Windows.
const fixedVariable = "VERITRAIL_FIXED_TRAILS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fixedVariable); dir != "" {
		if err := writeFixedTrails(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(runTests(m))
}

// writeFixedTrails writes trails in which nothing is left to the machine: the
// clock, the keys, the identity and the groups of leaves are given.
func writeFixedTrails(root string) error {
	for name, digests := range map[string][]suite.Digest{"sha256": nil, "sm3": {suite.SM3}} {
		if err := writeFixedTrail(root+"/"+name, digests); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func writeFixedTrail(dir string, digests []suite.Digest) (err error) {
	const origin = "example.com/fixed"
	set := suite.NewSet(digests...)
	cfg := seal.Config{Dir: dir, SegmentBytes: 64 << 10, CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30, Epoch: 1}
	clock := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	cfg.Now = func() time.Time { return clock } // it moves between groups, by the one goroutine that appends
	for i, d := range set.Digests() {
		generate := checkpoint.GenerateEd25519
		if d == suite.SM3 {
			generate = checkpoint.GenerateSM2
		}
		private, _, err := generate(origin, bytes.NewReader(bytes.Repeat([]byte{byte(i + 1)}, 64)))
		if err != nil {
			return err
		}
		s, err := checkpoint.ParseSigner(private)
		if err != nil {
			return err
		}
		cfg.Signers = append(cfg.Signers, s)
	}
	id := trail.Identity{Origin: origin, Instance: [16]byte{1, 2, 3}, Digests: set, Created: clock}
	if err := trail.Create(durable.OS, dir, id); err != nil {
		return err
	}
	ctx := context.Background()
	for range 2 { // it is closed and opened again
		l, err := seal.Open(cfg)
		if err != nil {
			return err
		}
		for n := range 700 {
			leaf := fmt.Sprintf(`{"id":"%08d-0000-4000-8000-000000000000","sub":{"user":"用户 %d"},"act":"AUTH.LOGIN.OK","note":"%0*d"}`, n, n%17, n%300, 0)
			p, err := l.Append(ctx, []byte(leaf))
			if err != nil {
				return err
			}
			if err := p.Wait(ctx); err != nil {
				return err
			}
			if n%256 == 99 {
				if err := l.Seal(ctx); err != nil {
					return err
				}
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}
