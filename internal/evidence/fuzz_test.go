package evidence

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

func FuzzReader(f *testing.F) {
	whole := golden(f, "case.zip")
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(whole[len(whole)/2:])
	files := unzip(f, whole)
	edit(files, ProofsFile, `"leaf":7`, `"leaf":8`)
	remanifest(f, files, nil)
	f.Add(rezip(f, files))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			sorted(t, err)
			return
		}
		for e, err := range r.Events() {
			if err != nil {
				sorted(t, err)
				break
			}
			if len(e.Leaf) == 0 || len(e.Leaf) > MaxLeafBytes || e.Index >= r.head.size {
				t.Fatalf("event %d of %d bytes", e.Index, len(e.Leaf))
			}
		}
		if err := r.CheckFiles(); err != nil {
			sorted(t, err)
		}
	})
}

// sorted fails unless err is one of the two kinds that bytes can cause.
func sorted(t *testing.T, err error) {
	var malformed *Malformed
	var mismatch *Mismatch
	if !errors.As(err, &malformed) && !errors.As(err, &mismatch) {
		t.Fatalf("%T: %v", err, err)
	}
}

func FuzzProofLine(f *testing.F) {
	for _, i := range goldenIndexes {
		e := goldenEvent(f, i)
		f.Add(bytes.TrimSuffix(appendProof(nil, &e, true), []byte("\n")), true)
		f.Add(bytes.TrimSuffix(appendProof(nil, &e, false), []byte("\n")), false)
	}
	f.Add([]byte(`{"leaf":0,"id":"a","sha256":[]}`), false)
	f.Add([]byte(`{"leaf":00,"id":"a","sha256":[]}`), false)
	f.Fuzz(func(t *testing.T, line []byte, sm3 bool) {
		e, problem := parseProof(line, sm3)
		if problem != "" {
			return
		}
		if again := appendProof(nil, &e, sm3); string(again) != string(line)+"\n" {
			t.Fatalf("%q re-encodes to %q", line, again)
		}
	})
}

func FuzzManifest(f *testing.F) {
	manifest := entry(f, golden(f, "case.zip"), ManifestFile)
	f.Add([]byte(manifest))
	f.Add([]byte(strings.Replace(manifest, "act=", `<\u2028>&\"`, 1)))
	f.Add([]byte(strings.Replace(manifest, "11", "18446744073709551615", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest(data)
		if err != nil {
			sorted(t, err)
			return
		}
		if again, err := m.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%q re-encodes to %q, %v", data, again, err)
		}
	})
}

func FuzzCheckpointAndKeys(f *testing.F) {
	f.Add(golden(f, "checkpoint"))
	f.Add(golden(f, "keys"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if head, err := parseNoteHead(data); err != nil {
			sorted(t, err)
		} else if text := note(head.origin, head.size, head.root); !bytes.HasPrefix(data, text[:bytes.Index(text, []byte("\n\n"))+1]) {
			t.Fatalf("%q re-encodes to %q", data, text)
		}
		if keys, err := parseKeys(data); err != nil {
			sorted(t, err)
		} else if again := strings.Join(keys, "\n") + "\n"; again != string(data) {
			t.Fatalf("%q re-encodes to %q", data, again)
		}
	})
}

func TestProofLineAcceptsOneSpellingOnly(t *testing.T) {
	hash := `"` + strings.Repeat("A", 43) + `="`
	good := `{"leaf":7,"id":"a-1","sha256":[` + hash + `,` + hash + `]}`
	if e, problem := parseProof([]byte(good), false); problem != "" || e.Index != 7 || e.ID != "a-1" || len(e.SHA256) != 2 || e.SHA256[1] != (suite.Hash{}) {
		t.Fatalf("%s: %+v %s", good, e, problem)
	}
	many := strings.Repeat(hash+",", 64) + hash
	for _, bad := range []string{
		``, `{}`, ` ` + good, good + ` `, good + good,
		strings.Replace(good, `:7`, `: 7`, 1), strings.Replace(good, `:7`, `:07`, 1), strings.Replace(good, `:7`, `:-7`, 1),
		strings.Replace(good, `:7`, `:7.0`, 1), strings.Replace(good, `:7`, `:18446744073709551616`, 1), strings.Replace(good, `:7`, `:`, 1),
		strings.Replace(good, `a-1`, ``, 1), strings.Replace(good, `a-1`, `\u0061`, 1), strings.Replace(good, `a-1`, strings.Repeat("a", 65), 1),
		strings.Replace(good, `A=`, `B=`, 1), // stray bits behind the 32nd byte
		strings.Replace(good, `A=`, `AA`, 1), strings.Replace(good, `AAAA`, "AA\r\n", 1), strings.Replace(good, `AAAA`, `-_AA`, 1),
		strings.Replace(good, `,"A`, `"A`, 1), strings.Replace(good, `]`, `,]`, 1), strings.Replace(good, `[`, `[,`, 1),
		strings.Replace(good, `]`, ``, 1), strings.Replace(good, `sha256`, `SHA256`, 1), strings.Replace(good, `}`, `,"sm3":[]}`, 1),
		`{"leaf":7,"id":"a-1","sha256":[` + many + `]}`,
	} {
		if e, problem := parseProof([]byte(bad), false); problem == "" {
			t.Errorf("%s is read as %+v", bad, e)
		}
	}
}
