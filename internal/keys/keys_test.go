package keys

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/suite"
)

const origin = "example.com/payroll"

var both = suite.NewSet(suite.SM3)

func mustCreate(t *testing.T, dir, origin string, digests suite.Set) *Ring {
	t.Helper()
	r, err := Create(dir, origin, digests)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, dir, name, data string) {
	t.Helper()
	if err := durable.WriteFile(filepath.Join(dir, name), []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func TestCreatedKeysOpenAndSign(t *testing.T) {
	tests := []struct {
		name    string
		digests suite.Set
		want    []string // algorithms
		files   []string
	}{
		{"SHA-256", suite.NewSet(), []string{checkpoint.Ed25519}, []string{ed25519File, lockFile, vkeysFile}},
		{"SHA-256 and SM3", both, []string{checkpoint.Ed25519, checkpoint.SM2SM3},
			[]string{ed25519File, lockFile, sm2File, vkeysFile}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "new", "keys")
			made := mustCreate(t, dir, origin, tt.digests)
			opened, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			verifiers, vkeys, err := ReadVKeys(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*Ring{made, opened} {
				if r.Origin() != origin || r.Epoch() != 1 {
					t.Errorf("got origin %s, epoch %d", r.Origin(), r.Epoch())
				}
				if !slices.Equal(r.Verifiers(), verifiers) || !slices.Equal(r.VKeys(), vkeys) {
					t.Errorf("got %v, want %v", r.VKeys(), vkeys)
				}
			}
			if got, want := read(t, dir, vkeysFile), strings.Join(vkeys, "\n")+"\n"; got != want {
				t.Errorf("vkeys: got %q, want %q", got, want)
			}
			var algorithms, files []string
			for _, v := range verifiers {
				algorithms = append(algorithms, v.Algorithm())
			}
			if !slices.Equal(algorithms, tt.want) {
				t.Errorf("got algorithms %v, want %v", algorithms, tt.want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				files = append(files, e.Name())
			}
			if !slices.Equal(files, tt.files) {
				t.Errorf("got files %v, want %v", files, tt.files)
			}

			c := checkpoint.Checkpoint{Origin: origin, Size: 7}
			if tt.digests.Has(suite.SM3) {
				c.SM3Root = new(suite.Hash)
			}
			n, err := checkpoint.Sign(c, made.Signers()...)
			if err != nil {
				t.Fatal(err)
			}
			if _, sigs, err := checkpoint.Open(n, verifiers); err != nil || len(sigs) != len(tt.want) {
				t.Errorf("got signatures %v and error %v", sigs, err)
			}
		})
	}
}

func TestEveryCreateMakesOtherKeys(t *testing.T) {
	one := mustCreate(t, t.TempDir(), origin, both)
	two := mustCreate(t, t.TempDir(), origin, both)
	for i, vkey := range one.VKeys() {
		if two.VKeys()[i] == vkey {
			t.Errorf("%s was made twice", vkey)
		}
	}
}

func TestCreateOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, origin, both)
	before := read(t, dir, ed25519File) + read(t, dir, sm2File) + read(t, dir, vkeysFile)
	if _, err := Create(dir, origin, both); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want %v", err, fs.ErrExist)
	}
	if after := read(t, dir, ed25519File) + read(t, dir, sm2File) + read(t, dir, vkeysFile); after != before {
		t.Error("the keys changed")
	}
}

