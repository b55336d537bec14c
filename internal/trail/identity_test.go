package trail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/durable/faulty"
	"github.com/veritrail/veritrail/internal/suite"
)

// documentedIdentity is the example of docs/format/trail.md.
func documentedIdentity(t testing.TB) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "format", "trail.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n```json trail.json\n")
	text, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatal("docs/format/trail.md has no block trail.json")
	}
	return text
}

func exampleIdentity() Identity {
	return Identity{
		Origin:   "example.com/payroll",
		Instance: [16]byte{0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef},
		Digests:  suite.NewSet(suite.SM3),
		Created:  time.Date(2026, 3, 1, 9, 30, 0, 250_000_000, time.UTC),
	}
}

func TestIdentityIsWrittenAsDocumented(t *testing.T) {
	dir, want := filepath.Join(t.TempDir(), "a", "b"), exampleIdentity()
	if err := Create(durable.OS, dir, want); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "trail.json"))
	if err != nil {
		t.Fatal(err)
	}
	if text := documentedIdentity(t); string(b) != text {
		t.Errorf("got\n%s\nthe page shows\n%s", b, text)
	}
	if got, err := ReadIdentity(dir); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := Create(durable.OS, dir, want); err == nil || errors.Is(err, ErrNoTrail) {
		t.Errorf("a trail over a trail: got %v", err)
	}
}

func TestIdentityRefusals(t *testing.T) {
	text := documentedIdentity(t)
	with := func(old, replacement string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the example has no %s", old)
		}
		return strings.Replace(text, old, replacement, 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "EOF"},
		{"no JSON", "trail", "invalid character"},
		{"another format", with("veritrail-trail/1", "veritrail-trail/2"), `format "veritrail-trail/2": this program reads veritrail-trail/1`},
		{"an unknown member", with(`"origin"`, `"owner": "x", "origin"`), "unknown field"},
		{"a member twice", with(`"origin"`, `"origin": "example.com/other", "origin"`), "not spelled the way it was written"},
		{"a member in capitals", with(`"origin"`, `"Origin"`), "not spelled the way it was written"},
		{"bytes behind", text + "{}", "not spelled the way it was written"},
		{"no newline at the end", strings.TrimSpace(text), "not spelled the way it was written"},
		{"no origin", with("example.com/payroll", ""), "origin is empty"},
		{"an origin with a space", with("example.com/payroll", "example.com /payroll"), "origin has white space"},
		{"a short instance", with("10325476", "325476"), "instance is not 32 hex digits"},
		{"an instance that is not hex", with("10325476", "1032547g"), "instance is not 32 hex digits"},
		{"an instance in capitals", with("cdef", "CDEF"), "not spelled the way it was written"},
		{"an unknown digest", with(`"sm3"`, `"md5"`), `digest "md5": want sha256 or sm3`},
		{"no SHA-256", with("\"sha256\",\n", "\n"), "digest set 0x02: want sha256 or sha256+sm3"},
		{"a digest twice", with(`"sm3"`, `"sha256"`), "not spelled the way it was written"},
		{"a time elsewhere", with(".25Z", ".25+08:00"), "not spelled the way it was written"},
		{"no time", with("2026-03-01T09:30:00.25Z", "today"), "parsing time"},
		{"a long file", text + strings.Repeat(" ", maxIdentity), "more than 4096 bytes"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "trail.json"), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadIdentity(dir)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), filepath.Join(dir, "trail.json")+": ") {
			t.Errorf("%s: got %v, want …trail.json: %s", c.name, err, c.want)
		}
		if errors.Is(err, ErrNoTrail) || Create(durable.OS, dir, exampleIdentity()) == nil {
			t.Errorf("%s: counts as no trail", c.name)
		}
	}
	if _, err := ReadIdentity(t.TempDir()); !errors.Is(err, ErrNoTrail) {
		t.Errorf("an empty directory: got %v, want ErrNoTrail", err)
	}
	dir := t.TempDir()
	if err := Create(durable.OS, dir, Identity{Origin: "a b", Digests: suite.NewSet()}); err == nil {
		t.Error("a trail was made with an origin that no key can have")
	}
}

// Whatever step of making a trail fails, the directory holds a whole trail or
// none, and making it again goes on.
func TestCreateIsAllOrNothing(t *testing.T) {
	for _, fault := range []faulty.Fault{faulty.Before, faulty.After} {
		for step := 0; ; step++ {
			dir := filepath.Join(t.TempDir(), "trail")
			disk := &faulty.FS{FS: durable.OS, Decide: func(n int, _ faulty.Op, _ string) faulty.Fault {
				if n == step {
					return fault
				}
				return faulty.Pass
			}}
			err := Create(disk, dir, exampleIdentity())
			if err == nil {
				if step == 0 {
					t.Fatal("no step failed")
				}
				break
			}
			if !errors.Is(err, faulty.ErrInjected) {
				t.Fatal(err)
			}
			got, err := ReadIdentity(dir)
			if errors.Is(err, ErrNoTrail) {
				if err = Create(durable.OS, dir, exampleIdentity()); err == nil {
					got, err = ReadIdentity(dir)
				}
			}
			if err != nil || got != exampleIdentity() {
				t.Errorf("step %d, fault %d: %v", step, fault, err)
			}
			if _, err := os.Stat(filepath.Join(dir, SegmentsDir)); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("step %d, fault %d: a trail without a directory for its segments", step, fault)
			}
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	text := documentedIdentity(f)
	f.Add([]byte(text))
	f.Add([]byte(strings.Replace(text, `"sha256",`, `"sha256"`, 1)))
	f.Add([]byte(strings.Replace(text, "2026-03-01T09:30:00.25Z", "0001-01-01T00:00:00Z", 1)))
	f.Add([]byte(`{"format":"veritrail-trail/1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := parseIdentity(b)
		if err != nil {
			return
		}
		again, err := id.marshal()
		if err != nil || string(again) != string(b) {
			t.Errorf("%q reads as %+v, which is written %q, %v", b, id, again, err)
		}
	})
}
