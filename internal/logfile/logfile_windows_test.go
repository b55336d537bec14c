package logfile

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A reader that holds the file keeps it from being renamed: lines go on into
// it, none is lost, and the file is set aside when the reader has gone.
func TestReaderThatHoldsTheFileDelaysItsRotation(t *testing.T) {
	path, c := filepath.Join(t.TempDir(), "up.log"), newClock()
	f := mustOpen(t, Config{Path: path, MaxBytes: 30, MaxFiles: 100, Now: c.now, Fallback: failing{t}}, nil)
	put(t, f, "line 0000")
	reader, err := os.Open(path) // Go shares reading and writing, not deleting
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range numbered(10)[1:] {
		put(t, f, line)
		c.pass(2 * time.Second)
	}
	if _, files := all(t, path); files != 1 {
		t.Errorf("%d files while the reader holds the first", files)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for _, line := range numbered(12)[10:] {
		put(t, f, line)
		c.pass(2 * time.Second)
	}
	if lines, files := all(t, path); files != 2 || !slices.Equal(lines, numbered(12)) {
		t.Errorf("%d files, %q", files, lines)
	}
}
