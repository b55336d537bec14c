package aead

import (
	"crypto/subtle"
	"encoding/binary"
)

const (
	// streamBlocks is how many blocks are encrypted at a time: what the widest code
	// of the library takes in one go. One block alone costs it as much as four.
	streamBlocks = 16

	// maxPooled is up to which length a plaintext takes prepared blocks.
	maxPooled = 4 * blockSize

	// maxShortGCM is up to which length a plaintext of SM4-GCM takes them, and
	// shortGCMBlocks how many: the mask of the tag, and those of the text.
	maxShortGCM    = 2 * blockSize
	shortGCMBlocks = 3
	shortGCMs      = streamBlocks / shortGCMBlocks
)

// crypt encrypts src into dst in counter mode, and returns the counter of its
// first block. Counters count blocks: the block with counter c is E(0^10 ‖ c).
// Also nothing takes a counter.
func (s *Sealer) crypt(l *lane, dst, src []byte) (uint64, error) {
	n := max(1, (len(src)+blockSize-1)/blockSize)
	if len(src) > maxPooled {
		counter, err := s.reserve(uint64(n))
		if err != nil {
			return 0, err
		}
		s.keys.ctr(&l.work, dst, src, counter)
		return counter, nil
	}
	if l.left < n { // what is left is too short, and is never used
		first, err := s.reserve(streamBlocks)
		if err != nil {
			return 0, err
		}
		putCounters(&l.stream, first, streamBlocks)
		s.keys.ecb.CryptBlocks(l.stream[:], l.stream[:])
		l.base, l.at, l.left = first, 0, streamBlocks
	}
	counter := l.base + uint64(l.at)
	blocks := l.stream[l.at*blockSize : (l.at+n)*blockSize]
	l.at += n
	l.left -= n
	subtle.XORBytes(dst, src, blocks)
	clear(blocks)
	return counter, nil
}

// ctr is counter mode from counter on, by way of stream.
func (k *keys) ctr(stream *[streamBlocks * blockSize]byte, dst, src []byte, counter uint64) {
	for len(src) > 0 {
		n := min(streamBlocks, (len(src)+blockSize-1)/blockSize)
		putCounters(stream, counter, n)
		counter += uint64(n)
		k.encrypt(stream, n)
		done := subtle.XORBytes(dst, src, stream[:n*blockSize])
		dst, src = dst[done:], src[done:]
	}
	clear(stream[:])
}

// encrypt encrypts the first n blocks, and as many behind them as make the
// library faster: it has code for 4, 8 and 16, and goes in such steps.
func (k *keys) encrypt(blocks *[streamBlocks * blockSize]byte, n int) {
	switch {
	case n <= 4:
		n = 4
	case n <= 8:
		n = 8
	default:
		n = streamBlocks
	}
	k.ecb.CryptBlocks(blocks[:n*blockSize], blocks[:n*blockSize])
}

// putCounters writes n counter blocks.
func putCounters(blocks *[streamBlocks * blockSize]byte, counter uint64, n int) {
	for i := range n {
		block := blocks[i*blockSize:][:blockSize]
		binary.BigEndian.PutUint64(block, 0)
		binary.BigEndian.PutUint64(block[8:], counter+uint64(i))
	}
}

// sealShortGCM is GCM (NIST SP 800-38D §7.1) for at most maxShortGCM bytes with
// prepared blocks. The library would encrypt the mask of the tag alone, and then
// eight blocks for one.
func (s *Sealer) sealShortGCM(l *lane, dst, plaintext, aad []byte) ([]byte, uint64, error) {
	if l.left == 0 {
		first, err := s.reserve(shortGCMs)
		if err != nil {
			return nil, 0, err
		}
		for i := range uint64(shortGCMs) {
			putGCMCounters(l.stream[i*shortGCMBlocks*blockSize:][:shortGCMBlocks*blockSize], first+i, 1)
		}
		s.keys.ecb.CryptBlocks(l.stream[:], l.stream[:])
		l.base, l.at, l.left = first, 0, shortGCMs
	}
	counter := l.base + uint64(l.at)
	blocks := l.stream[l.at*shortGCMBlocks*blockSize:][:shortGCMBlocks*blockSize]
	l.at++
	l.left--

	out, sealed := extend(dst, len(plaintext)+TagSize)
	subtle.XORBytes(sealed, plaintext, blocks[blockSize:])
	hash := s.keys.ghash.sum(&l.hash, aad, sealed[:len(plaintext)])
	subtle.XORBytes(sealed[len(plaintext):], hash[:], blocks[:blockSize])
	clear(blocks)
	return out, counter, nil
}

