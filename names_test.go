package veritrail_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
)

func TestSeverityNames(t *testing.T) {
	for s, name := range map[veritrail.Severity]string{
		veritrail.SeverityDebug: "DEBUG", veritrail.SeverityInfo: "INFO", veritrail.SeverityWarn: "WARN",
		veritrail.SeverityError: "ERROR", veritrail.SeverityCritical: "CRITICAL",
	} {
		if s.String() != name {
			t.Errorf("String of %d: got %q, want %q", s, s, name)
		}
		for _, text := range []string{name, strings.ToLower(name)} {
			if got, err := veritrail.ParseSeverity(text); got != s || err != nil {
				t.Errorf("ParseSeverity(%q) = %v, %v", text, got, err)
			}
		}
		text, err := s.MarshalText()
		if string(text) != name || err != nil {
			t.Errorf("MarshalText of %v: got %q, %v", s, text, err)
		}
		var back veritrail.Severity
		if err := back.UnmarshalText(text); back != s || err != nil {
			t.Errorf("UnmarshalText(%q): got %v, %v", text, back, err)
		}
	}
}

func TestSeverityUnset(t *testing.T) {
	if text, err := veritrail.SeverityUnset.MarshalText(); len(text) != 0 || err != nil {
		t.Errorf("MarshalText: got %q, %v", text, err)
	}
	s := veritrail.SeverityWarn
	if err := s.UnmarshalText(nil); s != veritrail.SeverityUnset || err != nil {
		t.Errorf("UnmarshalText: got %v, %v", s, err)
	}
	if _, err := veritrail.ParseSeverity(""); err == nil {
		t.Error("ParseSeverity accepts the empty string")
	}
	data, err := json.Marshal(&veritrail.ComplianceEvent{})
	if err != nil || strings.Contains(string(data), "sev") {
		t.Errorf("json.Marshal: got %s, %v, want no sev", data, err)
	}
}

func TestSeverityRefusesOtherNames(t *testing.T) {
	const want = "severity: want DEBUG, INFO, WARN, ERROR or CRITICAL, got string of 5 bytes"
	if _, err := veritrail.ParseSeverity("FATAL"); err == nil || err.Error() != want {
		t.Errorf("ParseSeverity: got %v, want %s", err, want)
	}
	s := veritrail.SeverityWarn
	if err := s.UnmarshalText([]byte("debug")); err == nil || err.Error() != want {
		t.Errorf("UnmarshalText: got %v, want %s", err, want)
	}
	if s != veritrail.SeverityWarn {
		t.Errorf("a refused name set %v", s)
	}
	if _, err := veritrail.Severity(6).MarshalText(); err == nil {
		t.Error("MarshalText accepts 6")
	}
	if got := veritrail.Severity(6).String(); got != "Severity(6)" {
		t.Errorf("String of 6: got %q", got)
	}
}

// RFC 9562, appendix A and section 5.9 on: one of each version, the nil and the max UUID.
func TestParseUUID(t *testing.T) {
	for _, text := range []string{
		"C232AB00-9414-11EC-B3C8-9F6BDECED846", "5df41881-3aed-3515-88a7-2f4a814cf09e",
		"919108f7-52d1-4320-9bac-f847db4148a8", "2ed6657d-e927-568b-95e1-2665a8aea6a2",
		"1EC9414C-232A-6B00-B3C8-9F6BDECED846", "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
		"2489E9AD-2EE2-8E00-8EC9-32D5F69181C0", "00000000-0000-0000-0000-000000000000",
		"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
	} {
		u, err := veritrail.ParseUUID(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, want := u.String(), strings.ToLower(text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got, want := string(u.Append([]byte("id="))), "id="+strings.ToLower(text); got != want {
			t.Errorf("Append: got %s, want %s", got, want)
		}
		if u.IsZero() != (strings.Trim(text, "0-") == "") {
			t.Errorf("%s: IsZero is %v", text, u.IsZero())
		}
	}
}

func TestParseUUIDRefusesOtherForms(t *testing.T) {
	const good = "919108f7-52d1-4320-9bac-f847db4148a8"
	texts := []string{"", "{" + good + "}", "urn:uuid:" + good, strings.ReplaceAll(good, "-", ""), good + " ", good[:35],
		"919108f7052d1-4320-9bac-f847db4148a8", "919108f75-2d1-4320-9bac-f847db4148a8"}
	for i := range good {
		for _, c := range []string{"g", "-", " ", "\x00", "\xff", "/", ":", "@", "`", "G"} {
			if text := good[:i] + c + good[i+1:]; text != good {
				texts = append(texts, text)
			}
		}
	}
	for _, text := range texts {
		if u, err := veritrail.ParseUUID(text); err == nil || !u.IsZero() {
			t.Errorf("%q: got %v, %v, want an error", text, u, err)
		}
	}
	const want = "uuid: want 8-4-4-4-12 hexadecimal digits, got string of 3 bytes"
	if _, err := veritrail.ParseUUID("abc"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Business code imports this package for free.
func TestPackageImportsStandardLibraryOnly(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); len(got) != 1 || got[0] != "github.com/veritrail/veritrail" {
		t.Errorf("packages beyond the standard library: %v", got)
	}
	// A network package here would come with every program that only wants to name an event.
	out, err = exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(string(out)) {
		if path == "net" || path == "os/exec" || strings.HasPrefix(path, "net/") {
			t.Errorf("the package imports %s", path)
		}
	}
}
