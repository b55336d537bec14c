package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Everything that can be wrong is named with its place; what is right is not.
func TestProblemsOfAConfigurationAreNamedByPlace(t *testing.T) {
	for text, want := range map[string][]string{
		"":                          nil,
		"# nothing\n":               nil,
		"---\n":                     nil,
		"{}":                        nil,
		"tls:\nallow:\n":            nil, // a section with nothing in it
		"data: t\nack: sealed\n":    nil,
		`{"data": "t"}`:             nil, // JSON is YAML
		"origin: 2026-03-01\n":      nil, // a date is the string that it is
		"lisen: x\n":                {"1:1: /lisen: unknown key; did you mean listen?"},
		"data: t\ncert: x\n":        {"2:1: /cert: unknown key; did you mean tls.cert?"},
		"tls: {certificate: x}\n":   {"1:7: /tls/certificate: unknown key, want cert or key"},
		"lisen:\n":                  {"1:1: /lisen: unknown key; did you mean listen?"},
		"tls:\n  kye:\n":            {"2:3: /tls/kye: unknown key; did you mean key?"},
		"a/b~c: 1\n":                {"1:1: /a~1b~0c: unknown key, want ack, allow, data, digests, listen, log, origin, public_tiles, schemas or tls"},
		"ack: durabel\n":            {"1:6: /ack: got a string of 7 bytes, want durable, sealed or buffered; did you mean durable?"},
		"ack: 3\n":                  {"1:6: /ack: got a number, want a string"},
		"digests: [sha256, md5]\n":  {"1:19: /digests/1: got a string of 3 bytes, want sha256 or sm3"},
		"digests: [sm3, sm3]\n":     {"1:16: /digests/1: the same as an item before it, want each once"},
		"digests: sm3\n":            {"1:10: /digests: got a string of 3 bytes, want a list"},
		"public_tiles: \"yes\"\n":   {"1:15: /public_tiles: got a string of 3 bytes, want true or false"},
		"public_tiles: yes\n":       {"1:15: /public_tiles: got a string of 3 bytes, want true or false"}, // as YAML 1.2 has it
		"log: {max_files: -3}\n":    {"1:18: /log/max_files: a number that is too small, want 0 or more"},
		"log: {max_files: 3.5}\n":   {"1:18: /log/max_files: got a number, want a whole number"},
		"log: {max_files: 1e9}\n":   {"1:18: /log/max_files: a number that is too large, want 10000 or less"},
		"log: {max_files: .nan}\n":  {"1:18: /log/max_files: not a finite number"},
		"log: text\n":               {"1:6: /log: got a string of 4 bytes, want keys and values"},
		"allow: {subjects: [\"\"]}": {"1:20: /allow/subjects/0: got a string of 0 bytes, want a string that is not so short"},
		"allow:\n  actions:\n  -\n": {"3:4: /allow/actions/0: an empty item, want a value"},
		"- a\n":                     {"1:1: got a list of 1, want keys and values"},
		"word\n":                    {"1:1: got a string of 4 bytes, want keys and values"},
		"data: a\ndata: b\n":        {"2:1: /data: the key is there twice, first in line 1, want it once"},
		"data: &a t\nlisten: *a\n":  {"1:7: /data: an anchor or alias, want the value itself", "2:9: /listen: an anchor or alias, want the value itself"},
		"1: x\n":                    {"1:1: a key that is not a plain word, want one"},
		"[a]: x\n":                  {"1:1: a key that is not a plain word, want one"},
		"data: !!binary aGk=\n":     {"1:7: /data: a YAML tag, want none"},
		"tls: !secret {}\n":         {"1:6: /tls: a YAML tag, want none"},
		"data: a\n---\ndata: b\n":   {"2:1: a second document, want one"},
		"data: [\n":                 {"1:1: did not find expected node content"},
		"data: \"\\z\"\n":           {"1:1: found unknown escape character"},
		"data: a\n\tb: c\n":         {"2:1: found a tab character that violates indentation"},
		"ack: x\nlisen: y\nlog: {level: loud}\n": {
			"1:6: /ack: got a string of 1 bytes, want durable, sealed or buffered",
			"2:1: /lisen: unknown key; did you mean listen?",
			"3:14: /log/level: got a string of 4 bytes, want debug, info, warn or error",
		},
		"schemas:\n- {name: A b, file: x}\n- {name: c, map: {sub.user: 1}}\n": {
			"2:10: /schemas/0/name: does not fulfil pattern, want What an input names it by: lower-case letters, digits, - and _.",
			"3:3: /schemas/1: lacks file, want it",
			"3:29: /schemas/1/map/sub.user: got a number, want a string",
		},
		"tls:\n  cert: [a]\n  key: {b: c}\n": {"2:9: /tls/cert: got a list of 1, want a string", "3:8: /tls/key: got an object, want a string"},
	} {
		_, parsed := parseConfig([]byte(text))
		var got []string
		for _, p := range parsed.problems {
			got = append(got, p.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q:\n got %s\nwant %s", text, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
}

// A value may be a secret in the wrong place.
func TestProblemsRepeatNoValue(t *testing.T) {
	const canary = "canaryvalue"
	for _, text := range []string{
		"ack: %s", "listen: [%s]", "listen: {a: %s}", "digests: [%s]", "public_tiles: %s", "log: %s", "log: {max_files: %s}", "log: {level: %s}",
		"unknown: %s", "data: &%s x", "data: *%s", "data: !!int %s", "data: \"%s", "data: {%s", "tls: {cert: a, cert: %s}", "%s", "- %s", "data: x\n  %s: y", "data: `%s`",
	} {
		text = fmt.Sprintf(text, canary)
		_, parsed := parseConfig([]byte(text))
		if len(parsed.problems) == 0 {
			t.Errorf("%s: nothing is wrong with it", text)
		}
		for _, p := range parsed.problems {
			if strings.Contains(p.String(), canary) {
				t.Errorf("%s: %s", text, p)
			}
		}
	}
}

func TestManyProblemsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "unknown%d: x\n", i)
	}
	if _, parsed := parseConfig([]byte(b.String())); len(parsed.problems) != maxConfigProblems || parsed.problems[maxConfigProblems-1].Line != maxConfigProblems {
		t.Errorf("%d problems, want the first %d", len(parsed.problems), maxConfigProblems)
	}
	deep := "data: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	if _, parsed := parseConfig([]byte(deep)); len(parsed.problems) == 0 {
		t.Error("nested 5000 deep, and nothing is wrong with it")
	}
}

