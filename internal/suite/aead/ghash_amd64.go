package aead

import (
	"bytes"
	"crypto/cipher"
	"sync"

	gmcipher "github.com/emmansun/gmsm/cipher"
	"github.com/emmansun/gmsm/sm4"
	"golang.org/x/sys/cpu"
)

// ghashBlocks sets y to (y+b1)·Hⁿ + b2·Hⁿ⁻¹ + … + bn·H, for n blocks, from 1 to 8.
//
//go:noescape
func ghashBlocks(powers *[8][blockSize]byte, y *[blockSize]byte, blocks *byte, n int)

// newGHASH is nil where the processor cannot, and then the library does all.
func newGHASH(block cipher.Block) *ghash {
	if !ghashWorks() {
		return nil
	}
	return unchecked(block)
}

func unchecked(block cipher.Block) *ghash {
	var h [blockSize]byte
	block.Encrypt(h[:], h[:])
	g := new(ghash)
	g.setKey(&h)
	clear(h[:])
	return g
}

// ghashWorks tells whether the processor has the instructions, and whether what
// they make agrees with the library, tried once in each process.
var ghashWorks = sync.OnceValue(func() bool {
	if !cpu.X86.HasPCLMULQDQ || !cpu.X86.HasSSSE3 {
		return false
	}
	text := []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	block, err := sm4.NewCipher(text[:sm4.BlockSize])
	if err != nil {
		return false
	}
	library, err := cipher.NewGCM(block)
	if err != nil {
		return false
	}
	keys := &keys{ecb: gmcipher.NewECBEncrypter(block), gcm: library, ghash: unchecked(block)}
	s := &Sealer{algorithm: SM4GCM, end: counterEnd, keys: keys}
	l := newLane(SM4GCM)
	for n := range maxShortGCM + 1 {
		for _, seal := range []func(*lane, []byte, []byte, []byte) ([]byte, uint64, error){s.sealShortGCM, s.sealLongGCM} {
			got, counter, err := seal(l, nil, text[:n], text[:3*n])
			var iv [12]byte
			putCounter(iv[6:], counter)
			if err != nil || !bytes.Equal(got, library.Seal(nil, iv[:], text[:n], text[:3*n])) {
				return false
			}
		}
	}
	return true
})
