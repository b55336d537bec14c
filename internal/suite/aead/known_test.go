package aead

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"encoding/hex"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/sm4"
)

// plainBlock hides what a cipher can do faster, so that crypto/cipher uses its
// own code for the mode.
type plainBlock struct{ cipher.Block }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newSM4(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	b, err := sm4.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// GB/T 32907-2016, appendix A, examples 1 and 2.
func TestSM4OfTheStandard(t *testing.T) {
	key := unhex(t, "0123456789abcdeffedcba9876543210")
	b := newSM4(t, key)
	x := bytes.Clone(key)
	b.Encrypt(x, x)
	if got, want := hex.EncodeToString(x), "681edf34d206965e86b3e94f536e4246"; got != want {
		t.Errorf("one round: got %s, want %s", got, want)
	}
	for range 999_999 {
		b.Encrypt(x, x)
	}
	if got, want := hex.EncodeToString(x), "595298c7c6fd271f0402f804c33d3f66"; got != want {
		t.Errorf("a million rounds: got %s, want %s", got, want)
	}
}

// The stream is made by other code of the library than single blocks are.
func TestStreamIsSM4OfTheStandard(t *testing.T) {
	key := unhex(t, "0123456789abcdeffedcba9876543210")
	block := newSM4(t, key)
	k := keysOf(t, SM4CTRHMACSM3, key)
	for n := range 600 {
		src := make([]byte, n)
		got, want := make([]byte, n), make([]byte, n)
		var stream [streamBlocks * blockSize]byte
		const counter = 0x0123456789fa // a carry is near
		k.ctr(&stream, got, src, counter)
		if stream != [streamBlocks * blockSize]byte{} {
			t.Fatalf("%d bytes: blocks of the stream stay behind", n)
		}
		iv := make([]byte, 16)
		putCounter(iv[10:], counter)
		cipher.NewCTR(plainBlock{block}, iv).XORKeyStream(want, src)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: got %x, want %x", n, got, want)
		}
	}
}

// keysOf makes keys that are given, and not derived.
func keysOf(t testing.TB, a Algorithm, key []byte) *keys {
	t.Helper()
	var secret [SecretSize]byte
	k, err := newKeys(a, &secret, make([]byte, SessionSize))
	if err != nil {
		t.Fatal(err)
	}
	block := newSM4(t, key)
	k.ecb = ecbOf(block)
	if k.gcm, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	k.ghash = newGHASH(block)
	return k
}

// GB/T 32905-2016, appendix A.
func TestSM3OfTheStandard(t *testing.T) {
	for text, want := range map[string]string{
		"abc":                      "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
		strings.Repeat("abcd", 16): "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732",
	} {
		sum := sm3.Sum([]byte(text))
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%d bytes: got %s, want %s", len(text), got, want)
		}
	}
}

// GM/T 0042-2015, D.3: HMAC-SM3.
func TestHMACOfTheStandard(t *testing.T) {
	key := unhex(t, "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20")
	text := strings.Repeat("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 2)
	const want = "ca05e144ed05d1857840d1f318a4a8669e559fc8391f414485bfdf7bb408963a"
	h := hmac.New(sm3.New, key)
	h.Write([]byte(text))
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("crypto/hmac: got %s, want %s", got, want)
	}
	k, err := newMACKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// Ours begins with a counter and a length: what is left of the text goes behind.
	var m mac
	m.init()
	m.from(k.inner)
	m.h.Write([]byte(text))
	inner := m.h.Sum(nil)
	m.from(k.outer)
	m.h.Write(inner)
	if got := hex.EncodeToString(m.h.Sum(nil)); got != want {
		t.Errorf("kept states: got %s, want %s", got, want)
	}
}

func TestKeptStatesAreHMAC(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m mac
	m.init()
	for range 2000 {
		key := bytesOf(random, 32)
		aad, ciphertext := bytesOf(random, random.IntN(200)), bytesOf(random, random.IntN(200))
		counter := random.Uint64() % counterEnd
		k, err := newMACKey(key)
		if err != nil {
			t.Fatal(err)
		}
		got := m.sum(&k, counter, aad, ciphertext)
		h := hmac.New(sm3.New, key)
		h.Write([]byte{byte(counter >> 40), byte(counter >> 32), byte(counter >> 24), byte(counter >> 16), byte(counter >> 8), byte(counter),
			0, 0, byte(len(aad) >> 8), byte(len(aad))})
		h.Write(aad)
		h.Write(ciphertext)
		if want := h.Sum(nil)[:TagSize]; !bytes.Equal(got[:], want) {
			t.Fatalf("%d and %d bytes: got %x, want %x", len(aad), len(ciphertext), got[:], want)
		}
	}
}

