package aead

import (
	"testing"

	"golang.org/x/sys/cpu"
)

// A kernel that disagrees with the library is not used, and would go unnoticed.
func TestGHASHIsUsedWhereItCanBe(t *testing.T) {
	if got, want := ghashWorks(), cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSSE3; got != want {
		t.Errorf("used: %t, and the processor can: %t", got, want)
	}
}
