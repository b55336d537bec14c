package aead

import (
	"encoding/hex"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// documented is the block of docs/format/ciphers.md that begins with ``` and kind.
func documented(t testing.TB, kind string) (block, page string) {
	t.Helper()
	b, err := os.ReadFile("../../../docs/format/ciphers.md")
	if err != nil {
		t.Fatal(err)
	}
	page = strings.ReplaceAll(string(b), "\r\n", "\n")
	_, rest, found := strings.Cut(page, "\n```"+kind+"\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !closed {
		t.Fatalf("no block of %s", kind)
	}
	return block, page
}

func TestDocumentedVectors(t *testing.T) {
	var secret [SecretSize]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	session := [SessionSize]byte([]byte(" !\"#$%&'()*+"))
	aad, plain := []byte("vt1:phone"), []byte("13800138000")
	block, page := documented(t, "vectors")
	fields := strings.Fields(block)
	var names []string
	for ; len(fields) >= 7; fields = fields[7:] {
		a, err := ParseAlgorithm(fields[0])
		if err != nil || fields[1] != "keys" || fields[3] != "nonce" || fields[5] != "sealed" {
			t.Fatalf("%q: %v", fields[:7], err)
		}
		names = append(names, fields[0])
		var s *Sealer
		derivedFrom := session[:]
		if a == UnsafeSM4ECB {
			derivedFrom = nil
			s, err = NewUnsafeECBSealer(&secret)
		} else if s, err = newSealer(a, &secret, session); err == nil {
			s.next.Store(0x1907)
		}
		if err != nil {
			t.Fatal(err)
		}
		keys, err := derive(a, &secret, derivedFrom)
		if err != nil {
			t.Fatal(err)
		}
		sealed, nonce, err := s.Seal(nil, plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range [][]byte{keys, nonce[:], sealed} {
			if hex.EncodeToString(got) != fields[2+2*i] {
				t.Errorf("%v: %s: got %x, documented is %s", a, fields[1+2*i], got, fields[2+2*i])
			}
		}
		got, err := Open(nil, a, &secret, [NonceSize]byte(unhex(t, fields[4])), unhex(t, fields[6]), aad)
		if err != nil || string(got) != string(plain) {
			t.Errorf("%v: what is documented opens to %q, %v", a, got, err)
		}
	}
	if len(names) != len(allSealers(t, &secret)) || len(fields) != 0 {
		t.Errorf("documented are %q", names)
	}
	token := Token(&secret, []byte("phone"), plain)
	if !strings.Contains(page, "`"+hex.EncodeToString(token[:])+"`") {
		t.Errorf("token: got %x, which is not on the page", token)
	}
}

func TestDocumentedRecipeWithOpenSSL(t *testing.T) {
	recipe, _ := documented(t, "sh")
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatalf("bash is needed: %v", err)
	}
	run := func(recipe string) string {
		cmd := exec.Command(bash, "-euo", "pipefail", "-c", recipe)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got, want := run(recipe), "13800138000"; got != want {
		t.Errorf("the recipe prints %q, want %q", got, want)
	}
	changed := strings.Replace(recipe, "aad=vt1:phone", "aad=vt1:email", 1)
	if got := run(changed); changed == recipe || got != "" {
		t.Errorf("with other additional data it prints %q", got)
	}
}
