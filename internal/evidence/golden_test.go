package evidence

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/schemas"
)

var update = flag.Bool("update", false, "write testdata/v1/case.zip and listing.txt anew")

// goldenDir holds a whole small trail (leaves.jsonl) with its checkpoint and
// keys, and the case of four of its events. It belongs to version 1 of the
// format and stays readable for ever.
const goldenDir = "testdata/v1"

var goldenIndexes = []uint64{2, 3, 7, 10}

func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenLeaves(t testing.TB) [][]byte {
	return bytes.Split(bytes.TrimSuffix(golden(t, "leaves.jsonl"), []byte("\n")), []byte("\n"))
}

// root and path are RFC 6962 §2.1 and §2.1.1 as they are defined there, to
// compare with: slow, and hard to get wrong.
func root(d suite.Digest, leaves [][]byte) suite.Hash {
	switch len(leaves) {
	case 0:
		return d.EmptyRoot()
	case 1:
		return d.LeafHash(leaves[0])
	}
	k := split(len(leaves))
	left, right := root(d, leaves[:k]), root(d, leaves[k:])
	return d.NodeHash(&left, &right)
}

func path(d suite.Digest, m int, leaves [][]byte) []suite.Hash {
	if len(leaves) == 1 {
		return []suite.Hash{}
	}
	k := split(len(leaves))
	if m < k {
		return append(path(d, m, leaves[:k]), root(d, leaves[k:]))
	}
	return append(path(d, m-k, leaves[k:]), root(d, leaves[:k]))
}

// split is the largest power of two below n.
func split(n int) int {
	k := 1
	for 2*k < n {
		k *= 2
	}
	return k
}

func goldenEvent(t testing.TB, index uint64) Event {
	leaves := goldenLeaves(t)
	e, err := veritrail.ParseCanonical(leaves[index])
	if err != nil {
		t.Fatal(err)
	}
	return Event{
		Leaf:   leaves[index],
		Index:  index,
		ID:     e.ID,
		SHA256: path(suite.SHA256, int(index), leaves),
		SM3:    path(suite.SM3, int(index), leaves),
	}
}

func goldenConfig(t testing.TB) Config {
	leaves := goldenLeaves(t)
	sm3 := root(suite.SM3, leaves)
	return Config{
		Created:    time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC),
		Origin:     "pay.example.com/audit",
		Query:      []string{"act=AUTH.LOGIN.*", "sub.user=10010"},
		Checkpoint: golden(t, "checkpoint"),
		VKeys:      strings.Split(strings.TrimSpace(string(golden(t, "keys"))), "\n"),
		TreeSize:   uint64(len(leaves)),
		Root:       root(suite.SHA256, leaves),
		SM3Root:    &sm3,
		Schemas:    map[string][]byte{schemas.EventFile: schemas.Event()},
		Scratch:    scratch(t),
	}
}

