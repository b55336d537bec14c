package aead

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

func newTestCache(t testing.TB, a Algorithm, capacity int) *Cache {
	t.Helper()
	c, err := NewCache(a, newTestSession(t), capacity)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustSeal(t testing.TB, c *Cache, id string, secret *[SecretSize]byte) [NonceSize]byte {
	t.Helper()
	sealed, nonce, err := c.Seal(id, secret, nil, []byte("13800138000"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Open(nil, c.algorithm, secret, nonce, sealed, nil); err != nil || string(got) != "13800138000" {
		t.Fatalf("%s: %q, %v", id, got, err)
	}
	return nonce
}

func sessionOf(nonce [NonceSize]byte) string { return string(nonce[:SessionSize]) }

func TestCacheKeepsWhatWasUsedLast(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 1))
	c := newTestCache(t, SM4GCM, 2)
	a, b, d := secretOf(random), secretOf(random), secretOf(random)
	first := sessionOf(mustSeal(t, c, "a", a))
	second := sessionOf(mustSeal(t, c, "b", b))
	oldest, err := c.sealer("b", b)
	if err != nil {
		t.Fatal(err)
	}
	if got := sessionOf(mustSeal(t, c, "a", a)); got != first {
		t.Error("a was not kept")
	}
	mustSeal(t, c, "d", d)                                        // for which b goes
	if _, _, err := oldest.Seal(nil, nil, nil); err != ErrWiped { //nolint:errorlint // the sentinel itself
		t.Errorf("what was evicted still seals: %v", err)
	}
	if got := sessionOf(mustSeal(t, c, "a", a)); got != first {
		t.Error("a was not kept, although b was used before it")
	}
	if got := sessionOf(mustSeal(t, c, "b", b)); got == second {
		t.Error("b came back with its old keys, and counts from zero")
	}
	if got := c.recent.Len(); got != 2 {
		t.Errorf("%d are kept, want 2", got)
	}
}

func TestCacheKnowsSecretsNotOnlyNames(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	c := newTestCache(t, SM4CTRHMACSM3, 10)
	mustSeal(t, c, "a", secretOf(random))
	mustSeal(t, c, "a", secretOf(random)) // opens under its own secret
	if len(c.byID) != 1 || c.recent.Len() != 1 {
		t.Errorf("%d and %d are kept, want 1", len(c.byID), c.recent.Len())
	}
}

func TestCacheGoesOnAfterTheLastCounter(t *testing.T) {
	secret := secretOf(rand.New(rand.NewPCG(2, 3)))
	for _, a := range algorithms {
		c := newTestCache(t, a, 1)
		before := sessionOf(mustSeal(t, c, "a", secret))
		s, err := c.sealer("a", secret)
		if err != nil {
			t.Fatal(err)
		}
		s.next.Store(counterEnd)
		for range 2 * streamBlocks { // what is prepared is used up
			mustSeal(t, c, "a", secret)
		}
		if got := sessionOf(mustSeal(t, c, "a", secret)); got == before {
			t.Errorf("%v: still the same session", a)
		}
	}
}

func TestCacheForgetsAndCloses(t *testing.T) {
	secret := secretOf(rand.New(rand.NewPCG(2, 4)))
	c := newTestCache(t, SM4GCM, 4)
	before := sessionOf(mustSeal(t, c, "a", secret))
	s, err := c.sealer("a", secret)
	if err != nil {
		t.Fatal(err)
	}
	c.Forget("a")
	c.Forget("nobody")
	if !s.wiped.Load() || c.recent.Len() != 0 {
		t.Error("a is still there")
	}
	if got := sessionOf(mustSeal(t, c, "a", secret)); got == before {
		t.Error("a came back with its old keys")
	}
	if s, err = c.sealer("a", secret); err != nil {
		t.Fatal(err)
	}
	c.Renew()
	if got := sessionOf(mustSeal(t, c, "a", secret)); !s.wiped.Load() || got == string(s.session[:]) {
		t.Error("renewed, and still the old keys")
	}
	if s, err = c.sealer("a", secret); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Close()
	if !s.wiped.Load() {
		t.Error("closed, and not wiped")
	}
	if _, _, err := c.Seal("a", secret, nil, nil, nil); err == nil {
		t.Error("sealed after Close")
	}
}

func TestCacheConcurrently(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 5))
	secrets := make([]*[SecretSize]byte, 12)
	for i := range secrets {
		secrets[i] = secretOf(random)
	}
	for _, a := range algorithms {
		c := newTestCache(t, a, 3) // so that they throw each other out
		var mu sync.Mutex
		seen := make(map[[NonceSize]byte]bool)
		var all sync.WaitGroup
		const goroutines, each = 8, 300
		for g := range goroutines {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(g), 9))
				for i := range each {
					k := r.IntN(len(secrets))
					if i%97 == 0 {
						c.Forget(fmt.Sprint(k))
					}
					sealed, nonce, err := c.Seal(fmt.Sprint(k), secrets[k], nil, []byte("13800138000"), nil)
					if err != nil {
						t.Error(err)
						return
					}
					if i%10 == 0 {
						if _, err := Open(nil, a, secrets[k], nonce, sealed, nil); err != nil {
							t.Error(err)
						}
					}
					mu.Lock()
					if seen[nonce] {
						t.Errorf("%v: nonce %x twice", a, nonce)
					}
					seen[nonce] = true
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if len(seen) != goroutines*each {
			t.Errorf("%v: %d nonces", a, len(seen))
		}
		c.Close()
	}
}
