// Package keys owns the signing keys of a trail on disk. They are a directory:
//
//	ed25519.key   the private key, one line, as checkpoint.ParseSigner reads it
//	sm2.key       the same for SM2, when the trail has an SM3 tree
//	vkeys         the public keys, one vkey a line
//	lock          empty but for a note of who makes keys here, or made them
//
// The private files are for their owner alone, and Open refuses them otherwise.
// The file vkeys is written last: a directory without it holds keys that nobody
// has signed with, and Create completes it. To check a trail takes vkeys and
// nothing else, and ReadVKeys opens nothing else.
//
// The package knows nothing of trails, and no private key leaves it but inside
// a checkpoint.Signer: not in an error, and not in what fmt prints.
package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/suite"
)

const (
	ed25519File = "ed25519.key"
	sm2File     = "sm2.key"
	vkeysFile   = "vkeys"
	lockFile    = "lock"
)

// Bounds of the files.
const (
	maxPrivateBytes = 4 << 10
	maxVKeysBytes   = 64 << 10
)

// Ring is the keys a trail is signed with at one time.
type Ring struct {
	origin  string
	signers []checkpoint.Signer // Ed25519, then SM2
}

// Signers is the keys to sign checkpoints with, Ed25519 first.
func (r *Ring) Signers() []checkpoint.Signer { return slices.Clone(r.signers) }

// Verifiers is the public halves of Signers.
func (r *Ring) Verifiers() []checkpoint.Verifier {
	var out []checkpoint.Verifier
	for _, s := range r.signers {
		out = append(out, s.Verifier())
	}
	return out
}

// VKeys is the text of Verifiers, what auditors are given.
func (r *Ring) VKeys() []string {
	var out []string
	for _, v := range r.Verifiers() {
		out = append(out, v.String())
	}
	return out
}

// Origin is the name of the trail that the keys sign for.
func (r *Ring) Origin() string { return r.origin }

// Digests says which trees the keys sign for.
func (r *Ring) Digests() suite.Set {
	digests := suite.NewSet()
	for _, k := range kinds {
		if hasAlgorithm(r.Verifiers(), k.algorithm) {
			digests |= suite.NewSet(k.digest)
		}
	}
	return digests
}

// Epoch counts the keys a trail has had. It is 1: these are the first.
func (r *Ring) Epoch() uint32 { return 1 }

// Format keeps every verb of fmt to the public half.
func (r *Ring) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "keys of %s", strings.Join(r.VKeys(), ", ")) // fmt keeps the error of its own writer
}

// Create makes the keys of a new trail in dir, which need not exist: an Ed25519
// key and, if digests has SM3, an SM2 one. When it returns, they are on stable
// storage. It overwrites nothing: where keys are complete its error is
// fs.ErrExist, and keys that an interrupted Create left behind are kept and
// completed.
func Create(dir, origin string, digests suite.Set) (*Ring, error) {
	return create(durable.OS, rand.Reader, dir, origin, digests)
}

func create(disk durable.FS, random io.Reader, dir, origin string, digests suite.Set) (ring *Ring, err error) {
	if err := checkpoint.CheckOrigin(origin); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := digests.Check(); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := disk.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	// Two makers at once could each believe that theirs are the keys.
	lock, err := durable.AcquireLock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	defer func() {
		if rerr := lock.Release(); rerr != nil && err == nil {
			ring, err = nil, fmt.Errorf("keys: %w", rerr)
		}
	}()

	if _, err := os.Lstat(filepath.Join(dir, vkeysFile)); err == nil {
		return nil, fmt.Errorf("keys: %s: %w", filepath.Join(dir, vkeysFile), fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keys: %w", err)
	}
	made := &Ring{origin: origin}
	for _, k := range kinds {
		if k.digest == suite.SM3 && !digests.Has(suite.SM3) {
			if _, err := os.Lstat(filepath.Join(dir, k.file)); !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("keys: %s: is there, but no SM3 tree is asked for", filepath.Join(dir, k.file))
			}
			continue
		}
		s, err := k.readOrMake(disk, random, dir, origin)
		if err != nil {
			return nil, err
		}
		made.signers = append(made.signers, s)
	}
	text := strings.Join(made.VKeys(), "\n") + "\n"
	if err := disk.WriteFile(filepath.Join(dir, vkeysFile), []byte(text)); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return Open(dir)
}

// Begun says what the keys that an interrupted Create left in dir are for, so
// that Create can be asked for the same again. The origin is empty when there
// are none.
func Begun(dir string) (origin string, digests suite.Set, err error) {
	digests = suite.NewSet()
	for _, k := range kinds {
		s, err := k.read(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", 0, err
		}
		origin = s.Verifier().Name()
		digests |= suite.NewSet(k.digest)
	}
	return origin, digests, nil
}

// kind is one of the private files.
type kind struct {
	file      string
	algorithm string
	digest    suite.Digest
	generate  func(origin string, random io.Reader) (private, vkey string, err error)
}

var kinds = []kind{
	{ed25519File, checkpoint.Ed25519, suite.SHA256, checkpoint.GenerateEd25519},
	{sm2File, checkpoint.SM2SM3, suite.SM3, checkpoint.GenerateSM2},
}

