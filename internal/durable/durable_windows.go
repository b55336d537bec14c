package durable

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

func syncData(f *os.File) error { return f.Sync() } // FlushFileBuffers

// syncDir has nothing to do, because a directory handle cannot be flushed
// without admin rights and need not be. NTFS logs the change of a name in one
// sequential log. A rename can be written through (see rename), and flushing a file
// writes the log up to that file's last change, its creation included.
func syncDir(string) error { return nil }

// rename replaces to by from. A reader that came by Open is not in its way
// where the file system knows the semantics of POSIX (NTFS since Windows 10
// 1607); anybody else who has either file open, such as a virus scanner, is
// waited for. When it is written through, the new name is durable on return.
func rename(from, to string, through bool) error {
	fromPath, toPath, err := utf16Paths(from, to)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	how := uint32(windows.MOVEFILE_REPLACE_EXISTING)
	if through {
		how |= windows.MOVEFILE_WRITE_THROUGH
	}
	err = patiently(patience, func() error {
		err := windows.MoveFileEx(fromPath, toPath, how)
		switch {
		case !inUse(err):
			return err
		case isDir(to):
			return windows.ERROR_ALREADY_EXISTS // which Windows, too, calls a denied access
		case renamePOSIX(fromPath, to, through) == nil:
			return nil
		}
		return err
	})
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// renamePOSIX takes the name away from a file that others have open; they keep
// reading the old one.
func renamePOSIX(from *uint16, to string, through bool) error {
	flags := uint32(windows.FILE_FLAG_OPEN_REPARSE_POINT)
	if through {
		flags |= windows.FILE_FLAG_WRITE_THROUGH // what MOVEFILE_WRITE_THROUGH does
	}
	h, err := windows.CreateFile(from, windows.DELETE|windows.SYNCHRONIZE, shareAll, nil, windows.OPEN_EXISTING, flags, 0)
	if err != nil {
		return err
	}
	err = setName(h, to)
	return errors.Join(err, windows.CloseHandle(h))
}

// fileRenameInfo is FILE_RENAME_INFO; the name follows, in place of its first
// character.
type fileRenameInfo struct {
	flags      uint32
	root       windows.Handle
	nameLength uint32
	name       [1]uint16
}

func setName(h windows.Handle, to string) error {
	abs, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	name, err := windows.UTF16FromString(verbatim(abs))
	if err != nil {
		return err
	}
	buf := make([]uint64, (unsafe.Sizeof(fileRenameInfo{})+uintptr(len(name))*2)/8+1) // aligned for the handle in it
	info := (*fileRenameInfo)(unsafe.Pointer(&buf[0]))                                //nolint:gosec // G103: buf is longer, and aligned
	info.flags = windows.FILE_RENAME_REPLACE_IF_EXISTS | windows.FILE_RENAME_POSIX_SEMANTICS
	info.nameLength = uint32(len(name)-1) * 2
	copy(unsafe.Slice(&info.name[0], len(name)), name)                                                                           //nolint:gosec // G103: buf was made for it
	return windows.SetFileInformationByHandle(h, windows.FileRenameInfoEx, (*byte)(unsafe.Pointer(&buf[0])), uint32(len(buf)*8)) //nolint:gosec // G103: as the call takes it
}

func remove(name string) error { return patiently(patience, func() error { return os.Remove(name) }) }

// patience is how long a file that somebody else has open is waited for, such
// as a virus scanner that looks at each new one. To a reader an access that is
// denied may be a file on its way out, for a moment; mostly it is denied.
const (
	patience       = 5 * time.Second
	readerPatience = 200 * time.Millisecond
)

// patiently calls do until nobody is in its way or patience ends, after pauses
// that grow.
func patiently(patience time.Duration, do func() error) error {
	const shortest, longest = time.Millisecond, 10 * time.Millisecond
	started := time.Now()
	for pause := shortest; ; pause = min(2*pause, longest) {
		err := do()
		if !inUse(err) || time.Since(started) > patience {
			return err
		}
		<-time.After(pause)
	}
}

func inUse(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED) ||
		errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_USER_MAPPED_FILE)
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE

// Open opens a file for reading that a writer may replace or remove meanwhile:
// what was opened stays readable, and the writer does not notice. (os.Open does
// not share the right to delete.)
func Open(name string) (*os.File, error) {
	var f *os.File
	err := patiently(readerPatience, func() (err error) {
		f, err = open(name, windows.GENERIC_READ, windows.OPEN_EXISTING, nil)
		return err
	})
	return f, err
}

func openOrCreate(name string) (*os.File, error) {
	return create(name, windows.OPEN_ALWAYS)
}

func createTemp(dir, pattern string) (*os.File, error) {
	before, after, _ := strings.Cut(pattern, "*")
	return create(filepath.Join(dir, before+rand.Text()+after), windows.CREATE_NEW)
}

func create(name string, disposition uint32) (*os.File, error) {
	sa, err := ownerOnly()
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	return open(name, windows.GENERIC_READ|windows.GENERIC_WRITE, disposition, sa)
}

