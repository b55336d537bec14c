// Package faulty is a disk on which any single step can be made to fail, either
// before it took effect or after, for tests of the writing side.
package faulty

import (
	"errors"
	"fmt"
	"sync"

	"github.com/veritrail/veritrail/internal/durable"
)

// ErrInjected is the error of every step that was made to fail.
var ErrInjected = errors.New("injected fault")

// Op names a step, as "write", "sync", "truncate", "open",
// "writefile", "writelazy", "syncfile", "syncdir", "remove", "mkdir".
type Op string

// Fault says what happens to one step.
type Fault int

// What can happen to a step.
const (
	Pass   Fault = iota
	Before       // the step fails and has no effect
	After        // the step takes effect, and its error says it did not
	Torn         // a write puts down its first half, then fails
)

// FS passes every step on to a disk, unless Decide says otherwise. Decide is
// called for one step at a time, with the number of steps before it.
type FS struct {
	durable.FS
	Decide func(n int, op Op, name string) Fault
	// Err is what a failing step returns, ErrInjected when nil.
	Err error
	// NoSync leaves out the waiting of syncs that pass, for tests that kill
	// nothing but the step.
	NoSync bool

	mu sync.Mutex
	n  int
}

// Steps is the number of steps so far.
func (d *FS) Steps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

func (d *FS) decide(op Op, name string) Fault {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.n
	d.n++
	return d.Decide(n, op, name)
}

func (d *FS) fail(op Op, name string) error {
	err := d.Err
	if err == nil {
		err = ErrInjected
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

func (d *FS) step(op Op, name string, do func() error) error {
	switch d.decide(op, name) {
	case Before, Torn:
		return d.fail(op, name)
	case After:
		if err := do(); err != nil {
			return err
		}
		return d.fail(op, name)
	}
	return do()
}

// MkdirAll implements durable.FS.
func (d *FS) MkdirAll(dir string) error {
	return d.step("mkdir", dir, func() error { return d.FS.MkdirAll(dir) })
}

// OpenFile implements durable.FS.
func (d *FS) OpenFile(name string) (durable.File, error) {
	var f durable.File
	err := d.step("open", name, func() (err error) { f, err = d.FS.OpenFile(name); return err })
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	return &file{File: f, disk: d, name: name}, nil
}

// WriteFile implements durable.FS.
func (d *FS) WriteFile(name string, data []byte) error {
	return d.step("writefile", name, func() error {
		if d.NoSync {
			return d.FS.WriteFileLazy(name, data)
		}
		return d.FS.WriteFile(name, data)
	})
}

// WriteFileLazy implements durable.FS.
func (d *FS) WriteFileLazy(name string, data []byte) error {
	return d.step("writelazy", name, func() error { return d.FS.WriteFileLazy(name, data) })
}

// SyncFile implements durable.FS.
func (d *FS) SyncFile(name string) error {
	return d.step("syncfile", name, func() error {
		if d.NoSync {
			return nil
		}
		return d.FS.SyncFile(name)
	})
}

// SyncDir implements durable.FS.
func (d *FS) SyncDir(dir string) error {
	return d.step("syncdir", dir, func() error { return d.FS.SyncDir(dir) })
}

// Remove implements durable.FS.
func (d *FS) Remove(name string) error {
	return d.step("remove", name, func() error { return d.FS.Remove(name) })
}

type file struct {
	durable.File
	disk *FS
	name string
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	switch f.disk.decide("write", f.name) {
	case Before:
		return 0, f.disk.fail("write", f.name)
	case Torn:
		n, err := f.File.WriteAt(p[:len(p)/2], off)
		if err != nil {
			return n, err
		}
		return n, f.disk.fail("write", f.name)
	case After:
		n, err := f.File.WriteAt(p, off)
		if err != nil {
			return n, err
		}
		return n, f.disk.fail("write", f.name)
	}
	return f.File.WriteAt(p, off)
}

func (f *file) Sync() error {
	return f.disk.step("sync", f.name, func() error {
		if f.disk.NoSync {
			return nil
		}
		return f.File.Sync()
	})
}

func (f *file) Truncate(size int64) error {
	return f.disk.step("truncate", f.name, func() error { return f.File.Truncate(size) })
}