func (k kind) readOrMake(disk durable.FS, random io.Reader, dir, origin string) (checkpoint.Signer, error) {
	s, err := k.read(dir)
	if err == nil && s.Verifier().Name() != origin {
		return nil, fmt.Errorf("keys: %s: is a key of %s, not of %s",
			filepath.Join(dir, k.file), s.Verifier().Name(), origin)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	private, _, err := k.generate(origin, random)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if err := disk.WriteFile(filepath.Join(dir, k.file), []byte(private+"\n")); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return k.read(dir)
}

// read reads a private file. Its errors name the file and quote nothing of it.
func (k kind) read(dir string) (checkpoint.Signer, error) {
	name := filepath.Join(dir, k.file)
	text, err := readFile(name, maxPrivateBytes)
	if err != nil {
		return nil, err
	}
	open, err := durable.OthersCanRead(name)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if open {
		return nil, fmt.Errorf("keys: %s: other users may read this private key: run %s, "+
			"and make new keys if somebody could have", name, durable.RestrictCommand(name))
	}
	s, err := checkpoint.ParseSigner(strings.TrimRight(string(text), "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("keys: %s: %w", name, err)
	}
	if got := s.Verifier().Algorithm(); got != k.algorithm {
		return nil, fmt.Errorf("keys: %s: is of algorithm %s, want %s", name, got, k.algorithm)
	}
	return s, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64) (_ []byte, err error) {
	// Asked before opening it: to open a pipe is to wait for its other end.
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("keys: %s: is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("keys: %s: is longer than %d bytes", name, limit)
	}
	return data, nil
}

// Open reads the keys in dir, and checks that the private files and vkeys hold
// the two halves of the same keys, of one origin. An error that is
// fs.ErrNotExist says that there are none, or not all of them.
func Open(dir string) (*Ring, error) {
	public, _, err := ReadVKeys(dir)
	if err != nil {
		return nil, err
	}
	r := &Ring{}
	for _, k := range kinds {
		s, err := k.read(dir)
		if k.algorithm == checkpoint.SM2SM3 && errors.Is(err, fs.ErrNotExist) && !hasAlgorithm(public, k.algorithm) {
			continue // a trail without an SM3 tree
		}
		if err != nil {
			return nil, err
		}
		v := s.Verifier()
		if !slices.Contains(public, v) {
			return nil, fmt.Errorf("keys: %s: its public half, %s+%s, is not in %s",
				filepath.Join(dir, k.file), v.Name(), v.KeyID(), vkeysFile)
		}
		if r.origin == "" {
			r.origin = v.Name()
		}
		if v.Name() != r.origin {
			return nil, fmt.Errorf("keys: %s: is a key of %s, the other one of %s",
				filepath.Join(dir, k.file), v.Name(), r.origin)
		}
		r.signers = append(r.signers, s)
	}
	for _, v := range public {
		if !slices.Contains(r.Verifiers(), v) {
			return nil, fmt.Errorf("keys: %s: the private half of %s+%s is not here",
				filepath.Join(dir, vkeysFile), v.Name(), v.KeyID())
		}
	}
	return r, nil
}

func hasAlgorithm(list []checkpoint.Verifier, algorithm string) bool {
	return slices.ContainsFunc(list, func(v checkpoint.Verifier) bool { return v.Algorithm() == algorithm })
}

// ReadVKeys reads the public half of the keys in dir, and the text of each. It
// opens no private file.
func ReadVKeys(dir string) ([]checkpoint.Verifier, []string, error) {
	name := filepath.Join(dir, vkeysFile)
	text, err := readFile(name, maxVKeysBytes)
	if err != nil {
		return nil, nil, err
	}
	list, err := ParseVKeys(text)
	if err != nil {
		return nil, nil, fmt.Errorf("keys: %s: %w", name, err)
	}
	var vkeys []string
	for _, v := range list {
		vkeys = append(vkeys, v.String())
	}
	return list, vkeys, nil
}

// ParseVKeys reads a file of vkeys, one a line. Blank lines, and lines that
// begin with "#", say nothing; white space around a line and a byte order mark
// do not matter. There is at least one key, and none twice.
func ParseVKeys(text []byte) ([]checkpoint.Verifier, error) {
	if len(text) > maxVKeysBytes {
		return nil, fmt.Errorf("vkeys: longer than %d bytes", maxVKeysBytes)
	}
	// Windows PowerShell 5 writes this when output is redirected to a file.
	if bytes.HasPrefix(text, []byte("\xff\xfe")) || bytes.HasPrefix(text, []byte("\xfe\xff")) {
		return nil, errors.New("vkeys: text is UTF-16: save it as UTF-8 or ASCII")
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	var list []checkpoint.Verifier
	first := map[checkpoint.Verifier]int{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		v, err := checkpoint.ParseVerifier(line)
		if err != nil {
			return nil, fmt.Errorf("vkeys: line %d: %w", i+1, err)
		}
		if first[v] != 0 {
			return nil, fmt.Errorf("vkeys: line %d: is the key of line %d again", i+1, first[v])
		}
		first[v] = i + 1
		list = append(list, v)
	}
	if len(list) == 0 {
		return nil, errors.New("vkeys: there is no key in it")
	}
	return list, nil
}