func open(name string, access, disposition uint32, sa *windows.SecurityAttributes) (*os.File, error) {
	path, err := utf16Path(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	h, err := windows.CreateFile(path, access, shareAll, sa, disposition, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}

func mkdir(dir string) error {
	sa, err := ownerOnly()
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	path, err := utf16Path(dir)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	if err := windows.CreateDirectory(path, sa); err != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
	}
	return nil
}

// utf16Path is name as system calls take it. Windows before 10, and programs
// that are not marked for it, refuse names of more than 260 characters (248
// for a directory) unless they are absolute, in normal form and begin with \\?\.
func utf16Path(name string) (*uint16, error) {
	long, err := longPath(name)
	if err != nil {
		return nil, err
	}
	return windows.UTF16PtrFromString(long)
}

func utf16Paths(a, b string) (*uint16, *uint16, error) {
	first, err := utf16Path(a)
	if err != nil {
		return nil, nil, err
	}
	second, err := utf16Path(b)
	return first, second, err
}

func longPath(name string) (string, error) {
	const shortest = 240 // as an absolute path; below, the name is taken as it is
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	if len(abs) < shortest {
		return name, nil
	}
	return verbatim(abs), nil
}

// verbatim is an absolute path in the form that Windows takes literally.
func verbatim(abs string) string {
	switch {
	case strings.HasPrefix(abs, `\\?\`), strings.HasPrefix(abs, `\\.\`), strings.HasPrefix(abs, `\??\`):
		return abs
	case strings.HasPrefix(abs, `\\`):
		return `\\?\UNC` + abs[1:]
	}
	return `\\?\` + abs
}

// ownerOnly gives everything to this user and to the system, to nobody else, and
// lets nothing be inherited from above (P). It is in effect from the file's
// first moment. What the system itself makes belongs to the administrators.
var ownerOnly = sync.OnceValues(func() (*windows.SecurityAttributes, error) {
	user, err := currentUser()
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString(ownerOnlyList(user))
	if err != nil {
		return nil, err
	}
	return &windows.SecurityAttributes{Length: uint32(unsafe.Sizeof(windows.SecurityAttributes{})), SecurityDescriptor: sd}, nil
})

func ownerOnlyList(user *windows.SID) string {
	second := "SY"
	if user.IsWellKnown(windows.WinLocalSystemSid) {
		second = "BA"
	}
	return "D:P(A;OICI;FA;;;" + user.String() + ")(A;OICI;FA;;;" + second + ")"
}

var currentUser = sync.OnceValues(func() (*windows.SID, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	return user.User.Sid.Copy()
})

// OthersCanRead tells whether anybody but the owner, the system and
// administrators has a right to name.
func OthersCanRead(name string) (bool, error) {
	if _, err := os.Stat(name); err != nil {
		return false, err
	}
	long, err := longPath(name)
	if err != nil {
		return false, err
	}
	sd, err := windows.GetNamedSecurityInfo(long, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return false, &fs.PathError{Op: "reading the access list", Path: name, Err: err}
	}
	others, err := grantsOthers(sd)
	if err != nil {
		return false, &fs.PathError{Op: "reading the access list", Path: name, Err: err}
	}
	return others, nil
}

// harmless are the rights to see that a file is there, not what is in it.
const harmless = windows.SYNCHRONIZE | windows.READ_CONTROL | windows.FILE_READ_ATTRIBUTES | windows.FILE_READ_EA

func grantsOthers(sd *windows.SECURITY_DESCRIPTOR) (bool, error) {
	dacl, _, err := sd.DACL()
	if errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) || err == nil && dacl == nil {
		return true, nil // no list: everything to everybody
	}
	if err != nil {
		return false, err
	}
	user, err := currentUser()
	if err != nil {
		return false, err
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return false, err
	}
	for i := range uint32(dacl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(dacl, i, &ace); err != nil {
			return false, err
		}
		switch ace.Header.AceType {
		case windows.ACCESS_DENIED_ACE_TYPE:
			continue
		case windows.ACCESS_ALLOWED_ACE_TYPE:
		default:
			return true, nil // of a kind that this does not know: not for the owner alone
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)) //nolint:gosec // G103: where an entry's SID begins
		trusted := sid.Equals(user) || owner != nil && sid.Equals(owner) || sid.IsWellKnown(windows.WinLocalSystemSid) ||
			sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) || sid.IsWellKnown(windows.WinCreatorOwnerSid) ||
			sid.IsWellKnown(windows.WinCreatorOwnerRightsSid)
		if !trusted && ace.Mask&^harmless != 0 {
			return true, nil
		}
	}
	return false, nil
}

// lockFile locks one byte far past the content, because on Windows a locked
// range cannot be read by others, and the content names the owner.
func lockFile(f *os.File) error {
	at := &windows.Overlapped{OffsetHigh: 0x7fffffff}
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// FreeBytes is the space this user may still fill on dir's volume.
func FreeBytes(dir string) (uint64, error) {
	p, err := utf16Path(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return free, err
}

// RestrictCommand is what a person types to have name for its owner alone.
func RestrictCommand(name string) string {
	all := "F"
	if isDir(name) {
		all = "(OI)(CI)F"
	}
	// By number: the names of the system and of the administrators are translated.
	return `icacls "` + name + `" /inheritance:r /grant:r "%USERNAME%:` + all + `" *S-1-5-18:` + all + ` *S-1-5-32-544:` + all
}
