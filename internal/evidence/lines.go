package evidence

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/veritrail/veritrail/internal/suite"
)

// appendProof appends the one spelling of a line of proofs.jsonl, newline
// included:
//
//	{"leaf":7,"id":"…","sha256":["…","…"],"sm3":["…","…"]}
//
// without white space, hashes in standard base64, sm3 only when withSM3.
func appendProof(b []byte, e *Event, withSM3 bool) []byte {
	b = append(b, `{"leaf":`...)
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, `,"id":"`...)
	b = append(b, e.ID...)
	b = append(b, `","sha256":`...)
	b = appendHashes(b, e.SHA256)
	if withSM3 {
		b = append(b, `,"sm3":`...)
		b = appendHashes(b, e.SM3)
	}
	return append(b, '}', '\n')
}

func appendHashes(b []byte, hashes []suite.Hash) []byte {
	b = append(b, '[')
	for i := range hashes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, hashes[i][:])
		b = append(b, '"')
	}
	return append(b, ']')
}

// parseProof is the inverse of appendProof. It takes the line without its
// newline and accepts that one spelling only. The problem it returns is "" when
// there is none.
func parseProof(line []byte, withSM3 bool) (e Event, problem string) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"leaf":`))
	if !ok {
		return e, `does not begin with "leaf"`
	}
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	index, err := strconv.ParseUint(string(rest[:digits]), 10, 64)
	if err != nil || digits > 1 && rest[0] == '0' {
		return e, "leaf is not a leaf index"
	}
	rest, ok = bytes.CutPrefix(rest[digits:], []byte(`,"id":"`))
	if !ok {
		return e, "leaf is not followed by id"
	}
	id, rest, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || !isID(string(id)) {
		return e, "id is not an event's id"
	}
	e.Index, e.ID = index, string(id)
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"sha256":`)); !ok {
		return e, "id is not followed by sha256"
	}
	if e.SHA256, rest, ok = cutHashes(rest); !ok {
		return e, "sha256 is not a list of hashes"
	}
	if withSM3 {
		if rest, ok = bytes.CutPrefix(rest, []byte(`,"sm3":`)); !ok {
			return e, "sha256 is not followed by sm3"
		}
		if e.SM3, rest, ok = cutHashes(rest); !ok {
			return e, "sm3 is not a list of hashes"
		}
	}
	if string(rest) != "}" {
		return e, "does not end after its hashes"
	}
	return e, ""
}

var strictBase64 = base64.StdEncoding.Strict()

// cutHashes reads a list of hashes off the front of b. It never returns nil
// hashes when ok, so that an empty proof differs from none.
func cutHashes(b []byte) (hashes []suite.Hash, rest []byte, ok bool) {
	const quoted = 2 + (suite.Size+2)/3*4
	if len(b) < 2 || b[0] != '[' {
		return nil, nil, false
	}
	hashes = make([]suite.Hash, 0, min(maxProofHashes, len(b)/(quoted+1)))
	b = b[1:]
	for b[0] != ']' {
		if len(hashes) > 0 {
			if b[0] != ',' {
				return nil, nil, false
			}
			b = b[1:]
		}
		if len(hashes) == maxProofHashes || len(b) < quoted+1 || b[0] != '"' || b[quoted-1] != '"' {
			return nil, nil, false
		}
		var sum [suite.Size + 1]byte // one to spare: Decode may touch the padding's byte
		n, err := strictBase64.Decode(sum[:], b[1:quoted-1])
		if err != nil || n != suite.Size { // Decode skips line breaks: then n is less
			return nil, nil, false
		}
		hashes = append(hashes, suite.Hash(sum[:suite.Size]))
		b = b[quoted:]
	}
	return hashes, b[1:], true
}

// A noteHead is what a checkpoint says, unverified.
type noteHead struct {
	origin string
	size   uint64
	root   suite.Hash
}

// parseNoteHead reads the three lines every checkpoint begins with. The rest,
// and whether a signature holds, is not its matter.
func parseNoteHead(note []byte) (noteHead, error) {
	var head noteHead
	bad := func(line int, problem string) (noteHead, error) {
		return noteHead{}, &Malformed{File: CheckpointFile, Line: line, Problem: problem}
	}
	if len(note) > maxNoteBytes {
		return bad(0, fmt.Sprintf("longer than %d bytes", maxNoteBytes))
	}
	end := bytes.LastIndex(note, []byte("\n\n"))
	if end < 0 || end+2 == len(note) || note[len(note)-1] != '\n' {
		return bad(0, "not a signed note")
	}
	lines := strings.Split(string(note[:end]), "\n")
	if len(lines) < 3 {
		return bad(0, "fewer than three lines of text")
	}
	if lines[0] == "" || !isLine(lines[0], maxOriginBytes) {
		return bad(1, "not an origin")
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return bad(2, "size is not a number")
	}
	root, err := strictBase64.DecodeString(lines[2])
	if err != nil || len(root) != suite.Size || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return bad(3, "root is not the base64 of 32 bytes")
	}
	head.origin, head.size, head.root = lines[0], size, suite.Hash(root)
	return head, nil
}

// parseKeys splits a file of verifier keys, one a line, each
// name+hex(id)+base64(type ‖ key).
func parseKeys(data []byte) ([]string, error) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return nil, &Malformed{File: KeysFile, Problem: "empty, or its last line has no newline"}
	}
	keys := strings.Split(string(data[:len(data)-1]), "\n")
	if len(keys) > maxKeys {
		return nil, &Malformed{File: KeysFile, Problem: fmt.Sprintf("more than %d keys", maxKeys)}
	}
	for i, key := range keys {
		if _, ok := parseVKey(key); !ok {
			return nil, &Malformed{File: KeysFile, Line: i + 1, Problem: "not a verifier key"}
		}
	}
	return keys, nil
}

// A vkey is a verifier key taken apart.
type vkey struct {
	Name string
	ID   string // eight hex digits
	Type byte   // signature type of signed-note
	Key  []byte // what follows the type
}

func parseVKey(text string) (vkey, bool) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 || parts[0] == "" || !isLine(text, maxNoteBytes) || strings.Contains(text, " ") {
		return vkey{}, false
	}
	id, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil || fmt.Sprintf("%08x", id) != parts[1] {
		return vkey{}, false
	}
	key, err := strictBase64.DecodeString(parts[2])
	if err != nil || len(key) < 2 {
		return vkey{}, false
	}
	return vkey{Name: parts[0], ID: parts[1], Type: key[0], Key: key[1:]}, true
}
