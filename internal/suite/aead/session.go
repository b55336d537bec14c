package aead

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// A Session is where Sealers draw what makes their keys their own: 12 random
// bytes each. It may be used concurrently.
type Session struct {
	mu     sync.Mutex
	random io.Reader
	last   [SessionSize]byte
}

var errStuck = errors.New("session: the random source repeats itself")

// NewSession draws once from random, to see that it works. Random must not be
// foreseeable nor repeat itself, here or on any machine with the same secrets:
// crypto/rand.Reader.
func NewSession(random io.Reader) (*Session, error) {
	if random == nil {
		return nil, errors.New("session: no random source")
	}
	s := &Session{random: random}
	if _, err := s.draw(); err != nil {
		return nil, err
	}
	return s, nil
}

// draw refuses what it drew before, and zeros: a source that is stuck would make
// two Sealers with the same keys.
func (s *Session) draw() ([SessionSize]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var id [SessionSize]byte
	if _, err := io.ReadFull(s.random, id[:]); err != nil {
		return id, fmt.Errorf("session: random source: %w", err)
	}
	if id == s.last || id == [SessionSize]byte{} {
		return id, errStuck
	}
	s.last = id
	return id, nil
}
