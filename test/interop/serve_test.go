package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
)

// logPrefix is where the server shows the tlog-tiles log.
const logPrefix = "/v1/"

// TestReadersAcceptServedTrailWhileItGrows reads a trail over HTTP, again and again, while events are posted to it.
// Every checkpoint must extend the one before and its whole tree must be there. What was served must then be the
// beginning of what is exported after the server has stopped.
func TestReadersAcceptServedTrailWhileItGrows(t *testing.T) {
	const before, rounds = 300, 4
	p := newProgram(t)
	data, v := p.record(t, before)
	s := p.up(t, data)
	served := atURL(t, s.url+logPrefix, s.token)

	last, err := readCheckpoint(t.Context(), served, v)
	if err != nil {
		t.Fatal(err)
	}
	post := startPosting(t, s, before)
	for range rounds {
		awaitGrowth(t, served, v, last, post)
		var found tally
		c := checkAccepted(t, served, v, found.visit)
		if err := checkExtends(t.Context(), served, last, c); err != nil {
			t.Fatalf("checkpoint of size %d against the one of size %d before: %v", c.N, last.N, err)
		}
		last = c
		t.Logf("size %d, %d events", c.N, found.events)
	}
	posted, err := post.stop()
	if err != nil {
		t.Fatal(err)
	}
	s.stop()

	exported := inDirectory(t, p.export(t, data))
	var found tally
	c := checkAccepted(t, exported, v, found.visit)
	if want := before + posted; found.events != want {
		t.Errorf("%d events in the export, want the %d acknowledged ones", found.events, want)
	}
	if err := checkExtends(t.Context(), exported, last, c); err != nil {
		t.Errorf("export against the last served checkpoint: %v", err)
	}
}

func TestServedEntriesNeedTheToken(t *testing.T) {
	p := newProgram(t)
	data, _ := p.record(t, 300)
	s := p.up(t, data)
	for _, token := range []string{"", "not-" + s.token} {
		if _, err := atURL(t, s.url+logPrefix, token).tessera.ReadEntryBundle(t.Context(), 0, 0); err == nil {
			t.Errorf("entries served for a wrong token of length %d", len(token))
		}
	}
	if _, err := atURL(t, s.url+logPrefix, s.token).tessera.ReadEntryBundle(t.Context(), 0, 0); err != nil {
		t.Errorf("entries refused with the token: %v", err)
	}
}

// awaitGrowth returns once the log at p has a checkpoint larger than last by more than an entry bundle.
func awaitGrowth(t *testing.T, p place, v note.Verifier, last torchwood.Checkpoint, post *posting) {
	t.Helper()
	patience := time.After(time.Minute)
	for tick := time.Tick(50 * time.Millisecond); ; {
		c, err := readCheckpoint(t.Context(), p, v)
		if err != nil {
			t.Fatal(err)
		}
		if c.N > last.N+torchwood.TileWidth {
			return
		}
		select {
		case <-tick:
		case <-post.done:
			_, err := post.stop()
			t.Fatalf("posting ended early: %v", err)
		case <-patience:
			t.Fatalf("still at size %d", c.N)
		}
	}
}

// A posting sends events to a server, one batch after the other.
type posting struct {
	quit func()
	done chan struct{}

	// Set before done is closed.
	acknowledged int
	err          error
}

// startPosting posts the events from the ith on until stop is called, the test ends or the server refuses.
func startPosting(t *testing.T, s server, i int) *posting {
	quit := make(chan struct{})
	p := &posting{quit: sync.OnceFunc(func() { close(quit) }), done: make(chan struct{})}
	t.Cleanup(func() { _, _ = p.stop() })
	go func() {
		defer close(p.done)
		const batch = 100
		for {
			select {
			case <-quit:
				return
			default:
			}
			if p.err = s.post(eventLines(i+p.acknowledged, batch)); p.err != nil {
				return
			}
			p.acknowledged += batch
		}
	}()
	return p
}

// stop lets the batch under way end and returns how many events the server acknowledged.
func (p *posting) stop() (int, error) {
	p.quit()
	<-p.done
	return p.acknowledged, p.err
}

// post sends JSON lines; nil means that the server acknowledged all of them.
func (s server) post(lines []byte) error {
	// Longer than any batch may take, so that a hanging server fails the test and does not hang it too.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/events", bytes.NewReader(lines))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("post /v1/events: %s: %s", resp.Status, body)
	}
	return nil
}
