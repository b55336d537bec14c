// Package checkpoint owns the signed statement a trail makes of itself: "my
// tree of so many leaves has this root". The format is the C2SP checkpoint
// (c2sp.org/tlog-checkpoint) in a C2SP signed note (c2sp.org/signed-note):
//
//	example.com/payroll
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— example.com/payroll Az3grlgtzPICa5OS8npVmf1M…
//
// The lines of the text are the origin, the tree size in decimal, the SHA-256
// root in base64, and any extension lines; every one ends in a newline. Then
// come an empty line and one line for each signature: em dash, key name, and
// base64(key ID ‖ signature).
//
// An Ed25519 signature (type 0x01, over the text) is on every checkpoint, so
// that any client of the format can check it. A trail with an SM3 tree adds a
// line of a type of our own, "veritrail.dev/sm2-sm3/v1": its signature bytes
// are the SM3 root followed by an SM2 signature (GB/T 32918.2, with SM3 and the
// standard's default user ID, in DER) of
//
//	veritrail.dev/sm2-sm3/v1
//	sm3 <SM3 root in base64>
//	<the text of the note>
//
// The SM3 root travels in the signature, as the timestamp of a C2SP cosignature
// does, because an extension line would be under a signature of clients that
// cannot audit it. A root that came in no verified line is no root: SM3Root is
// set by Open and by nothing else here.
//
// The package takes and returns bytes. It knows nothing of files, of time, of
// the tree behind the root, or of who is to be trusted: the caller brings the
// keys.
package checkpoint

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/veritrail/veritrail/internal/suite"
)

// Bounds of what is read. The largest note we write is far below.
const (
	MaxNoteBytes   = 64 << 10
	MaxOriginBytes = 255
)

// Checkpoint is what a checkpoint says. Whether anybody signed it is for Open
// to tell.
type Checkpoint struct {
	Origin     string
	Size       uint64
	Root       suite.Hash  // of the SHA-256 tree
	SM3Root    *suite.Hash // of the SM3 tree; nil when there is none, or no trusted SM2 line
	Extensions []string    // opaque lines after the root; we write none
}

// The ways a checkpoint can fail, for errors.Is. ErrUnknownKey means that it
// could not be checked; ErrBadSignature, that it contradicts a key we trust.
var (
	ErrMalformed    = errors.New("malformed checkpoint")
	ErrUnknownKey   = errors.New("no trusted key signed the checkpoint")
	ErrBadSignature = errors.New("signature of a trusted key does not verify")
	ErrOrigin       = errors.New("checkpoint of another origin")
)

// problem is an error whose text says where and what, and whose kind is one of
// the sentinels above.
type problem struct {
	kind error
	text string
}

func (p *problem) Error() string { return "checkpoint: " + p.text }
func (p *problem) Unwrap() error { return p.kind }

func problemf(kind error, format string, args ...any) error {
	return &problem{kind, fmt.Sprintf(format, args...)}
}

// CheckOrigin tells whether origin can name a trail. It is the name of the
// trail's keys too, so the grammar is that of key names in a signed note, and
// narrower where a name could deceive the eye: 1 to 255 bytes of UTF-8 without
// white space, control or invisible format characters, and without "+". A URL
// without its scheme, as in "example.com/payroll", is a good choice.
func CheckOrigin(origin string) error {
	switch {
	case origin == "":
		return errors.New("origin is empty")
	case len(origin) > MaxOriginBytes:
		return fmt.Errorf("origin is %d bytes long, the most is %d", len(origin), MaxOriginBytes)
	case !utf8.ValidString(origin):
		return errors.New("origin is not UTF-8")
	}
	for i, r := range origin {
		switch {
		case unicode.IsSpace(r):
			return fmt.Errorf("origin has white space at byte %d", i)
		case r == '+':
			return fmt.Errorf("origin has a plus sign at byte %d", i)
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return fmt.Errorf("origin has a control or format character at byte %d", i)
		}
	}
	return nil
}

