package jsonschema

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
)

// reasons are the lines of what Validate says of a value.
func reasons(t testing.TB, s *Schema, text string) []string {
	t.Helper()
	v, err := Decode([]byte(text))
	if err == nil {
		err = s.Validate(v)
	}
	if err == nil {
		return nil
	}
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) {
		t.Fatalf("%s: got %v", text, err)
	}
	var lines []string
	for _, v := range invalid.Violations {
		lines = append(lines, v.String())
	}
	return lines
}

func TestViolationsSayWhereWhichAndWhat(t *testing.T) {
	for _, tc := range []struct {
		schema, value string
		want          []string
	}{
		{`{"type":"string"}`, `7`, []string{"type: want string, got number"}},
		{`{"type":["integer","null"]}`, `7.5`, []string{"type: want null or integer, got number"}},
		{`{"const":"a"}`, `"b"`, []string{"const: want a, got string of 1 byte"}},
		{`{"const":{"a":1}}`, `{"a":2}`, []string{`const: want {"a":1}, got object of 1 member`}},
		{`{"enum":["a",1,null]}`, `"b"`, []string{"enum: want a, 1 or null, got string of 1 byte"}},
		{`{"format":"ip"}`, `"fe80::1%eth0"`, []string{"format: want ip, got string of 12 bytes"}},
		{`{"format":"uuid"}`, `"x"`, []string{"format: want uuid, got string of 1 byte"}},
		{`{"format":"email"}`, `"x"`, []string{"format: want email, got string of 1 byte"}},
		{`{"format":"regex"}`, `"("`, []string{"format: want regex, got string of 1 byte"}},
		{`{"minLength":2,"pattern":"^b"}`, `"a"`, []string{"minLength: want at least 2 characters, got string of 1 byte",
			"pattern: want a match of ^b, got string of 1 byte"}},
		{`{"minLength":2}`, `"键"`, []string{"minLength: want at least 2 characters, got string of 3 bytes"}},
		{`{"maxLength":1}`, `"键键"`, []string{"maxLength: want at most 1 character, got string of 6 bytes"}},
		{`{"minimum":3}`, `2`, []string{"minimum: want at least 3, got number"}},
		{`{"maximum":2.5}`, `3`, []string{"maximum: want at most 2.5, got number"}},
		{`{"exclusiveMinimum":3}`, `3`, []string{"exclusiveMinimum: want more than 3, got number"}},
		{`{"exclusiveMaximum":3}`, `3e0`, []string{"exclusiveMaximum: want less than 3, got number"}},
		{`{"multipleOf":0.01}`, `0.001`, []string{"multipleOf: want a multiple of 0.01, got number"}},
		{`{"minItems":2}`, `[1]`, []string{"minItems: want at least 2 items, got array of 1 item"}},
		{`{"maxItems":1}`, `[1,2]`, []string{"maxItems: want at most 1 item, got array of 2 items"}},
		{`{"uniqueItems":true}`, `[1,{"a":[1.0]},{"a":[1]}]`, []string{"/2: uniqueItems: want items that differ, got object of 1 member"}},
		{`{"items":{"type":"string"}}`, `["a",1,[]]`, []string{"/1: type: want string, got number", "/2: type: want string, got array of 0 items"}},
		{`{"items":[{"type":"string"}],"additionalItems":false}`, `[1,2]`, []string{"/0: type: want string, got number",
			"/1: additionalItems: want at most 1 item, got number"}},
		{`{"contains":{"const":1}}`, `[2]`, []string{"contains: want an item as contains describes it, got array of 1 item"}},
		{`{"minProperties":2}`, `{"a":1}`, []string{"minProperties: want at least 2 members, got object of 1 member"}},
		{`{"maxProperties":0}`, `{"a":1}`, []string{"maxProperties: want at most 0 members, got object of 1 member"}},
		{`{"required":["a","b"]}`, `{"c":1}`, []string{"/a: required, got nothing", "/b: required, got nothing"}},
		{`{"additionalProperties":false,"properties":{"a":{}}}`, `{"b":[],"a":1,"alice@example.com":2}`,
			[]string{"/?: additionalProperties: unknown field, got number", "/b: additionalProperties: unknown field, got array of 0 items"}},
		{`{"additionalProperties":{"type":"null"}}`, `{"b":1}`, []string{"/b: type: want null, got number"}},
		{`{"patternProperties":{"^x":{"type":"string"}}}`, `{"xy":1}`, []string{"/xy: type: want string, got number"}},
		{`{"propertyNames":{"maxLength":2}}`, `{"abc":1}`, []string{"/abc: propertyNames: key: want at most 2 characters, got string of 3 bytes"}},
		{`{"propertyNames":{"enum":["a"]}}`, `{"b":1}`, []string{"/b: propertyNames: key: want a, got string of 1 byte"}},
		{`{"dependencies":{"a":["b"]}}`, `{"a":1}`, []string{"/b: dependencies: required beside a, got nothing"}},
		{`{"dependencies":{"a":{"required":["b"]}}}`, `{"a":1}`, []string{"/b: required, got nothing"}},
		{`{"not":{"type":"null"}}`, `null`, []string{"not: want what the schema of not refuses, got null"}},
		{`{"allOf":[{"type":"null"},{"const":1}]}`, `2`, []string{"type: want null, got number", "const: want 1, got number"}},
		{`{"anyOf":[{"type":"null"},{"properties":{"a":{"type":"null"}},"required":["b"]}]}`, `{"a":1}`,
			[]string{"anyOf: want one of 2 schemas to hold, got object of 1 member", "type: want null, got object of 1 member"}},
		{`{"oneOf":[{"type":"null"}]}`, `1`, []string{"oneOf: want one of 1 schemas to hold, got number", "type: want null, got number"}},
		{`{"oneOf":[{},{}]}`, `1`, []string{"oneOf: want exactly one of 2 schemas to hold, 2 do, got number"}},
		{`{"if":{"type":"string"},"then":{"minLength":1},"else":{"const":1}}`, `""`, []string{"minLength: want at least 1 character, got string of 0 bytes"}},
		{`{"if":{"type":"string"},"then":{"minLength":1},"else":{"const":1}}`, `2`, []string{"const: want 1, got number"}},
		{`{"properties":{"a":false}}`, `{"a":true}`, []string{"/a: false: want nothing here, got boolean"}},
		{`{"contentEncoding":"base64"}`, `"%"`, []string{"contentEncoding: want base64, got string of 1 byte"}},
		{`{"contentMediaType":"application/json"}`, `"{"`, []string{"contentMediaType: want application/json, got string of 1 byte"}},
		{`{"definitions":{"a":{"properties":{"b":{"items":{"type":"null"}}}}},"$ref":"#/definitions/a"}`, `{"b":[null,{"c":1}]}`,
			[]string{"/b/1: type: want null, got object of 1 member"}},
		{`{"properties":{"13912345678":{"type":"null"}}}`, `{"13912345678":1}`, []string{"/?: type: want null, got number"}},
		{`{}`, `{"/139":{"a":1,"a":2}}`, []string{"/?/a: duplicate key, got number"}},
	} {
		s, err := Compile("test", []byte(tc.schema), nil)
		if err != nil {
			t.Errorf("%s: %v", tc.schema, err)
			continue
		}
		if got := reasons(t, s, tc.value); !slices.Equal(got, tc.want) {
			t.Errorf("%s of %s:\n got %q\nwant %q", tc.value, tc.schema, got, tc.want)
		}
	}
}

