// Package durable owns how bytes reach a disk for good: files that are replaced
// whole or not at all, appended data that is synced before anybody is told so,
// directories synced with the names in them, and the lock that keeps a second
// writer out.
//
// Everything the writing side of a trail does to a disk goes through FS, so
// that a test can make any single step fail before or after it took effect
// (package faulty). Readers beside a writer use Open and ReadFile. Files and
// directories are made for their owner alone: mode 0600 and 0700; on Windows
// with a protected access list that names the user and the system, which like
// root could take the right in any case.
//
// It knows nothing of what the bytes mean.
package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file that is appended to. Its methods are called by one goroutine,
// except ReadAt.
type File interface {
	io.ReaderAt
	// WriteAt writes p at off. On an error any part of p may be in the file.
	WriteAt(p []byte, off int64) (int, error)
	// Sync returns after the file's data and length are on stable storage.
	// After an error, nothing may be assumed of data written since the last
	// Sync that succeeded: the kernel may have thrown it away.
	Sync() error
	// Truncate cuts the file, or grows it with zeros. It is durable after Sync.
	Truncate(size int64) error
	// Size is the file's present length.
	Size() (int64, error)
	Close() error
}

// FS is the disk as the writer sees it.
type FS interface {
	// MkdirAll makes a directory and its missing parents, for the owner
	// alone, and syncs the parents.
	MkdirAll(dir string) error
	// OpenFile opens an existing file for reading and writing.
	OpenFile(name string) (File, error)
	// WriteFile puts data in place of the file whole: whoever opens name, also
	// after a crash, sees the old bytes or the new ones. The new ones are on
	// stable storage when it returns.
	WriteFile(name string, data []byte) error
	// WriteFileLazy is WriteFile without the wait: after a crash the file may
	// be the old one, the new one, empty or absent, until SyncFile returned.
	WriteFileLazy(name string, data []byte) error
	// SyncFile makes a file written by WriteFileLazy, and its name, durable.
	SyncFile(name string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
	// Remove deletes a file. A missing one is not an error.
	Remove(name string) error
}

// OS is the disk itself.
var OS FS = osFS{}

// WriteFile is OS.WriteFile.
func WriteFile(name string, data []byte) error { return OS.WriteFile(name, data) }

// MkdirAll is OS.MkdirAll.
func MkdirAll(dir string) error { return OS.MkdirAll(dir) }

type osFS struct{}

func (osFS) MkdirAll(dir string) error {
	var missing []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		st, err := os.Stat(d)
		if err == nil {
			if !st.IsDir() {
				return fmt.Errorf("%s: not a directory", d)
			}
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		missing = append(missing, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for i := len(missing) - 1; i >= 0; i-- {
		if err := mkdir(missing[i]); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := syncDir(filepath.Dir(missing[i])); err != nil {
			return err
		}
	}
	return nil
}

func (osFS) OpenFile(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) WriteFile(name string, data []byte) error {
	if err := replaceFile(name, data, true); err != nil {
		return err
	}
	// The directory too: after a power loss the rename may have vanished.
	return syncDir(filepath.Dir(name))
}

func (osFS) WriteFileLazy(name string, data []byte) error { return replaceFile(name, data, false) }

func replaceFile(name string, data []byte, sync bool) (err error) {
	f, err := createTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if sync {
		if err := f.Sync(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return rename(f.Name(), name, sync)
}

func (osFS) SyncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func (osFS) SyncDir(dir string) error { return syncDir(dir) }

func (osFS) Remove(name string) error {
	if err := remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile is os.ReadFile by Open.
func ReadFile(name string) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// One byte more than there is, so that the end is seen without growing.
	b := bytes.NewBuffer(make([]byte, 0, max(min(st.Size(), 1<<30), 0)+bytes.MinRead))
	if _, err := b.ReadFrom(f); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

type osFile struct{ *os.File }

func (f osFile) WriteAt(p []byte, off int64) (int, error) { return writeAt(f.File, p, off) }

func (f osFile) Sync() error { return syncData(f.File) }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
