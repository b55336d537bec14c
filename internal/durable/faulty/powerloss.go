package faulty

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/veritrail/veritrail/internal/durable"
)

// ErrPowerLost is the error of every step from the power loss on.
var ErrPowerLost = errors.New("power lost")

const sectorSize = 512

// PowerLoss is a disk over a real directory that loses its power. Until then
// everything reads as it was written; what a real disk would still hold in its
// caches is remembered, and Restart rebuilds the directory from what was synced
// and a random part of the rest: any sector of an unsynced write may be there or
// not, in any order, a file may have any length it had or was growing to, and
// names that were not synced may be old or new.
//
// Nothing is synced in truth. Files that the directory held before are stable.
type PowerLoss struct {
	root string

	mu      sync.Mutex
	random  *rand.Rand
	left    int // steps until the power is lost, negative when never
	lost    bool
	names   map[string]*inode // as they read now
	renames []rename          // not yet synced, oldest first
}

var _ durable.FS = (*PowerLoss)(nil)

// inode is a file's content, under whatever name.
type inode struct {
	stable   []byte // as of the last sync
	versions [][]byte
}

// rename is a name that was given, or taken away, and whose directory was not
// synced since.
type rename struct {
	name     string
	from, to *inode // nil where there was no file, or is none
}

// NewPowerLoss is the disk that holds root, and loses its power at the step
// after the given number of them, never when that is negative.
func NewPowerLoss(root string, random *rand.Rand, steps int) (*PowerLoss, error) {
	d := &PowerLoss{root: filepath.Clean(root), random: random, left: steps, names: make(map[string]*inode)}
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(name) //nolint:gosec // a test's own directory
		d.names[name] = &inode{stable: b}
		return err
	})
	return d, err
}

// Cut loses the power now.
func (d *PowerLoss) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
}

