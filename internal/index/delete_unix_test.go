//go:build !windows

package index

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

// deleteIndex deletes an index that is being kept, and may be made again
// meanwhile.
func deleteIndex(dir string) error {
	for {
		err := os.RemoveAll(filepath.Join(dir, Dir))
		if !errors.Is(err, syscall.ENOTEMPTY) {
			return err
		}
	}
}
