package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/schemas"
)

// apiDoc is what the tests read of schemas/openapi.json.
type apiDoc struct {
	OpenAPI    string
	Paths      map[string]map[string]*apiOperation
	Components struct {
		Responses map[string]*apiResponse
		Schemas   map[string]struct {
			Properties map[string]struct{ Enum []string }
		}
	}
}

type apiOperation struct {
	OperationID string `json:"operationId"`
	Security    []map[string][]string
	Parameters  []struct{ Name, In string }
	Responses   map[string]*apiResponse
}

type apiResponse struct {
	Ref     string `json:"$ref"`
	Headers map[string]struct{ Schema any }
	Content map[string]struct{ Schema any }
}

// api is the description, its schemas ready for use, and which of its answers
// the tests of this package have seen.
var api = sync.OnceValue(func() *apiTests {
	a := &apiTests{seen: make(map[string]bool), compiled: make(map[string]*jsonschema.Schema)}
	if err := json.Unmarshal(schemas.OpenAPI(), &a.doc); err != nil {
		panic(err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemas.OpenAPI()))
	if err != nil {
		panic(err)
	}
	a.compiler = jsonschema.NewCompiler()
	if err := a.compiler.AddResource("https://example.com/openapi.json", whole); err != nil {
		panic(err)
	}
	return a
})

type apiTests struct {
	doc      apiDoc
	compiler *jsonschema.Compiler
	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema
	seen     map[string]bool // "GET /path 200"
}

func (a *apiTests) schema(pointer string) (*jsonschema.Schema, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.compiled[pointer]; s != nil {
		return s, nil
	}
	s, err := a.compiler.Compile("https://example.com/openapi.json#" + pointer)
	a.compiled[pointer] = s
	return s, err
}

func pointerTo(parts ...string) (out string) {
	for _, p := range parts {
		out += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(p)
	}
	return out
}

// template is the path of the description that a request's path is of: the one
// with the longest fixed beginning.
func (a *apiTests) template(path string) string {
	best := ""
	for t := range a.doc.Paths {
		fixed, rest, variable := strings.Cut(t, "{")
		matches := t == path || variable && strings.HasPrefix(path, fixed) && path != fixed && (strings.HasPrefix(rest, "path") || !strings.Contains(path[len(fixed):], "/"))
		if matches && len(fixed) > len(best) {
			best = t
		}
	}
	return best
}

func (a *apiTests) response(template, method, status string) (*apiResponse, string) {
	r := a.doc.Paths[template][method].Responses[status]
	at := pointerTo("paths", template, method, "responses", status)
	if r != nil && r.Ref != "" {
		name := strings.TrimPrefix(r.Ref, "#/components/responses/")
		return a.doc.Components.Responses[name], pointerTo("components", "responses", name)
	}
	return r, at
}

// described fails the test when an answer is not one that the description has.
// Every request that the tests of this package make passes here.
func described(t testing.TB, req *http.Request, resp *http.Response, body []byte) {
	t.Helper()
	a := api()
	if err := a.check(req, resp, body); err != nil {
		t.Errorf("not as schemas/openapi.json has it: %s %s: %s: %v\n%.500s", req.Method, req.URL.Path, resp.Status, err, body)
	}
}

func (a *apiTests) check(req *http.Request, resp *http.Response, body []byte) error {
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		return fmt.Errorf("no nosniff")
	}
	template, method := a.template(req.URL.Path), strings.ToLower(req.Method)
	if method == "head" {
		method = "get"
	}
	if resp.StatusCode == http.StatusNotFound && template == "" {
		return nil
	}
	if a.doc.Paths[template][method] == nil {
		want := http.StatusMethodNotAllowed
		if template == "" {
			want = http.StatusNotFound
		}
		if resp.StatusCode != want && resp.StatusCode != http.StatusMisdirectedRequest {
			return fmt.Errorf("no such operation, and not %d", want)
		}
		return nil
	}
	status := strconv.Itoa(resp.StatusCode)
	r, at := a.response(template, method, status)
	if r == nil {
		return fmt.Errorf("undocumented status")
	}
	a.mu.Lock()
	a.seen[req.Method+" "+template+" "+status] = true
	a.mu.Unlock()
	for name := range resp.Header {
		switch name {
		case "Date", "Content-Length", "Content-Type", "Connection", "X-Content-Type-Options", "Cache-Control", "Vary":
		default:
			if !slices.ContainsFunc(slices.Collect(maps.Keys(r.Headers)), func(h string) bool { return strings.EqualFold(h, name) }) {
				return fmt.Errorf("undocumented header %s", name)
			}
		}
	}
	for name := range r.Headers {
		value := resp.Header.Get(name)
		if value == "" {
			continue
		}
		s, err := a.schema(at + pointerTo("headers", name, "schema"))
		if err != nil {
			return err
		}
		if err := s.Validate(value); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	if _, there := r.Content[kind]; !there {
		return fmt.Errorf("undocumented content type %s", kind)
	}
	if req.Method == http.MethodHead || resp.Header.Get("Content-Encoding") != "" || len(body) > 256<<10 {
		return nil // a large one is of the same form, and takes long
	}
	switch kind {
	case typeJSON:
		s, err := a.schema(at + pointerTo("content", kind, "schema"))
		if err != nil {
			return err
		}
		return validate(s, body)
	case typeNDJSON:
		s, err := a.schema("/components/schemas/Line")
		if err != nil {
			return err
		}
		for line := range bytes.Lines(body) {
			if err := validate(s, line); err != nil {
				return err
			}
		}
	}
	return nil
}