// fields are the places in a configuration, as the program's types have them.
func fields(typ reflect.Type, at string) []string {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fields(typ.Elem(), at)
	case reflect.Struct:
		var out []string
		for _, f := range reflect.VisibleFields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if !f.IsExported() || name == "-" || name == "" && f.Anonymous {
				continue
			}
			place := at + "/" + name
			out = append(append(out, place), fields(f.Type, place)...)
		}
		return out
	}
	return nil
}

// properties are the places that the schema has, all of them closed.
func properties(t *testing.T, schema map[string]any, at string) []string {
	if items, ok := schema["items"].(map[string]any); ok {
		return properties(t, items, at)
	}
	all, ok := schema["properties"].(map[string]any)
	if !ok {
		return nil
	}
	if schema["additionalProperties"] != false {
		t.Errorf("schema at %q: additionalProperties is not false: a misspelt key would pass", at)
	}
	var out []string
	for name, sub := range all {
		sub := sub.(map[string]any)
		if sub["description"] == nil {
			t.Errorf("schema: %s/%s has no description", at, name)
		}
		out = append(append(out, at+"/"+name), properties(t, sub, at+"/"+name)...)
	}
	return out
}

func TestSchemaOfTheConfigurationHasTheFieldsOfTheProgram(t *testing.T) {
	program, schema := fields(reflect.TypeFor[config](), ""), properties(t, configSchema(), "")
	slices.Sort(program)
	slices.Sort(schema)
	for _, place := range program {
		if !slices.Contains(schema, place) {
			t.Errorf("%s: the program has it, schemas/config.schema.json has not", place)
		}
	}
	for _, place := range schema {
		if !slices.Contains(program, place) {
			t.Errorf("%s: schemas/config.schema.json has it, the program has not", place)
		}
	}
}

