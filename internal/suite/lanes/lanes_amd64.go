package lanes

import (
	"crypto/fips140"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// supported tells whether processor and operating system have what the kernel
// needs. The operating system must save the wide registers; package cpu asks it.
// In FIPS 140-3 mode SHA-256 is left to the validated module of crypto/sha256.
func (k *Kernel) supported() bool {
	switch k.id {
	case sm3AVX512Kernel:
		return cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW
	case sm3AVX2Kernel:
		return cpu.X86.HasAVX2
	case sha256NIKernel:
		return cpu.X86.HasAVX && hasSHA() && !fips140.Enabled()
	}
	return false
}

// hasSHA tells whether there are the instructions for SHA-256, which package cpu
// does not look for: leaf 7 of CPUID, EBX bit 29.
func hasSHA() bool {
	if largest, _ := cpuid(0, 0); largest < 7 {
		return false
	}
	_, ebx := cpuid(7, 0)
	return ebx>>29&1 == 1
}

// run executes the program's first steps.
func (k *Kernel) run(p *program, lines *byte, steps int) {
	switch k.id {
	case sm3AVX512Kernel:
		sm3AVX512(p, lines, steps)
	case sm3AVX2Kernel:
		sm3AVX2(p, lines, steps)
	case sha256NIKernel:
		sha256NI(p, lines, steps)
	}
}

//go:noescape
func sm3AVX512(p *program, lines *byte, steps int)

//go:noescape
func sm3AVX2(p *program, lines *byte, steps int)

//go:noescape
func sha256NI(p *program, lines *byte, steps int)

func cpuid(leaf, subleaf uint32) (eax, ebx uint32)

// The kernels address the fields of a program by these numbers, which gen has
// too: an array of another length does not compile.
var (
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.v)-0]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.w)-512]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.head)-1536]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.prefix)-1600]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.offset)-1664]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.reset)-5760]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.out)-7808]
	_ = [1]struct{}{}[unsafe.Offsetof(program{}.last)-lastOffset]
)
