package checkpoint

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

// block is the fenced block of that name in docs/format/checkpoint.md.
func block(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "format", "checkpoint.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n```"+name+"\n")
	text, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatalf("docs/format/checkpoint.md has no block %s", name)
	}
	return text
}

// The example of the documented format is a golden file: what it shows was
// signed once and must open for ever.
func TestDocumentedCheckpointOpens(t *testing.T) {
	var trusted []Verifier
	for line := range strings.Lines(block(t, "vkeys")) {
		v, err := ParseVerifier(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Fatal(err)
		}
		trusted = append(trusted, v)
	}
	n := block(t, "checkpoint")
	c, sigs, err := Open([]byte(n), trusted)
	if err != nil {
		t.Fatal(err)
	}
	sm3 := suite.SM3.LeafHash([]byte("hello"))
	if c.Origin != "example.com/payroll" || c.Size != 1 || c.Root != suite.SHA256.LeafHash([]byte("hello")) ||
		c.SM3Root == nil || *c.SM3Root != sm3 || len(sigs) != 2 {
		t.Errorf("got %+v, signatures %v", c, sigs)
	}

	text, _, smLine := parts(t, []byte(n))
	message := block(t, "message")
	if got := string(sm2Message(sm3, []byte(text))); got != message {
		t.Errorf("message: got\n%s\nwant\n%s", got, message)
	}
	if !opensslVerifiesSM2(t, publicDER(t, trusted[1]), message, lineBytes(t, smLine)[suite.Size:]) {
		t.Error("openssl refuses the documented SM2 signature")
	}
}

// ed25519 has one signature for a key and a message, so the example can be made
// again to the byte.
func TestDocumentedEd25519LineIsWhatWeSign(t *testing.T) {
	ed := ed25519Pair(t, origin, "worked example, Ed25519")
	got := sign(t, Checkpoint{Origin: origin, Size: 1, Root: suite.SHA256.LeafHash([]byte("hello"))}, ed)
	if want := block(t, "checkpoint"); !strings.HasPrefix(want, string(got)) {
		t.Errorf("got\n%s\nwant it to begin\n%s", got, want)
	}
}
