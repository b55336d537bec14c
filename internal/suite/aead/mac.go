package aead

import (
	"encoding"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/emmansun/gmsm/sm3"
)

// macKey is a key of HMAC-SM3 (GB/T 15852.2, RFC 2104) as the two states of SM3
// behind its padded forms, so that a short message costs no compression for the
// key. They are here, and not in a crypto/hmac, so that they can be wiped.
type macKey struct {
	inner, outer []byte
}

func newMACKey(key []byte) (macKey, error) {
	var k macKey
	var pad [sm3.BlockSize]byte
	defer clear(pad[:])
	for _, half := range []struct {
		state *[]byte
		with  byte
	}{{&k.inner, 0x36}, {&k.outer, 0x5c}} {
		clear(pad[:])
		copy(pad[:], key) // which is no longer than a block
		for i := range pad {
			pad[i] ^= half.with
		}
		h := sm3.New()
		h.Write(pad[:])
		m, ok := h.(encoding.BinaryMarshaler)
		if !ok {
			return k, errors.New("sm3: state cannot be kept")
		}
		var err error
		if *half.state, err = m.MarshalBinary(); err != nil {
			return k, err
		}
		h.Write(pad[:]) // over the buffer of h
		h.Reset()
	}
	return k, nil
}

func (k *macKey) wipe() {
	clear(k.inner)
	clear(k.outer)
}

// mac is one computation of HMAC-SM3 at a time.
type mac struct {
	h     hash.Hash
	state encoding.BinaryUnmarshaler // of h
	head  [counterSize + 4]byte
	out   [sm3.Size]byte
}

func (m *mac) init() {
	m.h = sm3.New()
	m.state, _ = m.h.(encoding.BinaryUnmarshaler) // newMACKey has seen that it can
}

// sum is the tag over, in this order: the counter, the length of aad (4 bytes), aad,
// the ciphertext. No other counter, aad and ciphertext give these bytes.
func (m *mac) sum(k *macKey, counter uint64, aad, ciphertext []byte) [TagSize]byte {
	putCounter(m.head[:], counter)
	binary.BigEndian.PutUint32(m.head[counterSize:], uint32(len(aad)))
	m.from(k.inner)
	m.h.Write(m.head[:])
	m.h.Write(aad)
	m.h.Write(ciphertext)
	m.h.Sum(m.out[:0])
	m.from(k.outer)
	m.h.Write(m.out[:])
	m.h.Sum(m.out[:0])
	return [TagSize]byte(m.out[:TagSize])
}

func (m *mac) from(state []byte) {
	if err := m.state.UnmarshalBinary(state); err != nil {
		panic("aead: a state of SM3 that was kept is not one: " + err.Error())
	}
}

// wipe overwrites the state: what is left is that of zeros.
func (m *mac) wipe() {
	if m.h == nil {
		return
	}
	var zeros [sm3.BlockSize]byte
	m.h.Reset()
	m.h.Write(zeros[:sm3.BlockSize-1]) // into the buffer
	m.h.Reset()
	clear(m.out[:])
	clear(m.head[:])
}
