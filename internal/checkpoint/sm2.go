package checkpoint

import (
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/emmansun/gmsm/sm2"

	"github.com/veritrail/veritrail/internal/suite"
)

// sm2Context is the first line under every SM2 signature, so that it can never
// be taken for one of something else, and the name of the signature type.
const sm2Context = "veritrail.dev/sm2-sm3/v1"

const (
	sm2PublicSize  = 65 // 0x04 ‖ x ‖ y
	sm2PrivateSize = 32
	sm2MaxDER      = 72 // SEQUENCE of two INTEGERs of up to 33 bytes
)

// sm2Message is what an SM2 key signs: of the note text, and of the SM3 root
// that is not in it.
func sm2Message(root suite.Hash, text []byte) []byte {
	head := sm2Context + "\nsm3 " + encode(root) + "\n"
	return append([]byte(head), text...)
}

func parseSM2Public(point string) (*ecdsa.PublicKey, error) {
	if len(point) != sm2PublicSize {
		return nil, errors.New("SM2 public key is not 65 bytes long")
	}
	// NewPublicKey refuses what is not on the curve. The point at infinity has
	// no encoding of this length.
	pub, err := sm2.NewPublicKey([]byte(point))
	if err != nil {
		return nil, errors.New("SM2 public key is not an uncompressed point of the curve")
	}
	return pub, nil
}

// verifySM2Line checks the signature bytes of an SM2-SM3 line.
func verifySM2Line(point string, text, sig []byte) bool {
	if len(sig) <= suite.Size || len(sig) > suite.Size+sm2MaxDER {
		return false
	}
	pub, err := parseSM2Public(point)
	if err != nil {
		return false
	}
	root := suite.Hash(sig[:suite.Size])
	return sm2.VerifyASN1WithSM2(pub, nil, sm2Message(root, text), sig[suite.Size:])
}

func newSM2Signer(name string, scalar []byte) (*signer, error) {
	if len(scalar) != sm2PrivateSize {
		return nil, errors.New("SM2 private key is not 32 bytes long")
	}
	key, err := sm2.NewPrivateKey(scalar)
	if err != nil {
		return nil, errors.New("SM2 private key is not between 1 and n-2")
	}
	public, err := sm2.PublicKeyToECDH(&key.PublicKey)
	if err != nil {
		return nil, errors.New("SM2 private key has no public key")
	}
	return &signer{
		verifier: newVerifier(name, typeSM2SM3+string(public.Bytes())),
		sign: func(message []byte) ([]byte, error) {
			return sm2.SignASN1(rand.Reader, key, message, sm2.DefaultSM2SignerOpts)
		},
	}, nil
}

// GenerateSM2 makes an SM2 key pair as GenerateEd25519 does.
func GenerateSM2(origin string, rand io.Reader) (private, vkey string, err error) {
	if err := CheckOrigin(origin); err != nil {
		return "", "", err
	}
	scalar := make([]byte, sm2PrivateSize)
	// One draw in 2³² is out of range. Many in a row mean a broken source.
	for range 16 {
		if _, err := io.ReadFull(rand, scalar); err != nil {
			return "", "", fmt.Errorf("randomness for an SM2 key: %w", err)
		}
		s, err := newSM2Signer(origin, scalar)
		if err == nil {
			return privateText(s.verifier, typeSM2SM3, scalar), s.verifier.String(), nil
		}
	}
	return "", "", errors.New("randomness for an SM2 key: the source is broken")
}
