package checkpoint

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func seeds(f *testing.F) (notes [][]byte, keys []pair) {
	ed, sm := ed25519Pair(f, origin, "a"), sm2Pair(f, origin, "a")
	c := Checkpoint{Origin: origin, Size: 7}
	notes = append(notes, sign(f, c, ed))
	c.SM3Root = sm3Root("root")
	notes = append(notes, sign(f, c, ed, sm))
	c.Extensions = []string{"extension"}
	notes = append(notes, sign(f, c, ed, sm))
	for _, s := range []string{"", "\n\n", "o\n0\n\n— o AAAAAAA=\n", "o\n00\nAA==\n\n— o AAAAAAA=\n"} {
		notes = append(notes, []byte(s))
	}
	return notes, []pair{ed, sm}
}

// What parses, re-encodes to the bytes it came from.
func FuzzParseUnverified(f *testing.F) {
	notes, _ := seeds(f)
	for _, n := range notes {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n []byte) {
		c, err := ParseUnverified(n)
		if err != nil {
			return
		}
		text, err := c.text()
		if err != nil {
			t.Fatalf("what parsed does not encode: %v", err)
		}
		if !strings.HasPrefix(string(n), text+"\n— ") {
			t.Fatalf("got text %q of note %q", text, n)
		}
		if c.SM3Root != nil {
			t.Fatal("an SM3 root without a verified line")
		}
	})
}

// Nobody but the keys' owner makes a note that opens with another text.
func FuzzOpen(f *testing.F) {
	notes, keys := seeds(f)
	texts := map[string]bool{}
	for _, n := range notes {
		f.Add(n)
		text, _, _ := strings.Cut(string(n), "\n\n")
		texts[text+"\n"] = true
	}
	trusted := []Verifier{keys[0].verifier, keys[1].verifier}
	f.Fuzz(func(t *testing.T, n []byte) {
		c, sigs, err := Open(n, trusted)
		if err != nil {
			if kind(err) == nil {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		text, err := c.text()
		if err != nil {
			t.Fatalf("what opened does not encode: %v", err)
		}
		if !texts[text] || c.SM3Root == nil || *c.SM3Root != *sm3Root("root") || len(sigs) != 2 {
			t.Fatalf("opened with %+v, signatures %v", c, sigs)
		}
	})
}

func FuzzParseVerifier(f *testing.F) {
	_, keys := seeds(f)
	for _, k := range keys {
		f.Add(k.vkey, []byte("text"), make([]byte, 64))
		f.Add(k.private, []byte("text"), make([]byte, 104))
	}
	f.Add("a+00000000+AQ==", []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, vkey string, text, sig []byte) {
		v, err := ParseVerifier(vkey)
		if err != nil {
			return
		}
		if v.String() != vkey {
			t.Fatalf("got %s, want %s", v, vkey)
		}
		v.Verify(text, sig) // must return
	})
}

func FuzzParseSigner(f *testing.F) {
	_, keys := seeds(f)
	for _, k := range keys {
		f.Add(k.private)
		f.Add(k.vkey)
	}
	f.Add("PRIVATE+KEY+a+00000000+AQ==")
	f.Fuzz(func(t *testing.T, private string) {
		s, err := ParseSigner(private)
		if err != nil {
			return
		}
		v, err := ParseVerifier(s.Verifier().String())
		if err != nil || v != s.Verifier() {
			t.Fatalf("the public half does not parse: %v", err)
		}
		if !strings.HasPrefix(private, privatePrefix+v.Name()+"+"+v.KeyID()+"+") {
			t.Fatal("read as another key")
		}
	})
}

// A signature of "text\n" and the SM3 digest of "root". It is a fixed one because
// the processes of a fuzz run would each make another.
const sm2LineSeed = "MEUCIDwkv2BwN2DA2xyu+O9jnUN+AzlPq/tim8FRz4zC+yYtAiEAuYVv9Ho32bYXwNeHlViqy1wJupvdR36EEOCo9JkvgCk="

// One key, one text, one signature: nothing else verifies, nor panics.
func FuzzSM2Line(f *testing.F) {
	k := sm2Pair(f, origin, "a")
	sig, err := decodeBase64(sm2LineSeed)
	if err != nil {
		f.Fatal(err)
	}
	good := slices.Concat(sm3Root("root")[:], sig)
	if !k.verifier.Verify([]byte("text\n"), good) {
		f.Fatal("the seed does not verify")
	}
	f.Add(good)
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, sig []byte) {
		if k.verifier.Verify([]byte("text\n"), sig) != bytes.Equal(sig, good) {
			t.Fatalf("%x: verifies wrongly", sig)
		}
	})
}
