//go:build !windows

package logfile

import "os"

// openAppend opens a file at whose end every write lands, also beside other
// writers, and makes it for its owner alone.
func openAppend(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}
