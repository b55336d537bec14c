package lanes

import (
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
)

// Beside the lines there may be no memory at all: a segment that is mapped, say.
func TestLinesAtTheEdgesOfMemory(t *testing.T) {
	page := os.Getpagesize()
	mapped, err := syscall.Mmap(-1, 0, 4*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for _, guard := range [][]byte{mapped[:page], mapped[3*page:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	between := mapped[page : 3*page]
	random := rand.New(rand.NewPCG(21, 22))
	for _, k := range supported() {
		for length := range 140 {
			source, ends := lined(random, length, random.IntN(300), length, random.IntN(300), length)
			source = source[:len(source)-1] // no terminator behind the last line
			for _, lines := range [][]byte{between[:len(source)], between[len(between)-len(source):]} {
				copy(lines, source)
				got := make([][Size]byte, len(ends))
				k.Lines(got, 0, lines, ends)
				compare(t, k.name, ends, got, oneByOne(k, 0, lines, ends))
			}
		}
	}
	if err := syscall.Munmap(mapped); err != nil {
		t.Fatal(err)
	}
}
