// Package logfile owns the file that the program writes its own log to: whole
// lines, for the owner alone, in files of bounded size, number and age.
//
//	up.log                            the lines being written
//	up.log.20260301T093000.250000000Z an earlier file, named after when it was set aside
//
// A line is never split over two files and never lost: what the file cannot
// take, because the disk is full or the file is gone, goes to the fallback and
// is counted, and the next line that the file takes again has a line before it
// that says how many are missing.
//
// An earlier file is made by a rename. Where that is refused, as on Windows
// while a reader holds the file, lines go on into the present one, however
// large, and the rename is tried again later: a log that is larger than asked
// for is better than one with a hole. A file that somebody else set aside
// (logrotate) is noticed within a second, or at once with Reopen.
//
// It knows no format: a line is bytes.
package logfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says where to, and how much to keep. Path is required.
type Config struct {
	Path     string
	MaxBytes int64         // of one file; 64 MiB when 0
	MaxFiles int           // earlier files that are kept; 10 when 0
	MaxAge   time.Duration // earlier files that are older are removed; kept when 0

	// Fallback takes the lines that the file cannot: os.Stderr when nil.
	Fallback io.Writer
	// Gap is the line that goes before the next one after so many lines went
	// to the fallback. None when nil.
	Gap func(lines uint64) []byte
	// Now is the clock: time.Now when nil.
	Now func() time.Time
}

// Stats counts since Open.
type Stats struct {
	Lines     uint64 // in the file
	Fallback  uint64 // that went to the fallback instead
	Lost      uint64 // that the fallback could not take either
	Rotations uint64
	Problem   error // why lines go to the fallback now; nil when they do not
}

const (
	defaultMaxBytes = 64 << 20
	defaultMaxFiles = 10
	// lookAgain is how often a rename that was refused is tried again, a file
	// that could not be opened is opened again, and one that was moved away by
	// others is noticed.
	lookAgain = time.Second
	stamp     = "20060102T150405.000000000Z"
)

// output is what is used of an *os.File.
type output interface {
	io.WriteCloser
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Sync() error
}