func validate(s *jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func TestEveryRouteIsDescribedAndNoOther(t *testing.T) {
	s := newSite(t)
	var got, want []string
	for _, r := range s.srv.routes() {
		path := strings.ReplaceAll(strings.ReplaceAll(r.pattern, "{path...}", "{path}"), "/{$}", "/")
		for method, h := range map[string]http.HandlerFunc{"get": r.get, "post": r.post} {
			if h == nil {
				continue
			}
			want = append(want, method+" "+path)
			op := api().doc.Paths[path][method]
			if op == nil {
				continue
			}
			if open := len(op.Security) == 0; open != (r.access == public) {
				t.Errorf("%s %s: the description says otherwise who may use it", method, path)
			}
			if _, guarded := op.Responses["401"]; guarded != (r.access == withToken) {
				t.Errorf("%s %s: 401 is described: %t", method, path, guarded)
			}
		}
	}
	for path, ops := range api().doc.Paths {
		for method, op := range ops {
			got = append(got, method+" "+path)
			for _, p := range op.Parameters {
				if p.In == "path" != strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s %s: parameter %s", method, path, p.Name)
				}
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("described:\n%s\nserved:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(api().doc.OpenAPI, "3.1.") {
		t.Errorf("openapi %s", api().doc.OpenAPI)
	}
}

// TestEveryErrorCodeIsDescribed reads the calls of problemf in the sources.
func TestEveryErrorCodeIsDescribed(t *testing.T) {
	used := make(map[string]bool)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.Ident)
			if !ok || fun.Name != "problemf" {
				return true
			}
			code, ok := call.Args[1].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a code that is not written out", name)
				return true
			}
			text, err := strconv.Unquote(code.Value)
			if err != nil {
				t.Fatal(err)
			}
			used[text] = true
			return true
		})
	}
	got := slices.Sorted(slices.Values(api().doc.Components.Schemas["Problem"].Properties["code"].Enum))
	if want := slices.Sorted(maps.Keys(used)); !slices.Equal(got, want) {
		t.Errorf("described: %q\nused: %q", got, want)
	}
}

