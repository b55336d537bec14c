package veritrail_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

// login is an event of ordinary size: 368 bytes of canonical JSON.
func login() *veritrail.ComplianceEvent {
	return &veritrail.ComplianceEvent{
		ID:        "919108f7-52d1-4320-9bac-f847db4148a8",
		Timestamp: time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.UTC),
		Severity:  veritrail.SeverityWarn,
		Subject:   map[string]string{"user": "10086", "role": "teller"},
		Action:    "AUTH.LOGIN.FAIL",
		Object:    map[string]string{"api": "/v1/login", "sensitivity": "high"},
		Context: map[string]string{
			"ip": "192.0.2.7", "mfa": "totp", "device": "d-4711", "host": "branch-12.example.com",
			"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
		},
	}
}

const loginCanonical = `{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00.123456789Z",` +
	`"sev":"WARN","sub":{"role":"teller","user":"10086"},"act":"AUTH.LOGIN.FAIL",` +
	`"obj":{"api":"/v1/login","sensitivity":"high"},"ctx":{"device":"d-4711","host":"branch-12.example.com",` +
	`"ip":"192.0.2.7","mfa":"totp","span_id":"00f067aa0ba902b7","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}`

func TestCanonicalIsOneLineInFixedOrder(t *testing.T) {
	got, err := login().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != loginCanonical {
		t.Errorf("canonical encoding\n got %s\nwant %s", got, loginCanonical)
	}
}

func TestCanonicalConvertsTimeAndID(t *testing.T) {
	e := login()
	e.ID = strings.ToUpper(e.ID)
	e.Timestamp = e.Timestamp.In(time.FixedZone("", 8*3600))
	got, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != loginCanonical {
		t.Errorf("canonical encoding\n got %s\nwant %s", got, loginCanonical)
	}
}

// The second line of each pair was written by another implementation, Python's json module, from the first.
func TestCanonicalAgreesWithVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/canonical.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 14 {
		t.Fatalf("got %d lines, want 14", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		e, err := veritrail.ParseEvent([]byte(lines[i]))
		if err != nil {
			t.Errorf("line %d: %v", i+1, err)
			continue
		}
		got, err := e.Canonical()
		if err != nil {
			t.Errorf("line %d: %v", i+1, err)
			continue
		}
		if string(got) != lines[i+1] {
			t.Errorf("line %d:\n got %s\nwant %s", i+1, got, lines[i+1])
		}
		back, err := veritrail.ParseCanonical([]byte(lines[i+1]))
		if err != nil || !reflect.DeepEqual(back, e) {
			t.Errorf("line %d: ParseCanonical: got %+v, %v, want %+v", i+2, back, err, e)
		}
	}
}

