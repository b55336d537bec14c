package index

import "os"

// deleteIndex deletes what it can of an index that is being kept: the lock's file
// is open, and stays.
func deleteIndex(dir string) error { return eachSidecar(os.Remove)(dir) }