func TestCreateRefusesWhatItCannotName(t *testing.T) {
	for _, origin := range []string{"", "a b", "a+b", "a\nb"} {
		dir := filepath.Join(t.TempDir(), "keys")
		if _, err := Create(dir, origin, both); err == nil {
			t.Errorf("origin %q: accepted", origin)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("origin %q: the directory was made: %v", origin, err)
		}
	}
	for _, digests := range []suite.Set{0, suite.Set(suite.SM3), 0xff} {
		if _, err := Create(t.TempDir(), origin, digests); err == nil {
			t.Errorf("digests %#x: accepted", uint8(digests))
		}
	}
	broken := iotest.ErrReader(errors.New("no randomness"))
	dir := t.TempDir()
	if _, err := create(durable.OS, broken, dir, origin, both); err == nil || !strings.Contains(err.Error(), "no randomness") {
		t.Errorf("got %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

// At each step the disk fails once before the step took effect and once after.
// Whatever is left, the next Create completes it or says that it is complete,
// and no key that was on disk has been replaced.
func TestCreateSurvivesAFailureAtEachStep(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Before, faulty.After} {
		for step := 0; ; step++ {
			dir := filepath.Join(t.TempDir(), "keys")
			disk := &faulty.FS{FS: durable.OS, Decide: func(n int, _ faulty.Op, _ string) faulty.Fault {
				if n == step {
					return fault
				}
				return faulty.Pass
			}}
			_, err := create(disk, source("first"), dir, origin, both)
			if disk.Steps() <= step {
				if err != nil {
					t.Fatalf("step %d: %v without a fault", step, err)
				}
				if step != 4 {
					t.Errorf("%d steps, want 4: the directory and three files", step)
				}
				break
			}
			if !errors.Is(err, faulty.ErrInjected) {
				t.Fatalf("fault %d at step %d: got %v", fault, step, err)
			}
			left := map[string]string{}
			for _, name := range []string{ed25519File, sm2File, vkeysFile} {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
					left[name] = string(b)
				}
			}
			complete := left[vkeysFile] != ""
			if _, err := Open(dir); (err == nil) != complete || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("fault %d at step %d: Open: %v", fault, step, err)
			}
			if _, err := create(durable.OS, source("second"), dir, origin, both); complete != errors.Is(err, fs.ErrExist) {
				t.Errorf("fault %d at step %d: Create again: %v", fault, step, err)
			}
			if _, err := Open(dir); err != nil {
				t.Errorf("fault %d at step %d: Open after all: %v", fault, step, err)
			}
			for name, data := range left {
				if read(t, dir, name) != data {
					t.Errorf("fault %d at step %d: %s was replaced", fault, step, name)
				}
			}
		}
	}
}

func source(seed string) *rand.ChaCha8 { return rand.NewChaCha8(suite.SHA256.Sum([]byte(seed))) }

func TestInterruptedCreateIsNotCompletedForAnotherTrail(t *testing.T) {
	dir := t.TempDir()
	mustCreate(t, dir, origin, both)
	if err := os.Remove(filepath.Join(dir, vkeysFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, "example.com/stock", both); err == nil || !strings.Contains(err.Error(), "is a key of "+origin) {
		t.Errorf("another origin: got %v", err)
	}
	if _, err := Create(dir, origin, suite.NewSet()); err == nil || !strings.Contains(err.Error(), "no SM3 tree is asked for") {
		t.Errorf("without SM3: got %v", err)
	}
	write(t, dir, ed25519File, "damaged\n")
	if _, err := Create(dir, origin, both); err == nil || !strings.Contains(err.Error(), ed25519File) {
		t.Errorf("damaged key: got %v", err)
	}
	if read(t, dir, ed25519File) != "damaged\n" {
		t.Error("the damaged key was replaced")
	}
}

func TestOfManyCreatesOneMakesTheKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	type result struct {
		ring *Ring
		err  error
	}
	results := make(chan result)
	const n = 8
	for range n {
		go func() {
			r, err := Create(dir, origin, both)
			results <- result{r, err}
		}()
	}
	var won []*Ring
	for range n {
		r := <-results
		switch {
		case r.err == nil:
			won = append(won, r.ring)
		case !errors.Is(r.err, fs.ErrExist) && !errors.Is(r.err, durable.ErrLocked):
			t.Error(r.err)
		}
	}
	if len(won) != 1 {
		t.Fatalf("%d of them made keys", len(won))
	}
	opened, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(opened.VKeys(), won[0].VKeys()) {
		t.Errorf("on disk are %v, made were %v", opened.VKeys(), won[0].VKeys())
	}
}

