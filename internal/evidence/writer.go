package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
)

// Config is what a case says of itself. All is required but Query, SM3Root and
// Unsealed.
type Config struct {
	Created    time.Time         // whole seconds of it are written, in UTC
	Origin     string            // of the trail, as in Checkpoint
	Query      []string          // the conditions that chose the events; none: all of them
	Checkpoint []byte            // the signed note in which all proofs end
	VKeys      []string          // the trail's public keys, as known to the exporter
	TreeSize   uint64            // as in Checkpoint
	Root       suite.Hash        // as in Checkpoint
	SM3Root    *suite.Hash       // of the SM3 tree; nil when the trail has none
	Unsealed   uint64            // events that match Query but are not under Checkpoint
	Schemas    map[string][]byte // by file name; event.schema.json must be among them

	// Scratch holds the proofs until the events are written, since a ZIP is
	// written one file after the other. It is used from its present position
	// on, is neither cut nor closed, and holds nothing of use after Close.
	Scratch io.ReadWriteSeeker
}

// A Writer writes a case. The same Config (with the same whole second) and the
// same events make the same bytes, as long as the program is built with the
// same release of Go, whose compressor it uses. A Writer is for one goroutine.
//
// It checks that what it is given has the format's shape and fits the
// checkpoint's text. That the proofs hold is for the caller to have checked.
type Writer struct {
	zip      *zip.Writer
	config   Config
	manifest Manifest
	report   *report

	events   *bufio.Writer // into file, the entry being written
	file     *file
	proofs   *bufio.Writer // into Scratch
	scratch0 int64         // where the proofs begin in Scratch
	proofLen uint64
	eventLen uint64
	next     uint64 // the least index that the next event may have
	line     []byte
	err      error // the first failure; nothing is written after it
	closed   bool
}

// A file is one entry of the ZIP, measured while it is written.
type file struct {
	w    io.Writer
	sum  hash.Hash
	size uint64
}

func (f *file) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	f.sum.Write(p[:n])
	f.size += uint64(n)
	return n, err
}

// NewWriter begins a case on w. It writes the small files that come first, so
// its error may be w's. Close must be called for the case to be whole; it does
// not close w.
func NewWriter(w io.Writer, c Config) (*Writer, error) {
	head, err := c.check()
	if err != nil {
		return nil, err
	}
	cw := &Writer{
		zip:    zip.NewWriter(w),
		config: c,
		manifest: Manifest{
			Format:   Format,
			Created:  c.Created.UTC().Truncate(time.Second),
			Origin:   c.Origin,
			Query:    append([]string{}, c.Query...),
			Digests:  digestNames(c.SM3Root != nil),
			TreeSize: head.size,
			Unsealed: c.Unsealed,
			Files:    make(map[string]FileInfo),
		},
		proofs: bufio.NewWriterSize(c.Scratch, 64<<10),
	}
	if problem := cw.manifest.check(); problem != "" {
		return nil, &Malformed{File: ManifestFile, Problem: problem}
	}
	cw.report = newReport(&cw.config, &cw.manifest)
	if cw.scratch0, err = c.Scratch.Seek(0, io.SeekCurrent); err != nil {
		return nil, fmt.Errorf("case: scratch space: %w", err)
	}
	if err := cw.writeFile(CheckpointFile, c.Checkpoint); err != nil {
		return nil, err
	}
	if err := cw.writeFile(KeysFile, []byte(strings.Join(c.VKeys, "\n")+"\n")); err != nil {
		return nil, err
	}
	if err := cw.open(EventsFile, zip.Deflate); err != nil {
		return nil, err
	}
	cw.events = bufio.NewWriterSize(cw.file, 64<<10)
	return cw, nil
}

// check compares the parts of c with each other.
func (c *Config) check() (noteHead, error) {
	head, err := parseNoteHead(c.Checkpoint)
	if err != nil {
		return head, err
	}
	disagrees := func(what string) (noteHead, error) {
		return head, &Mismatch{File: CheckpointFile, Check: what, Got: "another", Want: "that of the case"}
	}
	switch {
	case head.origin != c.Origin:
		return disagrees("origin")
	case head.size != c.TreeSize:
		return disagrees("tree size")
	case head.root != c.Root:
		return disagrees("root")
	case c.Scratch == nil:
		return head, errors.New("case: no scratch space given")
	}
	if _, err := parseKeys([]byte(strings.Join(c.VKeys, "\n") + "\n")); err != nil {
		return head, err
	}
	if len(c.Schemas) > maxSchemas {
		return head, &Malformed{File: schemaDir, Problem: fmt.Sprintf("more than %d schemas", maxSchemas)}
	}
	for name := range c.Schemas {
		if !isSchemaName(name) {
			return head, &Malformed{File: schemaDir, Problem: fmt.Sprintf("%.64q is not a schema's name", name)}
		}
	}
	if _, ok := c.Schemas[strings.TrimPrefix(EventSchema, schemaDir)]; !ok {
		return head, &Malformed{File: EventSchema, Problem: "missing"}
	}
	return head, nil
}

// Add writes one event. Events come in ascending order of Index. Add keeps
// nothing of e. After an error the case cannot be finished.
func (w *Writer) Add(e Event) error {
	if w.closed {
		return errors.New("case: event added after close")
	}
	if w.err == nil {
		w.err = w.add(&e)
	}
	return w.err
}

