package checkpoint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The algorithms of a key, as Verifier.Algorithm and Signature.Algorithm name
// them.
const (
	Ed25519 = "Ed25519"
	SM2SM3  = "SM2-SM3"
)

// What stands before the public key in a vkey, before the private key in its
// text, and under the key ID: the type of the signature. c2sp.org/signed-note
// assigns 0x01; 0xff leaves the naming to the long identifier behind it.
const (
	typeEd25519 = "\x01"
	typeSM2SM3  = "\xff" + sm2Context
)

const privatePrefix = "PRIVATE+KEY+"

// maxKeyText bounds the text of a key, private or public. The longest one, of
// SM2 under the longest name, stays well below.
const maxKeyText = 1024

// Verifier is a public key under the name of its origin. It is a value: two of
// them are == when they are the same key. It implements note.Verifier, so any
// user of golang.org/x/mod/sumdb/note can check our lines with it.
type Verifier struct {
	name string
	id   uint32
	key  string // signature type ‖ public key
}

// ParseVerifier reads a vkey, "<name>+<key ID>+<base64(type ‖ public key)>", of
// either algorithm.
func ParseVerifier(vkey string) (Verifier, error) {
	if len(vkey) > maxKeyText {
		return Verifier{}, fmt.Errorf("vkey is longer than %d bytes", maxKeyText)
	}
	if strings.HasPrefix(vkey, privatePrefix) {
		return Verifier{}, errors.New("this is a private key, where a vkey is wanted")
	}
	name, id, key, err := splitKey(vkey)
	if err != nil {
		return Verifier{}, fmt.Errorf("vkey: %v", err)
	}
	v := newVerifier(name, string(key))
	switch v.Algorithm() {
	case Ed25519:
		if len(key) != len(typeEd25519)+ed25519.PublicKeySize {
			return Verifier{}, errors.New("vkey: Ed25519 public key is not 32 bytes long")
		}
	case SM2SM3:
		if _, err := parseSM2Public(v.key[len(typeSM2SM3):]); err != nil {
			return Verifier{}, fmt.Errorf("vkey: %v", err)
		}
	default:
		return Verifier{}, errors.New("vkey: type is neither Ed25519 nor SM2-SM3")
	}
	if v.KeyID() != id {
		return Verifier{}, errors.New("vkey: key ID does not match the key")
	}
	return v, nil
}

func newVerifier(name, key string) Verifier {
	sum := sha256.Sum256([]byte(name + "\n" + key))
	return Verifier{name: name, id: binary.BigEndian.Uint32(sum[:]), key: key}
}

// splitKey takes "<name>+<key ID>+<base64>" apart. Base64 has plus signs of its
// own; a name has none.
func splitKey(s string) (name, id string, key []byte, err error) {
	name, rest, ok := strings.Cut(s, "+")
	id, b64, ok2 := strings.Cut(rest, "+")
	if !ok || !ok2 {
		return "", "", nil, errors.New("want name, key ID and key with a plus sign between them")
	}
	if err := CheckOrigin(name); err != nil {
		return "", "", nil, fmt.Errorf("name: %v", err)
	}
	key, err = decodeBase64(b64)
	if err != nil {
		return "", "", nil, fmt.Errorf("key %v", err)
	}
	return name, id, key, nil
}

// Name is the origin whose checkpoints the key signs.
func (v Verifier) Name() string { return v.name }

// KeyHash is the key ID as a number.
func (v Verifier) KeyHash() uint32 { return v.id }

// KeyID is the key ID as eight hexadecimal digits.
func (v Verifier) KeyID() string { return fmt.Sprintf("%08x", v.id) }

// Algorithm is Ed25519 or SM2SM3.
func (v Verifier) Algorithm() string {
	switch {
	case strings.HasPrefix(v.key, typeEd25519):
		return Ed25519
	case strings.HasPrefix(v.key, typeSM2SM3):
		return SM2SM3
	}
	return ""
}

// String is the vkey.
func (v Verifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.id, base64.StdEncoding.EncodeToString([]byte(v.key)))
}

