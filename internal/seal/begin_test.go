package seal

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// TestInterruptedBeginningsGoOn removes what a crash would not have written yet,
// and begins again in another way.
func TestInterruptedBeginningsGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		missing       []string
		before, after bool // SM3
		want          suite.Set
	}{
		"before trail.json":              {[]string{"trail.json"}, false, false, suite.NewSet()},
		"before trail.json, then SM3":    {[]string{"trail.json"}, false, true, suite.NewSet()},
		"before trail.json, then no SM3": {[]string{"trail.json"}, true, false, suite.NewSet(suite.SM3)},
		"between keys":                   {[]string{"trail.json", "keys/vkeys", "keys/sm2.key"}, true, true, suite.NewSet(suite.SM3)},
		"between keys, then no SM3":      {[]string{"trail.json", "keys/vkeys", "keys/sm2.key"}, true, false, suite.NewSet()},
		"before vkeys, then no SM3":      {[]string{"trail.json", "keys/vkeys"}, true, false, suite.NewSet(suite.SM3)},
		"before any key, then another":   {[]string{"trail.json", "keys/vkeys", "keys/ed25519.key"}, false, true, suite.NewSet(suite.SM3)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := Begin(dir, "", c.before); err != nil {
				t.Fatal(err)
			}
			for _, file := range c.missing {
				if err := os.Remove(filepath.Join(dir, filepath.FromSlash(file))); err != nil {
					t.Fatal(err)
				}
			}
			ring, err := Begin(dir, "", c.after)
			if err != nil {
				t.Fatal(err)
			}
			id, err := trail.ReadIdentity(dir)
			if err != nil {
				t.Fatal(err)
			}
			if id.Digests != c.want || id.Origin != ring.Origin() {
				t.Errorf("got digests %v of %s, want %v of %s", id.Digests, id.Origin, c.want, ring.Origin())
			}
			l := open(t, Config{Dir: dir, Signers: ring.Signers()})
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestKeysOfAnotherOriginAreNotTaken(t *testing.T) {
	dir := t.TempDir()
	if _, err := Begin(dir, "example.com/one", false); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "trail.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Begin(dir, "example.com/two", false); err == nil {
		t.Error("keys of one origin were taken for another")
	}
	if _, err := os.Stat(filepath.Join(dir, "trail.json")); !os.IsNotExist(err) {
		t.Errorf("a trail was begun: %v, want %v", err, fs.ErrNotExist)
	}
}
