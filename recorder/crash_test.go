package recorder

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// crashDir names the trail that a child of this test records into until it is
// killed.
const crashDir = "VERITRAIL_CRASH_DIR"

// notKilled is the exit code of a child that ended by itself. Windows gives 1
// to one that was killed.
const notKilled = 7

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, recordUntilKilled(dir))
		os.Exit(notKilled)
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) Config {
	return Config{Dir: dir, SegmentBytes: 256 << 10, CheckpointEvery: 15 * time.Millisecond, CheckpointLeaves: 1000}
}

// recordUntilKilled tells its parent of each acknowledged event, and ends only
// with an error.
func recordUntilKilled(dir string) error {
	r, err := Open(crashConfig(dir))
	if err != nil {
		return err
	}
	failed := make(chan error)
	var mu sync.Mutex
	for g := range 6 {
		go func() {
			user := strconv.Itoa(g)
			for n := 0; ; n++ {
				f, err := r.Event("APP.STEP").Sub("user", user).Obj("n", strconv.Itoa(n)).RecordAsync(background)
				if err == nil {
					err = f.Wait(background)
				}
				if err != nil {
					failed <- err
					return
				}
				leaf, _ := f.Leaf()
				mu.Lock() // one line, one write: the kernel has it whole when the process dies
				_, err = fmt.Printf("acknowledged %d %s\n", leaf, f.ID)
				mu.Unlock()
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// survivor is what the parent knows of the trail.
type survivor struct {
	dir  string
	size uint64 // leaves checked so far
	root suite.Hash
	ids  map[string]uint64 // every event ever acknowledged, and its leaf
}

// TestKilledRecorderLosesNoAcknowledgedEvent kills a recording process again
// and again, always on the same trail. VERITRAIL_KILLS changes how often.
func TestKilledRecorderLosesNoAcknowledgedEvent(t *testing.T) {
	kills := 500
	if testing.Short() {
		kills = 60
	}
	if text := os.Getenv("VERITRAIL_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("VERITRAIL_KILLS: want a number, got %q", text)
		}
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	s := &survivor{dir: dirOf(t), ids: make(map[string]uint64)}
	cuts := 0
	for n := range kills {
		acknowledged := killOne(t, s.dir, random, n%10 == 9)
		cut, err := s.check(acknowledged)
		if err != nil {
			t.Fatalf("seed %d: kill %d: %v", seed, n, err)
		}
		cuts += cut
	}
	leaves := leavesOf(t, s.dir)
	for id, leaf := range s.ids {
		if !strings.HasPrefix(string(leaves[leaf]), `{"id":"`+id+`"`) {
			t.Fatalf("seed %d: leaf %d is not the event %s any more", seed, leaf, id)
		}
	}
	if len(s.ids) < kills {
		t.Errorf("only %d events were acknowledged in %d kills", len(s.ids), kills)
	}
	t.Logf("%d kills, %d events acknowledged, %d leaves, %d tails cut", kills, len(s.ids), len(leaves), cuts)
}

// killOne lets a child record, kills it, and returns what it was told was
// acknowledged. An early kill comes before the child is known to record.
func killOne(t *testing.T, dir string, random *rand.Rand, early bool) map[string]uint64 {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir)
	var stderr strings.Builder
	child.Stderr = &stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func(after time.Duration) *time.Timer {
		return time.AfterFunc(after, func() { _ = child.Process.Kill() }) // it may have ended: then Wait says so
	}
	var timer *time.Timer
	if early {
		timer = kill(time.Duration(random.Int64N(int64(30 * time.Millisecond))))
	}
	acknowledged := make(map[string]uint64)
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		if timer == nil {
			timer = kill(time.Millisecond + time.Duration(random.Int64N(int64(59*time.Millisecond))))
		}
		var leaf uint64
		var id string
		if n, err := fmt.Sscanf(lines.Text(), "acknowledged %d %s", &leaf, &id); n != 2 || len(id) != 36 {
			continue // a line that the kill cut short; Wait tells when it was anything else
		} else if err != nil {
			t.Fatal(err)
		}
		acknowledged[id] = leaf
	}
	err = child.Wait()
	if timer != nil {
		timer.Stop()
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == notKilled {
		t.Fatalf("the child was not killed, it ended: %v, %s", err, stderr.String())
	}
	return acknowledged
}

// check opens the trail as the next writer would. Every acknowledged event must
// be in its place, under the tree, and the tree an extension of the last one.
func (s *survivor) check(acknowledged map[string]uint64) (cuts int, err error) {
	r, err := Open(crashConfig(s.dir))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if found := r.Trail().Recovery(); found.CutBytes > 0 {
		cuts = 1
	}
	return cuts, s.checkTree(r.Trail().View(), acknowledged)
}

func (s *survivor) checkTree(v *trail.View, acknowledged map[string]uint64) error {
	size, d := v.Size(), suite.SHA256
	root, _ := v.Root(d)
	if size < s.size {
		return fmt.Errorf("it had %d leaves, and has %d", s.size, size)
	}
	if s.size > 0 {
		path, err := tlog.ConsistencyProof(d, v.Tiles(d), s.size, size)
		if err != nil {
			return err
		}
		if err := tlog.CheckConsistency(d, s.size, size, path, s.root, root); err != nil {
			return err
		}
	}
	for at := s.size; at < size; {
		n := min(tlog.TileWidth-at%tlog.TileWidth, size-at)
		leaves, err := v.Leaves().Read(at, int(n))
		if err != nil {
			return err
		}
		for i, leaf := range leaves {
			e, err := veritrail.ParseCanonical(leaf)
			if err != nil {
				return fmt.Errorf("leaf %d: %w", at+uint64(i), err)
			}
			if want, ours := acknowledged[e.ID]; ours && want == at+uint64(i) {
				s.ids[e.ID] = want
				delete(acknowledged, e.ID)
			}
			if i != 0 && at+uint64(i) != size-1 {
				continue
			}
			path, err := tlog.InclusionProof(d, v.Tiles(d), at+uint64(i), size)
			if err != nil {
				return err
			}
			if err := tlog.CheckInclusion(d, at+uint64(i), size, d.LeafHash(leaf), path, root); err != nil {
				return fmt.Errorf("leaf %d: %w", at+uint64(i), err)
			}
		}
		at += n
	}
	if len(acknowledged) > 0 {
		return fmt.Errorf("%d acknowledged events are not in their place", len(acknowledged))
	}
	s.size, s.root = size, root
	return nil
}

// TestCopyOfARunningTrailOpens takes a copy as a backup would, file by file,
// while events arrive. What was sealed before the copy began is in it.
func TestCopyOfARunningTrailOpens(t *testing.T) {
	dir, copied := dirOf(t), dirOf(t)
	r := start(t, Config{Dir: dir, SegmentBytes: 64 << 10})
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.RecordAsync(background, login()); err != nil {
				t.Errorf("while copying: %v", err)
				return
			}
		}
	})
	for r.Stats().Size < 1000 {
		runtime.Gosched()
	}
	if err := r.Seal(background); err != nil {
		t.Fatal(err)
	}
	sealed := r.Stats().Sealed
	// The newest segment last: what it relies on must be in the copy.
	for _, part := range []string{"trail.json", trail.KeysDir, trail.CheckpointFile, trail.SegmentsDir, "tile"} {
		if err := copyTree(filepath.Join(dir, part), filepath.Join(copied, part)); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	writer.Wait()
	again := start(t, Config{Dir: copied})
	if got := again.Stats().Size; got < sealed {
		t.Errorf("the copy has %d leaves, %d were sealed before it", got, sealed)
	}
	shut(t, again)
	leavesOf(t, copied)
}

func copyTree(from, to string) error {
	st, err := os.Stat(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !st.IsDir() {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := durable.MkdirAll(filepath.Dir(to)); err != nil {
			return err
		}
		return durable.WriteFile(to, b)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