// Verify tells whether sig, the bytes behind the key ID in a signature line, is
// this key's signature of the note text.
func (v Verifier) Verify(text, sig []byte) bool {
	switch v.Algorithm() {
	case Ed25519:
		return ed25519.Verify(ed25519.PublicKey(v.key[len(typeEd25519):]), text, sig)
	case SM2SM3:
		return verifySM2Line(v.key[len(typeSM2SM3):], text, sig)
	}
	return false
}

// Signer signs with a private key, wherever that is kept.
type Signer interface {
	// Verifier is the public half.
	Verifier() Verifier
	// Sign returns the signature of message: 64 bytes for Ed25519 (RFC 8032);
	// for SM2SM3, GB/T 32918.2 with SM3 and the default user ID, in DER.
	// Framing the message and the line is the work of func Sign, not of a
	// Signer. It may be called by several goroutines at once.
	Sign(message []byte) ([]byte, error)
}

// signer holds its private key in the closure alone, where no formatter that
// walks over fields can find it.
type signer struct {
	verifier Verifier
	sign     func(message []byte) ([]byte, error)
}

func (s *signer) Verifier() Verifier { return s.verifier }

func (s *signer) Sign(message []byte) ([]byte, error) { return s.sign(message) }

// Format keeps every verb of fmt to the public half.
func (s *signer) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "signer of %s", s.verifier) // fmt keeps the error of its own writer
}

// ParseSigner reads a private key as GenerateEd25519 and GenerateSM2 write it:
// "PRIVATE+KEY+<name>+<key ID>+<base64(type ‖ private key)>", the form of
// golang.org/x/mod/sumdb/note. No error quotes anything of it.
func ParseSigner(private string) (Signer, error) {
	if len(private) > maxKeyText {
		return nil, fmt.Errorf("private key is longer than %d bytes", maxKeyText)
	}
	rest, ok := strings.CutPrefix(private, privatePrefix)
	if !ok {
		return nil, fmt.Errorf("private key does not begin with %s", privatePrefix)
	}
	name, id, key, err := splitKey(rest)
	if err != nil {
		return nil, fmt.Errorf("private key: %v", err)
	}
	var s *signer
	if scalar, ok := strings.CutPrefix(string(key), typeSM2SM3); ok {
		s, err = newSM2Signer(name, []byte(scalar))
	} else if seed, ok := strings.CutPrefix(string(key), typeEd25519); ok {
		s, err = newEd25519Signer(name, []byte(seed))
	} else {
		err = errors.New("type is neither Ed25519 nor SM2-SM3")
	}
	if err != nil {
		return nil, fmt.Errorf("private key: %v", err)
	}
	if s.verifier.KeyID() != id {
		return nil, errors.New("private key: key ID does not match the key")
	}
	return s, nil
}

func newEd25519Signer(name string, seed []byte) (*signer, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, errors.New("Ed25519 seed is not 32 bytes long")
	}
	key := ed25519.NewKeyFromSeed(seed)
	return &signer{
		verifier: newVerifier(name, typeEd25519+string(key[ed25519.SeedSize:])),
		sign:     func(message []byte) ([]byte, error) { return ed25519.Sign(key, message), nil },
	}, nil
}

// GenerateEd25519 makes a key pair from 32 bytes of rand, the same one from the
// same bytes: the private key's text, for ParseSigner, and the vkey, for
// ParseVerifier and for any C2SP client.
func GenerateEd25519(origin string, rand io.Reader) (private, vkey string, err error) {
	if err := CheckOrigin(origin); err != nil {
		return "", "", err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return "", "", fmt.Errorf("randomness for an Ed25519 key: %w", err)
	}
	s, err := newEd25519Signer(origin, seed)
	if err != nil {
		return "", "", err
	}
	return privateText(s.verifier, typeEd25519, seed), s.verifier.String(), nil
}

func privateText(v Verifier, keyType string, secret []byte) string {
	key := base64.StdEncoding.EncodeToString(append([]byte(keyType), secret...))
	return privatePrefix + v.name + "+" + v.KeyID() + "+" + key
}