func openOutput(name string) (output, error) {
	f, err := openAppend(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// File is safe for concurrent use.
type File struct {
	cfg Config

	openFile func(name string) (output, error) // tests put a disk that fails here

	mu       sync.Mutex
	out      output // nil while it cannot be opened
	size     int64
	begun    bool      // a part of a line is at the end of the file
	looked   time.Time // when out was last compared with what Path names
	tryAgain time.Time // not before that: rename, or open
	missing  uint64    // lines that went to the fallback since the file last took one
	closed   bool
	stats    Stats
}

// Open opens the file to append to it, or makes it and its directory. It fails
// when it cannot be written: from then on the fallback takes what it cannot.
func Open(cfg Config) (*File, error) { return open(cfg, openOutput) }

func open(cfg Config, openFile func(string) (output, error)) (*File, error) {
	switch {
	case cfg.Path == "":
		return nil, errors.New("logfile: Path is not set")
	case cfg.MaxBytes < 0 || cfg.MaxFiles < 0 || cfg.MaxAge < 0:
		return nil, errors.New("logfile: a bound is negative")
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	if cfg.MaxFiles == 0 {
		cfg.MaxFiles = defaultMaxFiles
	}
	if cfg.Fallback == nil {
		cfg.Fallback = os.Stderr
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	f := &File{cfg: cfg, openFile: openFile}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	f.prune()
	return f, nil
}

// open makes f.out what Path names.
func (f *File) open() error {
	// Not a pipe or a device: opening one may wait for its reader for ever.
	if st, err := os.Stat(f.cfg.Path); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", f.cfg.Path)
	}
	out, err := f.openFile(f.cfg.Path)
	if err != nil {
		return err
	}
	st, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	f.out, f.size, f.begun, f.looked = out, st.Size(), false, f.cfg.Now()
	if f.size > 0 {
		// A process that ended in the middle of a line left its beginning.
		var last [1]byte
		if n, err := readLast(f.cfg.Path, last[:], f.size-1); err == nil && n == 1 && last[0] != '\n' {
			f.begun = true
		}
	}
	return nil
}

func readLast(name string, p []byte, at int64) (int, error) {
	in, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	n, err := in.ReadAt(p, at)
	return n, errors.Join(err, in.Close())
}

// Write appends one line, which ends in a newline. It returns an error only
// when neither the file nor the fallback took the line.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return f.divert(line, fs.ErrClosed)
	}
	now := f.cfg.Now()
	f.follow(now)
	if f.out == nil {
		if now.Before(f.tryAgain) {
			return f.divert(line, f.stats.Problem)
		}
		if err := f.open(); err != nil {
			f.tryAgain = now.Add(lookAgain)
			return f.divert(line, err)
		}
	}
	if f.size > 0 && f.size+int64(len(line)) > f.cfg.MaxBytes && !now.Before(f.tryAgain) {
		if err := f.rotate(now); err != nil {
			f.tryAgain = now.Add(lookAgain)
			if f.out == nil {
				return f.divert(line, err)
			}
		}
	}
	if f.missing > 0 && f.cfg.Gap != nil {
		if err := f.append(f.cfg.Gap(f.missing)); err != nil {
			return f.divert(line, err)
		}
	}
	f.missing = 0
	if err := f.append(line); err != nil {
		return f.divert(line, err)
	}
	f.stats.Problem = nil
	f.stats.Lines++
	return len(line), nil
}

// append writes a line whole, or takes back what it wrote of it.
func (f *File) append(line []byte) error {
	text := line
	if f.begun {
		text = append([]byte{'\n'}, line...)
	}
	n, err := f.out.Write(text)
	if err == nil {
		f.size += int64(n)
		f.begun = false
		return nil
	}
	if n > 0 {
		// Only this process writes behind size; another one that does, against
		// all advice, loses at most what it wrote in this moment.
		if terr := f.out.Truncate(f.size); terr != nil {
			f.size += int64(n)
			f.begun = true
		}
	}
	return err
}

// divert gives a line to the fallback.
func (f *File) divert(line []byte, problem error) (int, error) {
	if f.stats.Problem == nil {
		// Said once, in the fallback's own words, for whoever reads only that.
		fmt.Fprintf(f.cfg.Fallback, "log file: %v: its lines follow here\n", problem)
	}
	f.stats.Problem = problem
	f.missing++
	f.stats.Fallback++
	n, err := f.cfg.Fallback.Write(line)
	if err != nil {
		f.stats.Lost++
	}
	return n, err
}

// follow lets go of a file that somebody moved away or removed.
func (f *File) follow(now time.Time) {
	if f.out == nil || now.Sub(f.looked) < lookAgain && !now.Before(f.looked) {
		return
	}
	f.looked = now
	named, err := os.Stat(f.cfg.Path)
	if err == nil {
		mine, err := f.out.Stat()
		if err == nil && os.SameFile(named, mine) {
			return
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return
	}
	f.release()
}

func (f *File) release() {
	if f.out != nil {
		_ = f.out.Close() // every line in it was written; there is nobody to tell
	}
	f.out = nil
}

// rotate sets the present file aside and begins another. When it fails, lines
// go on into the present one, if that can be opened again.
func (f *File) rotate(now time.Time) error {
	// Windows renames no file that we hold ourselves.
	f.release()
	renamed := os.Rename(f.cfg.Path, f.freeName(now))
	if renamed == nil {
		f.stats.Rotations++
		f.prune()
	}
	return errors.Join(renamed, f.open())
}

// freeName is the name of the file that is set aside now.
func (f *File) freeName(now time.Time) string {
	for {
		name := f.cfg.Path + "." + now.UTC().Format(stamp)
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
		now = now.Add(time.Nanosecond)
	}
}

// prune removes earlier files beyond the bounds. One that cannot be removed
// now, since somebody reads it, is removed at a later turn.
func (f *File) prune() {
	dir, base := filepath.Split(f.cfg.Path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return
	}
	var earlier []string
	for _, e := range entries {
		when, ok := strings.CutPrefix(e.Name(), base+".")
		if _, err := time.Parse(stamp, when); ok && err == nil && len(when) == len(stamp) && e.Type().IsRegular() {
			earlier = append(earlier, e.Name())
		}
	}
	slices.Sort(earlier)
	slices.Reverse(earlier)
	for i, name := range earlier {
		when, err := time.Parse(stamp, strings.TrimPrefix(name, base+"."))
		old := err == nil && f.cfg.MaxAge > 0 && f.cfg.Now().Sub(when) > f.cfg.MaxAge
		if i >= f.cfg.MaxFiles || old {
			_ = os.Remove(filepath.Join(dir, name))
		}
	}
}

// Reopen lets go of the file and opens what Path names now: after somebody else
// moved it away.
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return fmt.Errorf("log file: %w", fs.ErrClosed)
	}
	f.release()
	f.tryAgain = time.Time{}
	if err := f.open(); err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	f.prune()
	return nil
}

// Stats is what happened so far.
func (f *File) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// Close syncs the file. Lines that are written after it go to the fallback.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.out == nil {
		f.closed = true
		return nil
	}
	f.closed = true
	err := errors.Join(f.out.Sync(), f.out.Close())
	f.out = nil
	return err
}
