package aead

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/emmansun/gmsm/sm3"
)

// Labels of what is derived from a secret.
const (
	keyLabel   = "veritrail aead v1"
	tokenLabel = "veritrail token v1"
)

// derive makes the keys of a session: HKDF (RFC 5869) without salt, since a
// secret is uniform, and with an info that names their one use. First the key of
// the cipher, then that of HMAC when there is one.
func derive(a Algorithm, secret *[SecretSize]byte, session []byte) ([]byte, error) {
	info := keyLabel + "\x00" + a.String() + "\x00" + string(session)
	switch {
	case a == AES256GCM:
		return hkdf.Key(sha256.New, secret[:], nil, info, 32)
	case a.hmac():
		return hkdf.Key(sm3.New, secret[:], nil, info, 16+sm3.Size)
	}
	return hkdf.Key(sm3.New, secret[:], nil, info, 16)
}

// Token stands for a value where only equality matters: HMAC-SM3 under secret, of
// context and value, cut to 16 bytes. Equal values have equal tokens under one
// secret and context, and nobody without the secret can try values.
func Token(secret *[SecretSize]byte, context, value []byte) [TagSize]byte {
	h := hmac.New(sm3.New, secret[:])
	var head [len(tokenLabel) + 1 + 8]byte
	copy(head[:], tokenLabel)
	binary.BigEndian.PutUint64(head[len(tokenLabel)+1:], uint64(len(context)))
	h.Write(head[:])
	h.Write(context)
	h.Write(value)
	var sum [sm3.Size]byte
	h.Sum(sum[:0])
	return [TagSize]byte(sum[:TagSize])
}
