// Package aead encrypts and authenticates short values under the secret of one
// data subject, with the ciphers of GB/T 32907-2016 (SM4) or FIPS 197 (AES).
//
// From a secret and 12 random bytes, the session, HKDF (RFC 5869) makes the keys
// of one Sealer. Its nonces are the session and a counter of 48 bits, of which it
// never gives out a value twice. Nobody else has these keys: another Sealer,
// also one of the same secret, of another process or of another machine with the
// same secrets, draws its own session. So a pair of key and counter block occurs
// once, without anything remembered across restarts. What is assumed of the
// random bytes, and what a machine that is resumed twice breaks, is in
// docs/design/nonces.md. How each algorithm makes its bytes, and how to open them
// with OpenSSL, is in docs/format/ciphers.md.
//
//	session, err := aead.NewSession(rand.Reader)
//	sealer, err := aead.NewSealer(aead.SM4GCM, &secret, session)
//	sealed, nonce, err := sealer.Seal(nil, []byte("13800138000"), aad)
//	plain, err := aead.Open(nil, aead.SM4GCM, &secret, nonce, sealed, aad)
//
// It knows bytes and keys, and nothing of events, files or time.
package aead

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	gmcipher "github.com/emmansun/gmsm/cipher"
	"github.com/emmansun/gmsm/sm4"
)

// Sizes in bytes.
const (
	SecretSize  = 32                        // of a data subject's secret
	SessionSize = 12                        // of what a Sealer draws
	NonceSize   = SessionSize + counterSize // session, then counter
	TagSize     = 16                        // behind the ciphertext

	// MaxSize bounds a plaintext, and additional data likewise.
	MaxSize = 1 << 30

	counterSize = 6
	blockSize   = 16
)

// counterEnd is behind the last counter of a Sealer.
const counterEnd = 1 << (8 * counterSize)

var (
	// ErrOpen says that what was to be opened was not sealed so: another secret,
	// nonce, algorithm or additional data, or changed bytes. Which, nobody can
	// tell.
	ErrOpen = errors.New("sealed value: not authentic")
	// ErrExhausted says that a Sealer has used all its counters. A new one goes on.
	ErrExhausted = errors.New("sealer: counter is exhausted")
	// ErrWiped says that a Sealer has forgotten its keys. A new one goes on.
	ErrWiped = errors.New("sealer: wiped")
	// ErrTooLong is for more than MaxSize.
	ErrTooLong = errors.New("value: longer than 1 GiB")
)

// Algorithm is a way to encrypt and authenticate.
type Algorithm uint8

// The algorithms. A value never changes its meaning, nor does a name.
const (
	SM4CTRHMACSM3 Algorithm = iota + 1
	SM4GCM
	AES256GCM
	// UnsafeSM4ECB shows which values are equal, and which begin equally. It is for
	// devices that offer nothing else, and only NewUnsafeECBSealer seals with it.
	UnsafeSM4ECB
)

var names = [...]string{
	SM4CTRHMACSM3: "sm4-ctr-hmac-sm3",
	SM4GCM:        "sm4-gcm",
	AES256GCM:     "aes-256-gcm",
	UnsafeSM4ECB:  "unsafe-sm4-ecb-hmac-sm3",
}

func (a Algorithm) known() bool { return a > 0 && int(a) < len(names) }

func (a Algorithm) String() string {
	if !a.known() {
		return fmt.Sprintf("algorithm-%d", uint8(a))
	}
	return names[a]
}

// ParseAlgorithm is the inverse of String.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a, n := range names {
		if a > 0 && n == name {
			return Algorithm(a), nil
		}
	}
	return 0, fmt.Errorf("cipher algorithm: want one of %q", names[1:])
}

// authenticated by HMAC-SM3, not by its mode.
func (a Algorithm) hmac() bool { return a == SM4CTRHMACSM3 || a == UnsafeSM4ECB }

