//go:build !windows

package health

import "os"

// readers names who, beside the owner, the mode lets read or change name.
func readers(name string) ([]string, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	var who []string
	if st.Mode().Perm()&0o070 != 0 {
		who = append(who, "its group")
	}
	if st.Mode().Perm()&0o007 != 0 {
		who = append(who, "everybody")
	}
	return who, nil
}
