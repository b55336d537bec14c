package aead

import (
	"bufio"
	cryptorand "crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// How many are looked at: go test -run NonceExperiment -nonces 1e8 -v -timeout 1h
var wantNonces = flag.Float64("nonces", 1e5, "how many nonces TestNonceExperiment looks at")

// childTask is the environment variable that makes a sealing process of the test
// program: the file of secrets, the file to write to and a seed, in three lines.
const childTask = "VERITRAIL_TEST_SEAL"

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		if err := sealUntilKilled(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A record says which counters a message took, of which keys.
const recordSize = 1 + 1 + 1 + NonceSize // algorithm, secret, counters, nonce

// childLimit ends a child whose parent is gone.
const childLimit = 50_000_000

// sealUntilKilled seals small values with all algorithms under all secrets, from
// two goroutines, in caches so small that Sealers come and go.
func sealUntilKilled(task string) error {
	parts := strings.Split(task, "\n")
	if len(parts) != 3 {
		return errors.New("not a task")
	}
	secrets, err := os.ReadFile(parts[0])
	if err != nil {
		return err
	}
	seed, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil {
		return err
	}
	session, err := NewSession(cryptorand.Reader)
	if err != nil {
		return err
	}
	var caches []*Cache
	for _, a := range algorithms {
		c, err := NewCache(a, session, 3)
		if err != nil {
			return err
		}
		caches = append(caches, c)
	}
	out, err := os.OpenFile(parts[1], os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	errs := make(chan error, 2)
	var mu sync.Mutex // so that records stay whole
	for g := range uint64(2) {
		go func() {
			errs <- func() error {
				random := rand.New(rand.NewPCG(seed, g))
				zeros, aad := make([]byte, 100), []byte("vt1")
				var sealed, records []byte
				for done := 0; done < childLimit/2; {
					at := random.IntN(len(algorithms))
					k := random.IntN(len(secrets) / SecretSize)
					secret := (*[SecretSize]byte)(secrets[k*SecretSize:])
					for range 1 + random.IntN(2000) {
						n := random.IntN(41)
						if random.IntN(50) == 0 {
							n = len(zeros)
						}
						var nonce [NonceSize]byte
						var err error
						if sealed, nonce, err = caches[at].Seal(strconv.Itoa(k), secret, sealed[:0], zeros[:n], aad); err != nil {
							return err
						}
						counters := 1
						if algorithms[at] == SM4CTRHMACSM3 {
							counters = max(1, (n+15)/16)
						}
						records = append(append(records, byte(algorithms[at]), byte(k), byte(counters)), nonce[:]...)
						done++
					}
					mu.Lock()
					_, err := out.Write(records)
					mu.Unlock()
					if err != nil {
						return err
					}
					records = records[:0]
				}
				return nil
			}()
		}()
	}
	return errors.Join(<-errs, <-errs, out.Close())
}

// seenCounters knows each counter that was used under each keys: a bit for each,
// since counters begin at zero.
type seenCounters struct {
	mu       sync.Mutex
	sealers  map[[2 + SessionSize]byte]*[]uint64
	nonces   int
	repeated int
}

func (s *seenCounters) add(records io.Reader) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := bufio.NewReaderSize(records, 1<<16)
	var record [recordSize]byte
	var id [2 + SessionSize]byte
	var bits *[]uint64
	for {
		if _, err := io.ReadFull(in, record[:]); err != nil {
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) { // killed in the middle of one
				s.nonces += n
				return n, nil
			}
			return n, err
		}
		next := id
		copy(next[:], record[:2])
		copy(next[2:], record[3:])
		if bits == nil || next != id {
			id = next
			if bits = s.sealers[id]; bits == nil {
				bits = new([]uint64)
				s.sealers[id] = bits
			}
		}
		first := counterOf(record[3+SessionSize:])
		if first > 1<<32 {
			return n, fmt.Errorf("counter %d: more than can have been used", first)
		}
		for c := first; c < first+uint64(record[2]); c++ {
			for uint64(len(*bits)) <= c/64 {
				*bits = append(*bits, 0)
			}
			if (*bits)[c/64]>>(c%64)&1 != 0 {
				s.repeated++
			}
			(*bits)[c/64] |= 1 << (c % 64)
		}
		n++
	}
}

// Two machines with the same secrets, as after a restored backup, seal at the
// same time. Their processes are killed, and started again. Under no keys does a
// counter occur twice.
func TestNonceExperiment(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(4, 1))
	secrets := bytesOf(random, 8*SecretSize)
	target := int(*wantNonces)
	each := max(4000, target/400) // before a kill, on average
	seen := &seenCounters{sealers: make(map[[2 + SessionSize]byte]*[]uint64)}
	var kills, made [2]int
	var all sync.WaitGroup
	for machine := range 2 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secrets"), secrets, 0o600); err != nil {
			t.Fatal(err)
		}
		seeds := rand.New(rand.NewPCG(4, uint64(machine)))
		all.Go(func() {
			for made[machine] < target/2 && !t.Failed() {
				n, err := runAndKill(self, dir, int64(1+seeds.IntN(2*each)), seeds.Uint64())
				if err == nil {
					err = addFile(seen, filepath.Join(dir, "records"), n)
				}
				if err != nil {
					t.Errorf("machine %d: %v", machine, err)
					return
				}
				made[machine] += n
				kills[machine]++
			}
		})
	}
	all.Wait()
	if seen.repeated > 0 {
		t.Errorf("%d counters occur twice", seen.repeated)
	}
	if seen.nonces < target {
		t.Errorf("%d nonces, want %d", seen.nonces, target)
	}
	t.Logf("%d nonces of %d sealers, %d and %d processes killed: %d repeated", seen.nonces, len(seen.sealers), kills[0], kills[1], seen.repeated)
}

