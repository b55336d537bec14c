//go:build !linux

package wine

import (
	"fmt"
	"os"
	"testing"
)

func runTests(*testing.M) int {
	fmt.Fprintln(os.Stderr, "the tests of this directory run on Linux and call Wine: ./test/run wine")
	return 1
}