// The defaults that the schema tells editors are those in effect.
func TestDefaultsOfTheSchemaAreThoseInEffect(t *testing.T) {
	c := new(config)
	if err := c.fillIn(); err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := doc.Encode(c); err != nil {
		t.Fatal(err)
	}
	var effective map[string]any
	if err := doc.Decode(&effective); err != nil {
		t.Fatal(err)
	}
	n := 0
	var compare func(schema map[string]any, value any, at string)
	compare = func(schema map[string]any, value any, at string) {
		if want, ok := schema["default"]; ok {
			n++
			if fmt.Sprint(want) != fmt.Sprint(value) {
				t.Errorf("%s: the schema says %v, in effect is %v", at, want, value)
			}
		}
		all, _ := schema["properties"].(map[string]any)
		for name, sub := range all {
			m, _ := value.(map[string]any)
			compare(sub.(map[string]any), m[name], at+"/"+name)
		}
	}
	compare(configSchema(), effective, "")
	if n < 10 {
		t.Errorf("only %d defaults compared", n)
	}
}

func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestMeaningOfAConfigurationIsChecked(t *testing.T) {
	cert, key := selfSigned(t)
	_, otherKey := selfSigned(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pair := fmt.Sprintf("tls: {cert: '%s', key: '%s'}\n", cert, key)
	for text, want := range map[string]string{
		pair: "", pair + "listen: 0.0.0.0:443\n": "", pair + "listen: audit.example:443\n": "", pair + "listen: ':443'\n": "",
		"listen: 127.0.0.1:0\n": "", "listen: '[::1]:80'\n": "", "listen: localhost:80\n": "",
		"data: '" + dir + "'\n": "", "data: '" + filepath.Join(dir, "new", "trail") + "'\n": "",
		"log: {file: '" + filepath.Join(dir, "new", "up.log") + "'}\n": "", "log: {file: '" + file + "'}\n": "",
		"allow: {actions: ['AUTH.*', 'PAYMENT.*.APPROVE']}\n": "", "origin: bank.example/payments\n": "",

		"listen: 0.0.0.0:80\n":                                 "1:9: /listen: not a loopback address, without tls",
		"listen: ':80'\n":                                      "/listen: not a loopback address",
		"listen: audit.example:80\n":                           "/listen: a name that may not be this machine alone",
		"listen: 127.0.0.1\n":                                  "/listen: not an address and a port",
		"listen: 127.0.0.1:http\n":                             "/listen: the port is not a number",
		"listen: 127.0.0.1:70000\n":                            "/listen: the port is not a number",
		"tls: {cert: a.pem}\n":                                 "1:6: /tls: half of a pair, want both cert and key",
		"tls: {key: a.pem}\n":                                  "/tls: half of a pair",
		"tls: {cert: nope.pem, key: nope.pem}":                 "/tls: open nope.pem",
		"tls: {cert: '" + cert + "', key: '" + otherKey + "'}": "/tls: ",
		"origin: a b\n":                                        "1:9: /origin: ",
		"allow: {actions: ['AUTH.*', 'A..B']}\n":               "1:29: /allow/actions/1: ",
		"allow: {actions: ['TRAIL.*']}\n":                      "/allow/actions/0: ",
		"data: '" + file + "'\n":                               "1:7: /data: open " + file + ": not a directory",
		"data: '" + filepath.Join(file, "x") + "'\n":           "",
		"log: {file: '" + dir + "'}\n":                         "1:13: /log/file: not a regular file",
	} {
		c, parsed := parseConfig([]byte(text))
		if len(parsed.problems) > 0 {
			t.Errorf("%q: %v", text, parsed.problems)
			continue
		}
		parsed.checkMeaning(c)
		switch {
		case want == "" && len(parsed.problems) > 0:
			t.Errorf("%q: %v", text, parsed.problems)
		case want != "" && (len(parsed.problems) != 1 || !strings.Contains(parsed.problems[0].String(), want)):
			t.Errorf("%q: got %v, want …%s…", text, parsed.problems, want)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	schema := map[string]any{"properties": map[string]any{
		"password": map[string]any{"type": "string", "writeOnly": true},
		"empty":    map[string]any{"type": "string", "writeOnly": true},
		"plain":    map[string]any{"type": "string"},
		"list": map[string]any{"items": map[string]any{"properties": map[string]any{
			"token": map[string]any{"writeOnly": true},
		}}},
		"whole": map[string]any{"writeOnly": true},
	}}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte("password: canary1\nempty: ''\nplain: shown\nlist: [{token: canary2}]\nwhole: {a: canary3}\n"), &doc); err != nil {
		t.Fatal(err)
	}
	hideSecrets(&doc, schema)
	out, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("canary")) || bytes.Count(out, []byte(hidden)) != 3 || !bytes.Contains(out, []byte("plain: shown")) || !bytes.Contains(out, []byte("empty: ''")) {
		t.Errorf("%s", out)
	}
}

func TestNearestWords(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"listen", "lisen", 1}, {"durabel", "durable", 1}, {"abc", "cba", 2}, {"kitten", "sitting", 3},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%s, %s: got %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	known := []string{"ack", "data", "listen"}
	for word, want := range map[string]string{"lisetn": "listen", "Listen": "listen", "dta": "data", "x": "", "zzzzzz": "", strings.Repeat("a", 10_000): ""} {
		if got := nearest(word, known); got != want {
			t.Errorf("%.20s: got %q, want %q", word, got, want)
		}
	}
}