// broken is a body that fails as a connection does.
type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// TestEveryDescribedAnswerIsGiven: the description promises nothing that does
// not happen.
func TestEveryDescribedAnswerIsGiven(t *testing.T) {
	a := api()
	seen := make(map[string]bool)
	ask := func(s *site, method, path string, body io.Reader, header ...string) {
		t.Helper()
		req := httptest.NewRequest(method, path, body)
		req.Header.Set("Authorization", "Bearer "+testToken)
		req.Host = "127.0.0.1"
		for i := 0; i < len(header); i += 2 {
			if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
				req.Host = header[i+1]
			}
		}
		w := httptest.NewRecorder()
		s.srv.handler(strings.Contains(strings.Join(header, " "), "evil")).ServeHTTP(w, req)
		resp := w.Result()
		defer resp.Body.Close()
		described(t, req, resp, w.Body.Bytes())
		seen[strings.ToLower(method)+" "+a.template(req.URL.Path)+" "+strconv.Itoa(w.Code)] = true
	}
	text := func(s string) io.Reader { return strings.NewReader(s) }
	canceled := func(s *site, method, path string, body io.Reader) {
		req := httptest.NewRequestWithContext(canceledContext(t), method, path, body)
		req.Header.Set("Authorization", "Bearer "+testToken)
		w := httptest.NewRecorder()
		s.srv.Handler().ServeHTTP(w, req)
		resp := w.Result()
		defer resp.Body.Close()
		described(t, req, resp, w.Body.Bytes())
		seen[strings.ToLower(method)+" "+a.template(req.URL.Path)+" "+strconv.Itoa(w.Code)] = true
	}

	s := newSite(t, withSM3)
	s.fill(300)
	s.post(named(1, 1), "")
	var paths []string
	for _, r := range s.srv.routes() {
		path := strings.NewReplacer("{$}", "", "{id}", idOf(1), "entries/{path...}", "entries/000", "{path...}", "0/000").Replace(r.pattern)
		paths = append(paths, path)
		ask(s, "GET", path, nil)
		ask(s, "GET", path, nil, "Host", "evil.example")
		ask(s, "GET", path, nil, "Authorization", "Bearer x")
	}
	ask(s, "GET", "/v1/events", nil, "Accept", typeNDJSON)
	ask(s, "GET", "/v1/events?x=1", nil)
	ask(s, "GET", "/v1/events?cursor=x", nil)
	ask(s, "GET", "/v1/events", nil, "Accept", typeSSE, "Last-Event-ID", "x")
	ask(s, "GET", "/v1/events/"+idOf(1), nil, "Accept", "text/plain")
	ask(s, "GET", "/v1/events/x", nil)
	ask(s, "GET", someID, nil)
	canceled(s, "GET", "/v1/events", nil)
	canceled(s, "GET", someID, nil) // as one that takes too long
	for _, prefix := range []string{"/v1/", "/"} {
		ask(s, "GET", prefix+"tile/x", nil)
		ask(s, "GET", prefix+"sm3/tile/9/000", nil)
		ask(s, "GET", prefix+"tile/entries/999", nil)
	}
	for _, c := range [][]string{
		{"[]"}, {event(1)}, {event(1) + "\n" + bad}, {named(1, 2)}, {bad}, {""}, {"x"}, {event(1), "Content-Encoding", "gzip"},
		{event(1), "Origin", "https://other.example"}, {event(1), "Content-Type", "text/html"}, {event(1), "Content-Encoding", "br"},
		{event(1), "Host", "evil.example"}, {event(1), "Authorization", ""}, {strings.Repeat(" ", 2<<20) + event(1) + strings.Repeat("x", 2<<20)},
	} {
		ask(s, "POST", "/v1/events", text(c[0]), c[1:]...)
	}
	ask(s, "POST", "/v1/events", broken{os.ErrDeadlineExceeded})
	first, err := veritrail.ParseUUID(idOf(99))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, mine, err := s.srv.window.claim(t.Context(), first, 1); mine == nil || err != nil {
		t.Fatal(mine, err)
	}
	canceled(s, "POST", "/v1/events", text(named(99, 1))) // while it waits for another with its id
	s.srv.streams = make(chan struct{})
	ask(s, "GET", "/v1/events", nil, "Accept", typeNDJSON)

	empty := newSite(t)
	for _, path := range []string{"/checkpoint", "/v1/checkpoint"} {
		ask(empty, "GET", path, nil)
	}
	empty.post(named(1, 1), "")
	ask(empty, "GET", "/v1/events/"+idOf(1), nil, "Accept", "text/plain")

	// Its files can't be read any more.
	lost := newSite(t)
	lost.fill(3)
	lost.srv.window.keep(remembered{id: [16]byte{1}, leaf: 1 << 40, at: lost.srv.cfg.Now().Unix()})
	ask(lost, "POST", "/v1/events", text(`{"id":"01000000-0000-0000-0000-000000000000","act":"APP.TEST","sub":{"user":"u"}}`))
	if err := lost.rec.Close(); err != nil {
		t.Fatal(err)
	}
	ask(lost, "POST", "/v1/events", text(event(1))) // closed
	none, _, err := trail.OpenView(lost.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer none.Close()
	if err := os.RemoveAll(filepath.Join(lost.dir, trail.SegmentsDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lost.dir, trail.CheckpointFile), []byte("no note"), 0o600); err != nil {
		t.Fatal(err)
	}
	lost.serve(Config{Dir: lost.dir, Problem: trail.ErrNoTrail, View: func() *trail.View { return none }, Origin: "example.com/test", VKeys: lost.rec.Keys(), Token: testToken})
	for _, path := range paths {
		switch {
		case strings.Contains(path, "tile"), strings.HasSuffix(path, "checkpoint"), path == "/readyz":
			ask(lost, "GET", path, nil)
		}
	}
	ask(lost, "POST", "/v1/events", text(event(1)))
	ask(lost, "GET", "/v1/events", nil)
	unread := newSite(t, withSM3)
	unread.fill(300)
	view, _, err := trail.OpenView(unread.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.Close()
	if err := unread.rec.Close(); err != nil { // Windows removes nothing that is written to
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(unread.dir, trail.SegmentsDir)); err != nil {
		t.Fatal(err)
	}
	unread.serve(Config{
		Dir: unread.dir, Problem: trail.ErrNoTrail, View: func() *trail.View { return view }, Origin: "example.com/test", VKeys: unread.rec.Keys(), Token: testToken,
	})
	ask(unread, "GET", someID, nil)
	for _, path := range paths {
		if strings.Contains(path, "tile") {
			ask(unread, "GET", path, nil)
		}
	}
	for path, ops := range a.doc.Paths {
		for method, op := range ops {
			for status := range op.Responses {
				if key := method + " " + path + " " + status; !seen[key] {
					t.Errorf("described, and never given: %s", key)
				}
			}
		}
	}
}

func canceledContext(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
