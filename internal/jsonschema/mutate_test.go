package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/schemas"
)

// mutated is how many events the tests of verdicts look at. test/run runs all of them without the race detector, which
// makes the library some times slower still.
func mutated() int {
	if testing.Short() {
		return 10_000
	}
	return 100_000
}

const (
	nativeEvent = `{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00.123456789Z","sev":"WARN",` +
		`"sub":{"user":"10086","role":"teller"},"act":"AUTH.LOGIN.FAIL",` +
		`"obj":{"api":"/v1/login","table":"accounts","sensitivity":"L3"},` +
		`"ctx":{"ip":"192.0.2.7","mfa":"totp","device":"d-88","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"}}`
	flatRecord = `{"event_id":"919108f7-52d1-4320-9bac-f847db4148a8","timestamp":"2026-03-01T09:30:00.123456789Z",` +
		`"severity":"WARN","event_type":"AUTH.LOGIN.FAIL","actor":{"user_id":"10086","role":"teller","ip_address":"192.0.2.7"},` +
		`"resource":{"type":"api","id":"/v1/login","rows":3},"outcome":"failure","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736",` +
		`"details":{"attempt":2,"locked":false,"note":"余额"}}`
)

func compileEvent(t testing.TB) *Schema  { return mustCompile(t, "event", schemas.Event()) }
func compileRecord(t testing.TB) *Schema { return mustCompile(t, "record", schemas.Record()) }