func (w *Writer) add(e *Event) error {
	bad := func(problem string) error {
		return &Malformed{File: EventsFile, Line: int(w.manifest.Events) + 1, Problem: problem}
	}
	withSM3 := w.config.SM3Root != nil
	switch {
	case e.Index < w.next:
		return bad("leaf index does not ascend")
	case e.Index >= w.manifest.TreeSize:
		return bad("leaf index is not under the checkpoint")
	case len(e.Leaf) == 0 || len(e.Leaf) > MaxLeafBytes:
		return bad(fmt.Sprintf("leaf is not of 1 to %d bytes", MaxLeafBytes))
	case bytes.IndexByte(e.Leaf, '\n') >= 0:
		return bad("leaf has a newline")
	case !isID(e.ID):
		return bad("id is not an event's id")
	case len(e.SHA256) > maxProofHashes || len(e.SM3) > maxProofHashes:
		return bad(fmt.Sprintf("proof has more than %d hashes", maxProofHashes))
	case !withSM3 && e.SM3 != nil:
		return bad("proof in an SM3 tree that the case does not have")
	case withSM3 && len(e.SM3) != len(e.SHA256):
		return bad("SM3 proof is not as long as the SHA-256 proof")
	}
	if !w.report.add(e) {
		return bad("id is not that of the leaf")
	}
	w.line = appendProof(w.line[:0], e, withSM3)
	if w.eventLen+uint64(len(e.Leaf))+1 > MaxFileBytes || w.proofLen+uint64(len(w.line)) > MaxFileBytes {
		return bad("a case holds no more; export in parts")
	}
	if _, err := w.proofs.Write(w.line); err != nil {
		return fmt.Errorf("case: scratch space: %w", err)
	}
	w.proofLen += uint64(len(w.line))
	w.line = append(append(w.line[:0], e.Leaf...), '\n')
	if _, err := w.events.Write(w.line); err != nil {
		return fmt.Errorf("case: %s: %w", EventsFile, err)
	}
	w.eventLen += uint64(len(w.line))
	w.manifest.Events++
	w.next = e.Index + 1 // Index is below TreeSize, so this does not wrap
	return nil
}

// Close writes what follows the events and ends the ZIP. Unless it returns nil
// there is no case.
func (w *Writer) Close() error {
	if w.closed {
		return errors.New("case: closed twice")
	}
	w.closed = true
	if w.err == nil {
		w.err = w.finish()
	}
	return w.err
}

func (w *Writer) finish() error {
	if err := w.events.Flush(); err != nil {
		return fmt.Errorf("case: %s: %w", EventsFile, err)
	}
	w.shut(EventsFile)
	if err := w.copyProofs(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.config.Schemas)) {
		if err := w.writeFile(schemaDir+name, w.config.Schemas[name]); err != nil {
			return err
		}
	}
	readme, err := makeReadme(&w.config, &w.manifest)
	if err != nil {
		return err
	}
	if err := w.writeFile(ReadmeFile, readme); err != nil {
		return err
	}
	page, err := w.report.render()
	if err != nil {
		return err
	}
	if err := w.writeFile(ReportFile, page); err != nil {
		return err
	}
	manifest, err := w.manifest.encode()
	if err != nil {
		return fmt.Errorf("case: %s: %w", ManifestFile, err)
	}
	if err := w.writeFile(ManifestFile, manifest); err != nil {
		return err
	}
	if err := w.zip.Close(); err != nil {
		return fmt.Errorf("case: %w", err)
	}
	return nil
}

// copyProofs moves the proofs from the scratch space into the ZIP.
func (w *Writer) copyProofs() error {
	if err := w.proofs.Flush(); err != nil {
		return fmt.Errorf("case: scratch space: %w", err)
	}
	if _, err := w.config.Scratch.Seek(w.scratch0, io.SeekStart); err != nil {
		return fmt.Errorf("case: scratch space: %w", err)
	}
	if err := w.open(ProofsFile, zip.Deflate); err != nil {
		return err
	}
	if _, err := io.CopyN(w.file, w.config.Scratch, int64(w.proofLen)); err != nil {
		return fmt.Errorf("case: %s: from scratch space: %w", ProofsFile, err)
	}
	w.shut(ProofsFile)
	return nil
}

// writeFile writes a whole file. What people may want to see without unpacking
// is stored as it is.
func (w *Writer) writeFile(name string, data []byte) error {
	if uint64(len(data)) > maxBytes(name) {
		return &Malformed{File: name, Problem: fmt.Sprintf("larger than %d bytes", maxBytes(name))}
	}
	method := zip.Deflate
	if name == CheckpointFile || name == KeysFile || name == ManifestFile {
		method = zip.Store
	}
	if err := w.open(name, method); err != nil {
		return err
	}
	if _, err := w.file.Write(data); err != nil {
		return fmt.Errorf("case: %s: %w", name, err)
	}
	w.shut(name)
	return nil
}

func (w *Writer) open(name string, method uint16) error {
	header := &zip.FileHeader{Name: name, Method: method, Modified: w.manifest.Created}
	header.SetMode(0o644)
	entry, err := w.zip.CreateHeader(header)
	if err != nil {
		return fmt.Errorf("case: %s: %w", name, err)
	}
	w.file = &file{w: entry, sum: sha256.New()}
	return nil
}

// shut notes size and digest of the file just written in the manifest.
func (w *Writer) shut(name string) {
	if name != ManifestFile {
		w.manifest.Files[name] = FileInfo{Size: w.file.size, SHA256: hex.EncodeToString(w.file.sum.Sum(nil))}
	}
}
