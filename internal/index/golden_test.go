package index

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/segment"
)

// twoEvents is what docs/format/segment.md has as its example, indexed.
func twoEvents(t testing.TB) (*builder, identity) {
	t.Helper()
	file := read(t, filepath.Join("..", "segment", "testdata", "v1", "two-events.seg"))
	r, err := segment.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	b := newBuilder(0, nil)
	var d veritrail.Draft
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind != segment.Events {
			continue
		}
		for _, line := range bytes.Split(bytes.TrimSuffix(f.Lines(), []byte("\n")), []byte("\n")) {
			if err := d.Parse(line); err != nil {
				t.Fatal(err)
			}
			if !b.add(&d, len(line)) {
				t.Fatal("not indexed")
			}
		}
	}
	id := identity{first: 0, leaves: b.next(), instance: r.Header.Instance, link: r.Link(), span: b.bundles[0], bytes: b.leaf}
	return b, id
}

// documented is the hexdump that docs/format/sidecar.md shows of a file.
func documented(t testing.TB, name string) []byte {
	t.Helper()
	page := strings.ReplaceAll(string(read(t, filepath.Join("..", "..", "docs", "format", "sidecar.md"))), "\r\n", "\n")
	_, rest, ok := strings.Cut(page, "\n```text "+name+"\n")
	text, _, ok2 := strings.Cut(rest, "```\n")
	if !ok || !ok2 {
		t.Fatalf("docs/format/sidecar.md has no block %s", name)
	}
	var out []byte
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		_, line, _ = strings.Cut(line, "  ")
		line, _, _ = strings.Cut(line, "  |")
		b, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b...)
	}
	return out
}

func hexdump(b []byte) string {
	var out strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		fmt.Fprintf(&out, "%08x ", at)
		for i := range 16 {
			if i == 8 {
				out.WriteByte(' ')
			}
			if i < len(row) {
				fmt.Fprintf(&out, " %02x", row[i])
			} else {
				out.WriteString("   ")
			}
		}
		out.WriteString("  |")
		for _, c := range row {
			if c < ' ' || c > '~' {
				c = '.'
			}
			out.WriteByte(c)
		}
		out.WriteString("|\n")
	}
	return out.String()
}

// What is written of the example is what the page shows and what lies in
// testdata, byte for byte. Another layout is another version.
func TestSidecarsAreWrittenAsDocumented(t *testing.T) {
	b, id := twoEvents(t)
	for name, marshal := range map[string]func(identity) ([]byte, error){"two-events.sum": b.marshalSummary, "two-events.idx": b.marshalPostings} {
		got, err := marshal(id)
		if err != nil {
			t.Fatal(err)
		}
		if want := documented(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s is written as\n%s", name, hexdump(got))
		}
		if want, err := os.ReadFile(filepath.Join("testdata", "v1", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("testdata/v1/%s differs, %v", name, err)
		}
	}
}

func TestSidecarsOfVersion1AreRead(t *testing.T) {
	b, id := twoEvents(t)
	dir := filepath.Join("testdata", "v1")
	sum := read(t, filepath.Join(dir, "two-events.sum"))
	s, err := openSidecar(kindSummary, bytes.NewReader(sum), int64(len(sum)))
	if err != nil || s.identity != id {
		t.Fatalf("got %+v, %v; want %+v", s, err, id)
	}
	r := &reader{sidecar: s, src: bytes.NewReader(sum)}
	spans, err := r.spans()
	if err != nil || len(spans) != 1 || spans[0] != b.bundles[0] {
		t.Errorf("times %v, %v", spans, err)
	}
	counts, err := r.tally(true)
	if err != nil || fmt.Sprint(*counts) != fmt.Sprint(*b.tally()) {
		t.Errorf("counts %v, %v; want %v", counts, err, b.tally())
	}
	for value, want := range map[string]bool{"u1": true, "u2": false} {
		if got, err := r.mayHave("sub.user", value); err != nil || got != want {
			t.Errorf("%s: %v, %v", value, got, err)
		}
	}
	idx := read(t, filepath.Join(dir, "two-events.idx"))
	if s, err = openSidecar(kindPostings, bytes.NewReader(idx), int64(len(idx))); err != nil {
		t.Fatal(err)
	}
	r = &reader{sidecar: s, src: bytes.NewReader(idx)}
	p, err := openPostings(s, r)
	if err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]set{
		"sub.user=u1": {3}, "act=DATA.*": {2}, "act=AUTH.LOGIN.OK": {1}, "obj.table=pay": {2}, "obj.table=x": {0}, "text=LOGIN": {1}, "text=pa": {2}, "text=u1": {3},
		"id=0f8fad5b-d9cb-469f-a165-70867728950e": {0}, "id=0f8fad5b-d9cb-469f-a165-708672895012": {2}, "sev>=DEBUG": {0},
	} {
		got, ok, err := p.candidates(r, parse(t, where).Conditions())
		if err != nil || !ok || got[0] != want[0] {
			t.Errorf("%s: %v, %v, %v; want %v", where, got, ok, err, want)
		}
	}
}