func TestAtMost16ViolationsAreListed(t *testing.T) {
	s := mustCompile(t, "test", []byte(`{"items":{"type":"null"}}`))
	if got := reasons(t, s, "["+strings.Repeat("1,", 99)+"1]"); len(got) != maxViolations || got[15] != "/15: type: want null, got number" {
		t.Errorf("got %q", got)
	}
}

// Whatever is wrong with a value, and wherever, it never comes back in what is said of it.
func TestReasonsHoldNoValue(t *testing.T) {
	const secret = "s3cr3t-4111111111111111"
	value := `{"a":"` + secret + `","` + secret + `":["` + secret + `","` + secret + `"],"b":{"` + secret + `":{"x":4111111111111111}},"c":4111111111111111}`
	for _, keyword := range []string{
		`"type":"null"`, `"const":1`, `"enum":[1,"x"]`, `"format":"ip"`, `"minLength":99`, `"maxLength":1`, `"pattern":"^z"`, `"minimum":1e300`,
		`"maximum":1`, `"multipleOf":7`, `"exclusiveMaximum":1`, `"exclusiveMinimum":1e300`, `"uniqueItems":true`, `"minItems":9`, `"maxItems":0`,
		`"contains":false`, `"required":["zz"]`, `"minProperties":9`, `"maxProperties":0`, `"propertyNames":{"maxLength":1}`, `"not":{}`,
		`"anyOf":[false,{"type":"null"}]`, `"oneOf":[{},{}]`, `"oneOf":[false,{"const":2}]`, `"contentEncoding":"base64"`,
		`"contentMediaType":"application/json"`, `"additionalProperties":false`, `"format":"date-time"`, `"format":"email"`, `"format":"uri"`,
		`"format":"hostname"`, `"format":"regex"`, `"format":"duration"`,
	} {
		at := `{` + keyword + `}`
		for _, schema := range []string{at, `{"additionalProperties":` + at + `}`, `{"additionalProperties":{"items":` + at + `}}`,
			`{"additionalProperties":{"additionalProperties":` + at + `}}`,
			`{"additionalProperties":{"additionalProperties":{"additionalProperties":` + at + `}}}`, `{"propertyNames":` + at + `}`} {
			s, err := Compile("test", []byte(schema), nil)
			if err != nil {
				t.Fatalf("%s: %v", schema, err)
			}
			for _, text := range []string{value, value[:len(value)-3], strings.Replace(value, `"c"`, `"a"`, 1), secret} {
				if said := strings.Join(reasons(t, s, text), "\n"); strings.Contains(said, "s3cr3t") || strings.Contains(said, "4111") {
					t.Errorf("%s tells a value: %s", schema, said)
				}
			}
		}
	}
}