// RFC 8785, section 3.2.4: the "string" member of the example.
func TestCanonicalStringOfRFC8785(t *testing.T) {
	e, err := veritrail.ParseEvent([]byte(
		`{"act":"A","sub":{"user":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/"},` +
			`"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00Z"}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	const want = `"sub":{"user":"€$\u000f\nA'B\"\\\\\"/"}`
	if !strings.Contains(string(got), want) {
		t.Errorf("got %s, want it to contain %s", got, want)
	}
}

// Each special byte at each distance from the start and end of the string, since encoding goes by words.
func TestCanonicalStringEscapesAtEveryOffset(t *testing.T) {
	for c := range rune(0x80) {
		for before := range 18 {
			for _, after := range []int{0, 1, 7, 8, 9} {
				value := strings.Repeat("é", before/2) + strings.Repeat("x", before%2) + string(c) + strings.Repeat("y", after)
				e := login()
				e.Context = map[string]string{"v": value}
				got, err := e.Canonical()
				if err != nil {
					t.Fatalf("value %q: %v", value, err)
				}
				if want := `"ctx":{"v":` + jsonString(t, value) + `}}`; !bytes.HasSuffix(got, []byte(want)) {
					t.Fatalf("value %q: got %s, want suffix %s", value, got, want)
				}
				back, err := veritrail.ParseCanonical(got)
				if err != nil {
					t.Fatalf("value %q: ParseCanonical: %v", value, err)
				}
				if back.Context["v"] != value {
					t.Fatalf("value %q: ParseCanonical: got %q", value, back.Context["v"])
				}
			}
		}
	}
}

// jsonString is encoding/json's form of s, which is ours but for U+2028 and U+2029.
func jsonString(t *testing.T, s string) string {
	t.Helper()
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(buf.String(), "\n")
}

func TestCanonicalRequiresIDAndTimestamp(t *testing.T) {
	e := login()
	e.ID, e.Timestamp = "", time.Time{}
	_, err := e.Canonical()
	wantViolations(t, err,
		veritrail.Violation{Path: "/id", Rule: "required", Shape: "nothing"},
		veritrail.Violation{Path: "/ts", Rule: "required", Shape: "nothing"})
}

func TestCanonicalRefusesNil(t *testing.T) {
	_, err := (*veritrail.ComplianceEvent)(nil).Canonical()
	wantViolations(t, err, veritrail.Violation{Rule: "want object", Shape: "nil"})
}

func TestCanonicalNeverChangesTheEvent(t *testing.T) {
	e, want := login(), login()
	e.Object, want.Object = nil, nil
	if _, err := e.Canonical(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, want %+v", e, want)
	}
}

// The bound is on the encoding, so a value of escapes meets it with fewer bytes.
func TestCanonicalSizeBound(t *testing.T) {
	for _, unit := range []struct {
		text string
		size int
	}{{"x", 1}, {"\n", 2}, {"\"", 2}, {"\x01", 6}, {"é", 2}, {"😀", 4}} {
		e := login()
		e.Context = map[string]string{"v": ""}
		empty, err := e.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		room := veritrail.MaxEventBytes - len(empty)
		fill := strings.Repeat(unit.text, room/unit.size) + strings.Repeat("x", room%unit.size)
		e.Context["v"] = fill
		full, err := e.Canonical()
		if err != nil || len(full) != veritrail.MaxEventBytes {
			t.Errorf("unit %q: got %d bytes, %v, want %d bytes", unit.text, len(full), err, veritrail.MaxEventBytes)
		}
		if _, err := veritrail.ParseCanonical(full); err != nil {
			t.Errorf("unit %q: ParseCanonical: %v", unit.text, err)
		}
		e.Context["v"] = fill + "x"
		_, err = e.Canonical()
		wantViolations(t, err,
			veritrail.Violation{Rule: "want at most 65535 bytes of canonical JSON", Shape: "65536 bytes"})
	}
}

func TestParseCanonicalRefusesOtherSpellings(t *testing.T) {
	replace := func(old, new string) string {
		if !strings.Contains(loginCanonical, old) {
			t.Fatalf("the event holds no %s", old)
		}
		return strings.Replace(loginCanonical, old, new, 1)
	}
	for _, tc := range []struct{ name, leaf, rule, shape string }{
		{"space", replace(`,"ts"`, `, "ts"`), "at byte 45: not the canonical encoding", "text"},
		{"newline at the end", loginCanonical + "\n", "at byte 368: not the canonical encoding", "control character"},
		{"field order", replace(`"sub":{"role":"teller","user":"10086"},"act":"AUTH.LOGIN.FAIL"`,
			`"act":"AUTH.LOGIN.FAIL","sub":{"role":"teller","user":"10086"}`),
			"at byte 97: not the canonical encoding", "text"},
		{"key order", replace(`"role":"teller","user":"10086"`, `"user":"10086","role":"teller"`),
			"at byte 104: not the canonical encoding", "text"},
		{"needless escape", replace(`/v1`, `\/v1`), "at byte 173: not the canonical encoding", "backslash"},
		{"upper-case id", replace(`919108f7`, `919108F7`), "at byte 13: not the canonical encoding", "text"},
		{"short fraction", replace(`.123456789Z`, `.12345678Z`), "at byte 79: not the canonical encoding", "text"},
		{"offset", replace(`09:30:00.123456789Z`, `17:30:00.123456789+08:00`),
			"at byte 62: not the canonical encoding", "number"},
		{"missing object", replace(`"obj":{"api":"/v1/login","sensitivity":"high"},`, ``),
			"at byte 160: not the canonical encoding", "text"},
		{"null object", replace(`{"api":"/v1/login","sensitivity":"high"}`, `null`),
			"at byte 165: not the canonical encoding", "null"},
	} {
		_, err := veritrail.ParseCanonical([]byte(tc.leaf))
		var invalid *veritrail.InvalidEventError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v, want an InvalidEventError", tc.name, err)
			continue
		}
		if want := (veritrail.Violation{Rule: tc.rule, Shape: tc.shape}); invalid.Violations[0] != want {
			t.Errorf("%s: got %+v, want %+v", tc.name, invalid.Violations[0], want)
		}
		if _, err := veritrail.ParseEvent([]byte(tc.leaf)); err != nil {
			t.Errorf("%s: ParseEvent refuses it too: %v", tc.name, err)
		}
	}
}

func TestParseCanonicalRequiresIDAndTimestamp(t *testing.T) {
	for _, tc := range []struct{ name, leaf, path string }{
		{"no id", `{"ts":"2026-03-01T09:30:00.000000000Z","sub":{"user":"u"},"act":"A","obj":{},"ctx":{}}`, "/id"},
		{"empty id", `{"id":"","ts":"2026-03-01T09:30:00.000000000Z","sub":{"user":"u"},"act":"A","obj":{},"ctx":{}}`, "/id"},
		{"zero time", `{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"0001-01-01T00:00:00.000000000Z",` +
			`"sub":{"user":"u"},"act":"A","obj":{},"ctx":{}}`, "/ts"},
	} {
		_, err := veritrail.ParseCanonical([]byte(tc.leaf))
		if err == nil {
			t.Errorf("%s: accepted", tc.name)
			continue
		}
		wantViolations(t, err, veritrail.Violation{Path: tc.path, Rule: "required", Shape: "nothing"})
	}
}

// Changing any byte of a leaf gives no event or another one.
func TestParseCanonicalSeesEveryChangedByte(t *testing.T) {
	want, err := veritrail.ParseCanonical([]byte(loginCanonical))
	if err != nil {
		t.Fatal(err)
	}
	for i := range loginCanonical {
		for bit := range 8 {
			leaf := []byte(loginCanonical)
			leaf[i] ^= 1 << bit
			if got, err := veritrail.ParseCanonical(leaf); err == nil && reflect.DeepEqual(got, want) {
				t.Errorf("byte %d, bit %d: the change is not seen", i, bit)
			}
		}
	}
}

// The page a reader implements the format from must not drift from the code.
func TestFormatPageExample(t *testing.T) {
	page, err := os.ReadFile("docs/format/event.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(name string) string {
		_, rest, ok := strings.Cut(string(page), "```"+name+"\n")
		text, _, closed := strings.Cut(rest, "```")
		if !ok || !closed {
			t.Fatalf("event.md: no block %q", name)
		}
		return strings.TrimSuffix(text, "\n")
	}
	e, err := veritrail.ParseEvent([]byte(block("json input")))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := e.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(leaf), block("json canonical"); got != want {
		t.Errorf("canonical\n got %s\nwant %s", got, want)
	}
	if got, want := strings.TrimSuffix(hex.Dump(leaf), "\n"), block("text hexdump"); got != want {
		t.Errorf("hexdump\n got\n%s\nwant\n%s", got, want)
	}
	sum, hash := sha256.Sum256(leaf), sha256.Sum256(append([]byte{0}, leaf...))
	got := "SHA-256        " + hex.EncodeToString(sum[:]) + "\nRFC 6962 leaf  " + hex.EncodeToString(hash[:])
	if want := block("text digests"); got != want {
		t.Errorf("digests\n got\n%s\nwant\n%s", got, want)
	}
}

