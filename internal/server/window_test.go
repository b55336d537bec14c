package server

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

func idOf(n int) string { return fmt.Sprintf("0b54dd2e-6f3c-4d39-9f5a-%012x", n) }

// named is an event with an id of its own.
func named(id, n int) string {
	return fmt.Sprintf(`{"id":"%s","act":"APP.TEST","sub":{"user":"u%d"},"obj":{"n":"%d"}}`, idOf(id), n, n)
}

func TestEventSentAgainIsRecordedOnce(t *testing.T) {
	s := newSite(t)
	first := s.post(named(1, 1)+"\n"+named(2, 2), "")
	spelled := `{"obj":{"n":"1"}, "\u0069d":"` + strings.ToUpper(idOf(1)) + `","sub":{"user":"\u00751"},"act":"APP.TEST"}`
	again := s.post(named(2, 2)+"\n"+spelled+"\n"+named(3, 3), "")
	if again.status != http.StatusCreated || again.Accepted != 3 {
		t.Fatalf("got %d: %s", again.status, again.body)
	}
	for i, want := range []uint64{1, 0, 2} {
		r := again.Results[i]
		if r.Status != recorded || r.Duplicate != (i < 2) || *r.Leaf != want {
			t.Errorf("line %d: %s, duplicate %t, leaf %d, want %d", r.Line, r.Status, r.Duplicate, *r.Leaf, want)
		}
	}
	if got := s.rec.Stats().Size; got != 3 {
		t.Errorf("%d events in the log", got)
	}
	s.checkRecorded(first)
}

func TestAnotherEventWithTheSameIDIsAConflict(t *testing.T) {
	s := newSite(t)
	s.post(named(1, 1), "")
	p := s.post(named(1, 2)+"\n"+named(2, 2)+"\n"+named(1, 1)+"\n"+named(2, 1), "")
	if p.status != http.StatusMultiStatus || p.statuses() != "1 conflict, 2 recorded, 3 recorded, 4 conflict" || p.Rejected != 2 || p.Accepted != 2 {
		t.Fatalf("got %d %s: %s", p.status, p.statuses(), p.body)
	}
	for _, i := range []int{0, 3} {
		r := p.Results[i]
		if r.Leaf == nil || *r.Leaf != uint64(i/3) || len(r.Violations) != 1 || r.Violations[0].Path != "/id" {
			t.Errorf("line %d: %+v", r.Line, r)
		}
	}
	if p := s.post(named(1, 3), ""); p.status != http.StatusConflict || p.statuses() != "1 conflict" {
		t.Errorf("a conflict alone: got %d: %s", p.status, p.body)
	}
	// Each request's conflicts are on record, together.
	if got := s.rec.Stats().Size; got != 4 {
		t.Errorf("%d events in the log", got)
	}
	leaf, _, err := s.rec.Trail().View().Leaves().ReadPlace(2)
	if err != nil || !bytes.Contains(leaf, []byte(`"act":"TRAIL.EVENT.REJECTED","obj":{"more":"1","path":"/id","rule":"want an id that no other event has"}`)) {
		t.Errorf("leaf 2: %s, %v", leaf, err)
	}
}

// An id that the server made can come back, when somebody repeats what he read
// in an answer.
func TestIDThatTheServerMadeIsRecognised(t *testing.T) {
	s := newSite(t)
	p := s.post(event(1), "")
	id := p.Results[0].ID
	same := strings.Replace(named(0, 1), idOf(0), id, 1)
	other := strings.Replace(named(0, 2), idOf(0), id, 1)
	if again := s.post(same+"\n"+other, ""); again.statuses() != "1 recorded, 2 conflict" || !again.Results[0].Duplicate {
		t.Errorf("got %s", again.body)
	}
}

// TestSameEventManyTimesAtOnce: whoever comes second waits for the first one's
// acknowledgement.
func TestSameEventManyTimesAtOnce(t *testing.T) {
	s := newSite(t)
	const clients, ids = 16, 300
	var mu sync.Mutex
	leaves := make(map[string]uint64)
	var fresh atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			order := rand.New(rand.NewPCG(1, uint64(c))).Perm(ids)
			for len(order) > 0 {
				n := min(len(order), 50)
				var body strings.Builder
				for _, id := range order[:n] {
					body.WriteString(named(id, id) + "\n")
				}
				body.WriteString(named(order[0], order[0]) + "\n") // and twice in one body
				order = order[n:]
				p := s.post(body.String(), "")
				if p.status != http.StatusCreated || p.Accepted != n+1 {
					t.Errorf("got %d: %.300s", p.status, p.body)
					return
				}
				mu.Lock()
				for _, r := range p.Results {
					if !r.Duplicate {
						fresh.Add(1)
					}
					if leaf, there := leaves[r.ID]; there && leaf != *r.Leaf {
						t.Errorf("event %s has leaves %d and %d", r.ID, leaf, *r.Leaf)
					}
					leaves[r.ID] = *r.Leaf
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := s.rec.Stats().Size; got != ids || fresh.Load() != ids {
		t.Errorf("%d events in the log, %d answered as new, want %d", got, fresh.Load(), ids)
	}
	if n := len(s.srv.window.flights); n != 0 {
		t.Errorf("%d flights are left", n)
	}
}

// reopen closes the trail and serves it anew, as after a restart.
func (s *site) reopen(change ...func(*recorder.Config, *Config)) {
	s.t.Helper()
	if err := s.rec.Close(); err != nil {
		s.t.Fatal(err)
	}
	rc := recorder.Config{Dir: s.dir, CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30}
	sc := Config{Dir: s.dir, Origin: "example.com/test", Token: testToken}
	for _, f := range change {
		f(&rc, &sc)
	}
	rec, err := recorder.Open(rc)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = rec.Close() })
	s.rec = rec
	sc.Recorder, sc.View, sc.VKeys = rec, rec.Trail().View, rec.Keys()
	s.serve(sc)
}