func TestOpenRefusesKeysThatDisagree(t *testing.T) {
	tests := []struct {
		name string
		harm func(t *testing.T, dir, other string) // other: complete keys of the same origin
		want string
	}{
		{"private key of another", func(t *testing.T, dir, other string) {
			write(t, dir, ed25519File, read(t, other, ed25519File))
		}, "ed25519.key: its public half"},
		{"SM2 key of another", func(t *testing.T, dir, other string) {
			write(t, dir, sm2File, read(t, other, sm2File))
		}, "sm2.key: its public half"},
		{"vkeys of another", func(t *testing.T, dir, other string) {
			write(t, dir, vkeysFile, read(t, other, vkeysFile))
		}, "ed25519.key: its public half"},
		{"vkeys of both", func(t *testing.T, dir, other string) {
			write(t, dir, vkeysFile, read(t, dir, vkeysFile)+read(t, other, vkeysFile))
		}, "vkeys: the private half of example.com/payroll+"},
		{"vkeys without SM2", func(t *testing.T, dir, _ string) {
			write(t, dir, vkeysFile, strings.SplitAfter(read(t, dir, vkeysFile), "\n")[0])
		}, "sm2.key: its public half"},
		{"vkeys gone", func(t *testing.T, dir, _ string) { remove(t, dir, vkeysFile) }, "vkeys: "},
		{"Ed25519 key gone", func(t *testing.T, dir, _ string) { remove(t, dir, ed25519File) }, "ed25519.key: "},
		{"SM2 key gone", func(t *testing.T, dir, _ string) { remove(t, dir, sm2File) }, "sm2.key: "},
		{"private keys swapped", func(t *testing.T, dir, _ string) {
			ed, sm := read(t, dir, ed25519File), read(t, dir, sm2File)
			write(t, dir, ed25519File, sm)
			write(t, dir, sm2File, ed)
		}, "ed25519.key: is of algorithm SM2-SM3, want Ed25519"},
		{"SM2 key of another origin", func(t *testing.T, dir, _ string) {
			stock := t.TempDir()
			mustCreate(t, stock, "example.com/stock", both)
			write(t, dir, sm2File, read(t, stock, sm2File))
			write(t, dir, vkeysFile, read(t, dir, vkeysFile)+read(t, stock, vkeysFile))
		}, "sm2.key: is a key of example.com/stock, the other one of example.com/payroll"},
		{"private key cut", func(t *testing.T, dir, _ string) {
			write(t, dir, ed25519File, read(t, dir, ed25519File)[:80])
		}, "ed25519.key: private key: "},
		{"private key twice", func(t *testing.T, dir, _ string) {
			write(t, dir, ed25519File, strings.Repeat(read(t, dir, ed25519File), 2))
		}, "ed25519.key: private key: "},
		{"private key empty", func(t *testing.T, dir, _ string) { write(t, dir, sm2File, "") }, "sm2.key: private key "},
		{"private key huge", func(t *testing.T, dir, _ string) {
			write(t, dir, sm2File, strings.Repeat(read(t, dir, sm2File), 100))
		}, "sm2.key: is longer than 4096 bytes"},
		{"private key among vkeys", func(t *testing.T, dir, _ string) {
			write(t, dir, vkeysFile, read(t, dir, ed25519File))
		}, "vkeys: line 1: this is a private key"},
		{"vkeys huge", func(t *testing.T, dir, _ string) {
			write(t, dir, vkeysFile, strings.Repeat("#\n", maxVKeysBytes))
		}, "vkeys: is longer than 65536 bytes"},
		{"a directory for a key", func(t *testing.T, dir, _ string) {
			remove(t, dir, ed25519File)
			if err := os.Mkdir(filepath.Join(dir, ed25519File), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "ed25519.key: is not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, other := t.TempDir(), t.TempDir()
			mustCreate(t, dir, origin, both)
			mustCreate(t, other, origin, both)
			secrets := [][]byte{secret(t, dir, ed25519File), secret(t, dir, sm2File), secret(t, other, ed25519File)}
			tt.harm(t, dir, other)
			_, err := Open(dir)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if strings.HasSuffix(tt.name, "gone") && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v, want %v", err, fs.ErrNotExist)
			}
			for _, s := range secrets {
				if out := fmt.Sprintf("%v %+v %#v", err, err, err); leaks(out, s) {
					t.Errorf("a private key is in %q", out)
				}
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: got %v, want %v", err, fs.ErrNotExist)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// secret is the 32 private bytes in a key file.
func secret(t *testing.T, dir, name string) []byte {
	t.Helper()
	text := strings.TrimSpace(read(t, dir, name))
	key, err := base64.StdEncoding.DecodeString(strings.SplitN(text, "+", 5)[4])
	if err != nil || len(key) < 33 {
		t.Fatalf("%s is not a private key", name)
	}
	return key[len(key)-32:]
}

// leaks looks for six bytes out of the middle of a private key, at any of the
// places that base64 can have put them, and as numbers.
func leaks(s string, secret []byte) bool {
	part := secret[12:18]
	forms := []string{
		string(part), fmt.Sprintf("%x", part), fmt.Sprintf("%X", part),
		strings.Trim(fmt.Sprintf("%v", part), "[]"), strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}"),
	}
	for shift := range 3 {
		forms = append(forms, base64.StdEncoding.EncodeToString(secret[12+shift:18+shift]))
	}
	return slices.ContainsFunc(forms, func(f string) bool { return strings.Contains(s, f) })
}

func TestRingPrintsNoPrivateKey(t *testing.T) {
	dir := t.TempDir()
	r := mustCreate(t, dir, origin, both)
	if !leaks(read(t, dir, ed25519File), secret(t, dir, ed25519File)) || !leaks(read(t, dir, sm2File), secret(t, dir, sm2File)) {
		t.Fatal("the search for leaks does not find a private key")
	}
	copied := *r
	nested := struct{ r *Ring }{r}
	for _, v := range []any{r, &copied, copied, nested, &nested, r.Signers(), r.Signers()[1], r.Verifiers()} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			out := fmt.Sprintf(verb, v)
			if leaks(out, secret(t, dir, ed25519File)) || leaks(out, secret(t, dir, sm2File)) {
				t.Errorf("%s of %T: a private key is in %q", verb, v, out)
			}
		}
	}
	if got := fmt.Sprint(r); got != "keys of "+strings.Join(r.VKeys(), ", ") {
		t.Errorf("got %q", got)
	}
}

func TestReadVKeysOpensNoPrivateFile(t *testing.T) {
	dir := t.TempDir()
	r := mustCreate(t, dir, origin, both)
	remove(t, dir, ed25519File)
	remove(t, dir, sm2File)
	_, vkeys, err := ReadVKeys(dir)
	if err != nil || !slices.Equal(vkeys, r.VKeys()) {
		t.Errorf("got %v and error %v, want %v", vkeys, err, r.VKeys())
	}
}

func testVKeys(t testing.TB) (ed, sm string) {
	t.Helper()
	_, ed, err1 := checkpoint.GenerateEd25519(origin, source("ed25519"))
	_, sm, err2 := checkpoint.GenerateSM2(origin, source("sm2"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return ed, sm
}

func TestParseVKeys(t *testing.T) {
	ed, sm := testVKeys(t)
	tests := []struct {
		name, text string
		want       []string
		err        string
	}{
		{"one", ed, []string{ed}, ""},
		{"two", ed + "\n" + sm + "\n", []string{ed, sm}, ""},
		{"order kept", sm + "\n" + ed + "\n", []string{sm, ed}, ""},
		{"comments and blanks", "# ours\n\n  " + ed + " \r\n\t# theirs\n" + sm, []string{ed, sm}, ""},
		{"byte order mark", "\ufeff" + ed + "\r\n", []string{ed}, ""},
		{"empty", "", nil, "vkeys: there is no key in it"},
		{"comments alone", "# nothing\n\n", nil, "vkeys: there is no key in it"},
		{"twice", ed + "\n#\n" + sm + "\n" + ed, nil, "vkeys: line 4: is the key of line 1 again"},
		{"damaged", ed + "\n" + sm[:40], nil, "vkeys: line 2: vkey: "},
		{"two on a line", ed + " " + sm, nil, "vkeys: line 1: vkey: "},
		{"UTF-16", "\xff\xfea\x00", nil, "vkeys: text is UTF-16: save it as UTF-8 or ASCII"},
		{"long", strings.Repeat("\n", maxVKeysBytes+1), nil, "vkeys: longer than 65536 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			list, err := ParseVKeys([]byte(tt.text))
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) || list != nil {
					t.Errorf("got %v and %v, want %s", list, err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range list {
				got = append(got, v.String())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What parses, re-encodes to lines that are all in the text, in its order, and
// that parse to the same.
func FuzzParseVKeys(f *testing.F) {
	ed, sm := testVKeys(f)
	f.Add([]byte(ed + "\n" + sm + "\n"))
	f.Add([]byte("\ufeff# a\r\n" + sm + "\r\n\n"))
	f.Add([]byte(ed + "\n" + ed))
	f.Add([]byte("PRIVATE+KEY+a+00000000+AQ=="))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParseVKeys(text)
		if err != nil {
			return
		}
		rest := text
		var lines []string
		for _, v := range list {
			i := bytes.Index(rest, []byte(v.String()))
			if i < 0 {
				t.Fatalf("%s is not in the text, or not in this place", v)
			}
			rest = rest[i+len(v.String()):]
			lines = append(lines, v.String())
		}
		again, err := ParseVKeys([]byte(strings.Join(lines, "\n")))
		if err != nil || !slices.Equal(again, list) {
			t.Fatalf("got %v and error %v, want %v", again, err, list)
		}
	})
}
