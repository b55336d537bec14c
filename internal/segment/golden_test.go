package segment

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
)

var update = flag.Bool("update", false, "write what is missing in testdata/v1, and print the documented dump")

// The golden segments belong to version 1 of the format. They stay, and stay
// readable, for ever.
const goldenDir = "testdata/v1"

var goldenLeaves = []string{
	`{"id":"919108f7-52d1-4320-9bac-f847db4148a8","ts":"2026-03-01T09:30:00.250000000Z","sub":{"user":"u1"},"act":"AUTH.LOGIN.OK","obj":{},"ctx":{}}`,
	`{"id":"0f8fad5b-d9cb-469f-a165-708672895012","ts":"2026-03-01T09:30:01.000000000Z","sub":{"user":"u1"},"act":"DATA.READ","obj":{"table":"pay"},"ctx":{}}`,
}

// golden makes a segment of two leaves and a checkpoint, signed with the keys
// that docs/format/keys.md shows.
func golden(t *testing.T, digests suite.Set) []byte {
	t.Helper()
	h := Header{Digests: digests, Created: time.Unix(1_772_357_400, 0)}
	copy(h.Instance[:], "\x10\x32\x54\x76\x98\xba\xdc\xfe\x01\x23\x45\x67\x89\xab\xcd\xef")
	var trees []*tlog.Tree
	for _, d := range digests.Digests() {
		trees = append(trees, tlog.NewTree(d, nil))
	}
	h.Root = trees[0].Root()
	if len(trees) > 1 {
		h.SM3Root = trees[1].Root()
	}
	var hashes []suite.Hash
	for _, leaf := range goldenLeaves {
		hashes = append(hashes, suite.SHA256.LeafHash([]byte(leaf)))
		for _, tree := range trees {
			tree.Append(tree.Digest().LeafHash([]byte(leaf)))
		}
	}
	var sm3 *suite.Hash
	if len(trees) > 1 {
		root := trees[1].Root()
		sm3 = &root
	}
	b := h.Marshal()
	f := FrameHeader{
		Kind: Events, Flags: PreviousDurable, Count: 2, Time: time.Unix(1_772_357_401, 500),
		Previous: h.Hash(), Root: trees[0].Root(), SM3Root: sm3,
	}
	b, link := AppendFrame(b, &f, AppendFingerprints(nil, hashes), []byte(strings.Join(goldenLeaves, "\n")+"\n"))
	signer, err := checkpoint.ParseSigner(documentedKey(t))
	if err != nil {
		t.Fatal(err)
	}
	note, err := checkpoint.Sign(checkpoint.Checkpoint{Origin: "example.com/payroll", Size: 2, Root: trees[0].Root()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	f = FrameHeader{
		Kind: Checkpoint, Flags: PreviousDurable, FirstLeaf: 2, Time: time.Unix(1_772_357_402, 0),
		Previous: link, Root: trees[0].Root(), SM3Root: sm3,
	}
	b, _ = AppendFrame(b, &f, note)
	return b
}

func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "format", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

// block is the fenced block that begins so in a page.
func block(t *testing.T, text, fence string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n```"+fence+"\n")
	content, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatalf("the page has no block %s", fence)
	}
	return content
}

func documentedKey(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(block(t, page(t, "keys.md"), "ed25519.key"))
}

var goldens = []struct {
	name    string
	digests suite.Set
}{
	{"two-events.seg", suite.NewSet()},
	{"two-events-sm3.seg", suite.NewSet(suite.SM3)},
}

func TestGoldenSegmentsAreWrittenTheSameWay(t *testing.T) {
	for _, g := range goldens {
		name := filepath.Join(goldenDir, g.name)
		got := golden(t, g.digests)
		want, err := os.ReadFile(name)
		if os.IsNotExist(err) && *update {
			want, err = got, os.WriteFile(name, got, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: version 1 is now written differently:\n%s", g.name, hex.Dump(got))
		}
	}
}

func TestGoldenSegmentsAreRead(t *testing.T) {
	for _, g := range goldens {
		b, err := os.ReadFile(filepath.Join(goldenDir, g.name))
		if err != nil {
			t.Fatal(err)
		}
		r := open(t, b)
		if r.Header.Digests != g.digests || r.Header.FirstLeaf != 0 || r.Header.Created.Format(time.RFC3339) != "2026-03-01T09:30:00Z" {
			t.Errorf("%s: header %+v", g.name, r.Header)
		}
		frames, err := readAll(r)
		if !errors.Is(err, io.EOF) || len(frames) != 2 || r.NextLeaf() != 2 {
			t.Fatalf("%s: %d frames, %v", g.name, len(frames), err)
		}
		if got, want := string(frames[0].Lines()), strings.Join(goldenLeaves, "\n")+"\n"; got != want {
			t.Errorf("%s: leaves %q", g.name, got)
		}
		c, err := checkpoint.ParseUnverified(frames[1].Body)
		if err != nil || c.Size != 2 || c.Root != frames[0].Root || frames[1].Root != frames[0].Root {
			t.Errorf("%s: checkpoint %+v, %v", g.name, c, err)
		}
	}
}

// The page shows the golden segment byte for byte, and the field names in its
// table stand beside the bytes that they name.
func TestDocumentedDumpIsTheGoldenSegment(t *testing.T) {
	want, err := os.ReadFile(filepath.Join(goldenDir, "two-events.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		fmt.Print(hex.Dump(want))
	}
	text := page(t, "segment.md")
	var got []byte
	for line := range strings.Lines(block(t, text, "text hexdump")) {
		columns, _, _ := strings.Cut(line, "|")
		fields := strings.Fields(columns)
		if offset := fmt.Sprintf("%08x", len(got)); fields[0] != offset {
			t.Fatalf("line %q: want it to begin with %s", line, offset)
		}
		b, err := hex.DecodeString(strings.Join(fields[1:], ""))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/format/segment.md shows\n%s\nwant\n%s", hex.Dump(got), hex.Dump(want))
	}
	for line := range strings.Lines(block(t, text, "text fields")) {
		fields := strings.Fields(line) // offset, hex, what it is
		var at int
		if _, err := fmt.Sscan(fields[0], &at); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		first, last, elided := strings.Cut(fields[1], "…")
		head, err := hex.DecodeString(first)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !bytes.HasPrefix(want[at:], head) {
			t.Errorf("%q: at %d the segment has %x", line, at, want[at:at+len(head)])
		}
		if tail, err := hex.DecodeString(last); elided && (err != nil || !bytes.HasSuffix(want[at:at+suite.Size], tail)) {
			t.Errorf("%q: at %d the segment has %x", line, at, want[at:at+suite.Size])
		}
	}
}