func TestWindowSurvivesARestart(t *testing.T) {
	for _, size := range []int{1, 255, 256, 257, 700} {
		s := newSite(t)
		var body strings.Builder
		for i := range size {
			body.WriteString(named(i, i) + "\n")
		}
		s.post(body.String(), "")
		s.reopen()
		again := s.post(body.String(), "")
		if again.status != http.StatusCreated || again.Accepted != size || s.rec.Stats().Size != uint64(size) {
			t.Fatalf("%d events: got %d, %d in the log: %.300s", size, again.status, s.rec.Stats().Size, again.body)
		}
		for i, r := range again.Results {
			if !r.Duplicate || *r.Leaf != uint64(i) {
				t.Fatalf("line %d: duplicate %t, leaf %d", r.Line, r.Duplicate, *r.Leaf)
			}
		}
		last := size - 1
		for _, other := range []string{
			named(last, last+1),
			strings.Replace(named(last, last), `"act":"APP.TEST"`, `"act":"APP.OTHER"`, 1),
			strings.Replace(named(last, last), `"obj":{`, `"obj":{"m":"1",`, 1),
			strings.Replace(named(last, last), `"act":`, `"sev":"INFO","act":`, 1),
			strings.Replace(named(last, last), `"act":`, `"ts":"2026-01-01T00:00:00Z","act":`, 1),
			strings.Replace(named(last, last), `"act":`, `"ctx":{"ip":"192.0.2.1"},"act":`, 1),
		} {
			if p := s.post(other, ""); p.status != http.StatusConflict {
				t.Errorf("%s: got %d", other, p.status)
			}
		}
	}
}

// masker is a redactor as banks have them.
type masker struct{}

func (masker) Redact(_ context.Context, d *veritrail.Draft) error {
	for i := range d.Subject {
		d.Subject[i].Value = "***"
	}
	return nil
}

func TestRedactedEventIsRecognised(t *testing.T) {
	redacting := func(rc *recorder.Config, sc *Config) { rc.Redactor, sc.Redacts = masker{}, true }
	s := newSite(t, redacting)
	s.post(named(1, 1), "")
	check := func(when string, otherSubject int) {
		t.Helper()
		if p := s.post(named(1, 1), ""); p.status != http.StatusCreated || !p.Results[0].Duplicate {
			t.Errorf("%s: got %d: %s", when, p.status, p.body)
		}
		if p := s.post(named(1, 2), ""); p.status != otherSubject {
			t.Errorf("%s, another subject: got %d: %s", when, p.status, p.body)
		}
		if p := s.post(strings.Replace(named(1, 1), "APP.TEST", "APP.OTHER", 1), ""); p.status != http.StatusConflict {
			t.Errorf("%s, another action: got %d: %s", when, p.status, p.body)
		}
	}
	check("before", http.StatusConflict)
	s.reopen(redacting)
	// What it was like to the letter is known once it came again.
	if p := s.post(named(1, 2), ""); p.status != http.StatusCreated {
		t.Errorf("after a restart: got %d: %s", p.status, p.body)
	}
}

