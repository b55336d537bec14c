package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/suite"
)

func TestRoundTripReturnsExactBytes(t *testing.T) {
	c := goldenConfig(t)
	c.Unsealed = 3
	want := goldenEvents(t)
	r := openCase(t, writeCase(t, c, want...))
	if got := allEvents(t, r); !reflect.DeepEqual(got, want) {
		t.Errorf("events %v\nwant %v", got, want)
	}
	if err := r.CheckFiles(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(r.Checkpoint(), c.Checkpoint) || !reflect.DeepEqual(r.VKeys(), c.VKeys) {
		t.Error("checkpoint or keys are not those written")
	}
	m := r.Manifest()
	if m.Format != Format || !m.Created.Equal(c.Created) || m.Origin != c.Origin || !reflect.DeepEqual(m.Query, c.Query) ||
		m.TreeSize != 11 || m.Events != 4 || m.Unsealed != 3 || !m.HasSM3() || len(m.Files) != 7 {
		t.Errorf("manifest %+v", m)
	}
}

func TestCaseWithoutSM3(t *testing.T) {
	c := goldenConfig(t)
	c.SM3Root, c.VKeys = nil, c.VKeys[:1]
	var want []Event
	for _, e := range goldenEvents(t) {
		e.SM3 = nil
		want = append(want, e)
	}
	data := writeCase(t, c, want...)
	r := openCase(t, data)
	if got := allEvents(t, r); !reflect.DeepEqual(got, want) || r.Manifest().HasSM3() {
		t.Errorf("events %v, want %v", got, want)
	}
	if strings.Contains(entry(t, data, ProofsFile), "sm3") || strings.Contains(entry(t, data, ReadmeFile), "sm2.der -rawin") {
		t.Error("a case without SM3 speaks of it")
	}
	if output, holds := byHand(t, data, 7); !holds {
		t.Errorf("does not hold by hand:\n%s", output)
	}
}

func TestCaseWithoutEventsOfOneLeafTrail(t *testing.T) {
	leaf := goldenLeaves(t)[0]
	hash := suite.SHA256.LeafHash(leaf)
	c := goldenConfig(t)
	c.Query, c.SM3Root, c.TreeSize, c.Root = nil, nil, 1, hash
	c.Checkpoint = note("pay.example.com/audit", 1, hash)
	none := openCase(t, writeCase(t, c))
	if got := allEvents(t, none); len(got) != 0 || none.CheckFiles() != nil {
		t.Errorf("a case of no events has %d; %v", len(got), none.CheckFiles())
	}
	c.Scratch = scratch(t)
	id := goldenEvent(t, 0).ID
	got := allEvents(t, openCase(t, writeCase(t, c, Event{Leaf: leaf, ID: id})))
	// A proof of no hashes is a proof.
	if len(got) != 1 || got[0].SHA256 == nil || len(got[0].SHA256) != 0 || got[0].SM3 != nil {
		t.Errorf("events %v", got)
	}
}

// note is a checkpoint with a signature nobody made.
func note(origin string, size uint64, root suite.Hash) []byte {
	text := base64.StdEncoding.EncodeToString(root[:])
	return fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s AAAAAAAA\n", origin, size, text, origin)
}

func TestSameInputSameBytes(t *testing.T) {
	a := goldenCase(t)
	c := goldenConfig(t)
	// Neither the fraction of a second, nor its zone, nor what stands in the
	// scratch space before and after matters.
	c.Created = c.Created.Add(999 * time.Millisecond).In(time.FixedZone("", 8*3600))
	if _, err := c.Scratch.Write(bytes.Repeat([]byte("other"), 10_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Scratch.Seek(7, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if b := writeCase(t, c, goldenEvents(t)...); !bytes.Equal(a, b) {
		t.Error("two cases of the same input differ")
	}
	c = goldenConfig(t)
	c.Created = c.Created.Add(time.Second)
	if b := writeCase(t, c, goldenEvents(t)...); bytes.Equal(a, b) {
		t.Error("another time makes the same bytes")
	}
}

func TestWriterRefusesBadConfig(t *testing.T) {
	tests := []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Origin = "other" }, "case: checkpoint: origin is another, want that of the case"},
		{func(c *Config) { c.TreeSize++ }, "case: checkpoint: tree size is another, want that of the case"},
		{func(c *Config) { c.Root[0] ^= 1 }, "case: checkpoint: root is another, want that of the case"},
		{func(c *Config) { c.Checkpoint = []byte("x") }, "case: checkpoint: not a signed note"},
		{func(c *Config) { c.Checkpoint = make([]byte, 64<<10+1) }, "case: checkpoint: longer than 65536 bytes"},
		{func(c *Config) { c.VKeys = nil }, "case: keys: line 1: not a verifier key"},
		{func(c *Config) { c.VKeys[1] = "a+b+c" }, "case: keys: line 2: not a verifier key"},
		{func(c *Config) { c.VKeys = make([]string, 65) }, "case: keys: more than 64 keys"},
		{func(c *Config) { c.Scratch = nil }, "case: no scratch space given"},
		{func(c *Config) { c.Schemas = nil }, "case: schemas/event.schema.json: missing"},
		{func(c *Config) { c.Schemas["../x.json"] = nil }, `case: schemas/: "../x.json" is not a schema's name`},
		{func(c *Config) { c.Schemas["a.json"] = make([]byte, 1<<20+1) }, "case: schemas/a.json: larger than 1048576 bytes"},
		{func(c *Config) { c.Created = time.Time{} }, "case: manifest.json: created is not within 1980 to 2099"},
		{func(c *Config) { c.Query = make([]string, 65) }, "case: manifest.json: query is not a list of up to 64"},
		{func(c *Config) { c.Query[1] = "a\nb" }, "case: manifest.json: query: 1: too long, not UTF-8 or has control characters"},
		{func(c *Config) { c.Query[0] = "\xff" }, "case: manifest.json: query: 0: too long, not UTF-8 or has control characters"},
	}
	for _, test := range tests {
		c := goldenConfig(t)
		test.change(&c)
		w, err := NewWriter(io.Discard, c)
		if err == nil {
			err = w.Close()
		}
		if err == nil || err.Error() != test.want {
			t.Errorf("got %v\nwant %s", err, test.want)
		}
	}
}

func TestWriterRefusesBadEvents(t *testing.T) {
	tests := []struct {
		change func(*Event)
		want   string
	}{
		{func(e *Event) { e.Index = 2 }, "leaf index does not ascend"},
		{func(e *Event) { e.Index = 11 }, "leaf index is not under the checkpoint"},
		{func(e *Event) { e.Index = math.MaxUint64 }, "leaf index is not under the checkpoint"},
		{func(e *Event) { e.Leaf = nil }, "leaf is not of 1 to 65535 bytes"},
		{func(e *Event) { e.Leaf = make([]byte, 65536) }, "leaf is not of 1 to 65535 bytes"},
		{func(e *Event) { e.Leaf = []byte("a\nb") }, "leaf has a newline"},
		{func(e *Event) { e.ID = "" }, "id is not an event's id"},
		{func(e *Event) { e.ID = `a"b` }, "id is not an event's id"},
		{func(e *Event) { e.ID = strings.Repeat("a", 65) }, "id is not an event's id"},
		{func(e *Event) { e.ID = goldenEvent(t, 2).ID }, "id is not that of the leaf"},
		{func(e *Event) { e.SHA256 = make([]suite.Hash, 65) }, "proof has more than 64 hashes"},
		{func(e *Event) { e.SM3 = nil }, "SM3 proof is not as long as the SHA-256 proof"},
	}
	for _, test := range tests {
		w, err := NewWriter(io.Discard, goldenConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(goldenEvent(t, 2)); err != nil {
			t.Fatal(err)
		}
		e := goldenEvent(t, 3)
		test.change(&e)
		got, want := w.Add(e), "case: events.jsonl: line 2: "+test.want
		if got == nil || got.Error() != want {
			t.Errorf("got %v\nwant %s", got, want)
		}
		// One event is missing now, so there must be no case.
		if err := w.Add(goldenEvent(t, 7)); !errors.Is(err, got) {
			t.Errorf("after %q the next event gives %v", want, err)
		}
		if err := w.Close(); !errors.Is(err, got) {
			t.Errorf("after %q close gives %v", want, err)
		}
	}
	c := goldenConfig(t)
	c.SM3Root = nil
	w, err := NewWriter(io.Discard, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(goldenEvent(t, 2)); err == nil || !strings.Contains(err.Error(), "proof in an SM3 tree") {
		t.Errorf("an SM3 proof in a case without: %v", err)
	}
}

// failing is a writer, or scratch space, that works for a number of bytes.
type failing struct {
	io.ReadWriteSeeker
	left int
}

var errFull = errors.New("no space left")

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return 0, errFull
	}
	f.left -= len(p)
	if f.ReadWriteSeeker == nil {
		return len(p), nil
	}
	return f.ReadWriteSeeker.Write(p)
}

func TestWriterReportsEveryFailedWrite(t *testing.T) {
	write := func(out io.Writer, c Config) error {
		w, err := NewWriter(out, c)
		if err != nil {
			return err
		}
		for _, e := range goldenEvents(t) {
			if err := w.Add(e); err != nil {
				return err
			}
		}
		return w.Close()
	}
	whole := len(goldenCase(t))
	for left := 0; left < whole; left += 307 {
		if err := write(&failing{left: left}, goldenConfig(t)); !errors.Is(err, errFull) {
			t.Fatalf("output fails after %d bytes: %v", left, err)
		}
	}
	c := goldenConfig(t)
	c.Scratch = &failing{ReadWriteSeeker: c.Scratch, left: 100}
	if err := write(io.Discard, c); !errors.Is(err, errFull) {
		t.Errorf("scratch space fails: %v", err)
	}
	// Scratch space that loses what was written to it.
	c = goldenConfig(t)
	f, ok := c.Scratch.(*os.File)
	if !ok {
		t.Fatal("scratch is not a file")
	}
	c.Scratch = &forgetful{f}
	if err := write(io.Discard, c); err == nil {
		t.Error("scratch space lost the proofs and nobody said so")
	}
}

type forgetful struct{ *os.File }

func (f *forgetful) Write(p []byte) (int, error) { return len(p), nil }

func TestWriterAfterClose(t *testing.T) {
	w, err := NewWriter(io.Discard, goldenConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(goldenEvent(t, 2)); err == nil {
		t.Error("add after close succeeds")
	}
	if err := w.Close(); err == nil {
		t.Error("the second close succeeds")
	}
}

// Tampering within the files. What a digest or a count finds is a mismatch,
// what cannot be read at all is malformed.
func TestReaderFindsTamperedFiles(t *testing.T) {
	line := func(files []zipFile, name string, i int) string {
		for _, f := range files {
			if f.name == name {
				return strings.SplitAfter(string(f.data), "\n")[i]
			}
		}
		return ""
	}
	drop := func(name string) func([]zipFile) []zipFile {
		return func(files []zipFile) []zipFile {
			var kept []zipFile
			for _, f := range files {
				if f.name != name {
					kept = append(kept, f)
				}
			}
			return kept
		}
	}
	change := func(name, old, new string) func([]zipFile) []zipFile {
		return func(files []zipFile) []zipFile { edit(files, name, old, new); return files }
	}
	// forged changes a file and the manifest with it.
	forged := func(name, old, new string, m func(*Manifest)) func([]zipFile) []zipFile {
		return func(files []zipFile) []zipFile {
			edit(files, name, old, new)
			remanifest(t, files, m)
			return files
		}
	}
	manifest := func(m func(*Manifest)) func([]zipFile) []zipFile {
		return func(files []zipFile) []zipFile { remanifest(t, files, m); return files }
	}
	original := unzip(t, goldenCase(t))
	firstEvent, firstProof := line(original, EventsFile, 0), line(original, ProofsFile, 0)
	secondProof := line(original, ProofsFile, 1)
	lastEvent := line(original, EventsFile, 3)
	tests := []struct {
		name   string
		tamper func([]zipFile) []zipFile
		want   string
	}{
		{"byte changed", change(EventsFile, "FAIL", "PASS"), "case: events.jsonl: sha256 is "},
		{"proof changed", change(ProofsFile, `"id":"0f8f`, `"id":"1f8f`), "case: proofs.jsonl: sha256 is "},
		{"bytes added to a text", change(ReadmeFile, "case", "cases"), "case: README.md: size is "},
		{"report changed", change(ReportFile, "Events", "Evemts"), "case: report.html: sha256 is "},
		{"schema changed", change(EventSchema, "128", "129"), "case: schemas/event.schema.json: sha256 is "},
		{"event removed", forged(EventsFile, firstEvent, "", nil), "case: proofs.jsonl: line 4: line is a proof, want no proof without an event"},
		{"event inserted", forged(EventsFile, firstEvent, firstEvent+firstEvent, nil),
			"case: events.jsonl: line 5: line is an event, want no event without a proof"},
		{"proof removed", forged(ProofsFile, secondProof, "", nil),
			"case: events.jsonl: line 4: line is an event, want no event without a proof"},
		{"both removed", func(files []zipFile) []zipFile {
			edit(files, EventsFile, firstEvent, "")
			edit(files, ProofsFile, firstProof, "")
			remanifest(t, files, nil)
			return files
		}, "case: events.jsonl: number of lines is 3, want 4"},
		{"both duplicated", func(files []zipFile) []zipFile {
			edit(files, EventsFile, firstEvent, firstEvent+firstEvent)
			edit(files, ProofsFile, firstProof, firstProof+firstProof)
			remanifest(t, files, func(m *Manifest) { m.Events++ })
			return files
		}, "case: proofs.jsonl: line 2: leaf index does not ascend"},
		{"one more than counted", manifest(func(m *Manifest) { m.Events-- }),
			"case: events.jsonl: number of lines is more than 3, want 3"},
		{"leaf index past the tree", forged(ProofsFile, `{"leaf":10,`, `{"leaf":11,`, nil),
			"case: proofs.jsonl: line 4: leaf index is 11, want below the checkpoint's size 11"},
		{"proofs swapped", forged(ProofsFile, firstProof+secondProof, secondProof+firstProof, nil),
			"case: proofs.jsonl: line 2: leaf index does not ascend"},
		{"SM3 proof removed", forged(ProofsFile, `,"sm3":`, `,"sm4":`, nil), "case: proofs.jsonl: line 1: sha256 is not followed by sm3"},
		{"SM3 disclaimed", manifest(func(m *Manifest) { m.Digests = m.Digests[:1] }),
			"case: proofs.jsonl: line 1: does not end after its hashes"},
		{"empty line", forged(EventsFile, firstEvent, "\n", nil), "case: events.jsonl: line 1: empty"},
		{"long line", forged(EventsFile, firstEvent, strings.Repeat("x", 65536)+"\n", nil),
			"case: events.jsonl: line 1: longer than 65536 bytes"},
		{"long line of proofs", forged(ProofsFile, firstProof, strings.Repeat("x", 70000)+"\n", nil),
			"case: proofs.jsonl: line 1: longer than 65536 bytes"},
		{"last newline cut", forged(EventsFile, lastEvent, strings.TrimSuffix(lastEvent, "\n"), nil),
			"case: events.jsonl: line 4: ends without a newline"},
		{"other origin", manifest(func(m *Manifest) { m.Origin = "x" }),
			`case: manifest.json: origin is "x", want "pay.example.com/audit"`},
		{"other tree size", manifest(func(m *Manifest) { m.TreeSize = 12 }), "case: manifest.json: tree_size is 12, want 11"},
		{"checkpoint of another size", forged(CheckpointFile, "\n11\n", "\n9\n", nil),
			"case: proofs.jsonl: line 4: leaf index is 10, want below the checkpoint's size 9"},
		{"checkpoint size with a zero", forged(CheckpointFile, "\n11\n", "\n011\n", nil), "case: checkpoint: line 2: size is not a number"},
		{"checkpoint root cut", forged(CheckpointFile, "/8=\n\n", "/=\n\n", nil), "case: checkpoint: line 3: root is not the base64 of 32 bytes"},
		{"checkpoint root with CR", forged(CheckpointFile, "/8=\n\n", "/8=\r\n\n", nil), "case: checkpoint: line 3: root is not the base64 of 32 bytes"},
		{"checkpoint unsigned", forged(CheckpointFile, "\n\n", "\n", nil), "case: checkpoint: not a signed note"},
		{"key damaged", forged(KeysFile, "+c7116bb4+", "+c7116bbx+", nil), "case: keys: line 1: not a verifier key"},
		{"key with a blank", forged(KeysFile, "pay.", "pay .", nil), "case: keys: line 1: not a verifier key"},

		{"extra file", func(files []zipFile) []zipFile { return append(files, zipFile{"notes.txt", 8, []byte("x")}) },
			`case: "notes.txt" is no file of a case`},
		{"extra schema", func(files []zipFile) []zipFile { return append(files, zipFile{"schemas/x.json", 8, []byte("x")}) },
			"case: schemas/x.json: not in the manifest"},
		{"path traversal", func(files []zipFile) []zipFile { return append(files, zipFile{"../keys", 8, []byte("x")}) },
			`case: "../keys" is no file of a case`},
		{"path traversal below schemas", func(files []zipFile) []zipFile {
			return append(files, zipFile{"schemas/../keys.json", 8, []byte("x")})
		}, `case: "schemas/../keys.json" is no file of a case`},
		{"absolute path", func(files []zipFile) []zipFile { return append(files, zipFile{"/keys", 8, []byte("x")}) },
			`case: "/keys" is no file of a case`},
		{"backslashes", func(files []zipFile) []zipFile { return append(files, zipFile{`schemas\x.json`, 8, []byte("x")}) },
			`case: "schemas\\x.json" is no file of a case`},
		{"directory", func(files []zipFile) []zipFile { return append(files, zipFile{"schemas/", 0, nil}) },
			`case: "schemas/" is no file of a case`},
		{"duplicate", func(files []zipFile) []zipFile { return append(files, files[1]) }, "case: keys: twice in the case"},
		{"too many files", func(files []zipFile) []zipFile {
			for range 24 {
				files = append(files, files[1])
			}
			return files
		}, "case: more than 23 files"},
		{"no manifest", drop(ManifestFile), "case: manifest.json: missing"},
		{"no events", drop(EventsFile), "case: events.jsonl: missing"},
		{"no proofs", drop(ProofsFile), "case: proofs.jsonl: missing"},
		{"no checkpoint", drop(CheckpointFile), "case: checkpoint: missing"},
		{"no keys", drop(KeysFile), "case: keys: missing"},
		{"no readme", drop(ReadmeFile), "case: README.md: missing"},
		{"no report", drop(ReportFile), "case: report.html: missing"},
		{"no schema", drop(EventSchema), "case: schemas/event.schema.json: missing"},
		{"large keys", change(KeysFile, "\n", "\n"+strings.Repeat("x", 64<<10)), "case: keys: larger than 65536 bytes"},

		{"manifest: not JSON", change(ManifestFile, "{", "["), "case: manifest.json: not JSON"},
		{"manifest: next version", change(ManifestFile, "case/1", "case/2"), "case: manifest.json: format is not veritrail-case/1"},
		{"manifest: another type", change(ManifestFile, `"events": 4`, `"events": "4"`),
			"case: manifest.json: a field has another type than the format's"},
		{"manifest: negative", change(ManifestFile, `"events": 4`, `"events": -4`),
			"case: manifest.json: a field has another type than the format's"},
		{"manifest: unknown field", change(ManifestFile, `"events": 4`, `"events": 4, "x": 1`),
			"case: manifest.json: not in the form the format fixes"},
		{"manifest: doubled field", change(ManifestFile, `"events": 4,`, `"events": 5,`+"\n  "+`"events": 4,`),
			"case: manifest.json: not in the form the format fixes"},
		{"manifest: local time", change(ManifestFile, "08:00:00Z", "16:00:00+08:00"),
			"case: manifest.json: not in the form the format fixes"},
		{"manifest: fraction", change(ManifestFile, "08:00:00Z", "08:00:00.5Z"), "case: manifest.json: created is not in whole seconds"},
		{"manifest: null query", manifest(func(m *Manifest) { m.Query = nil }), "case: manifest.json: query is not a list of up to 64"},
		{"manifest: no digest", manifest(func(m *Manifest) { m.Digests = nil }),
			"case: manifest.json: digests is neither sha256 nor sha256 and sm3"},
		{"manifest: SM3 alone", manifest(func(m *Manifest) { m.Digests = m.Digests[1:] }),
			"case: manifest.json: digests is neither sha256 nor sha256 and sm3"},
		{"manifest: unknown file", manifest(func(m *Manifest) { m.Files["../x"] = m.Files[KeysFile] }),
			`case: manifest.json: files: "../x" is no file of a case`},
		{"manifest: of itself", manifest(func(m *Manifest) { m.Files[ManifestFile] = m.Files[KeysFile] }),
			`case: manifest.json: files: "manifest.json" is no file of a case`},
		{"manifest: file too large", manifest(func(m *Manifest) { m.Files[KeysFile] = FileInfo{1 << 40, m.Files[KeysFile].SHA256} }),
			"case: manifest.json: files: keys: size past its bound"},
		{"manifest: digest in upper case", manifest(func(m *Manifest) {
			m.Files[KeysFile] = FileInfo{m.Files[KeysFile].Size, strings.ToUpper(m.Files[KeysFile].SHA256)}
		}), "case: manifest.json: files: keys: sha256 is not 64 lower-case hex digits"},
		{"manifest: file left out", manifest(func(m *Manifest) { delete(m.Files, EventsFile) }),
			"case: manifest.json: files: events.jsonl is missing"},
	}
	for _, test := range tests {
		files := test.tamper(unzip(t, goldenCase(t)))
		err := readAll(rezip(t, files))
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v\nwant %s", test.name, err, test.want)
			continue
		}
		var malformed *Malformed
		var mismatch *Mismatch
		if !errors.As(err, &malformed) && !errors.As(err, &mismatch) {
			t.Errorf("%s: %T is neither malformed nor a mismatch", test.name, err)
		}
		if isMismatch := strings.Contains(err.Error(), ", want "); isMismatch != errors.As(err, &mismatch) {
			t.Errorf("%s: %q is a %T", test.name, err, err)
		}
	}
}

// CheckFiles alone, without a look at the proofs, finds lines too long and too few.
func TestCheckFilesCountsLines(t *testing.T) {
	for _, name := range []string{EventsFile, ProofsFile} {
		files := unzip(t, goldenCase(t))
		edit(files, name, "\n", "\n\n")
		remanifest(t, files, nil)
		err := openCase(t, rezip(t, files)).CheckFiles()
		var mismatch *Mismatch
		if !errors.As(err, &mismatch) || mismatch.File != name || mismatch.Check != "number of lines" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Two events swapped with all digests made right is for the proofs to find:
// the reader's part is to hand out the very bytes.
func TestReaderHandsOutForgedBytesUnchanged(t *testing.T) {
	files := unzip(t, goldenCase(t))
	edit(files, EventsFile, "AUTH.LOGIN.FAIL", "AUTH.LOGIN.PASS")
	remanifest(t, files, nil)
	data := rezip(t, files)
	if err := readAll(data); err != nil {
		t.Fatal(err)
	}
	got := allEvents(t, openCase(t, data))[0]
	want := strings.Replace(string(goldenLeaves(t)[2]), "FAIL", "PASS", 1)
	if string(got.Leaf) != want {
		t.Errorf("leaf %s, want %s", got.Leaf, want)
	}
}

// Tampering with the ZIP around the files.
func TestReaderRefusesZIPsThatCanBeReadTwoWays(t *testing.T) {
	whole := goldenCase(t)
	end := len(whole) - directoryEndLen
	dir := int(binary.LittleEndian.Uint32(whole[end+16:]))
	move := func(data []byte, n int) []byte { // where the directory begins
		at := len(data) - directoryEndLen
		binary.LittleEndian.PutUint32(data[at+16:], uint32(dir+n))
		return data
	}
	insert := func(at int, what string) []byte {
		return append(append(bytes.Clone(whole[:at]), what...), whole[at:]...)
	}
	patch := func(at int, b ...byte) []byte {
		data := bytes.Clone(whole)
		copy(data[at:], b)
		return data
	}
	second := bytes.Index(whole[dir+1:], []byte("PK\x01\x02")) + dir + 1
	tests := []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "case: too short for a ZIP"},
		{"no ZIP", bytes.Repeat([]byte("x"), 100), "case: does not end like a ZIP without a comment; cut off?"},
		{"bytes before", insert(0, "#!/bin/sh\n"), "case: has bytes that belong to no file"},
		{"bytes before, offsets right", move(insert(0, "#!/bin/sh\n"), 10), "case: "},
		{"bytes after", insert(len(whole), "x"), "case: does not end like a ZIP without a comment; cut off?"},
		{"bytes before the directory", move(insert(dir, "hidden"), 6), "case: has bytes that belong to no file"},
		{"bytes before the end", insert(end, "hidden"), "case: has bytes that belong to no file"},
		{"comment", append(patch(end+20, 3), "abc"...), "case: does not end like a ZIP without a comment; cut off?"},
		{"several volumes", patch(end+4, 1), "case: in several volumes"},
		{"local name differs", patch(localHeaderLen, 'C'), "case: checkpoint: its header says otherwise than the directory"},
		{"local method differs", patch(8, 8), "case: checkpoint: its header says otherwise than the directory"},
		{"encrypted", patch(dir+8, 0x09), "case: checkpoint: encrypted"},
		{"unknown method", patch(dir+10, 12), "case: checkpoint: compression method 12 is neither stored nor deflate"},
		{"symbolic link", patch(dir+38, 0, 0, 0xff, 0xa1), "case: checkpoint: not a regular file"},
		{"stored in another size", patch(dir+24, 0xff), "case: checkpoint: stored, but in another size than its own"},
		{"directory damaged", patch(second, 'X'), "case: its directory is damaged"},
		{"byte of a stored file", patch(bytes.Index(whole, []byte("\n11\n"))+1, '2'), "case: checkpoint: crc32 is another, want that of the ZIP"},
	}
	for _, test := range tests {
		err := readAll(test.data)
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v\nwant %s", test.name, err, test.want)
		}
	}
}