func scratch(t testing.TB) *os.File {
	f, err := os.CreateTemp(t.TempDir(), "proofs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func writeCase(t testing.TB, c Config, events ...Event) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func goldenEvents(t testing.TB) []Event {
	var events []Event
	for _, i := range goldenIndexes {
		events = append(events, goldenEvent(t, i))
	}
	return events
}

func goldenCase(t testing.TB) []byte { return writeCase(t, goldenConfig(t), goldenEvents(t)...) }

func openCase(t testing.TB, data []byte) *Reader {
	t.Helper()
	r, err := NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func allEvents(t testing.TB, r *Reader) []Event {
	t.Helper()
	var events []Event
	for e, err := range r.Events() {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// listing shows a case as text: how each file is kept, and those that are the
// format itself in full.
func listing(t testing.TB, data []byte) string {
	var b strings.Builder
	for _, f := range unzip(t, data) {
		method := map[uint16]string{0: "stored", 8: "deflated"}[f.method]
		fmt.Fprintf(&b, "%s (%s)\n", f.name, method)
		switch f.name {
		case ReadmeFile, ReportFile, EventSchema:
		default:
			for line := range strings.Lines(string(f.data)) {
				b.WriteString("    " + line)
			}
		}
	}
	return b.String()
}

func TestGoldenCaseStaysReadable(t *testing.T) {
	if *update {
		data := goldenCase(t)
		for name, content := range map[string][]byte{"case.zip": data, "listing.txt": []byte(listing(t, data))} {
			if err := os.WriteFile(filepath.Join(goldenDir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := golden(t, "case.zip")
	if got, want := listing(t, data), string(golden(t, "listing.txt")); got != want {
		t.Errorf("listing of case.zip:\n%s\nwant:\n%s", got, want)
	}
	r := openCase(t, data)
	if err := r.CheckFiles(); err != nil {
		t.Error(err)
	}
	if got, want := fmt.Sprint(allEvents(t, r)), fmt.Sprint(goldenEvents(t)); got != want {
		t.Errorf("events %s\nwant %s", got, want)
	}
}

// What the writer makes today is the same format: all but the texts for people
// and what depends on them.
func TestWriterStillWritesTheGoldenFormat(t *testing.T) {
	old, now := unzip(t, golden(t, "case.zip")), unzip(t, goldenCase(t))
	if len(old) != len(now) {
		t.Fatalf("%d files, want %d", len(now), len(old))
	}
	for i := range old {
		if now[i].name != old[i].name || now[i].method != old[i].method {
			t.Errorf("file %d is %s (%d), want %s (%d)", i, now[i].name, now[i].method, old[i].name, old[i].method)
		}
		switch old[i].name {
		case ReadmeFile, ReportFile, EventSchema, ManifestFile:
		default:
			if !bytes.Equal(now[i].data, old[i].data) {
				t.Errorf("%s is\n%s\nwant\n%s", old[i].name, now[i].data, old[i].data)
			}
		}
	}
	got, want := *openCase(t, goldenCase(t)).Manifest(), *openCase(t, golden(t, "case.zip")).Manifest()
	got.Files, want.Files = nil, nil
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("manifest %v, want %v", got, want)
	}
}

func TestFormatPageShowsTheGoldenCase(t *testing.T) {
	page, err := os.ReadFile("../../docs/format/case.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range unzip(t, golden(t, "case.zip")) {
		switch f.name {
		case CheckpointFile, KeysFile, ManifestFile:
			for line := range strings.Lines(string(f.data)) {
				if !bytes.Contains(page, []byte(line)) {
					t.Errorf("docs/format/case.md lacks a line of %s: %s", f.name, line)
				}
			}
		case EventsFile, ProofsFile:
			if first, _, _ := strings.Cut(string(f.data), "\n"); !bytes.Contains(page, []byte("    "+first+"\n")) {
				t.Errorf("docs/format/case.md lacks the first line of %s: %s", f.name, first)
			}
		}
	}
	if node := suite.SHA256.LeafHash(goldenLeaves(t)[2]); !bytes.Contains(page, fmt.Appendf(nil, "%x", node)) {
		t.Errorf("docs/format/case.md lacks the leaf hash %x", node)
	}
}

// byHand follows README.md of a case as an expert would: it takes the program
// out of the text, runs it, and then the openssl commands the text gives. It
// returns what the program printed, and whether everything held.
func byHand(t *testing.T, data []byte, index uint64) (output string, holds bool) {
	t.Helper()
	dir := t.TempDir()
	readme := entry(t, data, ReadmeFile)
	_, script, ok := strings.Cut(readme, "```python\n")
	script, _, ok2 := strings.Cut(script, "```")
	if !ok || !ok2 {
		t.Fatal("README.md has no python program")
	}
	for name, content := range map[string][]byte{"case.zip": data, "check_event.py": []byte(script)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Both tools are what the README asks the expert for, so their absence
	// fails the test.
	for _, tool := range []string{"python3", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) (string, bool) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
		out, err := cmd.CombinedOutput()
		return string(out), err == nil
	}
	if output, holds = run("python3", "check_event.py", "case.zip", fmt.Sprint(index)); !holds {
		return output, false
	}
	var commands []string
	for line := range strings.Lines(readme) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "openssl pkeyutl ") && !slices.Contains(commands, line) {
			commands = append(commands, line)
		}
	}
	if want := 1 + strings.Count(output, "sm2 key"); len(commands) != want {
		t.Fatalf("README.md has %d different openssl commands, want %d", len(commands), want)
	}
	for _, command := range commands {
		fields := strings.Fields(command)
		out, ok := run(fields[0], fields[1:]...)
		if !ok || !strings.Contains(out, "Signature Verified Successfully") {
			return output + command + "\n" + out, false
		}
	}
	return output, true
}

func TestReadmeRecipeReachesTheCheckpointsRoot(t *testing.T) {
	c := goldenConfig(t)
	for name, data := range map[string][]byte{"golden": golden(t, "case.zip"), "written now": goldenCase(t)} {
		for _, index := range goldenIndexes {
			output, holds := byHand(t, data, index)
			if !holds {
				t.Errorf("%s: leaf %d does not hold:\n%s", name, index, output)
			}
			for _, want := range []string{
				"sha256 root   " + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n",
				"sm3 root      " + base64.StdEncoding.EncodeToString(c.SM3Root[:]) + "\n",
				string(goldenLeaves(t)[index]) + "\n",
			} {
				if !strings.Contains(output, want) {
					t.Errorf("%s: leaf %d: output lacks %q:\n%s", name, index, want, output)
				}
			}
		}
	}
}

func TestReadmeRecipeFindsTampering(t *testing.T) {
	tests := map[string]func(files []zipFile){
		"event changed": func(files []zipFile) { edit(files, EventsFile, "FAIL", "PASS") },
		"proof changed": func(files []zipFile) {
			edit(files, ProofsFile, base64.StdEncoding.EncodeToString(goldenEvent(t, 2).SHA256[1][:]),
				base64.StdEncoding.EncodeToString(make([]byte, 32)))
		},
		"proof cut": func(files []zipFile) {
			edit(files, ProofsFile, `,"`+base64.StdEncoding.EncodeToString(goldenEvent(t, 2).SHA256[3][:])+`"`, "")
		},
		"id changed":         func(files []zipFile) { edit(files, ProofsFile, `5012"`, `5013"`) },
		"leaf index changed": func(files []zipFile) { edit(files, ProofsFile, `{"leaf":2,`, `{"leaf":1,`) },
		"checkpoint resized": func(files []zipFile) { edit(files, CheckpointFile, "\n11\n", "\n10\n") },
		"other origin": func(files []zipFile) {
			edit(files, CheckpointFile, "pay.example.com/audit\n", "pay.example.com/other\n")
		},
		"SM3 root changed": func(files []zipFile) {
			sm3 := goldenConfig(t).SM3Root
			replaceSM3Root(t, files, *sm3)
		},
	}
	for name, tamper := range tests {
		files := unzip(t, goldenCase(t))
		tamper(files)
		index := uint64(2)
		if name == "leaf index changed" {
			index = 1
		}
		if output, holds := byHand(t, rezip(t, files), index); holds {
			t.Errorf("%s: the recipe found nothing:\n%s", name, output)
		}
	}
}

// replaceSM3Root flips a bit of the SM3 root that the SM2 line carries.
func replaceSM3Root(t *testing.T, files []zipFile, want suite.Hash) {
	for i := range files {
		if files[i].name != CheckpointFile {
			continue
		}
		lines := strings.Split(strings.TrimSuffix(string(files[i].data), "\n"), "\n")
		fields := strings.Fields(lines[len(lines)-1])
		blob, err := base64.StdEncoding.DecodeString(fields[2])
		if err != nil || !bytes.Equal(blob[4:36], want[:]) {
			t.Fatalf("the last line is not that of the SM2 key: %v", err)
		}
		blob[4] ^= 1
		fields[2] = base64.StdEncoding.EncodeToString(blob)
		lines[len(lines)-1] = strings.Join(fields, " ")
		files[i].data = []byte(strings.Join(lines, "\n") + "\n")
	}
}

func entry(t testing.TB, data []byte, name string) string {
	t.Helper()
	for _, f := range unzip(t, data) {
		if f.name == name {
			return string(f.data)
		}
	}
	t.Fatalf("no %s in the case", name)
	return ""
}
