package checkpoint

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// The example of c2sp.org/signed-note.
func TestVerifierChecksTheExampleOfTheSpecification(t *testing.T) {
	const vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
	v, err := ParseVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if v.Name() != "example.com/foo" || v.KeyID() != "530d903a" || v.KeyHash() != 0x530d903a || v.Algorithm() != Ed25519 {
		t.Errorf("got %s %s %#x %s", v.Name(), v.KeyID(), v.KeyHash(), v.Algorithm())
	}
	if v.String() != vkey {
		t.Errorf("got %s, want %s", v, vkey)
	}
	line, err := base64.StdEncoding.DecodeString(
		"Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=")
	if err != nil {
		t.Fatal(err)
	}
	if !v.Verify([]byte("This is an example message.\n"), line[4:]) {
		t.Error("the example does not verify")
	}
	if v.Verify([]byte("This is another message.\n"), line[4:]) {
		t.Error("the example verifies another text")
	}
}

// The layout of an SM2 vkey, worked out by hand from c2sp.org/signed-note.
func TestSM2KeyTextFollowsTheSpecification(t *testing.T) {
	// The key pair of GB/T 32918.5-2017, appendix A.
	scalar := unhex(t, "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
	point := unhex(t, sm2ExamplePoint)
	private, vkey, err := GenerateSM2(origin, bytes.NewReader(scalar))
	if err != nil {
		t.Fatal(err)
	}
	keyType := append([]byte{0xff}, "veritrail.dev/sm2-sm3/v1"...)
	key := append(bytes.Clone(keyType), point...)
	sum := sha256.Sum256(append([]byte(origin+"\n"), key...))
	id := hex.EncodeToString(sum[:4])
	if want := origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(key); vkey != want {
		t.Errorf("vkey: got %s, want %s", vkey, want)
	}
	secret := base64.StdEncoding.EncodeToString(append(keyType, scalar...))
	if want := "PRIVATE+KEY+" + origin + "+" + id + "+" + secret; private != want {
		t.Errorf("private key: got %s, want %s", private, want)
	}
}

func TestKeysComeFromTheGivenRandomness(t *testing.T) {
	for _, algorithm := range []string{Ed25519, SM2SM3} {
		t.Run(algorithm, func(t *testing.T) {
			generate := GenerateEd25519
			if algorithm == SM2SM3 {
				generate = GenerateSM2
			}
			one, _, err1 := generate(origin, source("1"))
			again, _, err2 := generate(origin, source("1"))
			two, _, err3 := generate(origin, source("2"))
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			if one != again || one == two {
				t.Error("a key does not follow from its randomness alone")
			}
			if _, _, err := generate(origin, iotest.DataErrReader(strings.NewReader("short"))); err == nil {
				t.Error("a key of five random bytes was made")
			}
			if _, _, err := generate("a b", source("1")); err == nil {
				t.Error("a key for a bad origin was made")
			}
		})
	}
	if _, _, err := GenerateSM2(origin, zeros{}); err == nil {
		t.Error("an SM2 key of zeros was made")
	}
	// n-1 is out of range, and so is what follows n: the next draw counts.
	n1 := unhex(t, "FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54122")
	ff := bytes.Repeat([]byte{0xff}, 32)
	good := unhex(t, "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8")
	_, got, err := GenerateSM2(origin, io.MultiReader(bytes.NewReader(n1), bytes.NewReader(ff), bytes.NewReader(good)))
	if err != nil {
		t.Fatal(err)
	}
	if _, want, err := GenerateSM2(origin, bytes.NewReader(good)); err != nil || got != want {
		t.Errorf("got %s, want %s (%v)", got, want, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestDamagedKeyTextIsRefusedAndNotQuoted(t *testing.T) {
	for _, k := range []pair{ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")} {
		b64 := func(s string) string { return s[strings.LastIndex(s[:len(s)-50], "+")+1:] }
		secret := k.private[len(privatePrefix+origin)+10:]
		public := k.vkey[len(origin)+10:]
		flip := func(s string, i int) string { return s[:i] + string(s[i]^1) + s[i+1:] }
		damaged := map[string]string{
			"empty":              "",
			"name alone":         origin,
			"no key":             origin + "+00000000",
			"no type":            origin + "+00000000+",
			"other type":         origin + "+00000000+" + base64.StdEncoding.EncodeToString([]byte("\x04"+strings.Repeat("k", 32))),
			"short":              strings.TrimSuffix(k.vkey, b64(k.vkey)) + "AQ==",
			"ID of another":      flip(k.vkey, len(origin)+1),
			"ID in upper case":   origin + "+" + strings.ToUpper(k.verifier.KeyID()) + "+" + public,
			"ID with a digit":    origin + "+" + k.verifier.KeyID() + "0+" + public,
			"name changed":       "x" + k.vkey,
			"name with space":    "x " + k.vkey,
			"key changed":        flip(k.vkey, len(k.vkey)-10),
			"trailing newline":   k.vkey + "\n",
			"trailing character": k.vkey + "A",
			"too long":           k.vkey + strings.Repeat("A", maxKeyText),
		}
		for name, text := range damaged {
			if _, err := ParseVerifier(text); err == nil {
				t.Errorf("%s: vkey %s: accepted", k.verifier.Algorithm(), name)
			}
			// The same damage to the private key, with the secret still in it.
			text = privatePrefix + strings.ReplaceAll(text, public, secret)
			s, err := ParseSigner(text)
			if err == nil {
				t.Errorf("%s: private key %s: accepted as %s", k.verifier.Algorithm(), name, s.Verifier())
				continue
			}
			if strings.Contains(err.Error(), secret[8:24]) {
				t.Errorf("%s: private key %s: the error quotes it", k.verifier.Algorithm(), name)
			}
		}
		_, err := ParseVerifier(k.private)
		if err == nil || !strings.Contains(err.Error(), "this is a private key") || strings.Contains(err.Error(), secret[8:24]) {
			t.Errorf("private key given as a vkey: got %v", err)
		}
		if _, err := ParseSigner(k.vkey); err == nil || !strings.Contains(err.Error(), "does not begin with PRIVATE+KEY+") {
			t.Errorf("vkey given as a private key: got %v", err)
		}
	}
}

func TestSignerPrintsNoPrivateKey(t *testing.T) {
	for _, k := range []pair{ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")} {
		secret, err := base64.StdEncoding.DecodeString(k.private[len(privatePrefix+origin)+10:])
		if err != nil {
			t.Fatal(err)
		}
		secret = secret[len(secret)-32:]
		nested := struct{ s Signer }{k.signer}
		values := []any{k.signer, &nested, nested, []Signer{k.signer}, map[string]Signer{"k": k.signer}, *k.signer.(*signer)}
		var out []string
		for _, v := range values {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				out = append(out, fmt.Sprintf(verb, v))
			}
		}
		asJSON, err := json.Marshal(k.signer)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(asJSON))
		if got := fmt.Sprint(k.signer); !strings.Contains(got, k.vkey) {
			t.Errorf("got %q, want the vkey in it", got)
		}
		for _, s := range out {
			if leaks(s, secret) {
				t.Errorf("%s: the private key is in %q", k.verifier.Algorithm(), s)
			}
		}
	}
}

// leaks looks for six bytes out of the middle of secret in the forms that fmt,
// base64 and hex give them.
func leaks(s string, secret []byte) bool {
	part := secret[12:18]
	forms := []string{
		string(part), fmt.Sprintf("%x", part), fmt.Sprintf("%X", part), fmt.Sprintf("% x", part),
		strings.Trim(fmt.Sprintf("%v", part), "[]"), strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
		base64.StdEncoding.EncodeToString(part),
	}
	for _, f := range forms {
		if strings.Contains(s, f) {
			return true
		}
	}
	return false
}