func TestReaderRefusesBombsByTheirHeaders(t *testing.T) {
	whole := goldenCase(t)
	dir := int(binary.LittleEndian.Uint32(whole[len(whole)-6:]))
	at := bytes.Index(whole[dir:], []byte(EventsFile)) + dir - 46
	bomb := func(size uint32) error {
		data := bytes.Clone(whole)
		binary.LittleEndian.PutUint32(data[at+24:], size)
		return readAll(data)
	}
	if err := bomb(1 << 30); err == nil || err.Error() != "case: events.jsonl: its size is more than its compressed data can hold" {
		t.Errorf("1 GiB from some hundred bytes: %v", err)
	}
	// Within what DEFLATE can do, the data ends before or after the size.
	for _, size := range []uint32{10, 100_000} {
		if err := bomb(size); err == nil {
			t.Errorf("declared size %d was not noticed", size)
		}
	}
	// Past 4 GiB the size stands in the ZIP64 field behind the name.
	files := unzip(t, whole)
	if err := checkEntry(declared(t, files, MaxFileBytes+1, MaxFileBytes)); err == nil ||
		err.Error() != "case: events.jsonl: larger than 8589934592 bytes" {
		t.Errorf("more than 8 GiB: %v", err)
	}
	if err := checkEntry(declared(t, files, MaxFileBytes, MaxFileBytes/4)); err != nil {
		t.Errorf("8 GiB: %v", err)
	}
}

