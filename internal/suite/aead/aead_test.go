package aead

import (
	"bytes"
	"crypto/cipher"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	gmcipher "github.com/emmansun/gmsm/cipher"
)

var algorithms = []Algorithm{SM4CTRHMACSM3, SM4GCM, AES256GCM}

var sha256New = sha256.New

func ecbOf(b cipher.Block) cipher.BlockMode { return gmcipher.NewECBEncrypter(b) }

func bytesOf(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func secretOf(r *rand.Rand) *[SecretSize]byte { return (*[SecretSize]byte)(bytesOf(r, SecretSize)) }

func newTestSession(t testing.TB) *Session {
	t.Helper()
	s, err := NewSession(cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newTestSealer(t testing.TB, a Algorithm, secret *[SecretSize]byte) *Sealer {
	t.Helper()
	s, err := NewSealer(a, secret, newTestSession(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every algorithm, the unsafe one too.
func allSealers(t testing.TB, secret *[SecretSize]byte) map[Algorithm]*Sealer {
	t.Helper()
	all := make(map[Algorithm]*Sealer)
	for _, a := range algorithms {
		all[a] = newTestSealer(t, a, secret)
	}
	var err error
	if all[UnsafeSM4ECB], err = NewUnsafeECBSealer(secret); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestOpenGivesBackWhatWasSealed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	secret := secretOf(random)
	for a, s := range allSealers(t, secret) {
		for n := range 400 {
			plain, aad := bytesOf(random, n), bytesOf(random, random.IntN(400))
			before := bytes.Clone(plain)
			sealed, nonce, err := s.Seal([]byte("in front"), plain, aad)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(plain, before) {
				t.Fatalf("%v: the plaintext was changed", a)
			}
			if got, want := len(sealed), len("in front")+a.SealedSize(n); got != want {
				t.Fatalf("%v: %d bytes: sealed to %d, want %d", a, n, got, want)
			}
			got, err := Open([]byte("here "), a, secret, nonce, sealed[len("in front"):], aad)
			if err != nil || string(got) != "here "+string(plain) || !strings.HasPrefix(string(sealed), "in front") {
				t.Fatalf("%v: %d bytes: %v", a, n, err)
			}
		}
	}
}

func TestSealInPlace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	secret := secretOf(random)
	for a, s := range allSealers(t, secret) {
		for _, n := range []int{0, 5, 16, 18, 33, 64, 65, 1000} {
			plain := bytesOf(random, n)
			buf := append(make([]byte, 0, n+64), plain...)
			sealed, nonce, err := s.Seal(buf[:0], buf, nil)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Open(sealed[:0], a, secret, nonce, sealed, nil)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v: %d bytes: %v", a, n, err)
			}
		}
	}
}

// Whatever is changed, nothing comes out: not even into the room behind dst.
func TestOpenRefusesWhatWasNotSealedSo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 3))
	secret, other := secretOf(random), secretOf(random)
	for a, s := range allSealers(t, secret) {
		for _, n := range []int{0, 11, 18, 100} {
			plain, aad := bytesOf(random, n), []byte("vt1:phone:event:field")
			sealed, nonce, err := s.Seal(nil, plain, aad)
			if err != nil {
				t.Fatal(err)
			}
			refused := func(what string, a Algorithm, secret *[SecretSize]byte, nonce [NonceSize]byte, sealed, aad []byte) {
				t.Helper()
				room := make([]byte, 0, 256)
				got, err := Open(room, a, secret, nonce, sealed, aad)
				if got != nil || !errors.Is(err, ErrOpen) {
					t.Errorf("%v: %d bytes: %s: got %d bytes, %v", a, n, what, len(got), err)
				}
				if !bytes.Equal(room[:cap(room)], make([]byte, cap(room))) {
					t.Errorf("%v: %d bytes: %s: something was written", a, n, what)
				}
			}
			for i := range len(sealed) * 8 {
				bad := bytes.Clone(sealed)
				bad[i/8] ^= 1 << (i % 8)
				refused("a bit of it", a, secret, nonce, bad, aad)
			}
			for i := range NonceSize * 8 {
				bad := nonce
				bad[i/8] ^= 1 << (i % 8)
				refused("a bit of the nonce", a, secret, bad, sealed, aad)
			}
			for i := range len(aad) * 8 {
				bad := bytes.Clone(aad)
				bad[i/8] ^= 1 << (i % 8)
				refused("a bit of the additional data", a, secret, nonce, sealed, bad)
			}
			for i := range sealed {
				refused("cut", a, secret, nonce, sealed[:i], aad)
				refused("cut in front", a, secret, nonce, sealed[i+1:], aad)
			}
			refused("longer", a, secret, nonce, append(bytes.Clone(sealed), 0), aad)
			refused("longer in front", a, secret, nonce, append([]byte{0}, sealed...), aad)
			refused("other secret", a, other, nonce, sealed, aad)
			refused("no additional data", a, secret, nonce, sealed, nil)
			// A byte that moves between additional data and ciphertext.
			refused("moved", a, secret, nonce, append([]byte{aad[len(aad)-1]}, sealed...), aad[:len(aad)-1])
			for _, b := range []Algorithm{SM4CTRHMACSM3, SM4GCM, AES256GCM, UnsafeSM4ECB} {
				if b != a {
					refused("as "+b.String(), b, secret, nonce, sealed, aad)
				}
			}
		}
	}
}

func TestAlgorithmsHaveNames(t *testing.T) {
	for _, a := range []Algorithm{SM4CTRHMACSM3, SM4GCM, AES256GCM, UnsafeSM4ECB} {
		if got, err := ParseAlgorithm(a.String()); err != nil || got != a {
			t.Errorf("%v: got %v, %v", a, got, err)
		}
	}
	for _, name := range []string{"", "sm4", "SM4-GCM", "algorithm-0"} {
		if a, err := ParseAlgorithm(name); err == nil {
			t.Errorf("%q: got %v", name, a)
		}
	}
	var secret [SecretSize]byte
	for _, a := range []Algorithm{0, UnsafeSM4ECB, 200} {
		if _, err := NewSealer(a, &secret, newTestSession(t)); err == nil {
			t.Errorf("%v: a sealer", a)
		}
		if _, err := NewCache(a, newTestSession(t), 1); err == nil {
			t.Errorf("%v: a cache", a)
		}
	}
	if _, err := Open(nil, 200, &secret, [NonceSize]byte{}, make([]byte, 20), nil); err == nil {
		t.Error("opened with an unknown algorithm")
	}
}

// The counter is at its end: an error, and nothing begins again.
func TestExhaustedCounterIsAnError(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 4))
	for _, a := range algorithms {
		for _, size := range []int{0, 16, 18, 64, 65, 300} {
			s := newTestSealer(t, a, secretOf(random))
			s.next.Store(counterEnd - 40)
			seen := make(map[[NonceSize]byte]bool)
			var last error
			for range 100 {
				out, nonce, err := s.Seal(nil, make([]byte, size), nil)
				if err != nil {
					if out != nil || nonce != [NonceSize]byte{} {
						t.Errorf("%v: an error, and something beside it", a)
					}
					last = err
					continue
				}
				if size > maxPooled && last != nil {
					t.Errorf("%v: %d bytes: sealed after the end", a, size)
				}
				if seen[nonce] {
					t.Errorf("%v: %d bytes: nonce %x twice", a, size, nonce)
				}
				seen[nonce] = true
				if c := counterOf(nonce[SessionSize:]); c < counterEnd-40 {
					t.Errorf("%v: %d bytes: counter %d after the end", a, size, c)
				}
			}
			if !errors.Is(last, ErrExhausted) || len(seen) == 0 {
				t.Errorf("%v: %d bytes: %d sealed, then %v", a, size, len(seen), last)
			}
			if next := s.next.Load(); next > counterEnd {
				t.Errorf("%v: %d bytes: the counter stands at %d", a, size, next)
			}
		}
	}
}

