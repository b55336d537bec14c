package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// Each event is shown once, in order, over the ends of segments, and what is
// gone is named.
func TestTailGoesOnOverSegments(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trail")
	rec, err := recorder.Open(recorder.Config{Dir: dir, SegmentBytes: 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	n := 0
	record := func(events int) {
		t.Helper()
		var last recorder.Future
		for range events {
			var err error
			if last, err = rec.RecordJSON(context.Background(), fmt.Appendf(nil, `{"sub":{"user":"u%d"},"act":"APP.X","obj":{"n":"%d"}}`, n%2, n)); err != nil {
				t.Fatal(err)
			}
			n++
		}
		if err := last.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	var shown []uint64
	var said bytes.Buffer
	newFollower := func(where ...string) *follower {
		q, err := search.Parse(where)
		if err != nil {
			t.Fatal(err)
		}
		cmd := &cobra.Command{}
		cmd.SetContext(context.Background())
		cmd.SetErr(&said)
		shown = nil
		leaves := trail.NewLeaves(dir)
		t.Cleanup(func() { leaves.Close() })
		return &follower{cmd: cmd, dir: dir, leaves: leaves, query: q, show: func(h search.Hit) error {
			shown = append(shown, h.Leaf)
			return nil
		}}
	}
	follow := func(f *follower) {
		t.Helper()
		for more := true; more; {
			var err error
			if more, err = f.step(); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, odd := newFollower(), newFollower("sub.user=u1")
	var all []uint64
	f.show = func(h search.Hit) error { all = append(all, h.Leaf); return nil }
	for _, events := range []int{1, 100, 255, 300, 1, 400} {
		record(events)
		follow(f)
		follow(odd)
	}
	files, err := trail.Segments(dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d segments, %v", len(files), err)
	}
	if len(all) != n || len(shown) != n/2 || said.Len() > 0 {
		t.Fatalf("shown %d and %d of %d events; said %q", len(all), len(shown), n, said.String())
	}
	for i := range all {
		if all[i] != uint64(i) {
			t.Fatalf("leaf %d was shown in place %d", all[i], i)
		}
	}
	for _, open := range []*follower{f, odd} { // Windows keeps a file that somebody has open
		if err := open.leaves.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(files[0].Path); err != nil {
		t.Fatal(err)
	}
	late := newFollower()
	follow(late)
	if len(shown) == 0 || shown[0] != files[1].FirstLeaf || len(shown) != n-int(files[1].FirstLeaf) {
		t.Errorf("%d shown, from leaf %v on; want them from %d on", len(shown), shown[:min(1, len(shown))], files[1].FirstLeaf)
	}
	if want := fmt.Sprintf("not shown: leaves 0 to %d", files[1].FirstLeaf-1); !strings.Contains(said.String(), want) {
		t.Errorf("said %q, want %q", said.String(), want)
	}
}
