package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// A zipFile is one file of a case under test.
type zipFile struct {
	name   string
	method uint16
	data   []byte
}

// unzip reads a ZIP with archive/zip alone, in the order of its directory.
func unzip(t testing.TB, data []byte) []zipFile {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	var files []zipFile
	for _, f := range z.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, zipFile{f.Name, f.Method, content})
	}
	return files
}

// rezip writes files as they are, right or wrong.
func rezip(t testing.TB, files []zipFile) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, f := range files {
		w, err := z.CreateHeader(&zip.FileHeader{Name: f.name, Method: f.method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil && !strings.HasSuffix(f.name, "/") {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// edit replaces the first occurrence of old in one file. The tests depend on
// its being there.
func edit(files []zipFile, name, old, new string) {
	for i := range files {
		if files[i].name == name {
			if !bytes.Contains(files[i].data, []byte(old)) {
				panic("nothing to replace in " + name + ": " + old)
			}
			files[i].data = bytes.Replace(files[i].data, []byte(old), []byte(new), 1)
		}
	}
}

// remanifest does what a forger with care does: it makes the manifest say what
// the files are, and lets him change the rest of it.
func remanifest(t testing.TB, files []zipFile, change func(*Manifest)) {
	t.Helper()
	var m Manifest
	for i := range files {
		if files[i].name != ManifestFile {
			continue
		}
		if err := json.Unmarshal(files[i].data, &m); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.name != ManifestFile {
				sum := sha256.Sum256(f.data)
				m.Files[f.name] = FileInfo{Size: uint64(len(f.data)), SHA256: hex.EncodeToString(sum[:])}
			}
		}
		if change != nil {
			change(&m)
		}
		data, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		files[i].data = data
	}
}

// readAll does all a Reader can and returns the first error.
func readAll(data []byte) error {
	r, err := NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	for _, err := range r.Events() {
		if err != nil {
			return err
		}
	}
	return r.CheckFiles()
}

// declared is the directory's word on events.jsonl with other sizes.
func declared(t testing.TB, files []zipFile, size, compressed uint64) *zip.File {
	t.Helper()
	data := rezip(t, files)
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range z.File {
		if f.Name == EventsFile {
			f.UncompressedSize64, f.CompressedSize64 = size, compressed
			return f
		}
	}
	t.Fatal("no events in the case")
	return nil
}
