package health

import (
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// makeFile makes a file with the access list of an SDDL string, in which ME is
// this user. Made with it, not given it afterwards: Wine only does the former.
func makeFile(t *testing.T, name, sddl string) string {
	t.Helper()
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	sd, err := windows.SecurityDescriptorFromString(strings.ReplaceAll(sddl, "ME", user.User.Sid.String()))
	if err != nil {
		t.Fatal(err)
	}
	name = filepath.Join(t.TempDir(), name)
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	sa := windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(sa))
	h, err := windows.CreateFile(path, windows.GENERIC_WRITE, 0, &sa, windows.CREATE_NEW, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := windows.CloseHandle(h); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestOthersThatCanReadAreNamed(t *testing.T) {
	mine := makeFile(t, "mine", "D:P(A;;FA;;;ME)(A;;FA;;;SY)")
	open := makeFile(t, "open", "D:P(A;;FA;;;ME)(A;;FA;;;SY)(A;;FR;;;WD)")
	want(t, Readers([]string{mine, mine + ".missing"}, mend), OK, "for the owner alone")
	want(t, Readers([]string{mine, open}, mend), Fail, open+" can be read by ")
}
