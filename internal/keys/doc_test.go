package keys

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The example of the documented format is a golden file: keys of this version
// must open for ever.
func TestDocumentedKeysOpen(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "format", "keys.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{ed25519File, sm2File, vkeysFile} {
		_, rest, ok := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n```"+name+"\n")
		text, _, ok2 := strings.Cut(rest, "```\n")
		if !ok || !ok2 {
			t.Fatalf("docs/format/keys.md has no block %s", name)
		}
		write(t, dir, name, text)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(r.VKeys(), "\n")+"\n", read(t, dir, vkeysFile); got != want || r.Origin() != origin {
		t.Errorf("got %s of %s, want %s", got, r.Origin(), want)
	}
}
