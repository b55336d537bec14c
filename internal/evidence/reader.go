package evidence

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
)

// A Reader takes a case apart. Its methods may be called in any order and by
// several goroutines at once, as far as the io.ReaderAt beneath allows it.
type Reader struct {
	files    map[string]*zip.File
	manifest *Manifest
	note     []byte
	head     noteHead
	keys     []string
}

// NewReader reads what a case says of itself from the ZIP in the first size
// bytes of r, and refuses one with a byte that belongs to no file of a case.
// It neither reads the events nor compares digests: Events and CheckFiles do.
//
// The error is a *Malformed or a *Mismatch, or what r returned.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	files, err := openZIP(r, size)
	if err != nil {
		return nil, err
	}
	cr := &Reader{files: files}
	data, err := cr.readFile(ManifestFile)
	if err != nil {
		return nil, err
	}
	if cr.manifest, err = parseManifest(data); err != nil {
		return nil, err
	}
	for name := range cr.manifest.Files {
		if files[name] == nil {
			return nil, &Malformed{File: name, Problem: "missing"}
		}
	}
	for name := range files {
		if _, ok := cr.manifest.Files[name]; !ok && name != ManifestFile {
			return nil, &Malformed{File: name, Problem: "not in the manifest"}
		}
	}
	if cr.note, err = cr.readFile(CheckpointFile); err != nil {
		return nil, err
	}
	if cr.head, err = parseNoteHead(cr.note); err != nil {
		return nil, err
	}
	if data, err = cr.readFile(KeysFile); err != nil {
		return nil, err
	}
	if cr.keys, err = parseKeys(data); err != nil {
		return nil, err
	}
	return cr, nil
}

// Manifest returns the manifest. Nothing in it is proved.
func (r *Reader) Manifest() *Manifest { return r.manifest }

// Checkpoint returns the signed note, byte for byte. Its signatures were not checked.
func (r *Reader) Checkpoint() []byte { return bytes.Clone(r.note) }

// VKeys returns the verifier keys the exporter named. Whoever can forge a case
// can name keys too: they only help to find the right ones elsewhere.
func (r *Reader) VKeys() []string { return append([]string(nil), r.keys...) }

// Events goes through the events in leaf order, each with its proof and as its
// exact bytes, which belong to the caller. The proofs were not checked, nor
// that ID is the leaf's.
//
// An error comes with an empty Event and ends the iteration. It is a
// *Malformed or a *Mismatch, or what the io.ReaderAt beneath returned.
func (r *Reader) Events() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		events, err := r.openLines(EventsFile)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer events.close()
		proofs, err := r.openLines(ProofsFile)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer proofs.close()
		var next uint64
		for {
			e, err := r.nextEvent(events, proofs, next)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
			next = e.Index + 1
		}
	}
}

// nextEvent reads a line of either file; both must end together, after as many
// lines as the manifest says. next is the least index the event may have.
func (r *Reader) nextEvent(events, proofs *lines, next uint64) (Event, error) {
	leaf, leafErr := events.next()
	if leafErr != nil && !errors.Is(leafErr, io.EOF) {
		return Event{}, leafErr
	}
	line, err := proofs.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return Event{}, err
	}
	count := uint64(events.n)
	switch {
	case errors.Is(leafErr, io.EOF) && errors.Is(err, io.EOF):
		if count != r.manifest.Events {
			return Event{}, r.wrongCount(EventsFile, count)
		}
		return Event{}, io.EOF
	case errors.Is(leafErr, io.EOF):
		return Event{}, &Mismatch{File: ProofsFile, Line: proofs.n, Check: "line", Got: "a proof", Want: "no proof without an event"}
	case errors.Is(err, io.EOF):
		return Event{}, &Mismatch{File: EventsFile, Line: events.n, Check: "line", Got: "an event", Want: "no event without a proof"}
	case count > r.manifest.Events:
		return Event{}, r.wrongCount(EventsFile, count)
	case len(leaf) == 0:
		return Event{}, events.bad("empty")
	}
	e, problem := parseProof(line, r.manifest.HasSM3())
	if problem != "" {
		return Event{}, proofs.bad(problem)
	}
	if e.Index < next {
		return Event{}, proofs.bad("leaf index does not ascend")
	}
	if e.Index >= r.head.size {
		return Event{}, &Mismatch{File: ProofsFile, Line: proofs.n, Check: "leaf index",
			Got: number(e.Index), Want: "below the checkpoint's size " + number(r.head.size)}
	}
	e.Leaf = bytes.Clone(leaf)
	return e, nil
}

