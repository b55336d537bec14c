package index

import (
	"errors"
	"os"
)

// deleteIndex deletes what it can of an index that is being kept: the lock's file
// is open, and stays.
func deleteIndex(dir string) error {
	names, err := sidecars(dir)
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
