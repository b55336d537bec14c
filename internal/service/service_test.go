package service

import (
	"strings"
	"testing"
)

func TestNamesThatCouldBePathsOrOptionsAreRefused(t *testing.T) {
	for _, name := range []string{"", "-x", "_x", "a/b", `a\b`, "a b", "a.service", "a@b", "审计", strings.Repeat("x", 65), "a\n"} {
		if _, err := New(Config{Name: name}); err == nil {
			t.Errorf("%q was taken for a name", name)
		}
	}
	for _, name := range []string{"veritrail", "a", "A-1_b", strings.Repeat("x", 64)} {
		if _, err := New(Config{Name: name}); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestInstallNeedsAbsolutePathsAndSingleLines(t *testing.T) {
	good := Config{Name: "v", Exe: absolute("bin", "v"), DataDir: absolute("var", "lib", "v")}
	for what, change := range map[string]func(*Config){
		"a relative program":       func(c *Config) { c.Exe = "v" },
		"no program":               func(c *Config) { c.Exe = "" },
		"a relative data dir":      func(c *Config) { c.DataDir = "data" },
		"a line break in data dir": func(c *Config) { c.DataDir += "\nUser=root" },
		"a line break in an arg":   func(c *Config) { c.Args = []string{"a\r\nb"} },
		"a zero byte":              func(c *Config) { c.Args = []string{"a\x00b"} },
		"a line break in account":  func(c *Config) { c.Account = "a\nUser=root" },
		"a line break in words":    func(c *Config) { c.Description = "a\nb" },
	} {
		cfg := good
		change(&cfg)
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Plan(); err == nil {
			t.Errorf("%s: planned", what)
		}
		if err := s.Install(t.Context()); err == nil {
			t.Errorf("%s: installed", what)
		}
	}
	s, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(); err != nil {
		t.Error(err)
	}
}
