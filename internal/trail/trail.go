// Package trail owns the layout of a trail's directory and its reading side:
// who the log is, its segments, leaves by index, tiles, proofs, its newest
// checkpoint. Any number of processes may read while one writes.
//
//	trail.json                 who the log is (Identity)
//	checkpoint                 the newest signed checkpoint (C2SP tlog-checkpoint)
//	segments/<first leaf>.seg  the leaves (package segment)
//	tile/<level>/…             SHA-256 tiles of level 1 and up (C2SP tlog-tiles)
//	sm3/tile/<level>/…         the same of the SM3 tree, when there is one
//	keys/                      signing keys (package keys)
//	recovered/                 bytes cut from a segment's torn tail, kept
//	lock                       held by the writer
//
// Tiles of level 0 and entry bundles are made from the segments when asked for.
//
// It writes nothing but what Create makes, and judges nothing: package verify
// does.
package trail

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/segment"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

const (
	identityFormat = "veritrail-trail/1"
	maxIdentity    = 4096 // bytes of its file
)

// Names in a trail's directory.
const (
	identityFile   = "trail.json"
	CheckpointFile = "checkpoint"
	LockFile       = "lock"
	SegmentsDir    = "segments"
	KeysDir        = "keys"
	RecoveredDir   = "recovered"
	TokenFile      = "token"
)

// ErrNoTrail says that a directory holds no trail.
var ErrNoTrail = errors.New("no trail here")

// Identity says which log a directory holds. It never changes; a restored copy
// goes on under an instance of its own.
type Identity struct {
	Origin   string
	Instance [16]byte
	Digests  suite.Set
	Created  time.Time
}

type identityJSON struct {
	Format   string    `json:"format"`
	Origin   string    `json:"origin"`
	Instance string    `json:"instance"`
	Digests  []string  `json:"digests"`
	Created  time.Time `json:"created"`
}

// Create makes an empty trail in dir, which may exist but hold no trail.
func Create(disk durable.FS, dir string, id Identity) error {
	if _, err := ReadIdentity(dir); !errors.Is(err, ErrNoTrail) {
		if err == nil {
			err = fmt.Errorf("%s: holds a trail already", dir)
		}
		return err
	}
	for _, d := range []string{dir, filepath.Join(dir, SegmentsDir)} {
		if err := disk.MkdirAll(d); err != nil {
			return err
		}
	}
	if err := checkpoint.CheckOrigin(id.Origin); err != nil {
		return err
	}
	b, err := id.marshal()
	if err != nil {
		return err
	}
	// The identity comes last: a directory without it holds no trail.
	return disk.WriteFile(filepath.Join(dir, identityFile), b)
}

func (id *Identity) marshal() ([]byte, error) {
	j := identityJSON{Format: identityFormat, Origin: id.Origin, Instance: hex.EncodeToString(id.Instance[:]), Created: id.Created.UTC()}
	for _, d := range id.Digests.Digests() {
		j.Digests = append(j.Digests, d.String())
	}
	b, err := json.MarshalIndent(j, "", "  ")
	return append(b, '\n'), err
}

// ReadIdentity reads who the log in dir is.
func ReadIdentity(dir string) (Identity, error) {
	var id Identity
	name := filepath.Join(dir, identityFile)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return id, fmt.Errorf("%s: %w (%s is missing)", dir, ErrNoTrail, identityFile)
	}
	if err != nil {
		return id, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIdentity+1))
	if err != nil {
		return id, err
	}
	if id, err = parseIdentity(b); err != nil {
		return id, fmt.Errorf("%s: %w", name, err)
	}
	return id, nil
}