func TestSidecarsThatAreRefused(t *testing.T) {
	b, id := twoEvents(t)
	good, err := b.marshalSummary(id)
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return nil }, "half a header": func(b []byte) []byte { return b[:64] },
		"other magic": func(b []byte) []byte { b[0] ^= 1; return b }, "other version": func(b []byte) []byte { b[7] = 2; return b },
		"header changed": func(b []byte) []byte { b[20] ^= 1; return b }, "cut": func(b []byte) []byte { return b[:len(b)-1] },
		"longer": func(b []byte) []byte { return append(b, 0) }, "checksums changed": func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
	} {
		c := change(bytes.Clone(good))
		if _, err := openSidecar(kindSummary, bytes.NewReader(c), int64(len(c))); !errors.Is(err, errSidecar) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	c := bytes.Clone(good)
	c[sidecarHeader+3] ^= 1
	s, err := openSidecar(kindSummary, bytes.NewReader(c), int64(len(c)))
	if err != nil {
		t.Fatal(err)
	}
	if err := (&reader{sidecar: s, src: bytes.NewReader(c)}).scrub(); !errors.Is(err, errSidecar) {
		t.Errorf("a changed section: got %v", err)
	}
}

// A Bloom filter never denies what is there, and seldom claims what is not.
func TestBloomFilter(t *testing.T) {
	b := newBuilder(0, nil)
	d := veritrail.Draft{Action: "A.B", Timestamp: base}
	for i := range 20_000 {
		d.Subject = append(d.Subject[:0], veritrail.Pair{Key: "user", Value: fmt.Sprint("u", i)})
		b.add(&d, 1)
	}
	file, err := b.marshalSummary(identity{leaves: b.next(), span: b.bundles[0]})
	if err != nil {
		t.Fatal(err)
	}
	s, err := openSidecar(kindSummary, bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{sidecar: s, src: bytes.NewReader(file)}
	wrong := 0
	for i := range 40_000 {
		may, err := r.mayHave("sub.user", fmt.Sprint("u", i))
		if err != nil || i < 20_000 && !may {
			t.Fatalf("u%d: %v, %v", i, may, err)
		}
		if i >= 20_000 && may {
			wrong++
		}
	}
	if wrong > 20_000*2/100 {
		t.Errorf("%d of 20,000 values that do not occur may do so", wrong)
	}
}

// Whatever the sections hold, nothing panics or reads outside; and what is
// accepted is written the same way again.
func FuzzSidecar(f *testing.F) {
	b, id := twoEvents(f)
	for i, marshal := range []func(identity) ([]byte, error){b.marshalSummary, b.marshalPostings} {
		file, err := marshal(id)
		if err != nil {
			f.Fatal(err)
		}
		kind := [...]string{kindSummary, kindPostings}[i]
		s, err := openSidecar(kind, bytes.NewReader(file), int64(len(file)))
		if err != nil {
			f.Fatal(err)
		}
		var sections [maxSections][]byte
		for i := range sections {
			section, err := (&reader{sidecar: s, src: bytes.NewReader(file)}).section(i)
			if err != nil {
				f.Fatal(err)
			}
			sections[i] = section
		}
		f.Add(file, sections[0], sections[1], sections[2], sections[3], uint16(1), i == 1, "u1")
	}
	f.Fuzz(func(t *testing.T, file, s0, s1, s2, s3 []byte, leaves uint16, isPostings bool, text string) {
		kind := kindSummary
		if isPostings {
			kind = kindPostings
		}
		check(t, kind, file, text)
		// Checksums hold back most changes of a whole file; these go deeper.
		again, err := marshalSidecar(kind, identity{leaves: uint64(leaves) + 1, span: span{0, 10_000}}, s0, s1, s2, s3)
		if err != nil {
			t.Fatal(err)
		}
		check(t, kind, again, text)
	})
}

func check(t *testing.T, kind string, file []byte, text string) {
	refused := func(err error) bool {
		if err != nil && !errors.Is(err, errSidecar) {
			t.Fatalf("%v is not an error of a sidecar", err)
		}
		return err != nil
	}
	s, err := openSidecar(kind, bytes.NewReader(file), int64(len(file)))
	if refused(err) || s.leaves > 1<<16 {
		return
	}
	r := &reader{sidecar: s, src: bytes.NewReader(file)}
	var sections [][]byte
	for i := range maxSections {
		b, err := r.section(i)
		if refused(err) {
			return
		}
		sections = append(sections, bytes.Clone(b))
	}
	if again, err := marshalSidecar(kind, s.identity, sections...); err != nil || !bytes.Equal(again, file) {
		t.Fatalf("read and written differently, %v", err)
	}
	if kind == kindSummary {
		_, err := r.spans()
		refused(err)
		_, err = r.mayHave("sub.user", text)
		refused(err)
		if counts, err := r.tally(true); !refused(err) {
			if got := counts.appendTotals(nil); !bytes.Equal(got, sections[sectionTotals]) {
				t.Fatalf("totals %x are written as %x", sections[sectionTotals], got)
			}
			if got := appendRows(nil, counts.hourly); !bytes.Equal(got, sections[sectionHourly]) {
				t.Fatalf("counts %x are written as %x", sections[sectionHourly], got)
			}
		}
		return
	}
	p, err := openPostings(s, r)
	if refused(err) {
		return
	}
	for _, c := range []search.Condition{
		{Field: "text", Op: "=", Value: text}, {Field: "sub", Key: "user", Op: "=", Value: text}, {Field: "sub", Key: "user", Op: "=", Value: text + "*"},
		{Field: "act", Op: "=", Value: "*"}, {Field: "sev", Op: ">=", Value: "WARN"}, {Field: "id", Op: "=", Value: "0f8fad5b-d9cb-469f-a165-708672895012"},
	} {
		_, _, err := p.candidates(r, []search.Condition{c})
		refused(err)
	}
	for i := range p.groups {
		refused(p.groups[i].count(r, s.leaves, nil, func([]byte, uint64) {}))
	}
}

// Whatever is asked of whatever events, memory and postings name the same ones,
// and all that match.
func FuzzCandidates(f *testing.F) {
	two := `{"sev":"WARN","sub":{"user":"u1"},"act":"A.B","obj":{"k":"v"},"ctx":{"n":"转账"}}` + "\n" + `{"sub":{"user":"u2","role":"x"},"act":"A.C"}`
	for _, where := range []string{"sub.user=u1", "sub.user=u*", "act=A.*", "text=转", "text=u", "sev>=INFO", "obj.k!=v", "sub.role=*"} {
		f.Add(where, two)
	}
	f.Fuzz(func(t *testing.T, where, events string) {
		q, err := search.Parse([]string{where})
		if err != nil {
			return
		}
		b := newBuilder(0, nil)
		var matches []uint32
		for _, text := range strings.Split(events, "\n") {
			e, err := veritrail.ParseEvent([]byte(text))
			if err != nil {
				continue
			}
			e.ID = fmt.Sprintf("0b54dd2e-6f3c-4d39-9f5a-%012x", b.next())
			if e.Timestamp.IsZero() {
				e.Timestamp = base
			}
			leaf, err := e.Canonical()
			if err != nil {
				continue
			}
			var d veritrail.Draft
			if err := d.Parse(leaf); err != nil {
				t.Fatal(err)
			}
			if q.Match(&d, leaf) {
				matches = append(matches, uint32(b.next()))
			}
			if !b.add(&d, len(leaf)) {
				t.Fatal("not indexed")
			}
		}
		if b.next() == 0 {
			return
		}
		id := identity{leaves: b.next(), span: span{-1 << 40, 1 << 40}}
		file, err := b.marshalPostings(id)
		if err != nil {
			t.Fatal(err)
		}
		s, err := openSidecar(kindPostings, bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		r := &reader{sidecar: s, src: bytes.NewReader(file)}
		p, err := openPostings(s, r)
		if err != nil {
			t.Fatal(err)
		}
		live, narrowed := b.candidates(q.Conditions())
		kept, narrowedToo, err := p.candidates(r, q.Conditions())
		if err != nil || narrowed != narrowedToo {
			t.Fatalf("%q: %v, %v, %v", where, narrowed, narrowedToo, err)
		}
		if !narrowed {
			return
		}
		for n := range uint32(b.next()) {
			if live.has(n) != kept.has(n) {
				t.Fatalf("%q: event %d: memory names it %v, postings %v", where, n, live.has(n), kept.has(n))
			}
		}
		for _, n := range matches {
			if !kept.has(n) {
				t.Fatalf("%q matches event %d, which is not named", where, n)
			}
		}
		if c := q.Conditions()[0]; c.Field != "id" && kept.count() != len(matches) {
			t.Fatalf("%q matches %d events, %d are named", where, len(matches), kept.count())
		}
		if summary, err := b.marshalSummary(id); err != nil {
			t.Fatal(err)
		} else {
			check(t, kindSummary, summary, where)
		}
		check(t, kindPostings, file, where)
	})
}