func (r *Reader) wrongCount(file string, got uint64) error {
	want := number(r.manifest.Events)
	if got > r.manifest.Events {
		return &Mismatch{File: file, Check: "number of lines", Got: "more than " + want, Want: want}
	}
	return &Mismatch{File: file, Check: "number of lines", Got: number(got), Want: want}
}

// CheckFiles compares the case with its manifest: the manifest with the
// checkpoint, then every file's size and SHA-256, and of the events and proofs
// each line's length and their number. It reads the whole case once and stops
// at the first thing that does not hold.
//
// The error is a *Malformed or a *Mismatch, or what the io.ReaderAt beneath
// returned.
func (r *Reader) CheckFiles() error {
	m := r.manifest
	if m.Origin != r.head.origin {
		return &Mismatch{File: ManifestFile, Check: "origin", Got: strconv.Quote(m.Origin), Want: strconv.Quote(r.head.origin)}
	}
	if m.TreeSize != r.head.size {
		return &Mismatch{File: ManifestFile, Check: "tree_size", Got: number(m.TreeSize), Want: number(r.head.size)}
	}
	for _, name := range sortedNames(m.Files) {
		if err := r.checkFile(name, m.Files[name]); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) checkFile(name string, want FileInfo) error {
	if got := r.files[name].UncompressedSize64; got != want.Size {
		return &Mismatch{File: name, Check: "size", Got: number(got), Want: number(want.Size)}
	}
	lines, err := r.openLines(name)
	if err != nil {
		return err
	}
	defer lines.close()
	sum := sha256.New()
	if name == EventsFile || name == ProofsFile {
		for {
			line, err := lines.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			sum.Write(line)
			sum.Write([]byte{'\n'})
		}
		if uint64(lines.n) != r.manifest.Events {
			return r.wrongCount(name, uint64(lines.n))
		}
	} else if _, err := io.Copy(sum, lines.r); err != nil {
		return readError(name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return &Mismatch{File: name, Check: "sha256", Got: got, Want: want.SHA256}
	}
	return nil
}

// readFile reads a small file whole; openZIP bounded it.
func (r *Reader) readFile(name string) ([]byte, error) {
	f := r.files[name]
	if f == nil {
		return nil, &Malformed{File: name, Problem: "missing"}
	}
	rc, err := f.Open()
	if err != nil {
		return nil, readError(name, err)
	}
	defer rc.Close() // only reads
	// The buffer grows with the bytes that are there: the header may say more.
	// archive/zip ends at what it says, which checkEntry bounded.
	var b bytes.Buffer
	if _, err := b.ReadFrom(rc); err != nil {
		return nil, readError(name, err)
	}
	return b.Bytes(), nil
}

// lines reads one file of a case line by line.
type lines struct {
	name string
	rc   io.Closer
	r    *bufio.Reader
	n    int // lines read
}

func (r *Reader) openLines(name string) (*lines, error) {
	rc, err := r.files[name].Open()
	if err != nil {
		return nil, readError(name, err)
	}
	return &lines{name: name, rc: rc, r: bufio.NewReaderSize(rc, maxLineBytes)}, nil
}

// next returns the next line without its newline, until the following call.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	switch {
	case err == nil:
		l.n++
		return line[:len(line)-1], nil
	case errors.Is(err, io.EOF) && len(line) == 0:
		return nil, io.EOF
	}
	l.n++
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, l.bad(fmt.Sprintf("longer than %d bytes", maxLineBytes))
	}
	if errors.Is(err, io.EOF) {
		return nil, l.bad("ends without a newline")
	}
	return nil, readError(l.name, err)
}

func (l *lines) bad(problem string) error {
	return &Malformed{File: l.name, Line: l.n, Problem: problem}
}

func (l *lines) close() { _ = l.rc.Close() } // only reads

// readError sorts an error met while unpacking: bytes that are not what they
// should be, or a reader that failed.
func readError(name string, err error) error {
	var corrupt corruptInput
	switch {
	case errors.Is(err, zip.ErrChecksum):
		return &Mismatch{File: name, Check: "crc32", Got: "another", Want: "that of the ZIP"}
	case errors.As(err, &corrupt), errors.Is(err, zip.ErrFormat), errors.Is(err, zip.ErrAlgorithm),
		errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return &Malformed{File: name, Problem: "its compressed data is damaged"}
	}
	return fmt.Errorf("case: %s: %w", name, err)
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
