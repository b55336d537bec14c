package health

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mend stands for the command that a person types.
func mend(name string) string { return "mend " + name }

func want(t *testing.T, c Check, r Result, found string) {
	t.Helper()
	if c.Result != r || !strings.Contains(c.Found, found) {
		t.Errorf("%s: got %v: %s; want %v: …%s…", c.Name, c.Result, c.Found, r, found)
	}
	if c.Result != OK && c.Advice == "" {
		t.Errorf("%s: %s: says not what to do", c.Name, c.Found)
	}
	if c.Name == "" || c.Expected == "" {
		t.Errorf("%+v: incomplete", c)
	}
}

func TestSpaceIsJudgedByBytesAndInodes(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		v     Volume
		want  Result
		found string
	}{
		{Volume{Free: 100 * gib, Total: 200 * gib}, OK, "100 GiB of 200 GiB free"},
		{Volume{Free: 500 << 20, Total: 200 * gib}, Warn, "500 MiB"},
		{Volume{Free: 2 * gib, Total: 200 * gib}, Warn, "2048 MiB"},       // 1 %
		{Volume{Free: 100 * gib, Total: 10_000 * gib}, OK, "100 GiB"},     // 1 %, and plenty
		{Volume{Free: 1 << 20, Total: 200 * gib}, Fail, "1 MiB"},          // less than a segment
		{Volume{Free: 9 * gib, Total: 9 * gib, Nodes: 0}, OK, "9216 MiB"}, // no inodes to run out of
		{Volume{Free: 100 * gib, Total: 200 * gib, Nodes: 1000, FreeNodes: 1000}, Warn, "1000 of 1000 inodes"},
		{Volume{Free: 100 * gib, Total: 200 * gib, Nodes: 1 << 20, FreeNodes: 3}, Fail, "3 of 1048576 inodes"},
		{Volume{Free: 1 << 20, Total: 200 * gib, Nodes: 1 << 20, FreeNodes: 3000}, Fail, "1 MiB"}, // the worse one decides
	} {
		want(t, tt.v.Space(), tt.want, tt.found)
	}
}

func TestFileSystemIsJudged(t *testing.T) {
	for _, tt := range []struct {
		v     Volume
		want  Result
		found string
	}{
		{Volume{Type: "ext4", Options: []string{"rw", "relatime"}}, OK, "ext4"},
		{Volume{}, OK, "does not name"},
		{Volume{Type: "nfs4", Network: true}, Warn, "on another machine"},
		{Volume{Type: "tmpfs", Memory: true}, Warn, "in memory"},
		{Volume{Type: "ext4", Options: []string{"rw", "nobarrier"}}, Warn, "nobarrier"},
		{Volume{Type: "ext4", Options: []string{"rw", "barrier=0"}}, Warn, "barrier=0"},
		{Volume{Type: "ext4", ReadOnly: true, Network: true}, Fail, "read-only"},
	} {
		want(t, tt.v.FileSystem(), tt.want, tt.found)
	}
}

func TestSyncsThatAreTooFastOrSlowAreNoticed(t *testing.T) {
	want(t, SyncCost{Rounds: 50, P50: 2 * time.Microsecond, P99: 9 * time.Microsecond}.Check(), Warn, "faster than a disk can be")
	want(t, SyncCost{Rounds: 50, P50: 900 * time.Microsecond, P99: 2 * time.Millisecond}.Check(), OK, "p50 900µs, p99 2ms (50 ")
	want(t, SyncCost{Rounds: 50, P50: 80 * time.Millisecond, P99: time.Second}.Check(), Warn, "p50 80ms")
}

func TestMeasureSyncLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	cost, err := MeasureSync(dir, 10)
	if err != nil || cost.Rounds != 10 || cost.P50 <= 0 || cost.P99 < cost.P50 || cost.Slower < cost.P99 {
		t.Errorf("%+v, %v", cost, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if _, err := MeasureSync(filepath.Join(dir, "missing"), 1); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
	if _, err := MeasureSync(dir, 0); err == nil {
		t.Error("measured nothing")
	}
}

func TestClockIsJudged(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	for _, tt := range []struct {
		c     Clock
		want  Result
		found string
	}{
		{Clock{Now: now, Source: "kernel (NTP)", Synchronized: true, MaxError: time.Millisecond}, OK, "wrong by at most 1ms"},
		{Clock{Now: now, Source: "kernel (NTP)", Synchronized: true, MaxError: 16 * time.Second}, Warn, "16s"},
		{Clock{Now: now, Source: "Windows Time (NTP)", Synchronized: true}, OK, "set by Windows Time"},
		{Clock{Now: now, Source: "kernel"}, Warn, "not synchronized"},
		{Clock{Now: now}, OK, "does not say"},
		{Clock{Now: now, Step: -3 * time.Second, Watched: time.Second}, Warn, "jumped by -3s within 1s"},
		{Clock{Now: now, Step: time.Millisecond, Watched: time.Second}, OK, ""},
		{Clock{Now: now, Newest: now.Add(-time.Hour), NewestWhat: "the newest event"}, OK, ""},
		{Clock{Now: now, Newest: now.Add(500 * time.Millisecond), NewestWhat: "the newest event"}, OK, ""},
		{Clock{Now: now, Newest: now.Add(20 * time.Second), NewestWhat: "the newest event"}, Warn, "20s ahead"},
		{Clock{Now: now, Newest: now.Add(time.Hour), NewestWhat: "the newest event"}, Fail, "the newest event is of 2026-03-01T10:30:00Z, 1h0m0s ahead"},
		{Clock{Now: now.AddDate(-30, 0, 0)}, Fail, "before this program"},
	} {
		want(t, tt.c.Check(), tt.want, tt.found)
	}
}

func TestWatchedClockDoesNotJump(t *testing.T) {
	read := WatchClock()
	c := read()
	if c.Step.Abs() > time.Second || c.Watched < 0 || c.Now.IsZero() {
		t.Errorf("%+v", c)
	}
}

func certificate(t *testing.T, from, to time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: to},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestCertificateIsJudgedByItsTime(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	day := 24 * time.Hour
	want(t, Certificate(certificate(t, now.Add(-day), now.Add(90*day)), now), OK, "valid until 2026-05-30")
	want(t, Certificate(certificate(t, now.Add(-day), now.Add(5*day)), now), Warn, "5 days left")
	want(t, Certificate(certificate(t, now.Add(-9*day), now.Add(-day)), now), Fail, "expired")
	want(t, Certificate(certificate(t, now.Add(day), now.Add(90*day)), now), Fail, "not before")
	want(t, Certificate([]byte("nonsense"), now), Fail, "no certificate")
	want(t, Certificate([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), now), Fail, "not a certificate")
	key := []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	want(t, Certificate(append(key, certificate(t, now.Add(-day), now.Add(90*day))...), now), OK, "valid until")
}

func TestVolumeAndLimitsAreRead(t *testing.T) {
	v, err := ReadVolume(t.TempDir())
	if err != nil || v.Total == 0 || v.Free > v.Total {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := ReadVolume(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing directory is on a volume")
	}
	l, err := ReadLimits()
	if err != nil {
		t.Fatal(err)
	}
	want(t, Limits{OpenFiles: 256}.Files(), Warn, "limit 256")
	want(t, Limits{OpenFiles: 4096}.Files(), OK, "limit 4096")
	want(t, Limits{}.Files(), OK, "no limit")
	want(t, CPU(), CPU().Result, "CPUs")
	if c, ok := (Limits{HugePages: "always"}).Memory(); !ok || c.Result != OK {
		t.Errorf("%+v", c)
	}
	t.Logf("%+v; %+v; %s", v, l, CPU().Found)
}

func TestProcessesAreFound(t *testing.T) {
	p, err := ReadProcess(os.Getpid())
	if err != nil || p.Name == "" || time.Since(p.Started) < -2*time.Second || time.Since(p.Started) > time.Hour {
		t.Errorf("this process: %+v, %v", p, err)
	}
	if _, err := ReadProcess(1<<22 + 4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a process that cannot be: %v", err)
	}
}

func TestWritableMakesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Writable(filepath.Join(dir, "a", "b")); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Writable(file); err == nil {
		t.Error("a file is a directory")
	}
}

func TestResultsAreWords(t *testing.T) {
	for r := OK; r <= Fail; r++ {
		b, err := json.Marshal(Check{Result: r})
		if err != nil {
			t.Fatal(err)
		}
		var back Check
		if err := json.Unmarshal(b, &back); err != nil || back.Result != r || !strings.Contains(string(b), `"result":"`+r.String()+`"`) {
			t.Errorf("%s: %+v, %v", b, back, err)
		}
	}
	if err := new(Result).UnmarshalText([]byte("good")); err == nil {
		t.Error("read a result that there is not")
	}
}
