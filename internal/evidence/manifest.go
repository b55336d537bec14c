package evidence

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
)

// A Manifest says what a case holds. Nothing signs it: it finds damage and
// careless edits, and names what was asked. Proof comes from the checkpoint.
type Manifest struct {
	Format   string              `json:"format"`
	Created  time.Time           `json:"created"` // whole seconds, UTC
	Origin   string              `json:"origin"`
	Query    []string            `json:"query"`   // the exporter's conditions; empty: all events
	Digests  []string            `json:"digests"` // of the trees with proofs: sha256, or sha256 and sm3
	TreeSize uint64              `json:"tree_size"`
	Events   uint64              `json:"events"`
	Unsealed uint64              `json:"unsealed"` // events that match but had no checkpoint yet; not in the case
	Files    map[string]FileInfo `json:"files"`    // all but manifest.json itself
}

// FileInfo is the size and the SHA-256, in hex, of one file.
type FileInfo struct {
	Size   uint64 `json:"size"`
	SHA256 string `json:"sha256"`
}

// HasSM3 tells whether the case's events have proofs in an SM3 tree.
func (m *Manifest) HasSM3() bool { return len(m.Digests) == 2 }

func digestNames(sm3 bool) []string {
	if sm3 {
		return []string{suite.SHA256.String(), suite.SM3.String()}
	}
	return []string{suite.SHA256.String()}
}

// encode is the one spelling of a manifest: fields in the order above, file
// names sorted, two spaces a level, nothing but `"` `\` and what JSON demands
// escaped, a newline at the end.
func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func parseManifest(data []byte) (*Manifest, error) {
	bad := func(problem string) (*Manifest, error) {
		return nil, &Malformed{File: ManifestFile, Problem: problem}
	}
	// The version first: of another one nothing else is known.
	var version struct {
		Format string `json:"format"`
	}
	if json.Unmarshal(data, &version) != nil {
		return bad("not JSON")
	}
	if version.Format != Format {
		return bad("format is not " + Format)
	}
	var m Manifest
	if json.Unmarshal(data, &m) != nil {
		return bad("a field has another type than the format's")
	}
	m.Created = m.Created.UTC()
	// Comparing with the one spelling finds unknown and doubled fields,
	// other number forms and trailing data alike.
	if again, err := m.encode(); err != nil || !bytes.Equal(again, data) {
		return bad("not in the form the format fixes")
	}
	if problem := m.check(); problem != "" {
		return bad(problem)
	}
	for name, info := range m.Files {
		sum, err := hex.DecodeString(info.SHA256)
		if maxBytes(name) == 0 || name == ManifestFile {
			return bad(fmt.Sprintf("files: %.64q is no file of a case", name))
		}
		if info.Size > maxBytes(name) {
			return bad("files: " + name + ": size past its bound")
		}
		if err != nil || len(sum) != suite.Size || hex.EncodeToString(sum) != info.SHA256 {
			return bad("files: " + name + ": sha256 is not 64 lower-case hex digits")
		}
	}
	for _, name := range fixedFiles {
		if _, ok := m.Files[name]; !ok {
			return bad("files: " + name + " is missing")
		}
	}
	return &m, nil
}

// fixedFiles are in every case, beside the manifest.
var fixedFiles = []string{CheckpointFile, KeysFile, EventsFile, ProofsFile, EventSchema, ReadmeFile, ReportFile}

// check returns what is wrong with the fields a caller gives, or "".
func (m *Manifest) check() string {
	switch {
	case m.Created.Year() < 1980 || m.Created.Year() > 2099: // what a ZIP can say
		return "created is not within 1980 to 2099"
	case m.Created.Nanosecond() != 0:
		return "created is not in whole seconds"
	case m.Origin == "" || !isLine(m.Origin, maxOriginBytes):
		return "origin is empty, too long or has control characters"
	case m.Query == nil || len(m.Query) > maxQuery:
		return fmt.Sprintf("query is not a list of up to %d", maxQuery)
	case len(m.Digests) != 1 && len(m.Digests) != 2:
		return "digests is neither sha256 nor sha256 and sm3"
	}
	for i, d := range digestNames(m.HasSM3()) {
		if m.Digests[i] != d {
			return "digests is neither sha256 nor sha256 and sm3"
		}
	}
	for i, q := range m.Query {
		if !isLine(q, maxQueryBytes) {
			return fmt.Sprintf("query: %d: too long, not UTF-8 or has control characters", i)
		}
	}
	return ""
}