// sealLongGCM is GCM for any length.
func (s *Sealer) sealLongGCM(l *lane, dst, plaintext, aad []byte) ([]byte, uint64, error) {
	counter, err := s.reserve(1)
	if err != nil {
		return nil, 0, err
	}
	out, sealed := extend(dst, len(plaintext)+TagSize)
	text, tag := sealed[:len(plaintext)], sealed[len(plaintext):]
	var mask [blockSize]byte
	from, to := plaintext, text
	for number := uint32(1); number == 1 || len(from) > 0; {
		n := (len(from) + blockSize - 1) / blockSize
		if number == 1 {
			n++ // the mask of the tag
		}
		n = min(n, streamBlocks)
		blocks := l.work[:n*blockSize]
		putGCMCounters(blocks, counter, number)
		s.keys.encrypt(&l.work, n)
		if number == 1 {
			mask = [blockSize]byte(blocks)
			blocks = blocks[blockSize:]
		}
		number += uint32(n)
		done := subtle.XORBytes(to, from, blocks)
		from, to = from[done:], to[done:]
	}
	clear(l.work[:])
	hash := s.keys.ghash.sum(&l.hash, aad, text)
	subtle.XORBytes(tag, hash[:], mask[:])
	return out, counter, nil
}

// putGCMCounters fills blocks with those of a counter, which is the IV, from the
// given number on: 1 is for the mask of the tag.
func putGCMCounters(blocks []byte, counter uint64, number uint32) {
	for ; len(blocks) >= blockSize; blocks = blocks[blockSize:] {
		binary.BigEndian.PutUint64(blocks, counter>>32) // 0^6, and two bytes of it
		binary.BigEndian.PutUint64(blocks[8:], counter<<32|uint64(number))
		number++
	}
}

// ghash is GHASH (NIST SP 800-38D §6.4) under one key, computed as POLYVAL (RFC
// 8452, appendix A): powers of the key by which blocks are multiplied, the first
// power first, the bytes of each in reverse.
type ghash struct {
	powers [8][blockSize]byte
}

// setKey makes the powers of the hash key h, which is E(0).
func (g *ghash) setKey(h *[blockSize]byte) {
	// mulX_POLYVAL of the reversed key.
	high, low := binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:])
	carry := -(high >> 63)
	high = high<<1 | low>>63
	low <<= 1
	high ^= carry & 0xc200000000000000
	low ^= carry & 1
	first := &g.powers[0]
	binary.LittleEndian.PutUint64(first[:8], low)
	binary.LittleEndian.PutUint64(first[8:], high)
	var zero [blockSize]byte
	for i := 1; i < len(g.powers); i++ {
		g.powers[i] = g.powers[i-1]
		ghashBlocks(&g.powers, &g.powers[i], &zero[0], 1)
	}
}

// sum is the hash of aad and ciphertext, each with zeros up to a whole block, and
// of their lengths in bits. It gathers up to eight blocks, which cost little more
// than one.
func (g *ghash) sum(gathered *[8 * blockSize]byte, aad, ciphertext []byte) (out [blockSize]byte) {
	var y [blockSize]byte
	n := 0
	for _, data := range [2][]byte{aad, ciphertext} {
		for rest := data; len(rest) > 0; {
			if n == len(gathered) {
				ghashBlocks(&g.powers, &y, &gathered[0], n/blockSize)
				n = 0
			}
			if n == 0 && len(rest) >= len(gathered) {
				ghashBlocks(&g.powers, &y, &rest[0], len(gathered)/blockSize)
				rest = rest[len(gathered):]
				continue
			}
			end := n + copy(gathered[n:], rest)
			rest = rest[end-n:]
			n = (end + blockSize - 1) &^ (blockSize - 1)
			clear(gathered[end:n])
		}
	}
	if n == len(gathered) {
		ghashBlocks(&g.powers, &y, &gathered[0], n/blockSize)
		n = 0
	}
	binary.BigEndian.PutUint64(gathered[n:], uint64(len(aad))*8)
	binary.BigEndian.PutUint64(gathered[n+8:], uint64(len(ciphertext))*8)
	ghashBlocks(&g.powers, &y, &gathered[0], n/blockSize+1)
	binary.BigEndian.PutUint64(out[:], binary.LittleEndian.Uint64(y[8:]))
	binary.BigEndian.PutUint64(out[8:], binary.LittleEndian.Uint64(y[:]))
	return out
}
