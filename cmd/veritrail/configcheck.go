package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/health"
	"github.com/veritrail/veritrail/internal/jsonschema"
	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/schemas"
)

// configProblem is one thing that is wrong with a configuration file. It names
// places, keys and shapes, never a value: that might be a secret.
type configProblem struct {
	Line     int    `json:"line"`   // 0: of the file as a whole
	Column   int    `json:"column"` // in characters, from 1
	Pointer  string `json:"pointer"`
	Problem  string `json:"problem"`
	Expected string `json:"expected,omitempty"`
	Nearest  string `json:"did_you_mean,omitempty"`
}

func (p configProblem) String() string {
	var b strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&b, "%d:%d: ", p.Line, p.Column)
	}
	if p.Pointer != "" {
		fmt.Fprintf(&b, "%s: ", p.Pointer)
	}
	b.WriteString(p.Problem)
	if p.Expected != "" {
		fmt.Fprintf(&b, ", want %s", p.Expected)
	}
	if p.Nearest != "" {
		fmt.Fprintf(&b, "; did you mean %s?", p.Nearest)
	}
	return safe(b.String())
}

// configText is a configuration file's content, with where everything stands.
type configText struct {
	root   *yaml.Node            // nil when it is empty
	values map[string]*yaml.Node // by JSON Pointer
	keys   map[string]*yaml.Node

	problems []configProblem
}

const (
	maxConfigDepth    = 32
	maxConfigProblems = 100
)

// parseConfig reads a configuration and says everything that is wrong with its
// text. Without problems the config is what the text says.
func parseConfig(text []byte) (*config, *configText) {
	c, t := new(config), &configText{values: make(map[string]*yaml.Node), keys: make(map[string]*yaml.Node)}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return c, t
	} else if err != nil {
		t.problems = append(t.problems, syntaxProblem(err))
		return c, t
	}
	var second yaml.Node
	if err := dec.Decode(&second); err == nil {
		t.problems = append(t.problems, configProblem{Line: second.Line, Column: second.Column, Problem: "a second document", Expected: "one"})
	} else if !errors.Is(err, io.EOF) {
		t.problems = append(t.problems, syntaxProblem(err))
	}
	if len(doc.Content) != 1 {
		return c, t
	}
	root := doc.Content[0]
	value := t.convert(root, "", 0)
	if value == nil || len(t.problems) > 0 {
		return c, t // nothing in it, or not in a form that more could be said of
	}
	t.root = root
	if t.validate(value); len(t.problems) > 0 {
		return c, t
	}
	strict := yaml.NewDecoder(bytes.NewReader(text))
	strict.KnownFields(true)
	if err := strict.Decode(c); err != nil {
		// The schema is narrower than the program's types, so this does not
		// happen; the decoder's own words would repeat the value.
		t.problems = append(t.problems, configProblem{Line: lineOf(err), Column: 1, Problem: "a value is of another type than its key takes"})
	}
	return c, t
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

func lineOf(err error) int {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		n, err := strconv.Atoi(m[1])
		if err == nil {
			return n
		}
	}
	return 1
}

// syntaxProblem is an error of the YAML parser, which names kinds of
// characters, except where it quotes a name or a value.
func syntaxProblem(err error) configProblem {
	what := strings.TrimPrefix(err.Error(), "yaml: ")
	what = yamlLine.ReplaceAllString(what, "")
	what = strings.TrimPrefix(what, ": ")
	if what == "" || strings.ContainsAny(what, "`\"'\n") && !strings.Contains(what, "did not find expected") {
		what = "not YAML"
	}
	return configProblem{Line: lineOf(err), Column: 1, Problem: what}
}

// problem adds one, unless there are very many already. What it returns may be
// added to until the next call.
func (t *configText) problem(at *yaml.Node, pointer, what, expected string) *configProblem {
	p := configProblem{Line: at.Line, Column: at.Column, Pointer: pointer, Problem: what, Expected: expected}
	if len(t.problems) == maxConfigProblems {
		return &p
	}
	t.problems = append(t.problems, p)
	return &t.problems[len(t.problems)-1]
}

