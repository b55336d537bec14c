package checkpoint

import (
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/veritrail/veritrail/internal/suite"
)

// Signature is a signature line that a trusted key stands behind.
type Signature struct {
	Name      string
	Algorithm string // Ed25519 or SM2SM3
	KeyID     string // eight hexadecimal digits
}

// Sign writes c as a note, with one line for each signer, in their order. All
// signers bear the name of c's origin. At least one is Ed25519; there is an SM2
// one exactly when c has an SM3 root, because without it nobody could check
// that root, or none would be there to sign.
//
// Every signature is verified before it is returned: a fault in a key store
// must not become a checkpoint that looks like tampering later.
func Sign(c Checkpoint, signers ...Signer) ([]byte, error) {
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	seen := map[Verifier]bool{}
	var list []note.Signer
	for _, s := range signers {
		v := s.Verifier()
		if v.name != c.Origin {
			return nil, problemf(ErrOrigin, "signing for %s with the key %s+%s", c.Origin, v.name, v.KeyID())
		}
		if seen[v] {
			return nil, fmt.Errorf("checkpoint: key %s+%s is given twice", v.name, v.KeyID())
		}
		seen[v] = true
		count[v.Algorithm()]++
		list = append(list, noteSigner{s, v, c.SM3Root})
	}
	switch {
	case count[Ed25519] == 0:
		return nil, fmt.Errorf("checkpoint of %s: no Ed25519 key to sign it", c.Origin)
	case c.SM3Root != nil && count[SM2SM3] == 0:
		return nil, fmt.Errorf("checkpoint of %s: no SM2 key to sign its SM3 root", c.Origin)
	case c.SM3Root == nil && count[SM2SM3] > 0:
		return nil, fmt.Errorf("checkpoint of %s: no SM3 root for its SM2 key to sign", c.Origin)
	}
	out, err := note.Sign(&note.Note{Text: text}, list...)
	if err != nil {
		return nil, fmt.Errorf("checkpoint of %s: %w", c.Origin, err)
	}
	if len(out) > MaxNoteBytes {
		return nil, problemf(ErrMalformed, "%d bytes, the most is %d", len(out), MaxNoteBytes)
	}
	return out, nil
}

// noteSigner makes a Signer sign one checkpoint's lines.
type noteSigner struct {
	signer   Signer
	verifier Verifier
	sm3Root  *suite.Hash
}

func (s noteSigner) Name() string    { return s.verifier.name }
func (s noteSigner) KeyHash() uint32 { return s.verifier.id }

func (s noteSigner) Sign(text []byte) ([]byte, error) {
	message := text
	var line []byte
	if s.verifier.Algorithm() == SM2SM3 {
		message = sm2Message(*s.sm3Root, text)
		line = append(line, s.sm3Root[:]...)
	}
	sig, err := s.signer.Sign(message)
	if err != nil {
		return nil, fmt.Errorf("signing with the key %s+%s: %w", s.verifier.name, s.verifier.KeyID(), err)
	}
	line = append(line, sig...)
	if !s.verifier.Verify(text, line) {
		return nil, fmt.Errorf("signing with the key %s+%s: the new signature does not verify",
			s.verifier.name, s.verifier.KeyID())
	}
	return line, nil
}

// Open reads a checkpoint and checks it against the keys the caller trusts. It
// returns the lines that hold, in their order.
//
//   - A trusted Ed25519 key named like the checkpoint's origin must have signed.
//   - If trusted has SM2 keys of that name, one of them must have signed too.
//     Then, and only then, SM3Root is set. Whoever has an SM2 key of the trail
//     thus cannot be handed a checkpoint without its line.
//   - A line of any other trusted key must verify as well.
//   - Lines of unknown keys count for nothing, for or against. After a change of
//     keys, trust the old and the new: one of each algorithm is enough.
//
// On an error nothing is returned but the error: ErrMalformed, ErrBadSignature
// (a trusted key's line does not verify, or two of them contradict each other),
// ErrOrigin (no trusted key is of the checkpoint's origin) or ErrUnknownKey
// (none of those that are has signed it).
func Open(noteBytes []byte, trusted []Verifier) (Checkpoint, []Signature, error) {
	c, sigs, err := open(noteBytes, trusted)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	return c, sigs, nil
}

