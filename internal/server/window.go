package server

import (
	"context"
	"errors"
	"hash/maphash"
	"sort"
	"sync"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// window remembers the ids of the newest events, so that one that is sent again
// is not recorded again. It holds at most max ids, each for at most age, in
// memory; the trail itself is what it is filled from after a restart.
//
// An id passes through it as a flight while its event is not acknowledged yet:
// whoever sends the same id meanwhile waits for the first one's acknowledgement.
// It is safe for concurrent use.
type window struct {
	max  int
	age  time.Duration
	now  func() time.Time
	seed maphash.Seed // unknown outside, so that nobody can make contents that collide

	mu      sync.Mutex
	ring    []remembered // oldest at next once it has max entries
	next    int
	places  map[veritrail.UUID]uint32 // into ring
	flights map[veritrail.UUID]*flight
	adrift  []*flight // whose request ended before it was known what became of them
}

// remembered is an acknowledged event.
type remembered struct {
	id     veritrail.UUID
	leaf   uint64
	digest uint64 // of what was sent; 0 when only the trail knows
	at     int64  // Unix time in seconds
}

// flight is an event on its way to its acknowledgement.
type flight struct {
	id     veritrail.UUID
	digest uint64
	sent   chan struct{} // closed when future is set, or the event was not taken
	future recorder.Future
	taken  bool
}

// newWindow is empty. It remembers nothing when max is below 1.
func newWindow(maxIDs int, age time.Duration, now func() time.Time) *window {
	return &window{
		max: maxIDs, age: age, now: now, seed: maphash.MakeSeed(),
		places: make(map[veritrail.UUID]uint32), flights: make(map[veritrail.UUID]*flight),
	}
}

// digest stands for the content of an event as it was sent. It is never 0.
func (w *window) digest(canonical []byte) uint64 {
	return max(1, maphash.Bytes(w.seed, canonical))
}

// claim asks for an id. Exactly one of three things comes back: before, the
// event that has the id; first, the flight of another request with the id; or
// mine, a flight that the caller must launch or drop, and settle.
func (w *window) claim(ctx context.Context, id veritrail.UUID, digest uint64) (before *remembered, first, mine *flight, err error) {
	for {
		w.mu.Lock()
		w.collect()
		if f := w.flights[id]; f != nil {
			w.mu.Unlock()
			select {
			case <-f.sent:
			case <-ctx.Done():
				return nil, nil, nil, ctx.Err()
			}
			if f.taken {
				return nil, f, nil, nil
			}
			continue // it was dropped
		}
		if r := w.find(id); r != nil {
			found := *r
			w.mu.Unlock()
			return &found, nil, nil, nil
		}
		f := &flight{id: id, digest: digest, sent: make(chan struct{})}
		w.flights[id] = f
		w.mu.Unlock()
		return nil, nil, f, nil
	}
}

// launch says that the trail took the event.
func (w *window) launch(f *flight, future recorder.Future) {
	f.future, f.taken = future, true
	close(f.sent)
}

// drop says that the trail did not take the event.
func (w *window) drop(f *flight) {
	w.mu.Lock()
	delete(w.flights, f.id)
	w.mu.Unlock()
	close(f.sent)
}

// settle ends a flight that was launched, as far as it is known how.
func (w *window) settle(f *flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.land(f) {
		w.adrift = append(w.adrift, f)
	}
}

// adopt takes the flight of an event that came without an id, once it is known
// or not what became of it.
func (w *window) adopt(future recorder.Future) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.max < 1 {
		return
	}
	f := &flight{id: future.ID, sent: alreadySent, future: future, taken: true}
	if !w.land(f) {
		w.flights[f.id] = f
		w.adrift = append(w.adrift, f)
	}
}

var alreadySent = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// learn keeps what a remembered event said, once it was found out.
func (w *window) learn(id veritrail.UUID, digest uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.find(id); r != nil {
		r.digest = digest
	}
}

// land ends a flight when it is known what became of it. An event that is
// durable and not acknowledged, for want of a checkpoint, is not at its end: who
// sends it again must wait for the checkpoint, too. w.mu is held.
func (w *window) land(f *flight) bool {
	err := f.future.Wait(ended)
	leaf, durable := f.future.Leaf()
	if errors.Is(err, context.Canceled) || durable && err != nil {
		return false
	}
	// An event that could not be made durable is either cut off before the trail
	// goes on, or found in it when the window is filled.
	delete(w.flights, f.id)
	if durable {
		w.keep(remembered{f.id, leaf, f.digest, w.now().Unix()})
	}
	return true
}