// parseIdentity reads what marshal wrote, and no other spelling of it: doubled
// and unknown members have nowhere to hide.
func parseIdentity(b []byte) (Identity, error) {
	var id Identity
	if len(b) > maxIdentity {
		return id, fmt.Errorf("more than %d bytes", maxIdentity)
	}
	var j identityJSON
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&j); err != nil {
		return id, fmt.Errorf("%v", err)
	}
	if j.Format != identityFormat {
		return id, fmt.Errorf("format %.40q: this program reads %s", j.Format, identityFormat)
	}
	if err := checkpoint.CheckOrigin(j.Origin); err != nil {
		return id, err
	}
	instance, err := hex.DecodeString(j.Instance)
	if err != nil || len(instance) != len(id.Instance) {
		return id, errors.New("instance is not 32 hex digits")
	}
	id.Origin, id.Created = j.Origin, j.Created
	copy(id.Instance[:], instance)
	for _, d := range j.Digests {
		digest, err := suite.ParseDigest(d)
		if err != nil {
			return id, err
		}
		id.Digests |= suite.Set(digest)
	}
	if err := id.Digests.Check(); err != nil {
		return id, err
	}
	if again, err := id.marshal(); err != nil || !bytes.Equal(again, b) {
		return id, errors.New("not spelled the way it was written")
	}
	return id, nil
}

// SegmentFile names one segment.
type SegmentFile struct {
	Name      string // the file's base name, as findings give it
	Path      string
	FirstLeaf uint64 // as the name says
}

// SegmentName is the name of the segment that begins with leaf first.
func SegmentName(first uint64) string { return fmt.Sprintf("%020d.seg", first) }

// SegmentPath is where the segment that begins with leaf first lies.
func SegmentPath(dir string, first uint64) string {
	return filepath.Join(dir, SegmentsDir, SegmentName(first))
}

// Segments lists the segments in dir in leaf order. Files that are not named
// like one are passed over.
func Segments(dir string) ([]SegmentFile, error) {
	entries, err := os.ReadDir(filepath.Join(dir, SegmentsDir))
	if err != nil {
		return nil, err
	}
	var out []SegmentFile
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".seg")
		first, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || len(digits) != 20 {
			continue
		}
		out = append(out, SegmentFile{Name: e.Name(), Path: filepath.Join(dir, SegmentsDir, e.Name()), FirstLeaf: first})
	}
	slices.SortFunc(out, func(a, b SegmentFile) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// TilePath is where a tile of level 1 or above lies.
func TilePath(dir string, d suite.Digest, t tlog.Tile) string {
	if d == suite.SM3 {
		dir = filepath.Join(dir, d.String())
	}
	return filepath.Join(dir, filepath.FromSlash(t.Path()))
}

// Files reads the tiles that are kept as files.
func Files(dir string, d suite.Digest) tlog.TileReader { return files{dir, d} }

type files struct {
	dir    string
	digest suite.Digest
}

func (f files) ReadTile(t tlog.Tile) ([]suite.Hash, error) {
	full := tlog.Tile{Level: t.Level, N: t.N, Width: tlog.TileWidth}
	b, err := durable.ReadFile(TilePath(f.dir, f.digest, full))
	if errors.Is(err, fs.ErrNotExist) && t != full {
		b, err = durable.ReadFile(TilePath(f.dir, f.digest, t))
		full.Width = t.Width
	}
	if err != nil {
		return nil, err
	}
	hashes, err := tlog.ParseTile(b, full.Width)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", TilePath(f.dir, f.digest, full), err)
	}
	return hashes, nil
}

// Trees are a log's trees, one a digest, SHA-256 first.
type Trees []*tlog.Tree

// NewTrees are empty trees. full is called with each completed tile.
func NewTrees(digests suite.Set, full func(suite.Digest, tlog.Tile, []suite.Hash)) Trees {
	var out Trees
	for _, d := range digests.Digests() {
		out = append(out, tlog.NewTree(d, bind(full, d)))
	}
	return out
}