// A case past 4 GiB ends with ZIP64 records. Their reading is tested on a
// small case that has them without need.
func TestReaderReadsZIP64Ends(t *testing.T) {
	whole := goldenCase(t)
	end := len(whole) - directoryEndLen
	le := binary.LittleEndian
	records, dirLen, dir := le.Uint16(whole[end+10:]), le.Uint32(whole[end+12:]), le.Uint32(whole[end+16:])
	build := func(change func(end64, locator, end []byte)) []byte {
		end64 := make([]byte, directory64Len)
		le.PutUint32(end64, directory64Sig)
		le.PutUint64(end64[4:], directory64Len-12)
		le.PutUint16(end64[12:], 45)
		le.PutUint16(end64[14:], 45)
		le.PutUint64(end64[24:], uint64(records))
		le.PutUint64(end64[32:], uint64(records))
		le.PutUint64(end64[40:], uint64(dirLen))
		le.PutUint64(end64[48:], uint64(dir))
		locator := make([]byte, locator64Len)
		le.PutUint32(locator, locator64Sig)
		le.PutUint64(locator[8:], uint64(end))
		le.PutUint32(locator[16:], 1)
		last := bytes.Clone(whole[end:])
		copy(last[8:], bytes.Repeat([]byte{0xff}, 12))
		if change != nil {
			change(end64, locator, last)
		}
		return bytes.Join([][]byte{whole[:end], end64, locator, last}, nil)
	}
	if err := readAll(build(nil)); err != nil {
		t.Errorf("a ZIP64 end: %v", err)
	}
	tests := map[string]func(end64, locator, end []byte){
		"two directories":     func(_, _, end []byte) { copy(end[8:], whole[len(whole)-14:len(whole)-2]) },
		"locator points away": func(_, locator, _ []byte) { locator[8]++ },
		"extra data":          func(end64, _, _ []byte) { end64[4]++ },
		"huge directory":      func(end64, _, _ []byte) { le.PutUint64(end64[40:], 1<<40) },
		"huge count":          func(end64, _, _ []byte) { le.PutUint64(end64[32:], 1<<40) },
		"start wraps":         func(end64, _, _ []byte) { le.PutUint64(end64[48:], math.MaxUint64-5) },
	}
	for name, change := range tests {
		var malformed *Malformed
		if err := readAll(build(change)); !errors.As(err, &malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryTruncationIsNoticed(t *testing.T) {
	whole := goldenCase(t)
	for n := 0; n < len(whole); n += 3 {
		var malformed *Malformed
		if err := readAll(whole[:n]); !errors.As(err, &malformed) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
	}
}

// A flipped bit is found, unless it is one of a time or another attribute that
// no file's content depends on.
func TestFlippedBitsNeverChangeContentUnnoticed(t *testing.T) {
	whole := goldenCase(t)
	want := fmt.Sprint(allEvents(t, openCase(t, whole)))
	unnoticed := 0
	for at := 0; at < len(whole); at += 23 {
		data := bytes.Clone(whole)
		data[at] ^= 1 << (at % 8)
		if readAll(data) != nil {
			continue
		}
		unnoticed++
		r := openCase(t, data)
		if got := fmt.Sprint(allEvents(t, r)); got != want || !bytes.Equal(r.Checkpoint(), golden(t, "checkpoint")) {
			t.Errorf("bit flipped at %d: other content, no error", at)
		}
	}
	if limit := len(whole) / 23 / 10; unnoticed > limit {
		t.Errorf("%d flipped bits were not noticed, want at most %d", unnoticed, limit)
	}
}

// brokenReader fails as a disk does.
type brokenReader struct {
	*bytes.Reader
	from int64
}

func (b *brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if off <= b.from && b.from < off+int64(len(p)) {
		return 0, errFull
	}
	return b.Reader.ReadAt(p, off)
}

func TestReadErrorIsNotTampering(t *testing.T) {
	whole := goldenCase(t)
	unread := 0
	for at := int64(0); at < int64(len(whole)); at += 101 {
		r, err := NewReader(&brokenReader{bytes.NewReader(whole), at}, int64(len(whole)))
		if err == nil {
			err = r.CheckFiles()
		}
		if err == nil {
			unread++ // a time stamp in a header, which nobody reads
		} else if !errors.Is(err, errFull) {
			t.Fatalf("disk fails at %d: %v", at, err)
		}
	}
	if limit := len(whole) / 101 / 20; unread > limit {
		t.Errorf("%d failing places were not noticed, want at most %d", unread, limit)
	}
}

func TestEventsStopsWhenAsked(t *testing.T) {
	n := 0
	for _, err := range openCase(t, goldenCase(t)).Events() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}

// Memory must not grow with the number of events.
func TestMemoryStaysFlat(t *testing.T) {
	const events = 30_000
	c := goldenConfig(t)
	c.SM3Root, c.TreeSize, c.Root = nil, events, suite.Hash{}
	c.Checkpoint = note(c.Origin, events, c.Root)
	out := scratch(t)
	w, err := NewWriter(out, c)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	live := func(m *runtime.MemStats) {
		runtime.GC()
		runtime.ReadMemStats(m)
	}
	proof := make([]suite.Hash, 20)
	leaf := bytes.Repeat([]byte("no event, but sealed; "), 50)
	total := 0
	for i := range uint64(events) {
		if i == 2000 { // the report's rows are full
			live(&before)
		}
		for j := range proof {
			binary.LittleEndian.PutUint64(proof[j][:], i*uint64(j))
		}
		if err := w.Add(Event{Leaf: leaf, Index: i, ID: fmt.Sprint("e", i), SHA256: proof}); err != nil {
			t.Fatal(err)
		}
		total += len(leaf) + 1000
	}
	live(&after)
	const slack = 4 << 20
	if after.HeapAlloc > before.HeapAlloc+slack {
		t.Errorf("writer: %d bytes more after %d bytes of events", after.HeapAlloc-before.HeapAlloc, total)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := out.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(out, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	live(&before)
	n := 0
	for _, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == events {
			live(&after)
		}
	}
	if n != events || after.HeapAlloc > before.HeapAlloc+slack {
		t.Errorf("reader: %d events, %d bytes before, %d after", n, before.HeapAlloc, after.HeapAlloc)
	}
	if err := r.CheckFiles(); err != nil {
		t.Error(err)
	}
}