// RFC 8998, appendix A.1.
func TestSM4GCMOfTheRFC(t *testing.T) {
	block := newSM4(t, unhex(t, "0123456789ABCDEFFEDCBA9876543210"))
	iv := unhex(t, "00001234567800000000ABCD")
	aad := unhex(t, "FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
	plain := unhex(t, "AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCDDDDDDDDDDDDDDDD"+
		"EEEEEEEEEEEEEEEEFFFFFFFFFFFFFFFFEEEEEEEEEEEEEEEEAAAAAAAAAAAAAAAA")
	want := unhex(t, "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"+
		"D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"+"83DE3541E4C2B58177E065A9BF7B62EC")
	for name, b := range map[string]cipher.Block{"gmsm": block, "crypto/cipher over gmsm": plainBlock{block}} {
		gcm, err := cipher.NewGCM(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := gcm.Seal(nil, iv, plain, aad); !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", name, got, want)
		}
	}
}

// Test cases 15 and 16 of the GCM specification that NIST published (McGrew and
// Viega, appendix B).
func TestAESGCMOfTheSpecification(t *testing.T) {
	block, err := aes.NewCipher(unhex(t, strings.Repeat("feffe9928665731c6d6a8f9467308308", 2)))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	iv := unhex(t, "cafebabefacedbaddecaf888")
	plain := unhex(t, "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"+
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255")
	text := unhex(t, "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"+
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad")
	if got, want := gcm.Seal(nil, iv, plain, nil), append(bytes.Clone(text), unhex(t, "b094dac5d93471bdec1a502270e3cc6c")...); !bytes.Equal(got, want) {
		t.Errorf("case 15: got %x, want %x", got, want)
	}
	aad := unhex(t, "feedfacedeadbeeffeedfacedeadbeefabaddad2")
	if got, want := gcm.Seal(nil, iv, plain[:60], aad), append(bytes.Clone(text[:60]), unhex(t, "76fc6ece0f4e1768cddf8853bb2d551b")...); !bytes.Equal(got, want) {
		t.Errorf("case 16: got %x, want %x", got, want)
	}
}

// What this package seals is what crypto/cipher's own code for the mode makes of
// keys that crypto/hkdf derives.
func TestSealAgainstTheStandardLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	secret := secretOf(random)
	for _, a := range algorithms {
		s := newTestSealer(t, a, secret)
		for n := range 300 {
			plain, aad := bytesOf(random, n), bytesOf(random, random.IntN(300))
			sealed, nonce, err := s.Seal(nil, plain, aad)
			if err != nil {
				t.Fatal(err)
			}
			if want := sealedByHand(t, a, secret, nonce, plain, aad); !bytes.Equal(sealed, want) {
				t.Fatalf("%v: %d bytes, aad %d: got %x, want %x", a, len(plain), len(aad), sealed, want)
			}
		}
	}
}

func sealedByHand(t testing.TB, a Algorithm, secret *[SecretSize]byte, nonce [NonceSize]byte, plain, aad []byte) []byte {
	t.Helper()
	info := "veritrail aead v1\x00" + a.String() + "\x00" + string(nonce[:12])
	var block cipher.Block
	var err error
	var key []byte
	if a == AES256GCM {
		if key, err = hkdf.Key(sha256New, secret[:], nil, info, 32); err == nil {
			block, err = aes.NewCipher(key)
		}
	} else if key, err = hkdf.Key(sm3.New, secret[:], nil, info, map[Algorithm]int{SM4CTRHMACSM3: 48, SM4GCM: 16}[a]); err == nil {
		block, err = sm4.NewCipher(key[:16])
	}
	if err != nil {
		t.Fatal(err)
	}
	if a != SM4CTRHMACSM3 {
		gcm, err := cipher.NewGCM(plainBlock{block})
		if err != nil {
			t.Fatal(err)
		}
		return gcm.Seal(nil, append(make([]byte, 6), nonce[12:]...), plain, aad)
	}
	out := make([]byte, len(plain))
	cipher.NewCTR(plainBlock{block}, append(make([]byte, 10), nonce[12:]...)).XORKeyStream(out, plain)
	h := hmac.New(sm3.New, key[16:])
	h.Write(nonce[12:])
	h.Write([]byte{0, 0, byte(len(aad) >> 8), byte(len(aad))})
	h.Write(aad)
	h.Write(out)
	return append(out, h.Sum(nil)[:16]...)
}

func openssl(t testing.TB, stdin []byte, args ...string) []byte {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("the openssl command (version 3) is needed: %v", err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v: %s", args[0], err, complaint.Bytes())
	}
	return out
}

// opensslKeys derives as docs/format/ciphers.md says.
func opensslKeys(t testing.TB, a Algorithm, secret *[SecretSize]byte, session []byte) (cipherKey, macKey string) {
	t.Helper()
	info := "veritrail aead v1\x00" + a.String() + "\x00" + string(session)
	out := openssl(t, nil, "kdf", "-keylen", "48", "-binary", "-kdfopt", "digest:SM3",
		"-kdfopt", "hexkey:"+hex.EncodeToString(secret[:]), "-kdfopt", "hexinfo:"+hex.EncodeToString([]byte(info)), "HKDF")
	return hex.EncodeToString(out[:16]), hex.EncodeToString(out[16:])
}

func opensslMAC(t testing.TB, key string, counter, aad, ciphertext []byte) []byte {
	t.Helper()
	message := append([]byte(nil), counter...)
	message = append(message, 0, 0, byte(len(aad)>>8), byte(len(aad)))
	message = append(append(message, aad...), ciphertext...)
	return openssl(t, message, "mac", "-digest", "SM3", "-macopt", "hexkey:"+key, "-binary", "-in", "-", "HMAC")[:16]
}

func TestOpenSSLOpensWhatWeSeal(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	secret := secretOf(random)
	s := newTestSealer(t, SM4CTRHMACSM3, secret)
	for _, n := range []int{0, 1, 11, 16, 18, 64, 65, 1000, 70_000} {
		plain, aad := bytesOf(random, n), bytesOf(random, 48)
		sealed, nonce, err := s.Seal(nil, plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext, tag := sealed[:n], sealed[n:]
		cipherKey, macKey := opensslKeys(t, SM4CTRHMACSM3, secret, nonce[:12])
		if got := opensslMAC(t, macKey, nonce[12:], aad, ciphertext); !bytes.Equal(got, tag) {
			t.Errorf("%d bytes: OpenSSL has the tag %x, we %x", n, got, tag)
		}
		iv := strings.Repeat("00", 10) + hex.EncodeToString(nonce[12:])
		if got := openssl(t, ciphertext, "enc", "-d", "-sm4-ctr", "-K", cipherKey, "-iv", iv); !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: OpenSSL decrypts something else", n)
		}
	}
}

func TestWeOpenWhatOpenSSLSeals(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	secret := secretOf(random)
	for _, n := range []int{0, 1, 18, 333, 5000} {
		plain, aad := bytesOf(random, n), bytesOf(random, 37)
		var nonce [NonceSize]byte
		copy(nonce[:], bytesOf(random, NonceSize))
		cipherKey, macKey := opensslKeys(t, SM4CTRHMACSM3, secret, nonce[:12])
		sealed := openssl(t, plain, "enc", "-sm4-ctr", "-K", cipherKey, "-iv", strings.Repeat("00", 10)+hex.EncodeToString(nonce[12:]))
		sealed = append(sealed, opensslMAC(t, macKey, nonce[12:], aad, sealed)...)
		got, err := Open(nil, SM4CTRHMACSM3, secret, nonce, sealed, aad)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: got %d bytes, %v", n, len(got), err)
		}
	}
}

func TestOpenSSLAndECB(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	secret := secretOf(random)
	s, err := NewUnsafeECBSealer(secret)
	if err != nil {
		t.Fatal(err)
	}
	cipherKey, macKey := opensslKeys(t, UnsafeSM4ECB, secret, nil)
	for _, n := range []int{0, 1, 15, 16, 17, 400} {
		plain, aad := bytesOf(random, n), bytesOf(random, 37)
		want := openssl(t, plain, "enc", "-sm4-ecb", "-K", cipherKey)
		want = append(want, opensslMAC(t, macKey, make([]byte, 6), aad, want)...)
		got, nonce, err := s.Seal(nil, plain, aad)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %x, %v, want %x", n, got, err, want)
		}
		if opened, err := Open(nil, UnsafeSM4ECB, secret, nonce, want, aad); err != nil || !bytes.Equal(opened, plain) {
			t.Errorf("%d bytes: opened to %d bytes, %v", n, len(opened), err)
		}
	}
}

func TestTokenIsHMACOfOpenSSL(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	secret := secretOf(random)
	message := append([]byte("veritrail token v1\x00\x00\x00\x00\x00\x00\x00\x00\x05"), "phone13800138000"...)
	want := openssl(t, message, "mac", "-digest", "SM3", "-macopt", "hexkey:"+hex.EncodeToString(secret[:]), "-binary", "-in", "-", "HMAC")[:16]
	if got := Token(secret, []byte("phone"), []byte("13800138000")); !bytes.Equal(got[:], want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if Token(secret, []byte("phone"), []byte("13800138000")) == Token(secret, []byte("phone1"), []byte("3800138000")) {
		t.Error("context and value run into each other")
	}
}
