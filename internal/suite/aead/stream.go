package aead

import (
	"crypto/subtle"
	"encoding/binary"
	"math/bits"
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
	used := stream[:0]
	for len(src) > 0 {
		n := min(streamBlocks, (len(src)+blockSize-1)/blockSize)
		putCounters(stream, counter, n)
		counter += uint64(n)
		blocks := stream[:n*blockSize]
		if len(blocks) > len(used) {
			used = blocks
		}
		k.ecb.CryptBlocks(blocks, blocks)
		done := subtle.XORBytes(dst, src, blocks)
		dst, src = dst[done:], src[done:]
	}
	clear(used)
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
		for i := range shortGCMs * shortGCMBlocks {
			block := l.stream[i*blockSize:][:blockSize]
			counter := first + uint64(i/shortGCMBlocks)
			binary.BigEndian.PutUint64(block, counter>>32) // 0^6, and the first two bytes
			binary.BigEndian.PutUint64(block[8:], counter<<32|uint64(1+i%shortGCMBlocks))
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
	hash := s.keys.ghash.sum(l.work[:8*blockSize], aad, sealed[:len(plaintext)])
	subtle.XORBytes(sealed[len(plaintext):], hash[:], blocks[:blockSize])
	clear(blocks)
	return out, counter, nil
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

// sum hashes aad and a ciphertext of at most maxShortGCM bytes, by way of blocks,
// which has room for eight.
func (g *ghash) sum(blocks, aad, ciphertext []byte) (out [blockSize]byte) {
	lengths := [2]uint64{uint64(len(aad)) * 8, uint64(len(ciphertext)) * 8}
	var y [blockSize]byte
	for len(aad) > 5*blockSize { // so that the rest goes in one call
		n := min(8, len(aad)/blockSize)
		ghashBlocks(&g.powers, &y, &aad[0], n)
		aad = aad[n*blockSize:]
	}
	n := padded(blocks, aad)
	n += padded(blocks[n:], ciphertext)
	binary.BigEndian.PutUint64(blocks[n:], lengths[0])
	binary.BigEndian.PutUint64(blocks[n+8:], lengths[1])
	n += blockSize
	ghashBlocks(&g.powers, &y, &blocks[0], n/blockSize)
	binary.LittleEndian.PutUint64(out[:8], bits.ReverseBytes64(binary.LittleEndian.Uint64(y[8:])))
	binary.LittleEndian.PutUint64(out[8:], bits.ReverseBytes64(binary.LittleEndian.Uint64(y[:8])))
	return out
}

// padded copies data, and zeros up to a whole block.
func padded(blocks, data []byte) int {
	n := (len(data) + blockSize - 1) &^ (blockSize - 1)
	if n > 0 {
		clear(blocks[n-blockSize : n])
		copy(blocks, data)
	}
	return n
}