// Plaintexts of zeros show the key stream.
func TestNoBlockOfTheStreamOccursTwice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 5))
	secret := secretOf(random)
	for _, a := range algorithms {
		// Two sealers of one secret and session object, and one of another, as on two machines.
		shared := newTestSession(t)
		var sealers []*Sealer
		for _, session := range []*Session{shared, shared, newTestSession(t)} {
			s, err := NewSealer(a, secret, session)
			if err != nil {
				t.Fatal(err)
			}
			sealers = append(sealers, s)
		}
		var mu sync.Mutex
		nonces := make(map[[NonceSize]byte]bool)
		blocks := make(map[[blockSize]byte]bool)
		var all sync.WaitGroup
		const goroutines = 8
		for g := range goroutines {
			all.Go(func() {
				sizes := rand.New(rand.NewPCG(uint64(g), 6))
				zeros := make([]byte, 400)
				for i := range 1500 {
					n := sizes.IntN(40)
					if i%10 == 0 {
						n = sizes.IntN(len(zeros))
					}
					sealed, nonce, err := sealers[i%len(sealers)].Seal(nil, zeros[:n], nil)
					mu.Lock()
					if err != nil || nonces[nonce] {
						t.Errorf("%v: nonce %x: twice, or %v", a, nonce, err)
					}
					nonces[nonce] = true
					for at := 0; at+blockSize <= n; at += blockSize {
						block := [blockSize]byte(sealed[at:])
						if blocks[block] {
							t.Errorf("%v: nonce %x: a block of the stream occurs twice", a, nonce)
						}
						blocks[block] = true
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if got, want := len(nonces), goroutines*1500; got != want {
			t.Errorf("%v: %d nonces, want %d", a, got, want)
		}
	}
}

func TestSessionRefusesSourcesThatAreStuck(t *testing.T) {
	if _, err := NewSession(nil); err == nil {
		t.Error("no source, and a session")
	}
	if _, err := NewSession(iotest.ErrReader(errors.New("no entropy"))); err == nil {
		t.Error("a source that fails, and a session")
	}
	if _, err := NewSession(bytes.NewReader(make([]byte, 100))); err == nil {
		t.Error("zeros, and a session")
	}
	s, err := NewSession(bytes.NewReader(bytes.Repeat([]byte{7}, 100)))
	if err != nil {
		t.Fatal(err)
	}
	var secret [SecretSize]byte
	if _, err := NewSealer(SM4GCM, &secret, s); !errors.Is(err, errStuck) {
		t.Errorf("the same bytes again: %v", err)
	}
	if s, err = NewSession(bytes.NewReader([]byte("twelve bytes, no more"))); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSealer(SM4GCM, &secret, s); err == nil {
		t.Error("half a session, and a sealer")
	}
}

// Of one secret, every session, algorithm and use has keys of its own.
func TestKeysAreSeparate(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 7))
	secret := secretOf(random)
	seen := make(map[string]string)
	for _, a := range []Algorithm{SM4CTRHMACSM3, SM4GCM, AES256GCM, UnsafeSM4ECB} {
		for range 50 {
			session := bytesOf(random, SessionSize)
			if a == UnsafeSM4ECB {
				session = nil
			}
			material, err := derive(a, secret, session)
			if err != nil {
				t.Fatal(err)
			}
			for ; len(material) >= 16; material = material[16:] {
				if was := seen[string(material[:16])]; was != "" {
					t.Errorf("%v: the same bytes as %s", a, was)
				}
				seen[string(material[:16])] = a.String()
			}
			if a == UnsafeSM4ECB {
				break
			}
		}
	}
}

func TestECBIsWhatItsNameSays(t *testing.T) {
	secret := secretOf(rand.New(rand.NewPCG(1, 8)))
	s, err := NewUnsafeECBSealer(secret)
	if err != nil {
		t.Fatal(err)
	}
	one, nonce, err := s.Seal(nil, []byte("13800138000"), []byte("a"))
	if err != nil || nonce != [NonceSize]byte{} {
		t.Fatalf("nonce %x, %v", nonce, err)
	}
	two, _, err := s.Seal(nil, []byte("13800138000"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one[:16], two[:16]) || bytes.Equal(one[16:], two[16:]) {
		t.Error("want equal ciphertexts and different tags")
	}
}

func TestSealAllocatesNothing(t *testing.T) {
	secret := secretOf(rand.New(rand.NewPCG(1, 9)))
	for a, s := range allSealers(t, secret) {
		for _, n := range []int{11, 18, 64, 100, 1000} {
			plain, aad, dst := make([]byte, n), make([]byte, 48), make([]byte, 0, 2048)
			if got := testing.AllocsPerRun(200, func() {
				if _, _, err := s.Seal(dst, plain, aad); err != nil {
					t.Fatal(err)
				}
			}); got != 0 {
				t.Errorf("%v: %d bytes: %v allocations", a, n, got)
			}
		}
	}
}

func TestWipeForgets(t *testing.T) {
	secret := secretOf(rand.New(rand.NewPCG(1, 10)))
	for a, s := range allSealers(t, secret) {
		if _, _, err := s.Seal(nil, make([]byte, 18), []byte("aad")); err != nil {
			t.Fatal(err)
		}
		k := s.keys
		inner, outer := k.mac.inner, k.mac.outer
		g := k.ghash
		s.Wipe()
		s.Wipe()
		if _, _, err := s.Seal(nil, nil, nil); !errors.Is(err, ErrWiped) {
			t.Errorf("%v: %v", a, err)
		}
		if k.ecb != nil || k.decrypt != nil || k.gcm != nil || k.ghash != nil || s.keys != nil {
			t.Errorf("%v: a cipher is still there", a)
		}
		if g != nil && *g != (ghash{}) {
			t.Errorf("%v: the hash key is still there", a)
		}
		for _, b := range [][]byte{inner, outer, s.lanes[0].Load().stream[:], s.lanes[0].Load().work[:], s.lanes[0].Load().hash[:]} {
			if !bytes.Equal(b, make([]byte, len(b))) {
				t.Errorf("%v: something is still there", a)
			}
		}
	}
}

func TestWipeWhileSealing(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 11))
	for _, a := range algorithms {
		secret := secretOf(random)
		s := newTestSealer(t, a, secret)
		var all sync.WaitGroup
		var begun sync.WaitGroup
		for range 4 {
			begun.Add(1)
			all.Go(func() {
				for i := 0; ; i++ {
					sealed, nonce, err := s.Seal(nil, []byte("13800138000"), nil)
					if i == 0 {
						begun.Done()
					}
					if errors.Is(err, ErrWiped) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if i%50 == 0 {
						if got, err := Open(nil, a, secret, nonce, sealed, nil); err != nil || string(got) != "13800138000" {
							t.Errorf("%v: %q, %v", a, got, err)
						}
					}
				}
			})
		}
		begun.Wait()
		s.Wipe()
		all.Wait()
	}
}

// On some processors GCM of SM4 is put together here.
func TestGCMAgainstTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 12))
	secret := secretOf(random)
	s := newTestSealer(t, SM4GCM, secret)
	s.next.Store(1<<32 - 20_000) // so that the counter grows out of its last four bytes
	try := func(n, size int) {
		plain, aad := bytesOf(random, n), bytesOf(random, size)
		sealed, nonce, err := s.Seal(nil, plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		iv := append(make([]byte, 6), nonce[SessionSize:]...)
		if want := s.keys.gcm.Seal(nil, iv, plain, aad); !bytes.Equal(sealed, want) {
			t.Fatalf("%d bytes, aad %d: got %x, want %x", n, size, sealed, want)
		}
	}
	for n := range 300 {
		for size := range 160 {
			try(n, size)
		}
	}
	for range 200 {
		try(random.IntN(10_000), random.IntN(10_000))
	}
	if got := s.next.Load(); got < 1<<32 {
		t.Errorf("the counter is only at %d", got)
	}
}