// FuzzConfig: nothing in a file makes the loader panic, what is wrong has a
// place in the file, and what is right means the same when it is written again.
func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"", "data: t\n", "listen: 127.0.0.1:0\norigin: a\ndigests: [sha256, sm3]\nack: sealed\npublic_tiles: true\n",
		"allow:\n  subjects: [user]\n  actions: [\"AUTH.*\"]\ntls: {cert: a, key: b}\n", "log: {level: debug, format: json, file: x, max_megabytes: 1, max_files: 0x2, max_age_days: 3}\n",
		"a: &a [*a]\n", "? [x]\n: y\n", "!!map {data: !!str x}\n", "data: |\n  x\n", "<<: {data: x}\n", "data: 'a\n", "\xff", "log: {max_files: 1e3}", "%YAML 1.1\n---\ndata: x\n...\n",
		"log: {max_files: 2.0}", "data: 0o7\nlog: {max_files: 0o7}\n", "log: {max_files: 1_0}", "data: ~\n", "{\"data\": \"\\ud800\"}", "log: {max_files: +3}", "digests: [null]",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, parsed := parseConfig(text)
		lines := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte("\r")) + bytes.Count(text, []byte("\u0085")) + bytes.Count(text, []byte("\u2028")) + bytes.Count(text, []byte("\u2029")) + 2
		for _, p := range parsed.problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Problem == "" {
				t.Errorf("%+v is outside of %d lines", p, lines)
			}
			if strings.Contains(p.Problem, "another type than its key takes") {
				t.Errorf("the schema lets through what the program does not take: %+v", p)
			}
		}
		if len(parsed.problems) > 0 {
			return
		}
		again, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		c2, parsed2 := parseConfig(again)
		if len(parsed2.problems) > 0 || !sameConfig(c, c2) {
			t.Errorf("%+v was written as\n%s\nand read as %+v, %v", c, again, c2, parsed2.problems)
		}
	})
}

// sameConfig: an empty list is as none.
func sameConfig(a, b *config) bool {
	x, err1 := a.digest()
	y, err2 := b.digest()
	return err1 == nil && err2 == nil && x == y
}

func TestEveryKeyIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operate/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range properties(t, configSchema(), "") {
		if len(properties(t, schemaAt(tokensOf(place)), "")) > 0 {
			continue // a section: its keys are
		}
		if key := strings.ReplaceAll(place[1:], "/", "."); !bytes.Contains(page, []byte("| `"+key+"` |")) {
			t.Errorf("docs/operate/configuration.md lacks %s", key)
		}
	}
}