// convert is a node as encoding/json would have it, for the validator. A key
// without a value is as one that is not there: the decoder takes it so.
func (t *configText) convert(n *yaml.Node, pointer string, depth int) any {
	t.values[pointer] = n
	if depth > maxConfigDepth {
		t.problem(n, pointer, fmt.Sprintf("nested more than %d deep", maxConfigDepth), "")
		return nil
	}
	if n.Anchor != "" || n.Kind == yaml.AliasNode {
		t.problem(n, pointer, "an anchor or alias", "the value itself")
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		if n.ShortTag() != "!!map" {
			t.problem(n, pointer, "a YAML tag", "none")
			return nil
		}
		return t.convertMap(n, pointer, depth)
	case yaml.SequenceNode:
		if n.ShortTag() != "!!seq" {
			t.problem(n, pointer, "a YAML tag", "none")
			return nil
		}
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			at := pointer + "/" + strconv.Itoa(i)
			v := t.convert(item, at, depth+1)
			if v == nil && item.ShortTag() == "!!null" {
				t.problem(item, at, "an empty item", "a value")
			}
			out = append(out, v)
		}
		return out
	}
	var v any
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!str":
		return n.Value
	case "!!bool":
		v = new(bool)
	case "!!int":
		v = new(int64)
	case "!!float":
		v = new(float64)
	default: // dates, binary: strings in a configuration, unless somebody tagged them
		if n.Style&yaml.TaggedStyle != 0 {
			t.problem(n, pointer, "a YAML tag", "none")
			return nil
		}
		return n.Value
	}
	if n.Style&yaml.TaggedStyle != 0 || n.Decode(v) != nil {
		t.problem(n, pointer, "a number or tag that cannot be read", "a plain value")
		return nil
	}
	switch v := v.(type) {
	case *bool:
		return *v
	case *int64:
		return *v
	case *float64:
		if *v != *v || *v-*v != 0 { // .nan, .inf
			t.problem(n, pointer, "not a finite number", "")
			return nil
		}
		return *v
	}
	return nil
}

func (t *configText) convertMap(n *yaml.Node, pointer string, depth int) any {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.Anchor != "" || key.ShortTag() != "!!str" {
			t.problem(key, pointer, "a key that is not a plain word", "one")
			continue
		}
		at := pointer + "/" + pointerEscape.Replace(key.Value)
		if first, twice := t.keys[at]; twice {
			t.problem(key, at, fmt.Sprintf("the key is there twice, first in line %d", first.Line), "it once")
			continue
		}
		t.keys[at] = key
		// A misspelt key without a value is still misspelt: left to the validator.
		if v := t.convert(value, at, depth+1); v != nil || schemaAt(tokensOf(at)) == nil {
			out[key.Value] = v
		}
	}
	return out
}

var (
	pointerEscape   = strings.NewReplacer("~", "~0", "/", "~1")
	pointerUnescape = strings.NewReplacer("~1", "/", "~0", "~")
)

// validate checks a value against the schema.
func (t *configText) validate(value any) {
	err := compiledConfigSchema().Validate(value)
	var invalid *veritrail.InvalidEventError // of whatever the schema is
	if errors.As(err, &invalid) {
		explained := make(map[string]bool)
		for _, v := range invalid.Violations {
			t.explain(v, explained)
		}
	} else if err != nil {
		t.problem(t.root, "", "cannot be compared with the schema", "")
	}
	t.sort()
}

