package veritrail_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

func TestParseEventAcceptsAnyOrderAndSpace(t *testing.T) {
	got, err := veritrail.ParseEvent([]byte("\r\n\t { \"ctx\" : { } ,\n\"\\u0061ct\" : \"A.b-1\" , \"obj\":{},\"sub\" : " +
		"{ \"user\" : \"u1\" , \"svc\":\"s\" } , \"sev\":\"INFO\", \"ts\":\"2026-03-01T10:30:00.5+01:00\" } \n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &veritrail.ComplianceEvent{
		Timestamp: time.Date(2026, 3, 1, 9, 30, 0, 500_000_000, time.UTC),
		Severity:  veritrail.SeverityInfo,
		Subject:   map[string]string{"user": "u1", "svc": "s"},
		Action:    "A.b-1",
	}
	if !sameEvent(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseEventKeepsNothingOfItsInput(t *testing.T) {
	data := []byte(`{"act":"APP.X","sub":{"user":"u1"},"ctx":{"a\u0062":"\u00e9"}}`)
	e, err := veritrail.ParseEvent(data)
	if err != nil {
		t.Fatal(err)
	}
	clear(data)
	if e.Action != "APP.X" || e.Subject["user"] != "u1" || e.Context["ab"] != "é" {
		t.Errorf("the event changed with the input: %+v", e)
	}
}

func TestParseEventRejections(t *testing.T) {
	type violations = []veritrail.Violation
	one := func(path, rule, shape string) violations {
		return violations{{Path: path, Rule: rule, Shape: shape}}
	}
	// with is an event in order but for the members given.
	with := func(members string) string { return `{"act":"A","sub":{"user":"u"},` + members + `}` }
	pairs := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"k` + strconv.Itoa(i) + `":"v"`)
		}
		return "{" + b.String() + "}"
	}
	const lone = "want a surrogate pair"
	const noEscape = "want an escape sequence of JSON"

	for _, tc := range []struct {
		name, data string
		want       violations
	}{
		// The text as a whole.
		{"empty", ``, one("", "at byte 0: want object", "end of input")},
		{"white space", " \n", one("", "at byte 2: want object", "end of input")},
		{"byte order mark", "\ufeff{}", one("", "at byte 0: want a value", "byte beyond ASCII")},
		{"array", `[{"act":"A"}]`, one("", "want object", "array")},
		{"string", `"abc"`, one("", "want object", "string of 3 bytes")},
		{"number", `-1.5e+3`, one("", "want object", "number")},
		{"null", `null`, one("", "want object", "null")},
		{"boolean", `true`, one("", "want object", "boolean")},
		{"not JSON", `hello`, one("", "at byte 0: want a value", "text")},
		{"NUL", "\x00", one("", "at byte 0: want a value", "control character")},
		{"too long", with(`"id":""`) + strings.Repeat(" ", 1<<20),
			one("", "want at most 1048576 bytes", "1048614 bytes")},
		{"second event", `{"act":"A","sub":{"user":"u"}}{}`,
			one("", "at byte 30: want nothing after the event", "object")},
		{"trailing text", `{"act":"A","sub":{"user":"u"}} x`,
			one("", "at byte 31: want nothing after the event", "text")},
		{"trailing NUL", `{"act":"A","sub":{"user":"u"}}` + "\x00",
			one("", "at byte 30: want nothing after the event", "control character")},
		{"cut after brace", `{`, one("", "at byte 1: want a key", "end of input")},
		{"cut after key", `{"act"`, one("", `at byte 6: want ":"`, "end of input")},
		{"cut after colon", `{"act":`, one("/act", "at byte 7: want a value", "end of input")},
		{"cut in string", `{"act":"A`, one("/act", "at byte 9: want the end of the string", "end of input")},
		{"cut after value", `{"act":"A"`, one("", `at byte 10: want "," or "}"`, "end of input")},
		{"cut in pairs", `{"sub":{"user":"u"`, one("/sub", `at byte 18: want "," or "}"`, "end of input")},
		{"cut in a pair", `{"sub":{"user":`, one("/sub/user", "at byte 15: want a value", "end of input")},
		{"comma first", `{,"act":"A"}`, one("", "at byte 1: want a key", `","`)},
		{"comma last", `{"act":"A",}`, one("", "at byte 11: want a key", `"}"`)},
		{"two commas", `{"act":"A",,"sub":{}}`, one("", "at byte 11: want a key", `","`)},
		{"no comma", `{"act":"A" "sub":{}}`, one("", `at byte 11: want "," or "}"`, "string")},
		{"no colon", `{"act" "A"}`, one("", `at byte 7: want ":"`, "string")},
		{"bare key", `{act:"A"}`, one("", "at byte 1: want a key", "text")},
		{"single quotes", `{'act':'A'}`, one("", "at byte 1: want a key", "text")},
		{"comment", `{/**/"act":"A"}`, one("", "at byte 1: want a key", "text")},
		{"wrong bracket", `{"act":"A"]`, one("", `at byte 10: want "," or "}"`, `"]"`)},
		{"form feed as space", "{\f}", one("", "at byte 1: want a key", "control character")},
		{"no-break space", "{\u00a0}", one("", "at byte 1: want a key", "byte beyond ASCII")},

		// Strings.
		{"raw newline", with("\"ctx\":{\"a\":\"x\ny\"}"),
			one("/ctx/a", "at byte 43: want control characters escaped", "control character")},
		{"raw NUL after an escape", with("\"ctx\":{\"a\":\"\\n\x00\"}"),
			one("/ctx/a", "at byte 44: want control characters escaped", "control character")},
		{"unknown escape", with(`"ctx":{"a":"\x41"}`), one("/ctx/a", "at byte 42: "+noEscape, "backslash")},
		{"upper-case escape", with(`"ctx":{"a":"\N"}`), one("/ctx/a", "at byte 42: "+noEscape, "backslash")},
		{"short unicode escape", with(`"ctx":{"a":"\u12"}`), one("/ctx/a", "at byte 42: "+noEscape, "backslash")},
		{"unicode escape cut", `{"act":"\u00`, one("/act", "at byte 8: "+noEscape, "backslash")},
		{"escape cut", `{"act":"\`, one("/act", "at byte 8: "+noEscape, "backslash")},
		{"lone high surrogate", with(`"ctx":{"a":"\ud83d"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"lone low surrogate", with(`"ctx":{"a":"\ude00"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"surrogates reversed", with(`"ctx":{"a":"\ude00\ud83d"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"high surrogate twice", with(`"ctx":{"a":"\ud83d\ud83d"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"surrogate then letter", with(`"ctx":{"a":"\ud83d\u0041"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"surrogate then bad escape", with(`"ctx":{"a":"\ud83d\u00"}`), one("/ctx/a", "at byte 42: "+lone, "backslash")},
		{"surrogate in key", with(`"ctx":{"\ud83d":"x"}`), one("/ctx", "at byte 38: "+lone, "backslash")},
		{"surrogate in field", with(`"\ud83d":"x"`), one("", "at byte 31: "+lone, "backslash")},
		{"invalid UTF-8", with("\"ctx\":{\"a\":\"x\xff\"}"),
			one("/ctx/a", "at byte 43: want UTF-8", "byte beyond ASCII")},
		{"invalid UTF-8 in the first word", with("\"ctx\":{\"a\":\"\xc3abcdefghijk\"}"),
			one("/ctx/a", "at byte 42: want UTF-8", "byte beyond ASCII")},
		{"invalid UTF-8 after an escape", with("\"ctx\":{\"a\":\"\\nabcdefgh\xff\"}"),
			one("/ctx/a", "at byte 52: want UTF-8", "byte beyond ASCII")},
		{"raw surrogate", with("\"ctx\":{\"a\":\"\xed\xa0\x80\"}"),
			one("/ctx/a", "at byte 42: want UTF-8", "byte beyond ASCII")},
		{"overlong UTF-8", with("\"ctx\":{\"a\":\"\xc0\x80\"}"),
			one("/ctx/a", "at byte 42: want UTF-8", "byte beyond ASCII")},
		{"character cut by the quote", with("\"ctx\":{\"a\":\"\xe2\x82\"}"),
			one("/ctx/a", "at byte 42: want UTF-8", "byte beyond ASCII")},
		{"beyond Unicode", with("\"ctx\":{\"a\":\"\xf4\x90\x80\x80\"}"),
			one("/ctx/a", "at byte 42: want UTF-8", "byte beyond ASCII")},
		{"invalid UTF-8 in key", with("\"ctx\":{\"a\xff\":\"x\"}"),
			one("/ctx", "at byte 39: want UTF-8", "byte beyond ASCII")},

		// Fields.
		{"nothing in it", `{}`, violations{{Path: "/sub", Rule: "required", Shape: "nothing"}, {Path: "/act", Rule: "required", Shape: "nothing"}}},
		{"no action", `{"sub":{"user":"u"}}`, one("/act", "required", "nothing")},
		{"no subject", `{"act":"A"}`, one("/sub", "required", "nothing")},
		{"empty subject", `{"act":"A","sub":{}}`, one("/sub", "required", "nothing")},
		{"empty action", `{"act":"","sub":{"user":"u"}}`, one("/act", "required", "nothing")},
		{"unknown field", with(`"extra":{"a":[1,{"b":null}]}`), one("/extra", "unknown field", "object")},
		{"letter case of a field", with(`"OBJ":{}`), one("/OBJ", "unknown field", "object")},
		{"empty field name", with(`"":1`), one("/?", "unknown field", "number")},
		{"field name like data", with(`"13912345678":"x"`), one("/?", "unknown field", "string of 1 byte")},
		{"field twice", with(`"act":"B"`), one("/act", "duplicate key", "string of 1 byte")},
		{"field twice, escaped", with(`"\u0061ct":"B"`), one("/act", "duplicate key", "string of 1 byte")},
		{"subject twice", with(`"sub":{}`), one("/sub", "duplicate key", "object")},
		{"unset field twice", with(`"obj":null,"obj":null`), one("/obj", "duplicate key", "null")},
		{"id is a number", with(`"id":12`), one("/id", "want string", "number")},
		{"id is null", with(`"id":null`), one("/id", "want string", "null")},
		{"id is not a UUID", with(`"id":"0123456789ab"`), one("/id", "not a UUID", "string of 12 bytes")},
		{"id in braces", with(`"id":"{919108f7-52d1-4320-9bac-f847db4148a8}"`),
			one("/id", "not a UUID", "string of 38 bytes")},
		{"id is the nil UUID", with(`"id":"00000000-0000-0000-0000-000000000000"`),
			one("/id", "want a UUID other than the nil UUID", "string of 36 bytes")},
		{"time is a number", with(`"ts":1767225600`), one("/ts", "want string", "number")},
		{"time is empty", with(`"ts":""`), one("/ts", "not an RFC 3339 timestamp", "string of 0 bytes")},
		{"time is a date", with(`"ts":"2026-03-01"`), one("/ts", "not an RFC 3339 timestamp", "string of 10 bytes")},
		{"time before year 1", with(`"ts":"0001-01-01T00:59:59+01:00"`),
			one("/ts", "want a year from 1 to 9999 in UTC", "string of 25 bytes")},
		{"time after year 9999", with(`"ts":"9999-12-31T23:00:00-01:00"`),
			one("/ts", "want a year from 1 to 9999 in UTC", "string of 25 bytes")},
		{"severity is a number", with(`"sev":3`), one("/sev", "want string", "number")},
		{"severity in lower case", with(`"sev":"warn"`),
			one("/sev", "want DEBUG, INFO, WARN, ERROR or CRITICAL", "string of 4 bytes")},
		{"severity is empty", with(`"sev":""`),
			one("/sev", "want DEBUG, INFO, WARN, ERROR or CRITICAL", "string of 0 bytes")},
		{"action is an array", `{"sub":{"user":"u"},"act":["A"]}`, one("/act", "want string", "array")},
		{"action is null", `{"sub":{"user":"u"},"act":null}`, one("/act", "want string", "null")},
		{"subject is a string", `{"act":"A","sub":"u1"}`, one("/sub", "want object", "string of 2 bytes")},
		{"subject is null", `{"act":"A","sub":null}`, one("/sub", "want object", "null")},
		{"object is an array", with(`"obj":[]`), one("/obj", "want object", "array")},
		{"object is false", with(`"obj":false`), one("/obj", "want object", "boolean")},

		// Pairs.
		{"value is a number", with(`"obj":{"n":1}`), one("/obj/n", "want string", "number")},
		{"value is null", with(`"obj":{"n":null}`), one("/obj/n", "want string", "null")},
		{"value is true", with(`"obj":{"n":true}`), one("/obj/n", "want string", "boolean")},
		{"value is an object", with(`"obj":{"n":{"deep":[[1,2],{}]}}`), one("/obj/n", "want string", "object")},
		{"subject's value is a number", `{"act":"A","sub":{"user":10086}}`, one("/sub/user", "want string", "number")},
		{"subject's value is empty", `{"act":"A","sub":{"user":""}}`,
			one("/sub/user", "want a value that is not empty", "string of 0 bytes")},
		{"key twice", with(`"obj":{"a":"1","b":"","a":"234"}`), one("/obj/a", "duplicate key", "string of 3 bytes")},
		{"key twice, escaped", with(`"obj":{"a":"1","\u0061":"1"}`), one("/obj/a", "duplicate key", "string of 1 byte")},
		{"key three times", with(`"ctx":{"a":"1","a":"1","a":"1"}`), violations{
			{Path: "/ctx/a", Rule: "duplicate key", Shape: "string of 1 byte"}, {Path: "/ctx/a", Rule: "duplicate key", Shape: "string of 1 byte"}}},
		{"empty key", with(`"obj":{"":"x"}`), one("/obj/?", "empty key", "string of 0 bytes")},
		{"control character in key", with(`"obj":{"a\u0000b":"x"}`),
			one("/obj/?", "control character in key", "string of 3 bytes")},
		{"DEL in key", with("\"obj\":{\"a\x7f\":\"x\"}"), one("/obj/?", "control character in key", "string of 2 bytes")},
		{"C1 in key", with(`"obj":{"a\u0085":"x"}`), one("/obj/?", "control character in key", "string of 3 bytes")},
		{"long key", with(`"obj":{"` + strings.Repeat("k", 129) + `":"x"}`),
			one("/obj/?", "want a key of at most 128 bytes", "string of 129 bytes")},
		{"too many pairs", with(`"ctx":` + pairs(129)), one("/ctx", "want at most 128 pairs", "object of 129 pairs")},
		{"far too many pairs", with(`"ctx":` + pairs(5000)), one("/ctx", "want at most 128 pairs", "object of 5000 pairs")},

		// Actions.
		{"long action", `{"act":"` + strings.Repeat("A", 129) + `","sub":{"user":"u"}}`,
			one("/act", "want at most 128 bytes", "string of 129 bytes")},
		{"action with a space", `{"act":"A B","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 3 bytes")},
		{"action with a wildcard", `{"act":"AUTH.*","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 6 bytes")},
		{"action beyond ASCII", `{"act":"é","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 2 bytes")},
		{"action starts with a dot", `{"act":".A","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 2 bytes")},
		{"action ends with a dot", `{"act":"A.","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 2 bytes")},
		{"action with two dots", `{"act":"A..B","sub":{"user":"u"}}`,
			one("/act", "want dotted segments of A-Z a-z 0-9 _ -", "string of 4 bytes")},

		// Values that are refused anyway still have to be JSON.
		{"leading zero", with(`"x":01`), violations{
			{Path: "/x", Rule: "unknown field", Shape: "number"}, {Path: "", Rule: `at byte 35: want "," or "}"`, Shape: "number"}}},
		{"plus sign", with(`"x":+1`), one("/x", "at byte 34: want a value", "text")},
		{"minus alone", with(`"x":-`), one("/x", "at byte 35: want a digit", `"}"`)},
		{"no fraction", with(`"x":1.`), one("/x", "at byte 36: want a digit", `"}"`)},
		{"no exponent", with(`"x":1e+`), one("/x", "at byte 37: want a digit", `"}"`)},
		{"NaN", with(`"x":NaN`), one("/x", "at byte 34: want a value", "text")},
		{"literal in part", with(`"x":tru`), one("/x", "at byte 34: want a value", "text")},
		{"array left open", with(`"x":[1,2`), one("/x", `at byte 38: want "," or "]"`, `"}"`)},
		{"array with a last comma", with(`"x":[1,]`), one("/x", "at byte 37: want a value", `"]"`)},
		{"deep nesting", with(`"x":` + strings.Repeat("[", 1000)), one("/x", "at byte 67: want at most 32 levels", "array")},
		{"deep objects", with(`"x":` + strings.Repeat(`{"a":`, 1000)),
			one("/x", "at byte 199: want at most 32 levels", "object")},

		// Several at once.
		{"one of each field", `{"id":1,"ts":2,"sev":3,"sub":4,"act":5,"obj":6,"ctx":7}`, violations{
			{Path: "/id", Rule: "want string", Shape: "number"}, {Path: "/ts", Rule: "want string", Shape: "number"}, {Path: "/sev", Rule: "want string", Shape: "number"},
			{Path: "/sub", Rule: "want object", Shape: "number"}, {Path: "/act", Rule: "want string", Shape: "number"}, {Path: "/obj", Rule: "want object", Shape: "number"},
			{Path: "/ctx", Rule: "want object", Shape: "number"}}},
		{"types before shapes", `{"act":"A B","sub":{"user":""},"obj":{"n":1}}`, violations{
			{Path: "/obj/n", Rule: "want string", Shape: "number"}, {Path: "/sub/user", Rule: "want a value that is not empty", Shape: "string of 0 bytes"},
			{Path: "/act", Rule: "want dotted segments of A-Z a-z 0-9 _ -", Shape: "string of 3 bytes"}}},
		{"findings before the text ends", `{"id":1,`, violations{
			{Path: "/id", Rule: "want string", Shape: "number"}, {Path: "", Rule: "at byte 8: want a key", Shape: "end of input"}}},
		{"more than are listed", `{` + strings.Repeat(`"x":1,`, 40) + `"y"}`, append(
			repeat(veritrail.Violation{Path: "/x", Rule: "unknown field", Shape: "number"}, 15),
			veritrail.Violation{Rule: `at byte 244: want ":"`, Shape: `"}"`})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := veritrail.ParseEvent([]byte(tc.data))
			if e != nil {
				t.Errorf("got an event: %+v", e)
			}
			wantViolations(t, err, tc.want...)
		})
	}
}

func repeat(v veritrail.Violation, n int) []veritrail.Violation {
	list := make([]veritrail.Violation, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func TestParseEventAcceptsTheBounds(t *testing.T) {
	var pairs strings.Builder
	for i := range veritrail.MaxPairs {
		if i > 0 {
			pairs.WriteByte(',')
		}
		pairs.WriteString(`"` + strconv.Itoa(1000+i) + `":""`)
	}
	key := strings.Repeat("键", veritrail.MaxKeyBytes/3) + "ab"
	data := `{"act":"` + strings.Repeat("A", veritrail.MaxActionBytes) + `","sub":{"` + key + `":"u"},` +
		`"obj":{` + pairs.String() + `},"ctx":null,"id":"","ts":"0001-01-01T00:00:00Z"}`
	e, err := veritrail.ParseEvent([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if e.ID != "" || !e.Timestamp.IsZero() || len(e.Object) != veritrail.MaxPairs || e.Subject[key] != "u" {
		t.Errorf("got %+v", e)
	}
}

// The examples of RFC 3339, section 5.8, and what the format narrows.
func TestParseEventTimestamps(t *testing.T) {
	date := func(y, mo, d, h, mi, s, ns int) time.Time {
		return time.Date(y, time.Month(mo), d, h, mi, s, ns, time.UTC)
	}
	for text, want := range map[string]time.Time{
		"1985-04-12T23:20:50.52Z":             date(1985, 4, 12, 23, 20, 50, 520_000_000),
		"1996-12-19T16:39:57-08:00":           date(1996, 12, 20, 0, 39, 57, 0),
		"1937-01-01T12:00:27.87+00:20":        date(1937, 1, 1, 11, 40, 27, 870_000_000),
		"2024-02-29T00:00:00Z":                date(2024, 2, 29, 0, 0, 0, 0),
		"2000-02-29T00:00:00Z":                date(2000, 2, 29, 0, 0, 0, 0),
		"2026-03-01T09:30:00.000000001-00:00": date(2026, 3, 1, 9, 30, 0, 1),
		"2026-03-01T09:30:00+23:59":           date(2026, 2, 28, 9, 31, 0, 0),
		"0000-12-31T23:59:59-00:01":           date(1, 1, 1, 0, 0, 59, 0),
		"9999-12-31T23:59:59.999999999Z":      date(9999, 12, 31, 23, 59, 59, 999_999_999),
	} {
		e, err := veritrail.ParseEvent([]byte(`{"act":"A","sub":{"user":"u"},"ts":"` + text + `"}`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if e.Timestamp != want {
			t.Errorf("%s: got %v, want %v", text, e.Timestamp, want)
		}
	}
	for _, text := range []string{
		"1990-12-31T23:59:60Z", "1990-12-31T15:59:60-08:00", // leap seconds
		"2026-03-01t09:30:00Z", "2026-03-01T09:30:00z", "2026-03-01 09:30:00Z",
		"2026-03-01T09:30:00", "2026-03-01T09:30:00.Z", "2026-03-01T09:30:00,5Z", "2026-03-01T09:30:00.1234567890Z",
		"2026-03-01T09:30:00+0800", "2026-03-01T09:30:00+08", "2026-03-01T09:30:00+24:00", "2026-03-01T09:30:00+08:60",
		"2026-03-01T09:30:00+08:00Z", "2026-03-01T09:30:00Z ", " 2026-03-01T09:30:00Z", "2026-03-01T09:30:00.5",
		"2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-13-01T00:00:00Z",
		"2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-03-01T24:00:00Z",
		"2026-03-01T09:60:00Z", "2026-3-01T09:30:00Z", "+026-03-01T09:30:00Z", "2026-03-01T9:30:00.00Z",
		"2O26-03-01T09:30:00Z", "202x-03-01T09:30:00Z", "2026-03-01T09:30:0xZ", "2026-03-01T09:30:00+0x:00",
		"99999-03-01T09:30:00Z", "2026-W09-7T09:30:00Z", "2026-03-01T09-30-00Z", "2026/03/01T09:30:00Z",
	} {
		_, err := veritrail.ParseEvent([]byte(`{"act":"A","sub":{"user":"u"},"ts":"` + text + `"}`))
		wantViolations(t, err, veritrail.Violation{
			Path: "/ts", Rule: "not an RFC 3339 timestamp", Shape: "string of " + strconv.Itoa(len(text)) + " bytes"})
	}
}

// A path may be logged, so it shows a key only when that reads like a name.
func TestPathsHideKeysThatLookLikeData(t *testing.T) {
	for key, want := range map[string]string{
		"user": "/ctx/user", "trace_id": "/ctx/trace_id", "k8s.pod-name": "/ctx/k8s.pod-name", "a1234": "/ctx/a1234",
		strings.Repeat("k", 64): "/ctx/" + strings.Repeat("k", 64),
		"a12345":                "/ctx/?", "1a": "/ctx/?", "_a": "/ctx/?", "alice@example.com": "/ctx/?", "a/b": "/ctx/?", "a~b": "/ctx/?",
		"张三": "/ctx/?", "a b": "/ctx/?", strings.Repeat("k", 65): "/ctx/?",
	} {
		name, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = veritrail.ParseEvent([]byte(`{"act":"A","sub":{"user":"u"},"ctx":{` + string(name) + `:1}}`))
		wantViolations(t, err, veritrail.Violation{Path: want, Rule: "want string", Shape: "number"})
	}
}

// Whatever is wrong with it, a value never comes back in the error.
func TestErrorsHoldNoValue(t *testing.T) {
	const secret = "s3cr3t-4111111111111111"
	for _, data := range []string{
		`{"act":"` + secret + ` ","sub":{"user":"` + secret + `","user":"` + secret + `"}}`,
		`{"act":"A","sub":"` + secret + `"}`, `{"act":"A","sub":{"` + secret + `":""}}`,
		`{"id":"` + secret + `","ts":"` + secret + `","sev":"` + secret + `","` + secret + `":"` + secret + `"}`,
		`"` + secret + `"`, secret, `{"act":"A","sub":{"user":"u"}}` + secret, `{"act":` + secret + `}`,
		`{"act":"A","sub":{"` + secret + "\x00" + `":""}}`, `{"act":"` + secret + `\x"}`,
	} {
		_, err := veritrail.ParseEvent([]byte(data))
		if err == nil {
			t.Errorf("%s: accepted", data)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "4111") {
			t.Errorf("%s: the error tells it: %v", data, err)
		}
	}
}

// Each violation names the keyword of schemas/event.schema.json that it breaks, where there is one.
func TestViolationsNameTheKeyword(t *testing.T) {
	for data, want := range map[string]string{
		`{"sub":{"user":"u"}}`:                    "required",
		`{"act":"A","sub":{"user":7}}`:            "type",
		`{"act":"A","sub":7}`:                     "type",
		`{"act":"A","sub":{"user":"u"},"x":1}`:    "additionalProperties",
		`{"act":"A","sub":{"user":"u"},"id":"x"}`: "format",
		`{"act":"A","sub":{"user":"u"},"id":"00000000-0000-0000-0000-000000000000"}`:      "not",
		`{"act":"A","sub":{"user":"u"},"ts":"x"}`:                                         "format",
		`{"act":"A","sub":{"user":"u"},"sev":"x"}`:                                        "enum",
		`{"act":"A B","sub":{"user":"u"}}`:                                                "pattern",
		`{"act":"A","sub":{"":"u"}}`:                                                      "propertyNames",
		`{"act":"A","sub":{"user":""}}`:                                                   "minLength",
		`{"act":"` + strings.Repeat("A", 129) + `","sub":{"user":"u"}}`:                   "maxLength",
		`{"act":"A","sub":{"user":"u","user":"u"}}`:                                       "",
		`{"act":"A","sub":{"user":"u"}`:                                                   "",
		`{"act":"A","sub":{"user":"u"},"ctx":{"a":"` + strings.Repeat("a", 65535) + `"}}`: "",
	} {
		_, err := veritrail.ParseEvent([]byte(data))
		var invalid *veritrail.InvalidEventError
		if !errors.As(err, &invalid) {
			t.Errorf("%.80s: got %v", data, err)
			continue
		}
		v := invalid.Violations[0]
		if v.Keyword != want {
			t.Errorf("%.80s: got keyword %q, want %q", data, v.Keyword, want)
		}
		if want != "" && want != v.Rule && !strings.Contains(v.String(), want+": "+v.Rule) {
			t.Errorf("%.80s: the line lacks the keyword: %s", data, v)
		}
	}
}