func mustCompile(t testing.TB, name string, text []byte) *Schema {
	t.Helper()
	s, err := Compile(name, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mutator changes values and texts of events a little.
type mutator struct{ *rand.Rand }

func (m mutator) pick(all ...any) any { return all[m.IntN(len(all))] }

func (m mutator) value() any {
	return m.pick(nil, true, false, number("0"), number("-1.5"), number("1e3"), number("7"), "", "x", "INFO", "CRITICAL", "warn",
		"AUTH.LOGIN.OK", "A..B", "00000000-0000-0000-0000-000000000000", "0f8fad5b-d9cb-469f-a165-70867728950e",
		"2024-02-29T23:59:59.1+08:00", "0000-12-31T23:59:59-00:01", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01",
		"9999-12-31T23:59:59-00:01", "2026-02-30T00:00:00Z", "2016-12-31T23:59:60Z", "2026-03-01t09:30:00Z", "用户",
		"192.0.2.300", "2001:db8::1", "fe80::1%eth0", "4bf92f3577b34da6a3ce929d0e0e4736", "failure",
		strings.Repeat("键", m.IntN(150)), strings.Repeat("k", m.IntN(150)), "a\x00b", "a\u0085b", "\x7f", "😀",
		map[string]any{}, map[string]any{"user": "u"}, map[string]any{"a": nil}, map[string]any{"user_id": "u", "x": "y"},
		[]any{}, []any{"a", number("1")}, m.many())
}

// many is an object of about as many members as there may be.
func (m mutator) many() map[string]any {
	object := make(map[string]any)
	for i := range 95 + m.IntN(40) {
		object[fmt.Sprintf("k%d", i)] = "v"
	}
	return object
}

var mutationKeys = []any{"id", "ts", "sev", "sub", "act", "obj", "ctx", "user", "role", "event_id", "timestamp", "actor", "user_id", "ip_address",
	"details", "resource", "event_type", "x", "", "用户", "a b", "a\tb", "a/b", "~", "a\u0090", "Act"}

func (m mutator) key() string {
	if m.IntN(8) == 0 {
		return strings.Repeat(m.pick("k", "键").(string), 1+m.IntN(140))
	}
	return m.pick(mutationKeys...).(string)
}

// mutate changes v, or something in it.
func (m mutator) mutate(v any) any {
	if m.IntN(12) == 0 {
		return m.value()
	}
	switch v := v.(type) {
	case map[string]any:
		keys := slices.Sorted(maps.Keys(v))
		switch n := m.IntN(10); {
		case n < 6 && len(keys) > 0:
			key := keys[m.IntN(len(keys))]
			v[key] = m.mutate(v[key])
		case n < 8 && len(keys) > 0:
			delete(v, keys[m.IntN(len(keys))])
		case n == 8 && len(keys) > 0:
			key := keys[m.IntN(len(keys))]
			v[m.key()] = v[key]
			delete(v, key)
		default:
			v[m.key()] = m.value()
		}
		return v
	case []any:
		for i := range v {
			v[i] = m.mutate(v[i])
		}
		return v
	case string:
		return m.text(v)
	}
	return m.value()
}

func (m mutator) text(s string) string {
	at := m.IntN(len(s) + 1)
	switch m.IntN(5) {
	case 0:
		return s[:at]
	case 1:
		return strings.ToValidUTF8(s[:at], "") + m.pick("0", "9", "Z", " ", "-", ".", ":", "é", "\n", "~").(string) + strings.ToValidUTF8(s[at:], "")
	case 2:
		return strings.ToUpper(s)
	case 3:
		return s + s
	}
	b := []byte(s)
	if len(b) > 0 {
		b[m.IntN(len(b))] = byte(0x20 + m.IntN(0x5f))
	}
	return strings.ToValidUTF8(string(b), "")
}

// damage changes the text: most often nothing, sometimes a key comes twice, sometimes a byte changes.
func (m mutator) damage(text []byte) []byte {
	switch m.IntN(12) {
	case 0:
		text[m.IntN(len(text))] = byte(m.IntN(256))
	case 1:
		if text[0] == '{' && len(text) > 2 {
			return append([]byte(`{"act":"A",`), text[1:]...)
		}
	case 2:
		return []byte(strings.Replace(string(text), `"user"`, `"role"`, 1))
	}
	return text
}

// next is the text of base after one to three mutations.
func (m mutator) next(t testing.TB, base string) []byte {
	t.Helper()
	v, err := Decode([]byte(base))
	if err != nil {
		t.Fatal(err)
	}
	for range 1 + m.IntN(3) {
		v = m.mutate(v)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return m.damage(text)
}

// compare gives the verdict on text, on which the library and we must agree.
func compare(t testing.TB, s *Schema, text []byte) (any, error) {
	t.Helper()
	v, err := Decode(text)
	if err != nil {
		return v, err
	}
	err = s.Validate(v)
	if valid := s.Valid(v); valid != (err == nil) {
		t.Fatalf("%s: Valid says %v, Validate %v", text, valid, err)
	}
	if reference := s.Reference(v); reference != (err == nil) {
		t.Fatalf("%s: the library says %v, we say %v", text, reference, err)
	}
	var invalid *veritrail.InvalidEventError
	if err != nil && (!errors.As(err, &invalid) || len(invalid.Violations) == 0) {
		t.Fatalf("%s: refused without a reason: %v", text, err)
	}
	return v, err
}

// stricter are the rules of the parser that JSON Schema cannot state. They concern sizes in bytes, and time.
var stricter = []string{
	"want a year from 1 to 9999 in UTC", "want a key of at most 128 bytes", "want at most 65535 bytes of canonical JSON",
}

// Three judges look at 100,000 mutated events: the library and our compiled schema must agree on each, and the parser
// must agree with them but for the rules above.
func TestMutatedEventsGetOneVerdict(t *testing.T) {
	s := compileEvent(t)
	m := mutator{rand.New(rand.NewPCG(1, 2))}
	valid, all, differ := 0, mutated(), make(map[string]int)
	for range all {
		text := m.next(t, nativeEvent)
		_, err := compare(t, s, text)
		_, perr := veritrail.ParseEvent(text)
		if perr == nil {
			valid++
		}
		if (err == nil) == (perr == nil) {
			continue
		}
		var invalid *veritrail.InvalidEventError
		if perr == nil || !errors.As(perr, &invalid) {
			t.Fatalf("%s: the parser accepts what the schema refuses: %v", text, err)
		}
		for _, v := range invalid.Violations {
			if !slices.Contains(stricter, v.Rule) {
				t.Fatalf("%s: the schema accepts what the parser refuses: %v", text, v)
			}
			differ[v.Rule]++
		}
	}
	if valid < all/20 || valid > all*19/20 {
		t.Errorf("%d of %d mutated events are valid: the test shows little", valid, all)
	}
	for _, rule := range stricter[:2] {
		if differ[rule] == 0 {
			t.Errorf("no event of %d was refused by %q alone", all, rule)
		}
	}
	t.Logf("%d valid, parser stricter: %v", valid, differ)
}

func TestMutatedRecordsGetOneVerdict(t *testing.T) {
	s := compileRecord(t)
	m := mutator{rand.New(rand.NewPCG(3, 4))}
	valid, all := 0, mutated()
	for range all {
		if _, err := compare(t, s, m.next(t, flatRecord)); err == nil {
			valid++
		}
	}
	if valid < all/20 || valid > all*19/20 {
		t.Errorf("%d of %d mutated records are valid: the test shows little", valid, all)
	}
	t.Logf("%d valid", valid)
}

// What keeps the sizes of the whole is no schema's business; these differ by their text alone.
func TestParserIsStricterOnTheWhole(t *testing.T) {
	s := compileEvent(t)
	text := []byte(`{"act":"A","sub":{"user":"u"},"ctx":{"a":"` + strings.Repeat("a", veritrail.MaxEventBytes) + `"}}`)
	if _, err := compare(t, s, text); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	if _, err := veritrail.ParseEvent(text); err == nil {
		t.Error("the parser accepts more than 65,535 bytes")
	}
	for _, text := range []string{`{"act":"A","act":"A","sub":{"user":"u"}}`, `{"act":"A","sub":{"user":"u","user":"u"}}`,
		"{\"act\":\"A\",\"sub\":{\"user\":\"\xff\"}}", `{"act":"A","sub":{"user":"\ud800"}}`, `{"act":"A","sub":{"user":"u"}} x`} {
		_, err := Decode([]byte(text))
		_, perr := veritrail.ParseEvent([]byte(text))
		if err == nil || perr == nil {
			t.Errorf("%s: Decode says %v, the parser %v", text, err, perr)
		}
	}
}

func FuzzMutatedEvent(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed, []byte(nativeEvent))
		f.Add(seed, seed+100, []byte(flatRecord))
	}
	for _, text := range []string{`{}`, `[]`, `1e400`, `"\ud83d\ude00"`, `{"a":{"a":1,"a":2}}`, `{"/1":1}`, `[[[[]]]]`} {
		f.Add(uint64(0), uint64(0), []byte(text))
	}
	event, record := compileEvent(f), compileRecord(f)
	f.Fuzz(func(t *testing.T, seed, stream uint64, text []byte) {
		m := mutator{rand.New(rand.NewPCG(seed, stream))}
		if v, err := Decode(text); err == nil && stream%2 == 1 {
			out, err := json.Marshal(m.mutate(v))
			if err != nil {
				t.Fatal(err)
			}
			text = m.damage(out)
		}
		_, err := compare(t, event, text)
		_, _ = compare(t, record, text) // a broken one is as good
		if _, perr := veritrail.ParseEvent(text); perr == nil && err != nil {
			t.Fatalf("%q: the parser accepts what the schema refuses: %v", text, err)
		}
		// What Decode takes, encoding/json takes, and means the same by it.
		v, err := Decode(text)
		if err != nil {
			return
		}
		var w any
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		if err := dec.Decode(&w); err != nil || !equal(v, w) {
			t.Fatalf("%q: got %v, encoding/json %v (%v)", text, v, w, err)
		}
	})
}