func TestCompileRefusesWhatWouldReachOutOrNeverEnd(t *testing.T) {
	for _, tc := range []struct{ schema, want string }{
		{`{"$ref":"http://192.0.2.1/x.json"}`, "$ref to http://192.0.2.1/x.json: not a registered schema"},
		{`{"$ref":"file:///etc/passwd"}`, "not a registered schema"},
		{`{"$ref":"other.json"}`, "not a registered schema"},
		{`{"$id":"file:///etc/","properties":{"a":{"$ref":"passwd"}}}`, "not a registered schema"},
		{`{"$schema":"http://192.0.2.1/meta.json"}`, "not a registered schema"},
		{`{"$schema":"https://json-schema.org/draft/2019-09/schema"}`, "of another draft than 07"},
		{`{"$schema":"http://json-schema.org/draft-04/schema#"}`, "of another draft than 07"},
		{`{"$ref":"#"}`, "without going deeper"},
		{`{"definitions":{"a":{"anyOf":[{"$ref":"#/definitions/b"}]},"b":{"not":{"$ref":"#/definitions/a"}}},"properties":{"x":{"$ref":"#/definitions/a"}}}`, "without going deeper"},
		{`{"dependencies":{"a":{"$ref":"#"}}}`, "without going deeper"},
		{`{"$ref":"#/definitions/none"}`, "not found"},
		{`{"pattern":"(a)\\1"}`, "back-references"},
		{`{"pattern":"(?<!a)b"}`, "lookaround"},
		{`{"pattern":"(?i)b"}`, "lookaround"},
		{`{"patternProperties":{"(":{}}}`, "not a regex: error parsing regexp"},
		{`{"pattern":"a{1001}"}`, "/pattern: not a regex"},
		{`{"type":"text"}`, "/type: not a schema of draft-07"},
		{`{"properties":{"a":{"minLength":-1}}}`, "/properties/a/minLength: not a schema of draft-07"},
		{`{"maxLength":1e300}`, "maxLength: want at most 2147483647"},
		{`{"maxLength":1e999999999}`, "exponent within 400"},
		{`{"a":1,"a":2}`, "/a: duplicate key"},
		{`[]`, "not a schema"},
		{`7`, "not a schema"},
		{``, "want a value"},
		{strings.Repeat(`{"not":`, 70) + `{}` + strings.Repeat(`}`, 70), "want at most 64 levels"},
		{`{"allOf":[` + strings.Repeat(`{},`, maxSchemaValues) + `{}]}`, "want at most 10000 values"},
		{`{"title":"` + strings.Repeat("x", maxSchemaBytes) + `"}`, "want at most 1048576 bytes"},
	} {
		_, err := Compile("test", []byte(tc.schema), nil)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "schema test: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.80s: got %v, want %s", tc.schema, err, tc.want)
		}
	}
}