func open(noteBytes []byte, trusted []Verifier) (Checkpoint, []Signature, error) {
	known := keyring{}
	for _, v := range trusted {
		if other, ok := known[keyName{v.name, v.id}]; ok && other != v {
			return Checkpoint{}, nil, fmt.Errorf("trusted keys: two different ones are %s+%s", v.name, v.KeyID())
		}
		known[keyName{v.name, v.id}] = v
	}

	// The structure first: what no log could have written is malformed,
	// whatever its signatures.
	n, err := openNote(noteBytes, nil)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	c, err := parseText(n.Text)
	if err != nil {
		return Checkpoint{}, nil, err
	}
	// The note package checks the first line of a key and skips the others.
	// Lines that are equal to the byte are one here.
	lines := map[keyName]bool{}
	for _, s := range n.UnverifiedSigs {
		k := keyName{s.Name, s.Hash}
		if _, ok := known[k]; ok && lines[k] {
			return Checkpoint{}, nil, problemf(ErrMalformed, "two different lines of key %s+%08x", s.Name, s.Hash)
		}
		lines[k] = true
	}
	if n, err = openNote(noteBytes, known); err != nil {
		return Checkpoint{}, nil, err
	}

	signed := map[string]bool{}
	var sigs []Signature
	for _, s := range n.Sigs {
		v := known[keyName{s.Name, s.Hash}]
		raw, err := decodeBase64(s.Base64)
		if err != nil {
			return Checkpoint{}, nil, problemf(ErrMalformed, "signature of key %s+%s %v", v.name, v.KeyID(), err)
		}
		sigs = append(sigs, Signature{Name: v.name, Algorithm: v.Algorithm(), KeyID: v.KeyID()})
		if v.name != c.Origin {
			continue // a witness may vouch for the log, but not in its place
		}
		signed[v.Algorithm()] = true
		if v.Algorithm() != SM2SM3 {
			continue
		}
		root := suite.Hash(raw[4:]) // Verify saw more than a root behind the key ID
		if c.SM3Root != nil && *c.SM3Root != root {
			return Checkpoint{}, nil, problemf(ErrBadSignature, "two SM2 keys of %s signed different SM3 roots", c.Origin)
		}
		c.SM3Root = &root
	}

	want := map[string]bool{}
	for _, v := range trusted {
		if v.name == c.Origin {
			want[v.Algorithm()] = true
		}
	}
	switch {
	case len(trusted) == 0:
		return Checkpoint{}, nil, problemf(ErrUnknownKey, "no trusted key to check it with")
	case len(want) == 0:
		return Checkpoint{}, nil, problemf(ErrOrigin, "origin is %s, and no trusted key is of that name", c.Origin)
	case !signed[Ed25519]:
		return Checkpoint{}, nil, problemf(ErrUnknownKey, "no trusted Ed25519 key of %s signed it", c.Origin)
	case want[SM2SM3] && !signed[SM2SM3]:
		return Checkpoint{}, nil, problemf(ErrUnknownKey, "no trusted SM2 key of %s signed it", c.Origin)
	}
	return c, sigs, nil
}

type keyName struct {
	name string
	id   uint32
}

// keyring implements note.Verifiers.
type keyring map[keyName]Verifier

func (k keyring) Verifier(name string, id uint32) (note.Verifier, error) {
	v, ok := k[keyName{name, id}]
	if !ok {
		return nil, &note.UnknownVerifierError{Name: name, KeyHash: id}
	}
	return v, nil
}
