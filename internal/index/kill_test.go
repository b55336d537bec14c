package index

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/veritrail/veritrail/recorder"
)

// killedDir names the trail that a child of this test records and indexes
// until it is killed.
const killedDir = "VERITRAIL_INDEX_KILLED_DIR"

// indexUntilKilled ends only with an error.
func indexUntilKilled(dir string) error {
	rec, err := recorder.Open(recorder.Config{Dir: dir, SegmentBytes: 64 << 10, CheckpointEvery: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	x, err := Open(Config{Dir: dir, Durable: func() uint64 { return rec.Stats().Size }, Every: time.Millisecond})
	if err != nil {
		return err
	}
	defer x.Close()
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for n := int(rec.Stats().Size); ; n++ {
		if err := rec.Record(background, event(r, n)); err != nil {
			return err
		}
	}
}

// However the process ends, what it leaves answers like a scan, and is gone on
// with.
func TestKilledWhileIndexing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trail")
	r := rand.New(rand.NewPCG(13, 14))
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	for range rounds {
		before, err := sidecars(dir)
		if err != nil {
			t.Fatal(err)
		}
		said, err := os.CreateTemp(t.TempDir(), "said")
		if err != nil {
			t.Fatal(err)
		}
		words := func() string { return string(read(t, said.Name())) }
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), killedDir+"="+dir)
		child.Stderr = said
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		more := 2 + r.IntN(5)
		until(t, "some sidecars are written", func() bool {
			now, err := sidecars(dir)
			return err == nil && len(now) >= len(before)+more || words() != ""
		})
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed
		if words() != "" {
			t.Fatalf("the child ended by itself: %s", words())
		}
		said.Close()
		rec, err := recorder.Open(recorder.Config{Dir: dir, SegmentBytes: 64 << 10}) // recovers the trail
		if err != nil {
			t.Fatal(err)
		}
		size := rec.Stats().Size
		reader := openReader(t, dir)
		for range 5 {
			same(t, reader, randomQuery(r), 0, size)
		}
		x := open(t, Config{Dir: dir, Durable: func() uint64 { return size }, Every: time.Millisecond})
		untilIndexed(t, x)
		for range 5 {
			same(t, x, randomQuery(r), 0, size)
		}
		if err := x.Close(); err != nil {
			t.Fatal(err)
		}
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
