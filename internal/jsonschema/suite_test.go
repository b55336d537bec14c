package jsonschema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
)

const suiteDir = "testdata/suite"

type suiteGroup struct {
	Description string          `json:"description"`
	Schema      json.RawMessage `json:"schema"`
	Tests       []struct {
		Description string          `json:"description"`
		Data        json.RawMessage `json:"data"`
		Valid       bool            `json:"valid"`
	} `json:"tests"`
}

// suiteFiles are the files of the official suite, by their names below tests.
func suiteFiles(t testing.TB) map[string][]suiteGroup {
	t.Helper()
	files := make(map[string][]suiteGroup)
	err := fs.WalkDir(os.DirFS(suiteDir), "tests", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(suiteDir, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		var groups []suiteGroup
		if err := json.Unmarshal(text, &groups); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		files[strings.TrimPrefix(name, "tests/")] = groups
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// suiteRemotes are the schemas that the suite refers to on a server.
func suiteRemotes(t testing.TB) map[string][]byte {
	t.Helper()
	remotes := make(map[string][]byte)
	err := fs.WalkDir(os.DirFS(suiteDir), "remotes", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(suiteDir, filepath.FromSlash(name)))
		remotes["http://localhost:1234/"+strings.TrimPrefix(name, "remotes/")] = text
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return remotes
}

// TestOfficialSuite runs every test of the official suite for draft-07 through Compile, Decode and Validate. What fails
// is listed in docs/format/schemas.md, with the counts, and nothing else may fail. Where the schema compiles, the
// library must give the same verdict on every value.
func TestOfficialSuite(t *testing.T) {
	files, remotes := suiteFiles(t), suiteRemotes(t)
	type count struct{ passed, failed int }
	var required, optional count
	var failures []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c := &required
		if strings.HasPrefix(name, "optional/") {
			c = &optional
		}
		for _, group := range files[name] {
			schema, err := Compile("suite", group.Schema, remotes)
			if err != nil {
				failures = append(failures, fmt.Sprintf("%s: %s: all %d", name, group.Description, len(group.Tests)))
				c.failed += len(group.Tests)
				t.Logf("%s: %s: %v", name, group.Description, err)
				continue
			}
			for _, test := range group.Tests {
				place := path.Join(name) + ": " + group.Description + ": " + test.Description
				v, err := Decode(test.Data)
				if err == nil {
					err = schema.Validate(v)
					if got := schema.Reference(v); got != (err == nil) {
						t.Errorf("%s: the library says %v, we say %v", place, got, err)
					}
				}
				if err != nil {
					checkReasons(t, place, err)
				}
				if (err == nil) != test.Valid {
					failures = append(failures, place)
					c.failed++
					t.Logf("%s: want valid %v, got %v", place, test.Valid, err)
					continue
				}
				c.passed++
			}
		}
	}
	doc, err := os.ReadFile("../../docs/format/schemas.md")
	if err != nil {
		t.Fatal(err)
	}
	published := fmt.Sprintf("| required | %d | %d | %d |\n| optional | %d | %d | %d |\n",
		required.passed+required.failed, required.passed, required.failed,
		optional.passed+optional.failed, optional.passed, optional.failed)
	if !bytes.Contains(doc, []byte(published)) {
		t.Errorf("docs/format/schemas.md does not hold these counts:\n%s", published)
	}
	_, list, _ := bytes.Cut(doc, []byte("```text suite failures\n"))
	list, _, _ = bytes.Cut(list, []byte("```\n"))
	if got := strings.Join(failures, "\n") + "\n"; got != string(list) {
		t.Errorf("docs/format/schemas.md does not list these failures:\n%s", got)
	}
}

// checkReasons looks at what is true of every refusal.
func checkReasons(t *testing.T, place string, err error) {
	t.Helper()
	var invalid *veritrail.InvalidEventError
	if !errors.As(err, &invalid) || len(invalid.Violations) == 0 || len(invalid.Violations) > maxViolations {
		t.Errorf("%s: got %v, want 1 to %d violations", place, err, maxViolations)
		return
	}
	for _, v := range invalid.Violations {
		noSchemas := strings.HasPrefix(v.Rule, "at byte ") || v.Rule == "duplicate key" || strings.HasPrefix(v.Rule, "want a value that the schema checks within")
		if v.Rule == "" || v.Shape == "" || v.Keyword == "" && !noSchemas {
			t.Errorf("%s: violation %+v", place, v)
		}
	}
}
