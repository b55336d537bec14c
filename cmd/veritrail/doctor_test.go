package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/health"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// newTrail makes a trail with one event, whose checkpoints are kept aside.
func newTrail(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("LOCALAPPDATA", t.TempDir())
	dir := filepath.Join(t.TempDir(), "trail")
	addEvent(t, dir)
	return dir
}

func addEvent(t *testing.T, dir string) {
	t.Helper()
	rec, kept, err := openKept(recorder.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Event("APP.DEMO").Sub("user", "u1").Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	if err := kept.close(); err != nil {
		t.Fatal(err)
	}
}

func find(t *testing.T, checks []health.Check, name string) health.Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Errorf("no check %q", name)
	return health.Check{}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	future := time.Now().Add(time.Hour)
	for what, tt := range map[string]struct {
		harm  func(t *testing.T, dir string)
		check string
		want  health.Result
		found string
	}{
		"nothing":          {func(*testing.T, string) {}, "last segment", health.OK, "1 events"},
		"nobody writes":    {func(*testing.T, string) {}, "writer", health.Warn, "none; the last was pid"},
		"clock set back":   {func(t *testing.T, dir string) { touch(t, filepath.Join(dir, trail.CheckpointFile), future) }, "clock", health.Fail, "the checkpoint's file is of"},
		"damaged identity": {func(t *testing.T, dir string) { rewrite(t, filepath.Join(dir, "trail.json"), "{}") }, "trail", health.Fail, "trail.json"},
		"damaged segment": {func(t *testing.T, dir string) {
			rewrite(t, filepath.Join(dir, trail.SegmentsDir, "00000000000000000000.seg"), "nonsense")
		}, "last segment", health.Fail, "segment"},
		"foreign checkpoint": {func(t *testing.T, dir string) { rewrite(t, filepath.Join(dir, trail.CheckpointFile), "nonsense\n") }, "checkpoint", health.Fail, ""},
		"no checkpoint":      {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, trail.CheckpointFile)) }, "checkpoint", health.Warn, "none yet"},
		"nothing kept": {func(t *testing.T, _ string) {
			remove(t, filepath.Join(os.Getenv("XDG_STATE_HOME"), "veritrail", "checkpoints"))
			remove(t, filepath.Join(os.Getenv("LOCALAPPDATA"), "veritrail", "checkpoints"))
		}, "kept checkpoint", health.Warn, "none on this machine"},
		"set back": {func(t *testing.T, dir string) {
			older, err := os.ReadFile(filepath.Join(dir, trail.CheckpointFile))
			if err != nil {
				t.Fatal(err)
			}
			addEvent(t, dir)
			rewrite(t, filepath.Join(dir, trail.CheckpointFile), string(older))
		}, "kept checkpoint", health.Fail, "of 2 events"},
		"kept by nobody": {func(t *testing.T, dir string) {
			rec, err := recorder.Open(recorder.Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := rec.Event("APP.DEMO").Sub("user", "u1").Record(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := rec.Close(); err != nil {
				t.Fatal(err)
			}
		}, "kept checkpoint", health.Warn, "the trail's own is of 2"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := newTrail(t)
			tt.harm(t, dir)
			c := find(t, diagnose(&config{Data: dir}), tt.check)
			if c.Result != tt.want || !strings.Contains(c.Found, tt.found) {
				t.Errorf("got %v: %s; want %v: …%s…", c.Result, c.Found, tt.want, tt.found)
			}
			if c.Result != health.OK && c.Advice == "" {
				t.Errorf("%s: says not what to do", c.Found)
			}
		})
	}
}

// The batch's own time counts, not only the file's: a copy has a new one.
func TestDoctorComparesTheClockWithTheNewestBatch(t *testing.T) {
	newTrail(t)
	dir := filepath.Join(t.TempDir(), "ahead")
	rec, err := recorder.Open(recorder.Config{Dir: dir, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.Event("APP.DEMO").Sub("user", "u1").Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	c := find(t, diagnose(&config{Data: dir}), "clock")
	if c.Result != health.Fail || !strings.Contains(c.Found, "the newest batch of events is of") {
		t.Errorf("%+v", c)
	}
}

func rewrite(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, name string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

func TestDoctorLeavesTheTrailAsItWas(t *testing.T) {
	dir := newTrail(t)
	list := func() (out []string) {
		err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() {
				out = append(out, path+" "+info.ModTime().String())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	before := list()
	diagnose(&config{Data: dir})
	if after := list(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

func TestDoctorNamesTheWriterThatRuns(t *testing.T) {
	dir := newTrail(t)
	rec, err := recorder.Open(recorder.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	if c := diagnoseWriter(dir); c.Result != health.OK || !strings.Contains(c.Found, "running: pid ") || !strings.Contains(c.Found, ", since ") {
		t.Errorf("%+v", c)
	}
}

func TestDoctorWithoutATrailStillLooksAtTheMachine(t *testing.T) {
	found := diagnose(&config{Data: filepath.Join(t.TempDir(), "none")})
	if c := find(t, found, "trail"); c.Result != health.Warn {
		t.Errorf("%+v", c)
	}
	find(t, found, "clock")
	find(t, found, "processor")
}

func TestDoctorLooksAtTheCertificate(t *testing.T) {
	cert, key := selfSigned(t) // of the year 1: expired
	c := new(config)
	c.Data, c.TLS.Cert, c.TLS.Key = filepath.Join(t.TempDir(), "none"), cert, key
	if got := find(t, diagnose(c), "certificate"); got.Result != health.Fail || !strings.Contains(got.Found, "expired") {
		t.Errorf("%+v", got)
	}
	c.TLS.Cert = filepath.Join(t.TempDir(), "missing.pem")
	if got := find(t, diagnose(c), "certificate"); got.Result != health.Fail {
		t.Errorf("%+v", got)
	}
}

func TestDoctorAsksTheServer(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   health.Result
		found  string
	}{
		{http.StatusOK, "ready\n", health.OK, ": ready"},
		{http.StatusServiceUnavailable, `{"error":{"code":"halted","message":"the trail is halted until its disk works"}}`, health.Fail, "503 Service Unavailable: the trail is halted"},
		{http.StatusServiceUnavailable, `{"error":{"code":"read_only","message":"the trail can only be read"}}`, health.Fail, "can only be read"},
		{http.StatusNotFound, "<html>", health.Fail, "404 Not Found"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/readyz" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		c, err := diagnoseServer(t.Context(), srv.URL+"/", "")
		if err != nil || c.Result != tt.want || !strings.Contains(c.Found, tt.found) {
			t.Errorf("%d: %+v, %v", tt.status, c, err)
		}
		srv.Close()
		if c, err := diagnoseServer(t.Context(), srv.URL, ""); err != nil || c.Result != health.Fail || c.Advice == "" {
			t.Errorf("not running: %+v, %v", c, err)
		}
	}
	for _, base := range []string{"", "127.0.0.1:1", "ftp://127.0.0.1", "http://"} {
		if _, err := diagnoseServer(t.Context(), base, ""); err == nil {
			t.Errorf("%q is a URL", base)
		}
	}
}