func TestEncodingJSONGivesTheSameEvent(t *testing.T) {
	for _, e := range []*veritrail.ComplianceEvent{
		login(),
		{Subject: map[string]string{"svc": "<&>\u2028"}, Action: "APP.X"}, // nothing filled in, nil maps
	} {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		got, err := veritrail.ParseEvent(data)
		if err != nil {
			t.Errorf("%s: %v", data, err)
			continue
		}
		if !sameEvent(got, e) {
			t.Errorf("%s: got %+v, want %+v", data, got, e)
		}
	}
	var decoded veritrail.ComplianceEvent
	if err := json.Unmarshal([]byte(loginCanonical), &decoded); err != nil {
		t.Fatal(err)
	}
	if !sameEvent(&decoded, login()) {
		t.Errorf("got %+v, want %+v", decoded, login())
	}
}

// sameEvent compares events, taking a nil map and an empty one for the same, and an ID in either letter case.
func sameEvent(a, b *veritrail.ComplianceEvent) bool {
	return strings.EqualFold(a.ID, b.ID) && a.Timestamp.Equal(b.Timestamp) && a.Severity == b.Severity &&
		a.Action == b.Action && maps.Equal(a.Subject, b.Subject) && maps.Equal(a.Object, b.Object) &&
		maps.Equal(a.Context, b.Context)
}

func wantViolations(t *testing.T, err error, want ...veritrail.Violation) {
	t.Helper()
	if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
		t.Errorf("got error %v, want one that matches ErrInvalidComplianceEvent", err)
	}
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) {
		t.Errorf("got error %v, want an InvalidEventError", err)
		return
	}
	got := slices.Clone(invalid.Violations)
	for i := range got {
		got[i].Keyword = "" // TestViolationsNameTheKeyword looks at these
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("violations\n got %+v\nwant %+v", got, want)
	}
}
