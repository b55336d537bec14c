package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"
)

// The sizes of an identity card and a phone number, and two larger ones.
var benchSizes = []int{11, 18, 64, 1024}

func BenchmarkSeal(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 1)))
	for a, s := range allSealers(b, secret) {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%v/%d", a, n), func(b *testing.B) {
				plain, aad, dst := make([]byte, n), make([]byte, 48), make([]byte, 0, n+64)
				b.ReportAllocs()
				for b.Loop() {
					if _, _, err := s.Seal(dst, plain, aad); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Several goroutines share a Sealer.
func BenchmarkSealParallel(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 2)))
	for _, a := range algorithms {
		b.Run(a.String(), func(b *testing.B) {
			s := newTestSealer(b, a, secret)
			b.RunParallel(func(pb *testing.PB) {
				plain, aad, dst := make([]byte, 18), make([]byte, 48), make([]byte, 0, 64)
				for pb.Next() {
					if _, _, err := s.Seal(dst, plain, aad); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func BenchmarkNewSealer(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 3)))
	for _, a := range algorithms {
		b.Run(a.String(), func(b *testing.B) {
			session := newTestSession(b)
			for b.Loop() {
				if _, err := NewSealer(a, secret, session); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 4)))
	for a, s := range allSealers(b, secret) {
		b.Run(a.String(), func(b *testing.B) {
			sealed, nonce, err := s.Seal(nil, make([]byte, 18), make([]byte, 48))
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := Open(nil, a, secret, nonce, sealed, make([]byte, 48)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkToken(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 5)))
	value := []byte("13800138000")
	for b.Loop() {
		Token(secret, nil, value)
	}
}

// 10,000 keys in an order that no cache likes, with room for all, and for a
// tenth.
func BenchmarkCache(b *testing.B) {
	const keys = 10_000
	random := rand.New(rand.NewPCG(3, 6))
	secrets := make([]*[SecretSize]byte, keys)
	ids := make([]string, keys)
	for i := range secrets {
		secrets[i], ids[i] = secretOf(random), fmt.Sprintf("%011d", i)
	}
	order := random.Perm(keys)
	for _, a := range algorithms {
		for _, capacity := range []int{keys, keys / 10} {
			b.Run(fmt.Sprintf("%v/room=%d", a, capacity), func(b *testing.B) {
				c := newTestCache(b, a, capacity)
				defer c.Close()
				plain, aad, dst := make([]byte, 18), make([]byte, 48), make([]byte, 0, 64)
				seal := func(k int) {
					if _, _, err := c.Seal(ids[k], secrets[k], dst, plain, aad); err != nil {
						b.Fatal(err)
					}
				}
				for _, k := range order {
					seal(k)
				}
				i := 0
				for b.Loop() {
					seal(order[i])
					if i++; i == keys {
						i = 0
					}
				}
			})
		}
	}
}

// inTurns runs two ways to do a thing in turns, rounds of many each, and reports
// the medians and how many times longer the second takes: other work on the
// machine slows both alike.
func inTurns(b *testing.B, ours, theirs func()) {
	const many = 64
	var a, z []time.Duration
	for b.Loop() {
		start := time.Now()
		for range many {
			ours()
		}
		middle := time.Now()
		for range many {
			theirs()
		}
		a, z = append(a, middle.Sub(start)), append(z, time.Since(middle))
	}
	slices.Sort(a)
	slices.Sort(z)
	x, y := float64(a[len(a)/2])/many, float64(z[len(z)/2])/many
	b.ReportMetric(x, "ns/ours")
	b.ReportMetric(y, "ns/theirs")
	b.ReportMetric(y/x, "x")
	b.ReportMetric(0, "ns/op")
}

// The encryption alone, against a cipher and a mode made for each field, as who
// uses the library plainly does, and against a mode made for each under a cipher
// that is kept.
func BenchmarkFieldAgainstFreshCTR(b *testing.B) {
	random := rand.New(rand.NewPCG(3, 7))
	secret := secretOf(random)
	iv := make([]byte, 16)
	kept := newSM4(b, secret[:16])
	for _, n := range []int{11, 16, 18, 32} {
		plain, dst := make([]byte, n), make([]byte, n)
		s := newTestSealer(b, SM4CTRHMACSM3, secret)
		ours := func() {
			l := s.lock()
			if _, err := s.crypt(l, dst, plain); err != nil {
				b.Fatal(err)
			}
			l.mu.Unlock()
		}
		b.Run(fmt.Sprintf("%d/fresh", n), func(b *testing.B) {
			inTurns(b, ours, func() {
				block, err := sm4.NewCipher(secret[:16])
				if err != nil {
					b.Fatal(err)
				}
				cipher.NewCTR(block, iv).XORKeyStream(dst, plain)
			})
		})
		b.Run(fmt.Sprintf("%d/cipher-kept", n), func(b *testing.B) {
			inTurns(b, ours, func() { cipher.NewCTR(kept, iv).XORKeyStream(dst, plain) })
		})
	}
}

// The whole, against what the libraries offer for it when all is kept that can be.
func BenchmarkSealAgainstLibraries(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 8)))
	block := newSM4(b, secret[:16])
	sm4gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	aesBlock, err := aes.NewCipher(secret[:])
	if err != nil {
		b.Fatal(err)
	}
	aesgcm, err := cipher.NewGCM(aesBlock)
	if err != nil {
		b.Fatal(err)
	}
	h := hmac.New(sm3.New, secret[:])
	iv := make([]byte, 16)
	for _, n := range []int{11, 18, 1 << 16} {
		plain, aad, dst := make([]byte, n), make([]byte, 48), make([]byte, 0, n+64)
		theirs := map[Algorithm]func(){
			SM4GCM:    func() { sm4gcm.Seal(dst, iv[:12], plain, aad) },
			AES256GCM: func() { aesgcm.Seal(dst, iv[:12], plain, aad) },
			SM4CTRHMACSM3: func() {
				out := dst[:n]
				cipher.NewCTR(block, iv).XORKeyStream(out, plain)
				h.Reset()
				h.Write(iv[:10])
				h.Write(aad)
				h.Write(out)
				h.Sum(out)
			},
		}
		for _, a := range algorithms {
			b.Run(fmt.Sprintf("%v/%d", a, n), func(b *testing.B) {
				s := newTestSealer(b, a, secret)
				inTurns(b, func() {
					if _, _, err := s.Seal(dst, plain, aad); err != nil {
						b.Fatal(err)
					}
				}, theirs[a])
			})
		}
	}
}

// Counter mode of much, against the fastest mode there is in the library, which
// is ECB, and against its counter mode.
func BenchmarkBulkCTR(b *testing.B) {
	secret := secretOf(rand.New(rand.NewPCG(3, 9)))
	block := newSM4(b, secret[:16])
	ecb := ecbOf(block)
	plain, dst := make([]byte, 1<<16), make([]byte, 1<<16)
	s := newTestSealer(b, SM4CTRHMACSM3, secret)
	ours := func() {
		l := s.lock()
		if _, err := s.crypt(l, dst, plain); err != nil {
			b.Fatal(err)
		}
		l.mu.Unlock()
	}
	b.Run("ecb", func(b *testing.B) { inTurns(b, ours, func() { ecb.CryptBlocks(dst, plain) }) })
	b.Run("ctr", func(b *testing.B) {
		inTurns(b, ours, func() { cipher.NewCTR(block, make([]byte, 16)).XORKeyStream(dst, plain) })
	})
}
