package aead

import (
	"container/list"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
)

// A Cache keeps the Sealers of the keys that were used last, because deriving one
// costs twenty times what sealing does. It may be used concurrently.
type Cache struct {
	algorithm Algorithm
	session   *Session
	capacity  int

	mu     sync.Mutex
	byID   map[string]*list.Element // of *cached
	recent *list.List               // the last used first
	closed bool
}

type cached struct {
	id     string
	secret [SecretSize]byte
	sealer *Sealer
}

var errClosed = errors.New("sealers: closed")

// NewCache keeps at most capacity Sealers, each of less than 10 KiB.
func NewCache(a Algorithm, s *Session, capacity int) (*Cache, error) {
	if !a.known() || a == UnsafeSM4ECB {
		return nil, fmt.Errorf("sealers: %v: want an algorithm with nonces", a)
	}
	if s == nil || capacity < 1 {
		return nil, errors.New("sealers: want a session, and room for one at least")
	}
	return &Cache{algorithm: a, session: s, capacity: capacity, byID: make(map[string]*list.Element), recent: list.New()}, nil
}

// Seal is Seal of a Sealer for the secret, which id names. An id that comes with
// another secret than before is another key.
func (c *Cache) Seal(id string, secret *[SecretSize]byte, dst, plaintext, aad []byte) (out []byte, nonce [NonceSize]byte, err error) {
	for {
		s, err := c.sealer(id, secret)
		if err != nil {
			return nil, nonce, err
		}
		out, nonce, err = s.Seal(dst, plaintext, aad)
		switch {
		case err == nil:
			return out, nonce, nil
		case errors.Is(err, ErrExhausted):
			c.drop(id, s)
		case !errors.Is(err, ErrWiped): // evicted meanwhile
			return nil, nonce, err
		}
	}
}

func (c *Cache) sealer(id string, secret *[SecretSize]byte) (*Sealer, error) {
	if s, err := c.find(id, secret); s != nil || err != nil {
		return s, err
	}
	fresh, err := NewSealer(c.algorithm, secret, c.session) // slow, hence not under the lock
	if err != nil {
		return nil, err
	}
	return c.keep(&cached{id: id, secret: *secret, sealer: fresh})
}

// find returns nil when there is none.
func (c *Cache) find(id string, secret *[SecretSize]byte) (*Sealer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	at := c.byID[id]
	if at == nil {
		return nil, nil
	}
	have := entry(at)
	if subtle.ConstantTimeCompare(have.secret[:], secret[:]) != 1 {
		c.remove(at)
		return nil, nil
	}
	c.recent.MoveToFront(at)
	return have.sealer, nil
}

// keep puts in what was made, unless somebody else was faster.
func (c *Cache) keep(made *cached) (*Sealer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		made.wipe()
		return nil, errClosed
	}
	if at := c.byID[made.id]; at != nil {
		if have := entry(at); have.secret == made.secret {
			made.wipe()
			return have.sealer, nil
		}
		c.remove(at)
	}
	for c.recent.Len() >= c.capacity {
		c.remove(c.recent.Back())
	}
	c.byID[made.id] = c.recent.PushFront(made)
	return made.sealer, nil
}

// drop removes s, if it is still there.
func (c *Cache) drop(id string, s *Sealer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.byID[id]; at != nil && entry(at).sealer == s {
		c.remove(at)
	}
}

// Forget wipes the Sealer of a key, as when the key is destroyed. It waits for
// calls of Seal that use it.
func (c *Cache) Forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := c.byID[id]; at != nil {
		c.remove(at)
	}
}

// Close wipes all Sealers. Calls of Seal that are under way end first, later ones
// fail.
func (c *Cache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.clear()
}

// Renew wipes all Sealers, and later calls of Seal make new ones, with keys of
// their own. It is for a machine that may have been copied while it ran, and was
// resumed.
func (c *Cache) Renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
}

func (c *Cache) clear() {
	for c.recent.Len() > 0 {
		c.remove(c.recent.Back())
	}
}

// remove waits for who uses the Sealer, but for no longer than one Seal takes:
// nobody waits for the Cache's lock while sealing.
func (c *Cache) remove(at *list.Element) {
	gone := entry(at)
	c.recent.Remove(at)
	delete(c.byID, gone.id)
	gone.wipe()
}

func (e *cached) wipe() {
	e.sealer.Wipe()
	clear(e.secret[:])
}

func entry(at *list.Element) *cached {
	e, _ := at.Value.(*cached) // nothing else is ever put in
	return e
}