func (t *configText) sort() {
	slices.SortStableFunc(t.problems, func(a, b configProblem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

var compiledConfigSchema = sync.OnceValue(func() *jsonschema.Schema {
	s, err := jsonschema.Compile(schemas.ConfigFile, schemas.Config(), nil)
	if err != nil {
		panic("the schema of the configuration: " + err.Error()) // it is part of the program
	}
	return s
})

// explain says what a violation of the schema means for whoever wrote the file.
// explained are the objects whose unknown keys have been named: the violations
// list at most some of them.
func (t *configText) explain(v veritrail.Violation, explained map[string]bool) {
	pointer := v.Path
	if v.Keyword == "additionalProperties" {
		pointer = parentOf(pointer)
		if !explained[pointer] {
			explained[pointer] = true
			t.unknownKeys(pointer)
		}
		return
	}
	at := t.values[pointer]
	for at == nil { // "?" stands for a key that may be data
		if pointer == "" {
			at = t.root
			break
		}
		pointer = parentOf(pointer)
		at = t.values[pointer]
	}
	s := schemaAt(tokensOf(pointer))
	switch v.Keyword {
	case "type":
		word, _ := s["type"].(string)
		t.problem(at, pointer, "got "+yamlShape(at), typeWords[word])
	case "enum":
		var words []string
		all, _ := s["enum"].([]any)
		for _, w := range all {
			if w, ok := w.(string); ok && w != "" {
				words = append(words, w)
			}
		}
		t.problem(at, pointer, "got "+yamlShape(at), orWords(words)).Nearest = nearest(at.Value, words)
	case "minimum":
		t.problem(at, pointer, "a number that is too small", fmt.Sprint(s["minimum"], " or more"))
	case "maximum":
		t.problem(at, pointer, "a number that is too large", fmt.Sprint(s["maximum"], " or less"))
	case "minLength":
		t.problem(at, pointer, "got "+yamlShape(at), "a string that is not so short")
	case "uniqueItems":
		t.problem(at, pointer, "the same as an item before it", "each once")
	case "required":
		t.problem(at, pointer, "lacks "+pointerUnescape.Replace(v.Path[strings.LastIndexByte(v.Path, '/')+1:]), "it")
	default:
		expected, _ := s["description"].(string)
		t.problem(at, pointer, "does not fulfil "+v.Keyword, expected)
	}
}

func parentOf(pointer string) string { return pointer[:max(0, strings.LastIndexByte(pointer, '/'))] }

// unknownKeys names the keys of an object that the schema does not have.
func (t *configText) unknownKeys(pointer string) {
	n := t.values[pointer]
	if n == nil {
		return
	}
	known := keysOf(schemaAt(tokensOf(pointer)))
	for i := 0; i+1 < len(n.Content); i += 2 {
		if name := n.Content[i].Value; !slices.Contains(known, name) {
			t.unknown(pointer, name)
		}
	}
}

// unknown names a key that there is not, and the one that was meant.
func (t *configText) unknown(parent, name string) {
	pointer := parent + "/" + pointerEscape.Replace(name)
	at := t.keyOf(parent, name)
	known := keysOf(schemaAt(tokensOf(parent)))
	if near := cmp.Or(nearest(name, known), elsewhere(name)); near != "" {
		t.problem(at, pointer, "unknown key", "").Nearest = near
		return
	}
	t.problem(at, pointer, "unknown key", orWords(known))
}

func (t *configText) keyOf(parent, name string) *yaml.Node {
	if at := t.keys[parent+"/"+pointerEscape.Replace(name)]; at != nil {
		return at
	}
	return t.root
}

func tokensOf(pointer string) []string {
	tokens := strings.Split(pointer, "/")[1:]
	for i := range tokens {
		tokens[i] = pointerUnescape.Replace(tokens[i])
	}
	return tokens
}

// configSchema is the schema as plain maps.
var configSchema = sync.OnceValue(func() map[string]any {
	doc, err := jsonschema.Decode(schemas.Config())
	if err != nil {
		panic("the schema of the configuration is not JSON: " + err.Error()) // it is part of the program
	}
	m, _ := doc.(map[string]any)
	return m
})

// schemaAt is what the schema says of the value at a place, nil when there is
// no such place.
func schemaAt(tokens []string) map[string]any {
	s := configSchema()
	for _, token := range tokens {
		if items, ok := s["items"].(map[string]any); ok {
			s = items
			continue
		}
		properties, _ := s["properties"].(map[string]any)
		next, ok := properties[token].(map[string]any)
		if !ok {
			next, ok = s["additionalProperties"].(map[string]any)
		}
		if !ok {
			return nil
		}
		s = next
	}
	return s
}

func keysOf(schema map[string]any) []string {
	properties, _ := schema["properties"].(map[string]any)
	var keys []string
	for k := range properties {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// elsewhere is where a key of that name belongs, "" when nowhere.
func elsewhere(name string) string {
	var find func(schema map[string]any, path string) string
	find = func(schema map[string]any, path string) string {
		if items, ok := schema["items"].(map[string]any); ok {
			return find(items, path)
		}
		for _, k := range keysOf(schema) {
			properties, _ := schema["properties"].(map[string]any)
			if k == name {
				return path + k
			}
			sub, _ := properties[k].(map[string]any)
			if found := find(sub, path+k+"."); found != "" {
				return found
			}
		}
		return ""
	}
	return find(configSchema(), "")
}

// nearest is the word that differs by few letters, "" when none does.
func nearest(word string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(strings.ToLower(word), k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// distance counts letters that were inserted, left out, replaced, or swapped
// with their neighbour.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func orWords(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

var typeWords = map[string]string{
	"string": "a string", "integer": "a whole number", "number": "a number", "boolean": "true or false",
	"array": "a list", "object": "keys and values", "null": "nothing",
}

// yamlShape describes a value without showing it.
func yamlShape(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	}
	switch n.ShortTag() {
	case "!!bool":
		return "a boolean"
	case "!!int", "!!float":
		return "a number"
	case "!!null":
		return "nothing"
	}
	return fmt.Sprintf("a string of %d bytes", len(n.Value))
}

// checkMeaning looks at what a schema cannot say: files, addresses, patterns.
func (t *configText) checkMeaning(c *config) {
	at := func(pointer string) *yaml.Node {
		for {
			if n := t.values[pointer]; n != nil {
				return n
			}
			slash := strings.LastIndexByte(pointer, '/')
			if slash < 0 {
				return &yaml.Node{Line: 1, Column: 1}
			}
			pointer = pointer[:slash]
		}
	}
	say := func(pointer, what, expected string) { t.problem(at(pointer), pointer, what, expected) }

	withTLS := c.TLS.Cert != "" || c.TLS.Key != ""
	if c.Listen != "" {
		if what := listenProblem(c.Listen, withTLS); what != "" {
			say("/listen", what, "an address as 127.0.0.1:8790, on loopback unless tls is configured")
		}
	}
	switch {
	case withTLS && (c.TLS.Cert == "" || c.TLS.Key == ""):
		say("/tls", "half of a pair", "both cert and key")
	case withTLS:
		if _, err := c.tlsConfig(); err != nil {
			say("/tls", strings.TrimPrefix(err.Error(), "tls: "), "files with a certificate and its key")
		}
	}
	if c.Origin != "" {
		if err := checkpoint.CheckOrigin(c.Origin); err != nil {
			say("/origin", err.Error(), "a name such as bank.example/payments")
		}
	}
	for i, pattern := range c.Allow.Actions {
		if err := (recorder.Allowlist{Actions: []string{pattern}}).Check(); err != nil {
			say("/allow/actions/"+strconv.Itoa(i), err.Error(), "action codes as AUTH.LOGIN.*")
		}
	}
	if c.Data != "" {
		if err := health.Writable(c.Data); err != nil {
			say("/data", err.Error(), "a directory that this user may write to")
		}
	}
	if c.Log.File != "" {
		if st, err := os.Stat(c.Log.File); err == nil && !st.Mode().IsRegular() {
			say("/log/file", "not a regular file", "a file")
		} else if err := health.Writable(filepath.Dir(c.Log.File)); err != nil {
			say("/log/file", err.Error(), "a file in a directory that this user may write to")
		}
	}
	for i := range c.Schemas {
		one := &c.Schemas[i]
		place := "/schemas/" + strconv.Itoa(i)
		text, err := readBounded(one.File)
		if err != nil {
			say(place+"/file", err.Error(), "a file with a JSON Schema")
			continue
		}
		one.text = text
	}
	if len(t.problems) == 0 {
		if err := recorder.CheckShapes(c.shapes()); err != nil {
			say("/schemas", err.Error(), "schemas of draft-07, with maps into the event")
		}
	}
	t.sort()
}

// listenProblem says what is wrong with an address, as far as that is known
// without listening on it.
func listenProblem(address string, withTLS bool) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "not an address and a port"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "the port is not a number from 0 to 65535"
	}
	if withTLS || host == "localhost" {
		return ""
	}
	ip := net.ParseIP(host)
	if ip == nil && host != "" {
		return "a name that may not be this machine alone, without tls"
	}
	if !ip.IsLoopback() {
		return "not a loopback address, without tls: the token and the events would cross the network in the clear"
	}
	return ""
}
