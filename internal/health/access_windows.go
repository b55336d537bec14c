package health

import (
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// readers names who, beside the owner, administrators and the system, the
// access list lets read name.
func readers(name string) ([]string, error) {
	if _, err := os.Stat(name); err != nil {
		return nil, err
	}
	sd, err := windows.GetNamedSecurityInfo(name, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION|windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return nil, &os.PathError{Op: "access list", Path: name, Err: err}
	}
	owner, _, err := sd.Owner()
	if err != nil {
		return nil, &os.PathError{Op: "owner", Path: name, Err: err}
	}
	acl, _, err := sd.DACL()
	if err != nil || acl == nil {
		return []string{"everybody (it has no access list)"}, nil //nolint:nilerr // no list lets everybody in
	}
	var who []string
	for i := range uint32(acl.AceCount) {
		var ace *windows.ACCESS_ALLOWED_ACE
		if err := windows.GetAce(acl, i, &ace); err != nil {
			return nil, &os.PathError{Op: "access list", Path: name, Err: err}
		}
		const inheritOnly = 0x8
		if ace.Header.AceType != windows.ACCESS_ALLOWED_ACE_TYPE || ace.Header.AceFlags&inheritOnly != 0 {
			continue
		}
		const reads = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.GENERIC_READ | windows.GENERIC_WRITE | windows.GENERIC_ALL | windows.WRITE_DAC | windows.WRITE_OWNER
		if ace.Mask&reads == 0 {
			continue
		}
		sid := (*windows.SID)(unsafe.Pointer(&ace.SidStart)) //nolint:gosec // where Windows puts it
		if trusted(sid, owner) {
			continue
		}
		who = append(who, accountName(sid))
	}
	return who, nil
}

// trusted tells whether an account may read everything anyway.
func trusted(sid, owner *windows.SID) bool {
	const ownerRights, creatorOwner = "S-1-3-4", "S-1-3-0"
	return sid.Equals(owner) || sid.IsWellKnown(windows.WinLocalSystemSid) || sid.IsWellKnown(windows.WinBuiltinAdministratorsSid) ||
		sid.String() == ownerRights || sid.String() == creatorOwner
}

func accountName(sid *windows.SID) string {
	account, domain, _, err := sid.LookupAccount("")
	if err != nil {
		return sid.String()
	}
	if domain == "" {
		return account
	}
	return domain + `\` + account
}