// runAndKill kills a child after it has written some records, and returns how many
// there are.
func runAndKill(self, dir string, after int64, seed uint64) (int, error) {
	path := filepath.Join(dir, "records")
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTask+"="+filepath.Join(dir, "secrets")+"\n"+path+"\n"+strconv.FormatUint(seed, 10))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	exited := make(chan struct{})
	var ended error
	go func() {
		ended = cmd.Wait()
		close(exited)
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return 0, fmt.Errorf("the child ended by itself: %v", ended)
		case <-tick.C:
		}
		if info, err := os.Stat(path); err == nil && info.Size() >= after*recordSize {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		return 0, err
	}
	<-exited
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return int(info.Size() / recordSize), nil
}

// addFile reads what a child left, and removes it.
func addFile(seen *seenCounters, path string, want int) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	n, err := seen.add(f)
	f.Close()
	if err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d records read, want %d", n, want)
	}
	return os.Remove(path)
}

// The experiment would see a repetition.
func TestExperimentSeesRepetitions(t *testing.T) {
	record := func(k byte, counters byte, counter uint64) string {
		var r [recordSize]byte
		r[0], r[1], r[2] = 1, k, counters
		putCounter(r[3+SessionSize:], counter)
		return string(r[:])
	}
	for name, c := range map[string]struct {
		records string
		want    int
	}{
		"none":             {record(0, 2, 0) + record(0, 1, 2) + record(1, 2, 0), 0},
		"the same":         {record(0, 1, 7) + record(1, 1, 7) + record(0, 1, 7), 1},
		"a block of two":   {record(0, 2, 7) + record(0, 1, 8), 1},
		"both":             {record(0, 2, 63) + record(0, 2, 63), 2},
		"cut in the midst": {record(0, 2, 63) + record(0, 2, 63)[:10], 0},
	} {
		seen := &seenCounters{sealers: make(map[[2 + SessionSize]byte]*[]uint64)}
		if _, err := seen.add(strings.NewReader(c.records)); err != nil {
			t.Fatal(err)
		}
		if seen.repeated != c.want {
			t.Errorf("%s: %d, want %d", name, seen.repeated, c.want)
		}
	}
}