// RestoreTrees are the trees at the start of a segment, from the tiles kept as
// files. They must have the roots the segment's header says.
func RestoreTrees(dir string, h *segment.Header, full func(suite.Digest, tlog.Tile, []suite.Hash)) (Trees, error) {
	var out Trees
	for _, d := range h.Digests.Digests() {
		tree, err := tlog.RestoreTree(d, h.FirstLeaf, Files(dir, d), bind(full, d))
		if err != nil {
			return nil, err
		}
		out = append(out, tree)
	}
	if !out.HaveRoots(h.Root, &h.SM3Root) {
		return nil, fmt.Errorf("tiles for the first %d leaves do not have the root that segment %020d begins with", h.FirstLeaf, h.FirstLeaf)
	}
	return out, nil
}

func bind(full func(suite.Digest, tlog.Tile, []suite.Hash), d suite.Digest) func(tlog.Tile, []suite.Hash) {
	if full == nil {
		return nil
	}
	return func(t tlog.Tile, hashes []suite.Hash) { full(d, t, hashes) }
}

// Size is the number of leaves.
func (t Trees) Size() uint64 { return t[0].Size() }

// Root is the SHA-256 root.
func (t Trees) Root() suite.Hash { return t[0].Root() }

// SM3Root is the SM3 root, nil when there is no such tree.
func (t Trees) SM3Root() *suite.Hash {
	if len(t) == 1 {
		return nil
	}
	root := t[1].Root()
	return &root
}

// HaveRoots compares the trees' roots with those given; sm3 is not looked at
// when there is no SM3 tree.
func (t Trees) HaveRoots(root suite.Hash, sm3 *suite.Hash) bool {
	if t.Root() != root {
		return false
	}
	if mine := t.SM3Root(); mine != nil {
		return sm3 != nil && *mine == *sm3
	}
	return true
}

// Clone is an independent copy.
func (t Trees) Clone() Trees {
	out := make(Trees, len(t))
	for i := range t {
		out[i] = t[i].Clone()
	}
	return out
}

// Hasher turns the leaves of frames into leaf hashes, reusing its memory.
type Hasher struct {
	Ends   []int
	hashes [][]suite.Hash
}

// Hash hashes the lines whose ends are in h.Ends, for every tree, and returns
// the hashes, SHA-256 first. They are valid until the next call.
func (h *Hasher) Hash(trees Trees, lines []byte) [][]suite.Hash {
	for len(h.hashes) < len(trees) {
		h.hashes = append(h.hashes, nil)
	}
	n := len(h.Ends)
	for i := range trees {
		h.hashes[i] = slices.Grow(h.hashes[i][:0], n)[:n]
	}
	const worthwhile = 64 // leaves for which a second goroutine pays
	if len(trees) == 1 || n < worthwhile {
		for i, t := range trees {
			t.Digest().LeafHashes(h.hashes[i], lines, h.Ends)
		}
		return h.hashes[:len(trees)]
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		trees[1].Digest().LeafHashes(h.hashes[1], lines, h.Ends)
	}()
	trees[0].Digest().LeafHashes(h.hashes[0], lines, h.Ends)
	<-done
	return h.hashes[:len(trees)]
}

// Replay adds the leaves of an events frame to the trees, after comparing them
// with their fingerprints, and the trees' roots with the frame's.
func (h *Hasher) Replay(trees Trees, f *segment.Frame) error {
	if f.Kind == segment.Events {
		var err error
		if h.Ends, err = f.Ends(h.Ends[:0]); err != nil {
			return err
		}
		hashes := h.Hash(trees, f.Lines())
		for i := range h.Ends {
			if !f.HasFingerprint(i, &hashes[0][i]) {
				return fmt.Errorf("leaf %d: not what its fingerprint says", f.FirstLeaf+uint64(i))
			}
		}
		for j, tree := range trees {
			tree.AppendAll(hashes[j])
		}
	}
	if !trees.HaveRoots(f.Root, f.SM3Root) {
		return errors.New("frame's root is not that of the leaves before it")
	}
	return nil
}