// Restart cuts the power, if it is not lost yet, and leaves the directory as
// the disk is found afterwards. Whoever wrote to it must have stopped.
func (d *PowerLoss) Restart() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = true
	found := maps.Clone(d.names)
	for i := len(d.renames) - 1; i >= 0; i-- { // back to what is synced
		found[d.renames[i].name] = d.renames[i].from
	}
	for _, r := range d.renames {
		if d.random.IntN(2) == 0 {
			found[r.name] = r.to
		}
	}
	for name, file := range found {
		if file == nil {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := os.WriteFile(name, file.afterLoss(d.random), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// afterLoss is what the disk kept of a file.
func (f *inode) afterLoss(random *rand.Rand) []byte {
	states := append([][]byte{f.stable}, f.versions...)
	if len(states) == 1 {
		return f.stable
	}
	// The length is one the file had, or one it passed through while it grew.
	i := random.IntN(len(states))
	size := len(states[i])
	if i > 0 && random.IntN(3) == 0 {
		if before := len(states[i-1]); before < size {
			size = min(size, before+sectorSize*random.IntN((size-before)/sectorSize+1))
		}
	}
	out := make([]byte, size)
	luck := random.IntN(4) // from most sectors old to most sectors new
	for at := 0; at < size; at += sectorSize {
		from := states[0]
		if random.IntN(4) <= luck {
			from = states[1+random.IntN(len(states)-1)]
		}
		if at < len(from) {
			copy(out[at:min(at+sectorSize, size)], from[at:])
		}
	}
	return out
}

func (f *inode) now() []byte {
	if n := len(f.versions); n > 0 {
		return f.versions[n-1]
	}
	return f.stable
}

func (f *inode) change(content []byte) { f.versions = append(f.versions, content) }

func (f *inode) sync() { f.stable, f.versions = f.now(), nil }

// step takes one step, or loses the power at it: then the step took effect, but
// nothing of it is synced.
func (d *PowerLoss) step(op Op, name string, do, sync func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost {
		return fmt.Errorf("%s %s: %w", op, name, ErrPowerLost)
	}
	if !strings.HasPrefix(name, d.root) {
		return fmt.Errorf("%s %s: not on this disk", op, name)
	}
	d.lost = d.left == 0
	d.left--
	if err := do(); err != nil {
		return err
	}
	if d.lost {
		return fmt.Errorf("%s %s: %w", op, name, ErrPowerLost)
	}
	return sync()
}

func nothing() error { return nil }

// MkdirAll implements durable.FS. Directories are durable at once: a trail's
// are made when it is new, or beside files that can be made again.
func (d *PowerLoss) MkdirAll(dir string) error {
	return d.step("mkdir", dir, func() error { return os.MkdirAll(dir, 0o700) }, nothing)
}

// OpenFile implements durable.FS.
func (d *PowerLoss) OpenFile(name string) (durable.File, error) {
	var out *powerFile
	err := d.step("open", name, func() error {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		out = &powerFile{File: f, disk: d, inode: d.names[name]}
		if out.inode == nil {
			return errors.Join(fmt.Errorf("open %s: not written through this disk", name), f.Close())
		}
		return nil
	}, nothing)
	if err != nil {
		if out != nil && errors.Is(err, ErrPowerLost) {
			err = errors.Join(err, out.Close())
		}
		return nil, err
	}
	return out, nil
}

// WriteFile implements durable.FS.
func (d *PowerLoss) WriteFile(name string, data []byte) error {
	file := &inode{stable: slices.Clone(data)} // synced before it gets its name
	return d.step("writefile", name, func() error { return d.replace(name, data, file) }, func() error {
		d.syncDir(filepath.Dir(name))
		return nil
	})
}

// WriteFileLazy implements durable.FS.
func (d *PowerLoss) WriteFileLazy(name string, data []byte) error {
	file := &inode{versions: [][]byte{slices.Clone(data)}}
	return d.step("writelazy", name, func() error { return d.replace(name, data, file) }, nothing)
}

func (d *PowerLoss) replace(name string, data []byte, file *inode) error {
	if err := durable.OS.WriteFileLazy(name, data); err != nil {
		return err
	}
	d.rename(name, file)
	return nil
}

func (d *PowerLoss) rename(name string, to *inode) {
	d.renames = append(d.renames, rename{name: name, from: d.names[name], to: to})
	d.names[name] = to
}

func (d *PowerLoss) syncDir(dir string) {
	d.renames = slices.DeleteFunc(d.renames, func(r rename) bool { return filepath.Dir(r.name) == dir })
}

// SyncFile implements durable.FS.
func (d *PowerLoss) SyncFile(name string) error {
	return d.step("syncfile", name, nothing, func() error {
		file := d.names[name]
		if file == nil {
			return &fs.PathError{Op: "sync", Path: name, Err: fs.ErrNotExist}
		}
		file.sync()
		d.syncDir(filepath.Dir(name))
		return nil
	})
}

// SyncDir implements durable.FS.
func (d *PowerLoss) SyncDir(dir string) error {
	return d.step("syncdir", dir, nothing, func() error { d.syncDir(filepath.Clean(dir)); return nil })
}

// Remove implements durable.FS.
func (d *PowerLoss) Remove(name string) error {
	return d.step("remove", name, func() error {
		if d.names[name] == nil {
			return nil
		}
		d.rename(name, nil)
		return os.Remove(name)
	}, nothing)
}

// powerFile is an open file. It lives on after its name is gone.
type powerFile struct {
	*os.File
	disk  *PowerLoss
	inode *inode
}

func (f *powerFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.disk.step("write", f.Name(), func() (err error) {
		if n, err = f.File.WriteAt(p, off); err != nil {
			return err
		}
		content := f.inode.now()
		grown := make([]byte, max(len(content), int(off)+len(p)))
		copy(grown, content)
		copy(grown[off:], p)
		f.inode.change(grown)
		return nil
	}, nothing)
	return n, err
}

func (f *powerFile) Sync() error {
	return f.disk.step("sync", f.Name(), nothing, func() error { f.inode.sync(); return nil })
}

func (f *powerFile) Truncate(size int64) error {
	return f.disk.step("truncate", f.Name(), func() error {
		content := make([]byte, size)
		copy(content, f.inode.now())
		f.inode.change(content)
		return f.File.Truncate(size)
	}, nothing)
}

func (f *powerFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
