// Package evidence owns the case format: one ZIP with events of a trail, the
// proof that each of them is under one signed checkpoint, and what an outsider
// needs to check that offline, by machine or by hand. docs/format/case.md fixes
// the format, version veritrail-case/1.
//
// A case holds
//
//	checkpoint      the signed note (C2SP tlog-checkpoint) in which all proofs end
//	keys            public keys, one verifier key (C2SP signed-note) a line
//	events.jsonl    the sealed leaves, byte for byte, one a line, in leaf order
//	proofs.jsonl    for each of them an inclusion proof (RFC 6962 §2.1.1)
//	schemas/*.json  JSON Schemas of the events
//	README.md       how to check the case, with our program or without it
//	report.html     the same for reading and printing; it proves nothing itself
//	manifest.json   what was asked, and size and SHA-256 of every other file
//
// A Writer makes a case in one pass, a Reader takes one apart. Both stream, so
// that a case of millions of events needs no more memory than one of ten.
//
// The package moves bytes and checks that a case is whole and agrees with
// itself. It checks neither a proof nor a signature and trusts no key: package
// verify does, with the bytes a Reader hands out. It knows no disk, clock or
// network.
package evidence

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/veritrail/veritrail/internal/suite"
)

// Format is the version this package writes, and the only one it reads.
const Format = "veritrail-case/1"

// The names in a case. Schemas stand below schemas/.
const (
	CheckpointFile = "checkpoint"
	KeysFile       = "keys"
	EventsFile     = "events.jsonl"
	ProofsFile     = "proofs.jsonl"
	ReadmeFile     = "README.md"
	ReportFile     = "report.html"
	ManifestFile   = "manifest.json"
	EventSchema    = "schemas/event.schema.json"

	schemaDir = "schemas/"
)

// Bounds of a case. A file past its bound is refused, when writing too.
const (
	MaxLeafBytes = 65535   // a line is a leaf and its newline: 64 KiB
	MaxFileBytes = 8 << 30 // of any one file, before compression

	maxLineBytes     = MaxLeafBytes + 1
	maxNoteBytes     = 64 << 10
	maxKeysBytes     = 64 << 10
	maxSchemaBytes   = 1 << 20
	maxReadmeBytes   = 1 << 20
	maxReportBytes   = 64 << 20
	maxManifestBytes = 1 << 20
	maxSchemas       = 16
	maxKeys          = 64
	maxQuery         = 64
	maxQueryBytes    = 4096
	maxOriginBytes   = 255
	maxIDBytes       = 64
	maxProofHashes   = 64 // a path in a tree of 2^64 leaves
)

// An Event is a sealed leaf and its inclusion proofs.
type Event struct {
	Leaf   []byte       // the exact bytes, without a newline
	Index  uint64       // its place in the trail
	ID     string       // the id within Leaf, repeated for finding it; proves nothing
	SHA256 []suite.Hash // from the leaf's sibling up to the child of the root
	SM3    []suite.Hash // the same in the SM3 tree; nil when the trail has none
}

// Malformed says that bytes do not follow the format, so that nothing can be
// concluded from them: the case could not be checked.
type Malformed struct {
	File    string // "" for the ZIP around the files
	Line    int    // 1-based; 0 when the whole file is meant
	Problem string
}

func (e *Malformed) Error() string { return place(e.File, e.Line) + e.Problem }

// Mismatch says that a case contradicts itself: its bytes follow the format
// but are not those it says it holds.
type Mismatch struct {
	File  string
	Line  int    // 1-based; 0 when the whole file is meant
	Check string // what does not hold: "sha256", "crc32", "size", "events", …
	Got   string // as found
	Want  string // as the case says
}

func (e *Mismatch) Error() string {
	return fmt.Sprintf("%s%s is %s, want %s", place(e.File, e.Line), e.Check, e.Got, e.Want)
}

func place(file string, line int) string {
	switch {
	case file == "":
		return "case: "
	case line == 0:
		return "case: " + file + ": "
	}
	return fmt.Sprintf("case: %s: line %d: ", file, line)
}

// maxBytes is the bound of a file by its name, and 0 for a name no case holds.
func maxBytes(name string) uint64 {
	switch name {
	case EventsFile, ProofsFile:
		return MaxFileBytes
	case CheckpointFile:
		return maxNoteBytes
	case KeysFile:
		return maxKeysBytes
	case ReadmeFile:
		return maxReadmeBytes
	case ReportFile:
		return maxReportBytes
	case ManifestFile:
		return maxManifestBytes
	}
	if schema, ok := strings.CutPrefix(name, schemaDir); ok && isSchemaName(schema) {
		return maxSchemaBytes
	}
	return 0
}

// isSchemaName allows plain lower-case names that end in .json, so that no
// name can leave the directory a case is unpacked to.
func isSchemaName(name string) bool {
	if len(name) > 64 || !strings.HasSuffix(name, ".json") || strings.Contains(name, "..") {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case (c == '.' || c == '-' || c == '_') && i > 0:
		default:
			return false
		}
	}
	return true
}

// isID allows what an event's id may hold, which needs no escape in JSON.
func isID(id string) bool {
	if id == "" || len(id) > maxIDBytes {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-' || c == '_' || c == '.' || c == ':':
		default:
			return false
		}
	}
	return true
}

// isLine tells whether s is text without control characters, of up to max bytes.
func isLine(s string, max int) bool {
	return len(s) <= max && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
