package logfile

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// ownerOnly gives a file that is made to this user and the system, whatever
// the directory would pass on to it.
func ownerOnly() (*windows.SECURITY_DESCRIPTOR, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	return windows.SecurityDescriptorFromString("D:P(A;;FA;;;" + user.User.Sid.String() + ")(A;;FA;;;SY)")
}

// openAppend opens a file at whose end every write lands. Others may read it,
// and rename it away under us: a program that ships logs does.
func openAppend(name string) (*os.File, error) {
	sd, err := ownerOnly()
	if err != nil {
		return nil, err
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	sa := windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(sa))
	// Without FILE_WRITE_DATA: it would let writes land where the file pointer
	// is. So the beginning of a line that did not fit cannot be taken back; the
	// next line begins with a newline then.
	h, err := windows.CreateFile(path, windows.FILE_APPEND_DATA|windows.FILE_READ_ATTRIBUTES|windows.SYNCHRONIZE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE, &sa, windows.OPEN_ALWAYS, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(h), name), nil
}