func TestRefsReachRegisteredSchemas(t *testing.T) {
	others := map[string][]byte{"urn:example:a": []byte(`{"$ref":"urn:example:b#/definitions/x"}`),
		"urn:example:b": []byte(`{"$id":"urn:example:b","definitions":{"x":{"type":"null"}}}`)}
	s, err := Compile("test", []byte(`{"properties":{"a":{"$ref":"urn:example:a"},"meta":{"$ref":"http://json-schema.org/draft-07/schema#"}}}`), others)
	if err != nil {
		t.Fatal(err)
	}
	if got := reasons(t, s, `{"a":1,"meta":{"type":"text"}}`); len(got) < 2 || got[0] != "/a: type: want null, got number" {
		t.Errorf("got %q", got)
	}
	if got := reasons(t, s, `{"a":null,"meta":{"type":"string"}}`); got != nil {
		t.Errorf("got %q", got)
	}
	if got := ID([]byte(`{"$id":"urn:example:c#"}`)); got != "urn:example:c" {
		t.Errorf("got id %q", got)
	}
}

// doubling is a schema in which each of n levels applies the next twice.
func doubling(n int, deeper string) []byte {
	var b strings.Builder
	b.WriteString(`{"$ref":"#/definitions/l0","definitions":{`)
	for i := range n {
		next := fmt.Sprintf(strings.ReplaceAll(deeper, "NEXT", `{"$ref":"#/definitions/l%[1]d"}`), i+1)
		fmt.Fprintf(&b, `"l%d":{"allOf":[%s,%s]},`, i, next, next)
	}
	fmt.Fprintf(&b, `"l%d":{}}}`, n)
	return []byte(b.String())
}