func TestWindowIsBounded(t *testing.T) {
	now := time.Now()
	var later atomic.Int64
	clock := func() time.Time { return now.Add(time.Duration(later.Load())) }
	s := newSite(t, func(_ *recorder.Config, c *Config) { c.RememberIDs, c.RememberFor, c.Now = 10, time.Hour, clock })
	for i := range 25 {
		s.post(named(i, i), "")
	}
	if got := s.post(named(14, 14), ""); got.Results[0].Duplicate {
		t.Error("an id is remembered that should have fallen out")
	}
	if got := s.post(named(16, 16), ""); !got.Results[0].Duplicate {
		t.Error("one of the newest ids is forgotten")
	}
	if n, m := len(s.srv.window.ring), len(s.srv.window.places); n != 10 || m != 10 {
		t.Errorf("%d and %d entries", n, m)
	}
	later.Store(int64(time.Hour + time.Second))
	if got := s.post(named(16, 16), ""); got.Results[0].Duplicate {
		t.Error("an id is remembered for too long")
	}
	if got := s.post(named(16, 16), ""); !got.Results[0].Duplicate {
		t.Error("the id that was recorded again is forgotten")
	}
	s.reopen(func(_ *recorder.Config, c *Config) { c.RememberIDs = 10 })
	size := s.rec.Stats().Size
	if got := s.post(named(24, 24)+"\n"+named(16, 16), ""); !got.Results[0].Duplicate || *got.Results[1].Leaf != size-1 {
		t.Errorf("after a restart: %s", got.body)
	}
	if got := s.post(named(3, 3), ""); got.Results[0].Duplicate {
		t.Error("after a restart an id is remembered that had fallen out")
	}
}

// Leaves that were written before the window began are not read.
func TestFillPassesOverWhatIsTooOld(t *testing.T) {
	clock := time.Now().Add(-48 * time.Hour)
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.Now = func() time.Time { return clock } })
	var body strings.Builder
	for i := range 600 {
		body.WriteString(named(i, i) + "\n")
	}
	s.post(body.String(), "")
	s.reopen()
	if got := s.post(named(599, 599), ""); got.Results[0].Duplicate {
		t.Error("an event of two days ago is remembered")
	}
	s.reopen()
	if got := s.post(named(599, 599), ""); !got.Results[0].Duplicate || *got.Results[0].Leaf != 600 {
		t.Errorf("an event of just now is not: %s", got.body)
	}
}

// TestDuplicateOfAnEventThatWaitsForItsCheckpoint: under an acknowledgement that
// means sealed, a repetition must not be answered before the checkpoint either.
func TestDuplicateOfAnEventThatWaitsForItsCheckpoint(t *testing.T) {
	s := newSite(t, func(c *recorder.Config, _ *Config) { c.Ack, c.CheckpointLeaves = recorder.AckSealed, 2 })
	obstacle := filepath.Join(s.dir, trail.CheckpointFile)
	if err := os.MkdirAll(filepath.Join(obstacle, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	body := named(1, 1) + "\n" + named(2, 2)
	if p := s.post(body, ""); p.code() != "not_sealed" {
		t.Fatalf("got %d: %s", p.status, p.body)
	}
	p := s.post(body, "")
	if p.code() != "not_sealed" || p.statuses() != "1 unconfirmed, 2 unconfirmed" || *p.Results[1].Leaf != 1 {
		t.Errorf("while no checkpoint can be signed: got %d: %s", p.status, p.body)
	}
	if err := os.RemoveAll(obstacle); err != nil {
		t.Fatal(err)
	}
	await(t, "sealed", func() bool { return s.rec.Stats().Sealed == 2 })
	p = s.post(body, "")
	if p.status != http.StatusCreated || !p.Results[0].Duplicate || *p.Results[1].Leaf != 1 {
		t.Errorf("afterwards: got %d: %s", p.status, p.body)
	}
	if n := len(s.srv.window.flights) + len(s.srv.window.adrift); n != 0 {
		t.Errorf("%d flights are left", n)
	}
}

// An event that the trail refused is not remembered.
func TestRefusedEventCanBeSentAgain(t *testing.T) {
	s := newSite(t)
	broken := strings.Replace(named(1, 1), "APP.TEST", "NOT.ALLOWED", 1)
	if p := s.post(broken+"\n"+broken+"\n"+named(1, 1), ""); p.statuses() != "1 rejected, 2 rejected, 3 recorded" || p.Results[2].Duplicate {
		t.Errorf("got %s", p.body)
	}
	if err := os.MkdirAll(filepath.Join(s.dir, trail.CheckpointFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.rec.Seal(t.Context()); err == nil {
		t.Fatal("sealed in spite of the obstacle")
	}
	if p := s.post(named(2, 2), ""); p.statuses() != "1 not_recorded" {
		t.Errorf("got %s", p.body)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, trail.CheckpointFile)); err != nil {
		t.Fatal(err)
	}
	await(t, "ready again", func() bool { return s.get("/readyz").status == http.StatusOK })
	if p := s.post(named(2, 2), ""); p.statuses() != "1 recorded" || p.Results[0].Duplicate {
		t.Errorf("got %s", p.body)
	}
}

// BenchmarkWindow is what an id costs: the claim and its end.
func BenchmarkWindow(b *testing.B) {
	w := newWindow(1_000_000, time.Hour, time.Now)
	ids := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		var id veritrail.UUID
		for i := range id {
			id[i] = byte(ids.Uint32())
		}
		w.mu.Lock()
		if w.find(id) == nil {
			w.keep(remembered{id: id, at: 1})
		}
		w.mu.Unlock()
	}
}