// collect lands flights that are adrift. w.mu is held.
func (w *window) collect() {
	for i := 0; i < len(w.adrift); {
		if !w.land(w.adrift[i]) {
			i++
			continue
		}
		last := len(w.adrift) - 1
		w.adrift[i], w.adrift[last] = w.adrift[last], nil
		w.adrift = w.adrift[:last]
	}
}

// ended is a context that has, to ask a future without waiting.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// find looks for an id that is still remembered. w.mu is held.
func (w *window) find(id veritrail.UUID) *remembered {
	at, there := w.places[id]
	if !there || w.now().Unix()-w.ring[at].at > int64(w.age/time.Second) {
		return nil
	}
	return &w.ring[at]
}

// keep remembers an event in place of the oldest. w.mu is held.
func (w *window) keep(r remembered) {
	if w.max < 1 {
		return
	}
	if len(w.ring) < w.max {
		w.places[r.id] = uint32(len(w.ring))
		w.ring = append(w.ring, r)
		return
	}
	if old := w.ring[w.next].id; w.places[old] == uint32(w.next) {
		delete(w.places, old) // unless it was recorded again since
	}
	w.ring[w.next] = r
	w.places[r.id] = uint32(w.next)
	w.next = (w.next + 1) % w.max
}

// leafID begins every leaf: a leaf is canonical, its id comes first, in lower
// case.
const leafID = `{"id":"`

// timedBundles are read for one look at when they were written.
const timedBundles = 16

// fill reads the ids of the newest leaves of a log of that size. What it can't
// read it returns the error of; the rest is remembered.
func (w *window) fill(ctx context.Context, leaves *trail.Leaves, size uint64) error {
	if w.max < 1 || size == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	first := size - min(size, uint64(w.max))
	begin := first / tlog.TileWidth
	oldest := w.now().Add(-w.age)
	// A bundle's events count as written when its last one was: some are
	// remembered for longer, none for less. Bundles that are too old are passed over.
	written := func(bundle uint64) (time.Time, error) {
		_, place, err := leaves.ReadPlace(min(size, (bundle+1)*tlog.TileWidth) - 1)
		return place.Time, err
	}
	skip := sort.Search(int((size-1)/tlog.TileWidth-begin), func(i int) bool {
		at, err := written(begin + uint64(i))
		return err != nil || !at.Before(oldest)
	})
	if skip > 0 {
		first = (begin + uint64(skip)) * tlog.TileWidth
	}
	var failed error
	var when time.Time // of many bundles at once: it costs a read
	for at := first; at < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := min(size, (at/tlog.TileWidth+1)*tlog.TileWidth)
		if bundle := at / tlog.TileWidth; at == first || bundle%timedBundles == 0 {
			var err error
			if when, err = written(min((size-1)/tlog.TileWidth, bundle|(timedBundles-1))); err != nil {
				when = w.now()
			}
		}
		lines, err := leaves.Read(at, int(next-at))
		if err != nil {
			failed = err
		}
		for i, leaf := range lines {
			const end = len(leafID) + 36
			if len(leaf) < end {
				continue
			}
			if id, err := veritrail.ParseUUID(string(leaf[len(leafID):end])); err == nil {
				w.keep(remembered{id: id, leaf: at + uint64(i), at: when.Unix()})
			}
		}
		at = next
	}
	return failed
}

// sameContent compares an event as it was sent with a leaf. The recorder fills
// in what was not sent, so a leaf may say more. With redacted set it may also
// have changed what was sent, and only what redaction leaves alone is compared.
func sameContent(sent, stored *veritrail.Draft, redacted bool) bool {
	if !sent.Timestamp.IsZero() && !sent.Timestamp.Equal(stored.Timestamp) || sent.Severity != stored.Severity || sent.Action != stored.Action {
		return false
	}
	if redacted {
		return true
	}
	return len(sent.Subject) == len(stored.Subject) && contains(stored.Subject, sent.Subject) &&
		len(sent.Object) == len(stored.Object) && contains(stored.Object, sent.Object) && contains(stored.Context, sent.Context)
}

func contains(all, some veritrail.Pairs) bool {
	for i := range some {
		if value, there := all.Get(some[i].Key); !there || value != some[i].Value {
			return false
		}
	}
	return true
}