// A small schema can ask for 2^40 steps; the value is refused when there were too many.
func TestTooManyStepsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		schema []byte
		value  string
	}{
		"in place": {doubling(40, `NEXT`), `1`},
		"deeper":   {doubling(28, `{"properties":{"a":NEXT}}`), strings.Repeat(`{"a":`, 30) + `1` + strings.Repeat(`}`, 30)},
		"negated":  {doubling(40, `{"not":{"not":NEXT}}`), `1`},
		"choices":  {[]byte(strings.ReplaceAll(string(doubling(40, `NEXT`)), "allOf", "oneOf")), `1`},
	} {
		s, err := Compile("test", c.schema, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := reasons(t, s, c.value)
		if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "want a value that the schema checks within 250000 steps") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// These take exponential time where patterns are matched by backtracking.
func TestPatternsTakeLinearTime(t *testing.T) {
	long := strings.Repeat("a", 20_000)
	for _, source := range []string{`^(a+)+$`, `^(a|a)*$`, `^(a|aa)+$`, `(.*a){20}$`, `^(([a-z])+.)+[A-Z]([a-z])+$`} {
		s, err := Compile("test", fmt.Appendf(nil, `{"pattern":%q}`, source), nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Valid(long + "!")
		s.Valid(long + "é!")
	}
}

func TestDecodeRefusesWhatReadersDifferOn(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"a":1}`: "/a: duplicate key", `{"a":[{"b":1,"\u0062":2}]}`: "/a/0/b: duplicate key", "\"\xff\"": "at byte 1: want UTF-8",
		`"\ud800"`: "surrogate pair", `"\ud800\u0041"`: "surrogate pair", `"\udc00"`: "surrogate pair", `"\x"`: "escape sequence", `"\u12"`: "escape",
		"\"\n\"": "control characters", `01`: "nothing after", `-`: "want a digit", `1.`: "want a digit", `1e`: "want a digit", `+1`: "want a value",
		`.5`: "want a value", `nul`: "want a value", `{,}`: "want a key", `{"a"}`: `want ":"`, `{"a":1,}`: "want a key", `[1,]`: "want a value",
		`[1 2]`: `want "," or "]"`, `{"a":1 "b":2}`: `want "," or "}"`, `1 2`: "nothing after", `"abc`: "end of the string", ``: "want a value",
		`1e401`: "exponent within 400", `1e-401`: "exponent within 400", strings.Repeat("1", 401): "at most 400 bytes", `1e99999999999999999999`: "exponent",
		strings.Repeat("[", 40): "want at most 32 levels", strings.Repeat(" ", maxValueBytes+1): "want at most 1048576 bytes", "\ufeff1": "want a value",
	} {
		v, err := Decode([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %s", text, err, want)
		}
		if twice := strings.Contains(want, "duplicate"); twice != (v != nil) {
			t.Errorf("%.40q: got the value %v", text, v)
		}
	}
	v, err := Decode([]byte("\t{\"\\u006b\\/\":[\"\\ud83d\\ude00é\\n\",-0.5E+3,true,false,null,{},[]]}\r\n"))
	want := map[string]any{"k/": []any{"😀é\n", number("-0.5E+3"), true, false, nil, map[string]any{}, []any{}}}
	if err != nil || !equal(v, want) {
		t.Errorf("got %v, %v, want %v", v, err, want)
	}
}

// What Go makes of a time, with the leap second it cannot make, is the judge of date-time.
func TestDateTimeAgreesWithAnotherReading(t *testing.T) {
	reading := func(s string) bool {
		if strings.ContainsAny(s, ",") || len(s) < 20 {
			return false
		}
		s = strings.ToUpper(s)
		leap := s[17:19] == "60"
		if leap {
			s = s[:17] + "59" + s[19:]
		}
		if at := len(s) - len("+00:00"); s[at] != 'Z' && s[at+3] == ':' && (s[at+1:at+3] > "23" || s[at+4:] > "59") {
			return false // Go takes an offset of 24:60
		}
		at, err := time.Parse(time.RFC3339Nano, s)
		if err == nil && leap {
			utc := at.UTC()
			return utc.Hour() == 23 && utc.Minute() == 59
		}
		return err == nil
	}
	rng := rand.New(rand.NewPCG(7, 8))
	good := 0
	for range 50_000 {
		s := fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d", rng.IntN(10000), rng.IntN(14), rng.IntN(33), rng.IntN(25), rng.IntN(61), rng.IntN(62))
		if rng.IntN(4) == 0 {
			s = fmt.Sprintf("%04d-12-31T%02d:%02d:60", rng.IntN(10000), 20+rng.IntN(4), 55+rng.IntN(5))
		}
		switch rng.IntN(3) {
		case 0:
			s += fmt.Sprintf(".%d", rng.IntN(1000))
		case 1:
			s += []string{".", ",5", ""}[rng.IntN(3)]
		}
		s += []string{"Z", "z", "", "+08:00", "-00:01", fmt.Sprintf("%c%02d:%02d", "+-"[rng.IntN(2)], rng.IntN(26), rng.IntN(62))}[rng.IntN(6)]
		if rng.IntN(4) == 0 {
			at := rng.IntN(len(s))
			s = s[:at] + string("0123456789-:.TtZ+ x"[rng.IntN(19)]) + s[at+1:]
		}
		want := reading(s)
		if want {
			good++
		}
		if got := isDateTime(s); got != want {
			t.Fatalf("%s: got %v, want %v", s, got, want)
		}
	}
	if good < 5_000 {
		t.Errorf("only %d of 50,000 are in order", good)
	}
}

func TestPatternsOfECMAScript(t *testing.T) {
	for _, tc := range []struct {
		source, text string
		want         bool
	}{
		{`^\d+$`, "123\n", false}, {`^.$`, "\u2028", false}, {`^\s$`, "\ufeff", true}, {`^\S$`, "\u00a0", false}, {`^[\s]$`, "\u3000", true},
		{`^[^\S]$`, "\u3000", true}, {`^[\S]$`, "x", true}, {`\u0041`, "A", true}, {`\u{1f600}`, "😀", true}, {`^\ud83d\ude00$`, "😀", true},
		{`\cA`, "\x01", true}, {`^[\b]$`, "\b", true}, {`\bfoo\b`, "a foo!", true}, {`\bfoo\b`, "afoo", false}, {`^[^]$`, "\n", true},
		{`[]`, "x", false}, {`^\/$`, "/", true}, {`^\p{Letter}+$`, "é", true}, {`^\P{L}$`, "é", false}, {`^\p{Script=Greek}$`, "α", true},
		{`(?<year>\d{4})`, "2026", true}, {`(?:a|b)c`, "xbc", true}, {`^[[a]$`, "[", true}, {`\0`, "\x00", true}, {`^\w$`, "é", false},
		{`b$`, "ab", true}, {`^a|b$`, "xb", true}, {`a*`, "", true}, {`^$`, "", true}, {`^$`, "x", false}, {`$^`, "", true}, {`x^`, "x", false},
		{`^[\x41-\u0043]$`, "B", true}, {`a{2,3}$`, "caaa", true}, {`é`, "caffé", true}, {`\é`, "é", true},
	} {
		re, err := newPattern(tc.source)
		if err != nil {
			t.Errorf("%s: %v", tc.source, err)
			continue
		}
		if got := re.MatchString(tc.text); got != tc.want {
			t.Errorf("%s on %q: got %v", tc.source, tc.text, got)
		}
	}
	for _, source := range []string{`\a`, `\Z`, `\A`, `\Q`, `\8`, `\k<a>`, `\u12`, `\u{110000}`, `\ud800`, `\p`, `\pL`, `\p{Nonsense}`, `(?=a)`, `(?!a)`,
		`(?<=a)`, `(?P<a>b)`, `(`, `[a`, `\`, `*`, "\xff"} {
		if _, err := newPattern(source); err == nil {
			t.Errorf("%q: accepted", source)
		}
	}
}

// The automaton gives the verdict of the regular expression it stands for.
func FuzzPattern(f *testing.F) {
	for _, source := range []string{`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`, `^$|x`, `a.*b$`, `(^a|b$)`, `[^\u0000-\u001f]+$`, `(ab|a)(bc|c)?$`, `\bfoo`, `$^`,
		`^.{0,20}$`, `((a*)*)*c`, `^(?:x|y){3}`} {
		for _, text := range []string{"", "a", "ab", "abc", "foo", "AUTH.LOGIN", "a\nb", "é", "xyx"} {
			f.Add(source, text)
		}
	}
	f.Fuzz(func(t *testing.T, source, text string) {
		re, err := newPattern(source)
		if err != nil {
			return
		}
		left := maxStatesOfAll
		p, _ := re.(*pattern)
		p.dfa = newDFA(p.re.String(), &left)
		if left < 0 {
			t.Fatalf("%q: %d states left", source, left)
		}
		if got, want := p.match(text), p.re.MatchString(text); got != want {
			t.Fatalf("%q on %q: got %v, want %v", source, text, got, want)
		}
	})
}

// Whatever is given as a schema, Compile and Validate end; and where that takes few steps, the library agrees.
func FuzzCompileSchema(f *testing.F) {
	files := suiteFiles(f)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for _, group := range files[name] {
			for i, test := range group.Tests {
				if i < 2 {
					f.Add([]byte(group.Schema), []byte(test.Data))
				}
			}
		}
	}
	f.Add(doubling(20, `NEXT`), []byte(`1`))
	f.Add([]byte(`{"maxLength":2147483648,"minimum":1e400,"multipleOf":1e-400}`), []byte(`1e-400`))
	f.Fuzz(func(t *testing.T, schema, value []byte) {
		s, err := Compile("fuzz", schema, nil)
		if err != nil {
			return
		}
		v, err := Decode(value)
		if err != nil {
			return
		}
		st := state{steps: maxSteps}
		valid := s.root.run(v, nil, &st)
		if got := s.Validate(v); (got == nil) != (valid && st.steps >= 0) {
			t.Fatalf("%s of %s: Valid says %v, Validate %v", value, schema, valid, got)
		} else if got != nil {
			checkReasons(t, string(schema), got)
		}
		if st.steps > maxSteps-10_000 && s.Reference(v) != valid {
			t.Fatalf("%s of %s: the library says %v, we %v", value, schema, !valid, valid)
		}
	})
}