// text is the note text of c, the bytes that an Ed25519 key signs.
func (c Checkpoint) text() (string, error) {
	if err := CheckOrigin(c.Origin); err != nil {
		return "", problemf(ErrMalformed, "%v", err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n", c.Origin, c.Size, encode(c.Root))
	for i, line := range c.Extensions {
		if err := checkExtension(line); err != nil {
			return "", problemf(ErrMalformed, "extension line %d %v", i+1, err)
		}
		b.WriteString(line)
		b.WriteByte('\n')
	}
	if b.Len() > MaxNoteBytes {
		return "", problemf(ErrMalformed, "%d bytes of text, the most is %d", b.Len(), MaxNoteBytes)
	}
	return b.String(), nil
}

func checkExtension(line string) error {
	if line == "" {
		return errors.New("is empty")
	}
	if !utf8.ValidString(line) {
		return errors.New("is not UTF-8")
	}
	if strings.IndexFunc(line, func(r rune) bool { return r < ' ' }) >= 0 {
		return errors.New("has a control character")
	}
	return nil
}

// ParseUnverified reads what a note says and checks no signature: whoever wrote
// the note chose every field of the result. Use it to learn which keys to fetch,
// or to compare with something that is authenticated otherwise; use Open to rely
// on it. SM3Root is nil.
func ParseUnverified(noteBytes []byte) (Checkpoint, error) {
	n, err := openNote(noteBytes, nil)
	if err != nil {
		return Checkpoint{}, err
	}
	return parseText(n.Text)
}

// openNote checks the frame of a note and the signatures of the trusted keys.
// Without any of those the note comes back with an empty Sigs, and no error.
func openNote(noteBytes []byte, trusted note.Verifiers) (*note.Note, error) {
	if len(noteBytes) > MaxNoteBytes {
		return nil, problemf(ErrMalformed, "%d bytes, the most is %d", len(noteBytes), MaxNoteBytes)
	}
	n, err := note.Open(noteBytes, trusted)
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case err == nil:
		return n, nil
	case errors.As(err, &unverified):
		return unverified.Note, nil
	case errors.As(err, &invalid):
		return nil, problemf(ErrBadSignature, "signature of key %s+%08x does not verify", invalid.Name, invalid.Hash)
	}
	return nil, problemf(ErrMalformed, "not a signed note")
}

// parseText is the inverse of text, and accepts nothing that text would have
// written otherwise.
func parseText(text string) (Checkpoint, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 {
		return Checkpoint{}, problemf(ErrMalformed, "%d lines of text, want origin, size and root", len(lines))
	}
	c := Checkpoint{Origin: lines[0]}
	if err := CheckOrigin(c.Origin); err != nil {
		return Checkpoint{}, problemf(ErrMalformed, "line 1: %v", err)
	}
	var err error
	if c.Size, err = parseSize(lines[1]); err != nil {
		return Checkpoint{}, problemf(ErrMalformed, "line 2: %v", err)
	}
	if c.Root, err = decodeRoot(lines[2]); err != nil {
		return Checkpoint{}, problemf(ErrMalformed, "line 3: %v", err)
	}
	for i, line := range lines[3:] {
		if err := checkExtension(line); err != nil {
			return Checkpoint{}, problemf(ErrMalformed, "line %d %v", 4+i, err)
		}
		c.Extensions = append(c.Extensions, line)
	}
	return c, nil
}

func parseSize(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("size does not fit 64 bits")
	}
	if err != nil {
		return 0, errors.New("size is not a number")
	}
	if strconv.FormatUint(n, 10) != s {
		return 0, errors.New("size has leading zeros")
	}
	return n, nil
}

func encode(h suite.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

func decodeRoot(s string) (suite.Hash, error) {
	b, err := decodeBase64(s)
	if err != nil {
		return suite.Hash{}, fmt.Errorf("root %v", err)
	}
	if len(b) != suite.Size {
		return suite.Hash{}, fmt.Errorf("root has %d bytes, want %d", len(b), suite.Size)
	}
	return suite.Hash(b), nil
}

// decodeBase64 accepts the one encoding of each byte string: Go's decoder alone
// would let newlines and stray trailing bits pass. Its error quotes nothing of
// s, which may be a private key.
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil || base64.StdEncoding.EncodeToString(b) != s {
		return nil, errors.New("is not canonical base64")
	}
	return b, nil
}