// SealedSize is how long a plaintext of size bytes becomes, with its tag.
func (a Algorithm) SealedSize(size int) int {
	if a == UnsafeSM4ECB {
		size += blockSize - size%blockSize
	}
	return size + TagSize
}

// A Sealer seals under keys that nobody else has. It may be used concurrently.
type Sealer struct {
	algorithm Algorithm
	session   [SessionSize]byte

	next atomic.Uint64 // the first counter that nobody has
	end  uint64        // behind the last

	keys *keys // until Wipe

	// Every Seal holds one of these; the second and later ones are made when those
	// before are busy.
	lanes [maxLanes]atomic.Pointer[lane]
	turn  atomic.Uint32
	wiped atomic.Bool
}

// maxLanes bounds what a Sealer keeps: a lane has less than 1 KiB.
const maxLanes = 8

// keys are what is derived of one secret and session.
type keys struct {
	ecb     cipher.BlockMode // of SM4
	decrypt cipher.BlockMode // of UnsafeSM4ECB
	gcm     cipher.AEAD
	ghash   *ghash // of SM4-GCM, nil where this machine has no fast one
	mac     macKey
}

// newKeys derives the keys of a session.
func newKeys(a Algorithm, secret *[SecretSize]byte, session []byte) (*keys, error) {
	material, err := derive(a, secret, session)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	if a == AES256GCM {
		block, err := aes.NewCipher(material)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		return &keys{gcm: gcm}, nil
	}
	block, err := sm4.NewCipher(material[:sm4.BlockSize])
	if err != nil {
		return nil, err
	}
	k := &keys{ecb: gmcipher.NewECBEncrypter(block)}
	switch a {
	case SM4GCM:
		if k.gcm, err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		k.ghash = newGHASH(block)
	case UnsafeSM4ECB:
		k.decrypt = gmcipher.NewECBDecrypter(block)
	}
	if a.hmac() {
		if k.mac, err = newMACKey(material[sm4.BlockSize:]); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// NewSealer derives keys of its own from secret and what it draws from s. It
// keeps no secret.
func NewSealer(a Algorithm, secret *[SecretSize]byte, s *Session) (*Sealer, error) {
	if !a.known() || a == UnsafeSM4ECB {
		return nil, fmt.Errorf("sealer: %v: want an algorithm with nonces", a)
	}
	session, err := s.draw()
	if err != nil {
		return nil, err
	}
	return newSealer(a, secret, session)
}

func newSealer(a Algorithm, secret *[SecretSize]byte, session [SessionSize]byte) (*Sealer, error) {
	k, err := newKeys(a, secret, session[:])
	if err != nil {
		return nil, err
	}
	return &Sealer{algorithm: a, session: session, end: counterEnd, keys: k}, nil
}

// NewUnsafeECBSealer seals with UnsafeSM4ECB: the same plaintext always becomes
// the same ciphertext, and equal blocks of it equal blocks. Its nonces are zero.
func NewUnsafeECBSealer(secret *[SecretSize]byte) (*Sealer, error) {
	k, err := newKeys(UnsafeSM4ECB, secret, nil)
	if err != nil {
		return nil, err
	}
	return &Sealer{algorithm: UnsafeSM4ECB, end: counterEnd, keys: k}, nil
}

// Seal appends to dst the ciphertext, which is as long as plaintext, and the tag,
// and returns the nonce. Plaintext and dst's free capacity overlap exactly or not
// at all. Nothing is allocated when dst has room for SealedSize more.
func (s *Sealer) Seal(dst, plaintext, aad []byte) (out []byte, nonce [NonceSize]byte, err error) {
	if len(plaintext) > MaxSize || len(aad) > MaxSize {
		return nil, nonce, ErrTooLong
	}
	l := s.lock()
	if s.wiped.Load() { // read under the lane's lock: Wipe waits for it
		l.mu.Unlock()
		return nil, nonce, ErrWiped
	}
	var counter uint64
	switch s.algorithm {
	case SM4CTRHMACSM3:
		out, counter, err = s.sealCTR(l, dst, plaintext, aad)
	case SM4GCM, AES256GCM:
		out, counter, err = s.sealGCM(l, dst, plaintext, aad)
	case UnsafeSM4ECB:
		out = s.sealECB(l, dst, plaintext, aad)
	}
	l.mu.Unlock()
	if err != nil {
		return nil, nonce, err
	}
	copy(nonce[:], s.session[:])
	putCounter(nonce[SessionSize:], counter)
	return out, nonce, nil
}

// Wipe forgets the keys, and what was prepared with them. It waits for calls of
// Seal that are under way; later ones return ErrWiped.
func (s *Sealer) Wipe() {
	if s.wiped.Swap(true) {
		return
	}
	for i := range s.lanes {
		if l := s.lanes[i].Load(); l != nil {
			l.mu.Lock()
			l.wipe()
			l.mu.Unlock()
		}
	}
	s.keys.wipe()
	s.keys = nil
}

// wipe clears what is ours and drops what belongs to the libraries.
//
// BUG(aead): The key schedules of gmsm and of crypto/aes, and what HKDF leaves on
// the heap, cannot be reached. They stay until the memory is used again.
func (k *keys) wipe() {
	k.mac.wipe()
	if k.ghash != nil {
		*k.ghash = ghash{}
	}
	*k = keys{}
}

// lock takes a lane that is free, makes one when none is, and waits when there
// are enough.
func (s *Sealer) lock() *lane {
	for i := range s.lanes {
		l := s.lanes[i].Load()
		if l == nil {
			l = newLane(s.algorithm)
			l.mu.Lock()
			if s.lanes[i].CompareAndSwap(nil, l) {
				return l
			}
			l = s.lanes[i].Load()
		}
		if l.mu.TryLock() {
			return l
		}
	}
	l := s.lanes[s.turn.Add(1)%maxLanes].Load()
	l.mu.Lock()
	return l
}

// reserve takes n counters in a row, and returns the first.
func (s *Sealer) reserve(n uint64) (uint64, error) {
	for {
		first := s.next.Load()
		if n > s.end-first {
			return 0, ErrExhausted
		}
		if s.next.CompareAndSwap(first, first+n) {
			return first, nil
		}
	}
}

func (s *Sealer) sealCTR(l *lane, dst, plaintext, aad []byte) ([]byte, uint64, error) {
	out, sealed := extend(dst, len(plaintext)+TagSize)
	counter, err := s.crypt(l, sealed[:len(plaintext)], plaintext)
	if err != nil {
		return nil, 0, err
	}
	tag := l.mac.sum(&s.keys.mac, counter, aad, sealed[:len(plaintext)])
	copy(sealed[len(plaintext):], tag[:])
	return out, counter, nil
}

func (s *Sealer) sealGCM(l *lane, dst, plaintext, aad []byte) ([]byte, uint64, error) {
	switch {
	case s.keys.ghash == nil: // AES, or another processor: the library does all
	case len(plaintext) <= maxShortGCM:
		return s.sealShortGCM(l, dst, plaintext, aad)
	default:
		return s.sealLongGCM(l, dst, plaintext, aad)
	}
	counter, err := s.reserve(1)
	if err != nil {
		return nil, 0, err
	}
	putCounter(l.iv[6:], counter)
	return s.keys.gcm.Seal(dst, l.iv[:], plaintext, aad), counter, nil
}

func (s *Sealer) sealECB(l *lane, dst, plaintext, aad []byte) []byte {
	size := s.algorithm.SealedSize(len(plaintext)) - TagSize
	out, sealed := extend(dst, size+TagSize)
	n := copy(sealed, plaintext)
	for i := n; i < size; i++ { // PKCS #7, RFC 5652 §6.3
		sealed[i] = byte(size - n)
	}
	s.keys.ecb.CryptBlocks(sealed[:size], sealed[:size])
	tag := l.mac.sum(&s.keys.mac, 0, aad, sealed[:size])
	copy(sealed[size:], tag[:])
	return out
}

// Open appends the plaintext of sealed to dst. It returns ErrOpen, and no byte of
// plaintext, when sealed was not sealed with this algorithm, secret, nonce and
// additional data. Sealed and dst's free capacity overlap exactly or not at all.
func Open(dst []byte, a Algorithm, secret *[SecretSize]byte, nonce [NonceSize]byte, sealed, aad []byte) ([]byte, error) {
	if !a.known() {
		return nil, fmt.Errorf("sealed value: %v", a)
	}
	if len(sealed) < TagSize || len(sealed) > MaxSize+2*blockSize || len(aad) > MaxSize {
		return nil, ErrOpen
	}
	session := nonce[:SessionSize]
	counter := counterOf(nonce[SessionSize:])
	if a == UnsafeSM4ECB {
		if nonce != [NonceSize]byte{} { // one spelling only
			return nil, ErrOpen
		}
		session = nil
	}
	k, err := newKeys(a, secret, session)
	if err != nil {
		return nil, err
	}
	defer k.wipe()

	if !a.hmac() {
		var iv [12]byte
		putCounter(iv[6:], counter)
		out, err := k.gcm.Open(dst, iv[:], sealed, aad)
		if err != nil {
			return nil, ErrOpen
		}
		return out, nil
	}

	ciphertext, tag := sealed[:len(sealed)-TagSize], sealed[len(sealed)-TagSize:]
	var m mac
	m.init()
	want := m.sum(&k.mac, counter, aad, ciphertext)
	m.wipe()
	if subtle.ConstantTimeCompare(tag, want[:]) != 1 {
		return nil, ErrOpen
	}
	if a == UnsafeSM4ECB {
		return k.openECB(dst, ciphertext)
	}
	out, plain := extend(dst, len(ciphertext))
	var stream [streamBlocks * blockSize]byte
	k.ctr(&stream, plain, ciphertext, counter)
	return out, nil
}

func (k *keys) openECB(dst, ciphertext []byte) ([]byte, error) {
	if len(ciphertext) == 0 || len(ciphertext)%blockSize != 0 {
		return nil, ErrOpen
	}
	plain := make([]byte, len(ciphertext))
	defer clear(plain)
	k.decrypt.CryptBlocks(plain, ciphertext)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > blockSize {
		return nil, ErrOpen
	}
	for _, b := range plain[len(plain)-pad:] {
		if int(b) != pad {
			return nil, ErrOpen
		}
	}
	return append(dst, plain[:len(plain)-pad]...), nil
}

// extend makes dst n bytes longer, and returns it and the new part of it.
func extend(dst []byte, n int) (all, added []byte) {
	total := len(dst) + n
	if cap(dst) >= total {
		all = dst[:total]
	} else {
		all = make([]byte, total)
		copy(all, dst)
	}
	return all, all[len(dst):]
}

func putCounter(b []byte, counter uint64) {
	_ = b[counterSize-1]
	binary.BigEndian.PutUint16(b, uint16(counter>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(counter))
}

func counterOf(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

// A lane is what one Seal needs for itself.
type lane struct {
	mu sync.Mutex

	// Blocks made with counters in a row and not handed out yet: those of stream
	// from at on. base is the counter of the first.
	at     int
	left   int
	base   uint64
	stream [streamBlocks * blockSize]byte

	work [streamBlocks * blockSize]byte // for what is longer than the stream is for
	hash [8 * blockSize]byte            // for GHASH
	iv   [12]byte                       // of GCM: six zeros, then a counter
	mac  mac
}

func newLane(a Algorithm) *lane {
	l := new(lane)
	if a.hmac() {
		l.mac.init()
	}
	return l
}

func (l *lane) wipe() {
	clear(l.stream[:])
	clear(l.work[:])
	clear(l.hash[:])
	l.at, l.left, l.base = 0, 0, 0
	l.mac.wipe()
}