func FuzzOpen(f *testing.F) {
	secret := secretOf(rand.New(rand.NewPCG(1, 13)))
	random := rand.NewChaCha8([32]byte{1}) // the same sessions in each process
	session, err := NewSession(random)
	if err != nil {
		f.Fatal(err)
	}
	type whole struct {
		a           byte
		nonce       string
		sealed, aad string
	}
	genuine := make(map[whole]string)
	for _, plain := range []string{"", "13800138000", "110101199003078515", strings.Repeat("long ", 30)} {
		for _, a := range []Algorithm{SM4CTRHMACSM3, SM4GCM, AES256GCM, UnsafeSM4ECB} {
			var s *Sealer
			if a == UnsafeSM4ECB {
				s, err = NewUnsafeECBSealer(secret)
			} else {
				s, err = NewSealer(a, secret, session)
			}
			if err != nil {
				f.Fatal(err)
			}
			sealed, nonce, err := s.Seal(nil, []byte(plain), []byte("vt1:phone"))
			if err != nil {
				f.Fatal(err)
			}
			genuine[whole{byte(a), string(nonce[:]), string(sealed), "vt1:phone"}] = plain
			f.Add(byte(a), nonce[:], sealed, []byte("vt1:phone"))
		}
	}
	f.Add(byte(0), []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, a byte, nonceBytes, sealed, aad []byte) {
		var nonce [NonceSize]byte
		copy(nonce[:], nonceBytes)
		got, err := Open(nil, Algorithm(a), secret, nonce, sealed, aad)
		want, sealedByUs := genuine[whole{a, string(nonce[:]), string(sealed), string(aad)}]
		if sealedByUs != (err == nil) || string(got) != want {
			t.Fatalf("got %q, %v", got, err)
		}
	})
}
