package checkpoint

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/emmansun/gmsm/sm2"

	"github.com/veritrail/veritrail/internal/suite"
)

// The signature example of GB/T 32918.5-2017, appendix A, with the standard's
// default user ID: public key, message, r and s.
const (
	sm2ExamplePoint = "0409F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020" +
		"CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
	sm2ExampleMessage = "message digest"
	sm2ExampleR       = "F5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3"
	sm2ExampleS       = "B1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA"
	sm2Order          = "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func der(t testing.TB, r, s *big.Int) []byte {
	t.Helper()
	b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hexInt(t testing.TB, s string) *big.Int { return new(big.Int).SetBytes(unhex(t, s)) }

func TestSM2VerifiesTheExampleOfTheStandard(t *testing.T) {
	pub, err := parseSM2Public(string(unhex(t, sm2ExamplePoint)))
	if err != nil {
		t.Fatal(err)
	}
	sig := der(t, hexInt(t, sm2ExampleR), hexInt(t, sm2ExampleS))
	if !sm2.VerifyASN1WithSM2(pub, nil, []byte(sm2ExampleMessage), sig) {
		t.Error("the example of GB/T 32918.5 does not verify")
	}
	if sm2.VerifyASN1WithSM2(pub, nil, []byte("massage digest"), sig) {
		t.Error("the example of GB/T 32918.5 verifies another message")
	}
}

// Every one of these must be refused by returning, not by a panic.
func TestHostileSM2SignaturesAreRefused(t *testing.T) {
	k := sm2Pair(t, origin, "a")
	text := []byte(origin + "\n1\n" + encode(suite.Hash{}) + "\n")
	root := suite.SM3.Sum([]byte("root"))
	good, err := k.signer.Sign(sm2Message(root, text))
	if err != nil {
		t.Fatal(err)
	}
	line := func(sig []byte) []byte { return append(root[:], sig...) }
	if !k.verifier.Verify(text, line(good)) {
		t.Fatal("the signature to start from does not verify")
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(good, &rs); err != nil {
		t.Fatal(err)
	}
	n, zero, one := hexInt(t, sm2Order), new(big.Int), big.NewInt(1)
	minus := func(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }
	plus := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
	otherRoot := suite.SM3.Sum([]byte("other"))
	tests := map[string][]byte{
		"empty":              nil,
		"half a root":        root[:16],
		"root alone":         root[:],
		"not DER":            line([]byte("hello")),
		"cut":                line(good[:len(good)-1]),
		"trailing byte":      line(append(bytes.Clone(good), 0)),
		"too long":           line(append(bytes.Clone(good), make([]byte, 100)...)),
		"empty sequence":     line([]byte{0x30, 0}),
		"indefinite length":  line(append([]byte{0x30, 0x80}, good[2:]...)),
		"long-form length":   line(append([]byte{0x30, 0x81, good[1]}, good[2:]...)),
		"length beyond end":  line([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}),
		"r zero":             line(der(t, zero, rs.S)),
		"s zero":             line(der(t, rs.R, zero)),
		"r = n":              line(der(t, n, rs.S)),
		"s = n":              line(der(t, rs.R, n)),
		"r + n":              line(der(t, plus(rs.R, n), rs.S)),
		"r negative":         line(der(t, minus(zero, rs.R), rs.S)),
		"s negated":          line(der(t, rs.R, minus(n, rs.S))),
		"r + s = n":          line(der(t, one, minus(n, one))), // [r+s]P is the point at infinity
		"r = s = 1":          line(der(t, one, one)),
		"swapped":            line(der(t, rs.S, rs.R)),
		"another SM3 root":   append(otherRoot[:], good...),
		"an Ed25519 line":    make([]byte, 64),
		"root after the DER": append(bytes.Clone(good), root[:]...),
	}
	for name, sig := range tests {
		if k.verifier.Verify(text, sig) {
			t.Errorf("%s: verifies", name)
		}
	}
}

func TestHostileSM2PointsAreRefused(t *testing.T) {
	good := unhex(t, sm2ExamplePoint)
	offCurve := bytes.Clone(good)
	offCurve[64] ^= 1
	xTooLarge := append([]byte{4}, bytes.Repeat([]byte{0xff}, 64)...)
	tests := map[string][]byte{
		"empty":         nil,
		"infinity":      {0},
		"zeros":         make([]byte, 65),
		"zero point":    append([]byte{4}, make([]byte, 64)...),
		"off the curve": offCurve,
		"x beyond p":    xTooLarge,
		"compressed":    append([]byte{3}, good[1:33]...),
		"hybrid":        append([]byte{7}, good[1:]...),
		"no prefix":     good[1:],
		"too long":      append(bytes.Clone(good), 0),
	}
	for name, point := range tests {
		if _, err := ParseVerifier(newVerifier(origin, typeSM2SM3+string(point)).String()); err == nil {
			t.Errorf("%s: accepted", name)
		} else if !strings.Contains(err.Error(), "SM2 public key") {
			t.Errorf("%s: got %v", name, err)
		}
		if verifySM2Line(string(point), []byte("text"), make([]byte, 100)) {
			t.Errorf("%s: verifies", name)
		}
	}
}
