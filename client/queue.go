package client

import (
	"context"
	"fmt"
	"sync"
)

// queue holds events between Record and the request that they go into, and
// knows how many of those that were taken are not at their end.
type queue struct {
	most int // bytes

	mu     sync.Mutex
	all    []*entry
	bytes  int
	closed bool
	some   chan struct{} // holds a value when there may be something
	room   chan struct{} // closed when something was taken out

	taken, ended uint64        // events
	moved        chan struct{} // closed when ended has grown
}

func (q *queue) init(most int) {
	q.most, q.some, q.room, q.moved = most, make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// put waits, until ctx ends, while there is no room.
func (q *queue) put(ctx context.Context, e *entry) error {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return ErrClosed
		}
		if len(q.all) == 0 || q.bytes+len(e.line) <= q.most {
			q.all = append(q.all, e)
			q.bytes += len(e.line)
			q.taken++
			q.mu.Unlock()
			select {
			case q.some <- struct{}{}:
			default:
			}
			return nil
		}
		room := q.room
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("waiting for events before it: %w", ctx.Err())
		}
	}
}

// take returns the oldest events, as many as a request may have. It waits for
// the first. After close it returns nil when all were taken.
func (q *queue) take(events, bytes int) []*entry {
	for {
		q.mu.Lock()
		n, size := 0, 0
		for n < len(q.all) && n < events && (n == 0 || size+len(q.all[n].line) <= bytes) {
			size += len(q.all[n].line)
			n++
		}
		if n > 0 {
			batch := q.all[:n:n]
			if q.all = q.all[n:]; len(q.all) == 0 {
				q.all = nil
			}
			q.bytes -= size
			close(q.room)
			q.room = make(chan struct{})
			q.mu.Unlock()
			return batch
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.some
	}
}

// close refuses further events. It returns false when it did before.
func (q *queue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.closed = true
	close(q.room)
	q.room = make(chan struct{})
	select {
	case q.some <- struct{}{}:
	default:
	}
	return true
}

// found counts events that were in the spool before.
func (q *queue) found(n uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken += n
}

// end counts events that are at their end, whatever it is.
func (q *queue) end(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended += uint64(n)
	close(q.moved)
	q.moved = make(chan struct{})
}

// flushed waits until as many events are at their end as have been taken by now:
// they get there in their order.
func (q *queue) flushed(ctx context.Context) error {
	q.mu.Lock()
	want := q.taken
	for q.ended < want {
		moved := q.moved
		q.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server: %w", ctx.Err())
		}
		q.mu.Lock()
	}
	q.mu.Unlock()
	return nil
}
