package lanes

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// Few machines that run these tests have AVX-512. So that kernel's machine code,
// as the linker left it in this binary, is run by an interpreter of the
// instructions that it uses: Intel's manual, volume 2, chapter 2.7 (the EVEX
// prefix) and the pages of the instructions.

func TestMachineCodeOfAVX512(t *testing.T) {
	k := kernels[0]
	if k.id != sm3AVX512Kernel {
		t.Fatal("the first kernel is not that of AVX-512")
	}
	code := kernelCode(t, sm3AVX512, "sm3AVX512")
	run := func(k *Kernel, p *program, lines []byte, steps int) { interpret(t, code, p, lines, steps) }
	random := rand.New(rand.NewPCG(17, 18))

	lines, _ := lined(random, 3000)
	for range 10 {
		p := randomProgram(random, k, len(lines))
		steps := 1 + random.IntN(6)
		want := *p
		model(k, &want, lines, steps)
		run(k, p, lines, steps)
		if p.out != want.out {
			t.Fatalf("after %d steps the chaining values are not the model's", steps)
		}
	}
	for name, lengths := range mixtures(random) {
		if name == "long" || name == "one long" || name == "same" || len(lengths) == 0 {
			continue
		}
		lines, ends := lined(random, lengths...)
		lines = lines[:len(lines)-1] // the last terminator need not be there
		if len(lines) == 0 {
			continue
		}
		compare(t, name, ends, emulated(k, 0, lines, ends, run), oneByOne(k, 0, lines, ends))
	}
}

// The interpreter is held to the processor where both can run the code: with
// AVX-512 at hand the same programs must leave the same memory.
func TestInterpreterIsLikeTheProcessor(t *testing.T) {
	k := kernels[0]
	code := kernelCode(t, sm3AVX512, "sm3AVX512")
	random := rand.New(rand.NewPCG(19, 20))
	lines, _ := lined(random, 3000)
	p := randomProgram(random, k, len(lines))
	before, other := *p, *p
	interpret(t, code, p, lines, 3)
	if k.supported() {
		k.run(&other, &lines[0], 3)
	} else {
		model(k, &other, lines, 3)
	}
	if p.out != other.out {
		t.Fatal("the chaining values differ")
	}
	// All the rest of the program is as it was, but for the kernel's own fields.
	p.out, p.v, p.w = before.out, before.v, before.w
	if *p != before {
		t.Fatal("the kernel wrote where it must not")
	}
}

// kernelCode is where the code of a kernel begins. What Go calls is a wrapper
// that puts the arguments onto the stack.
func kernelCode(t *testing.T, kernel any, name string) uintptr {
	t.Helper()
	wrapper := reflect.ValueOf(kernel).Pointer()
	for at := wrapper; at < wrapper+256; at++ {
		b := process(at, 5)
		if b[0] != 0xe8 { // CALL
			continue
		}
		target := at + 5 + uintptr(int32(binary.LittleEndian.Uint32(b[1:])))
		if f := runtime.FuncForPC(target); f != nil && f.Entry() == target && strings.HasSuffix(f.Name(), "lanes."+name) {
			return target
		}
	}
	t.Fatalf("%s: no call of it in its wrapper", name)
	return 0
}

// process is memory of this process that is neither heap nor stack.
func process(at uintptr, n int) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&at)), n)
}

// processor is one with what the kernel uses.
type processor struct {
	t       *testing.T
	ip      uintptr
	gp      [16]uint64
	vec     [32][16]uint32
	mask    [8]uint16
	zero    bool
	carry   bool
	regions []region
}

// region is memory that the code may use.
type region struct {
	at       uint64
	bytes    []byte
	writable bool
}

// Where the memory is, for the code. The gaps find what reads beyond an end.
const (
	programAt = 1 << 40
	linesAt   = 2<<40 + 1 // odd, as the lines of a frame may be
	stackAt   = 3 << 40
	returnTo  = 0x1234
)

func interpret(t *testing.T, code uintptr, p *program, lines []byte, steps int) {
	t.Helper()
	stack := make([]byte, 64)
	for i, v := range []uint64{returnTo, programAt, linesAt, uint64(steps)} {
		binary.LittleEndian.PutUint64(stack[16+8*i:], v)
	}
	c := processor{t: t, ip: code, regions: []region{
		{programAt, unsafe.Slice((*byte)(unsafe.Pointer(p)), unsafe.Sizeof(*p)), true},
		{linesAt, lines, false},
		{stackAt, stack, false},
	}}
	for i := range c.vec { // nothing may depend on what the registers held
		for j := range c.vec[i] {
			c.vec[i][j] = uint32(0xdead0000 + 16*i + j)
		}
	}
	c.gp[4] = stackAt + 16
	for range 4000 * steps {
		if c.step() {
			return
		}
	}
	t.Fatal("the kernel does not come to an end")
}

func (c *processor) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("machine code % x: %s", process(c.ip, 12), fmt.Sprintf(format, args...))
}

// memory is n bytes at an address: of a region, or, to read, of the constants
// that stand near the code.
func (c *processor) memory(at uint64, n int, write bool) []byte {
	for _, r := range c.regions {
		if at >= r.at && at+uint64(n) <= r.at+uint64(len(r.bytes)) && (r.writable || !write) {
			return r.bytes[at-r.at:][:n]
		}
	}
	if d := int64(at) - int64(c.ip); write || d < -1<<26 || d > 1<<26 {
		c.fail("%d bytes at %#x are none of its memory", n, at)
	}
	return process(uintptr(at), n)
}

// operand is what a ModRM byte and what follows it say: a register, or an address.
type operand struct {
	reg, rm  int
	isMemory bool
	address  uint64
	relative bool // to the next instruction
}

// modrm reads the operands at b, and how long they are. The extensions are bits 3
// and 4 of the numbers of registers; scale is what a displacement of one byte
// counts in.
func (c *processor) modrm(b []byte, regExt, rmExt, indexExt int, scale int64) (operand, int) {
	o := operand{reg: int(b[0]>>3&7) | regExt, rm: int(b[0]&7) | rmExt}
	mod, n := b[0]>>6, 1
	if mod == 3 {
		return o, n
	}
	o.isMemory = true
	o.rm &= 15
	switch {
	case b[0]&7 == 4: // SIB
		sib := b[1]
		n++
		if mod == 0 && sib&7 == 5 {
			c.fail("an address without a base")
		}
		o.address = c.gp[int(sib&7)|rmExt&8]
		if index := int(sib>>3&7) | indexExt&8; index != 4 {
			o.address += c.gp[index] << (sib >> 6)
		}
	case b[0]&7 == 5 && mod == 0:
		o.relative = true
		o.address = uint64(int64(int32(binary.LittleEndian.Uint32(b[n:]))))
		return o, n + 4
	default:
		o.address = c.gp[o.rm]
	}
	switch mod {
	case 1:
		o.address += uint64(int64(int8(b[n])) * scale)
		n++
	case 2:
		o.address += uint64(int64(int32(binary.LittleEndian.Uint32(b[n:]))))
		n += 4
	}
	return o, n
}

// step runs one instruction and tells whether it was the return.
func (c *processor) step() bool {
	b := process(c.ip, 16)
	switch {
	case b[0] == 0x62:
		c.evex(b)
	case b[0] == 0xc3:
		if got := binary.LittleEndian.Uint64(c.memory(c.gp[4], 8, false)); got != returnTo || c.gp[4] != stackAt+16 {
			c.fail("the stack is not as it was")
		}
		return true
	case b[0] == 0xc5 && b[1] == 0xf8 && b[2] == 0x77: // VZEROUPPER
		for i := range 16 {
			clear(c.vec[i][4:])
		}
		c.ip += 3
	case b[0] == 0x0f && b[1] == 0x85: // JNE
		c.ip += 6
		if !c.zero {
			c.ip += uintptr(int64(int32(binary.LittleEndian.Uint32(b[2:]))))
		}
	case b[0]&0xf8 == 0x48: // REX.W
		c.integer(b)
	default:
		c.fail("not one of the instructions known here")
	}
	return false
}

// integer runs an instruction on general registers of 64 bits.
func (c *processor) integer(b []byte) {
	ext := func(bit, to int) int { return int(b[0]) >> bit & 1 << to }
	op, n := int(b[1]), 2
	if op == 0x0f {
		op, n = 0x0f00|int(b[2]), 3
	}
	o, length := c.modrm(b[n:], ext(2, 3), ext(0, 3), ext(1, 3), 1)
	n += length
	immediate := func(size int) uint64 {
		at := n
		n += size
		if size == 1 {
			return uint64(int64(int8(b[at])))
		}
		return uint64(int64(int32(binary.LittleEndian.Uint32(b[at:]))))
	}
	registers := func() {
		if o.isMemory {
			c.fail("an operand in memory is not known here")
		}
	}
	switch {
	case op == 0x8b && o.isMemory && !o.relative: // MOV
		c.gp[o.reg] = binary.LittleEndian.Uint64(c.memory(o.address, 8, false))
	case op == 0x89: // MOV
		registers()
		c.gp[o.rm] = c.gp[o.reg]
	case op == 0x8d && o.relative: // LEA
		c.gp[o.reg] = uint64(c.ip) + uint64(n) + o.address
	case op == 0x31: // XOR
		registers()
		c.gp[o.rm] ^= c.gp[o.reg]
		c.zero, c.carry = c.gp[o.rm] == 0, false
	case op == 0x01: // ADD
		registers()
		var carry uint64
		c.gp[o.rm], carry = bits.Add64(c.gp[o.rm], c.gp[o.reg], 0)
		c.zero, c.carry = c.gp[o.rm] == 0, carry != 0
	case op == 0x39: // CMP
		registers()
		c.zero, c.carry = c.gp[o.rm] == c.gp[o.reg], c.gp[o.rm] < c.gp[o.reg]
	case (op == 0x83 || op == 0x81) && o.reg&7 == 0: // ADD
		registers()
		size := 4
		if op == 0x83 {
			size = 1
		}
		var carry uint64
		c.gp[o.rm], carry = bits.Add64(c.gp[o.rm], immediate(size), 0)
		c.zero, c.carry = c.gp[o.rm] == 0, carry != 0
	case op == 0xc1 && o.reg&7 == 4: // SHL
		registers()
		c.gp[o.rm] <<= immediate(1) & 63
		c.zero = c.gp[o.rm] == 0
	case op == 0x0fba && o.reg&7 == 6: // BTR
		registers()
		bit := immediate(1) & 63
		c.carry = c.gp[o.rm]>>bit&1 == 1
		c.gp[o.rm] &^= 1 << bit
	case op == 0x0f42: // CMOVB
		registers()
		if c.carry {
			c.gp[o.reg] = c.gp[o.rm]
		}
	default:
		c.fail("not one of the instructions known here")
	}
	c.ip += uintptr(n)
}

// evex runs a vector instruction.
func (c *processor) evex(b []byte) {
	p0, p1, p2, op := b[1], b[2], b[3], b[4]
	inverted := func(p byte, bit, to int) int { return int(^p) >> bit & 1 << to }
	table, pp, wide := p0&7, p1&3, p1>>7
	if p0&8 != 0 || p1&4 == 0 {
		c.fail("not an EVEX prefix")
	}
	width := 4 << (p2 >> 5 & 3) // in dwords
	broadcast := p2>>4&1 == 1
	source1 := int(^p1)>>3&15 | inverted(p2, 3, 4)
	id := int(table)<<16 | int(pp)<<12 | int(wide)<<8 | int(op)

	const ( // table, implied prefix (1: 66, 2: F3), W, opcode
		movdquLoad, movdquStore, movdqaStore           = 0x1206f, 0x1207f, 0x1107f
		unpackLow, unpackHigh, unpackLowQ, unpackHighQ = 0x11062, 0x1106a, 0x1116c, 0x1116d
		and, or, xor, add, rotate                      = 0x110db, 0x110eb, 0x110ef, 0x110fe, 0x11072
		shuffleBytes, shuffleBytesW1, test, broadcastD = 0x21000, 0x21100, 0x21027, 0x21058
		insert, ternary                                = 0x31038, 0x31025
	)
	scale := int64(4 * width)
	switch {
	case broadcast || id == broadcastD:
		scale = 4
	case id == insert:
		scale = 16
	}
	o, n := c.modrm(b[5:], inverted(p0, 7, 3)|inverted(p0, 4, 4), inverted(p0, 5, 3)|inverted(p0, 6, 4), inverted(p0, 6, 3), scale)
	n += 5
	immediate := byte(0)
	if id == rotate || id == insert || id == ternary {
		immediate = b[n]
		n++
	}
	if o.relative {
		o.address += uint64(c.ip) + uint64(n)
	}

	// The operand that may stand in memory.
	var last [16]uint32
	switch words := width; {
	case id == movdquStore || id == movdqaStore:
	case o.isMemory:
		if id == insert {
			words = 4
		}
		if broadcast || id == broadcastD {
			words = 1
		}
		m := c.memory(o.address, 4*words, false)
		for i := range width {
			last[i] = binary.LittleEndian.Uint32(m[4*i%len(m):])
		}
	case broadcast:
		c.fail("rounding is not known here")
	default:
		last = c.vec[o.rm]
	}

	first := c.vec[source1]
	var result [16]uint32
	target := o.reg
	each := func(f func(i int) uint32) {
		for i := range width {
			result[i] = f(i)
		}
	}
	quarter := func(i int) int { return i &^ 3 }
	switch id {
	case movdquLoad, broadcastD:
		result = last
	case movdquStore, movdqaStore:
		if p2&7 != 0 {
			c.fail("a masked store is not known here")
		}
		if !o.isMemory {
			target, result = o.rm, c.vec[o.reg]
			break
		}
		m := c.memory(o.address, 4*width, true)
		for i := range width {
			binary.LittleEndian.PutUint32(m[4*i:], c.vec[o.reg][i])
		}
		c.ip += uintptr(n)
		return
	case unpackLow, unpackHigh:
		each(func(i int) uint32 {
			from := quarter(i) + i%4/2
			if id == unpackHigh {
				from += 2
			}
			if i%2 == 0 {
				return first[from]
			}
			return last[from]
		})
	case unpackLowQ, unpackHighQ:
		each(func(i int) uint32 {
			from := quarter(i) + i%2
			if id == unpackHighQ {
				from += 2
			}
			if i%4 < 2 {
				return first[from]
			}
			return last[from]
		})
	case and:
		each(func(i int) uint32 { return first[i] & last[i] })
	case or:
		each(func(i int) uint32 { return first[i] | last[i] })
	case xor:
		each(func(i int) uint32 { return first[i] ^ last[i] })
	case add:
		each(func(i int) uint32 { return first[i] + last[i] })
	case rotate:
		if o.reg&7 != 1 { // /1 is VPROLD
			c.fail("not one of the instructions known here")
		}
		target = source1
		each(func(i int) uint32 { return bits.RotateLeft32(last[i], int(immediate&31)) })
	case shuffleBytes, shuffleBytesW1:
		each(func(i int) uint32 {
			var w uint32
			for j := range 4 {
				control := byte(last[i] >> (8 * j))
				if control&0x80 == 0 {
					from := control & 15
					w |= first[quarter(i)+int(from/4)] >> (8 * (from % 4)) & 0xff << (8 * j)
				}
			}
			return w
		})
	case insert:
		result = first
		copy(result[4*(immediate&3):][:4], last[:4])
	case ternary:
		old := c.vec[o.reg]
		each(func(i int) uint32 {
			var w uint32
			for bit := range 32 {
				at := old[i]>>bit&1<<2 | first[i]>>bit&1<<1 | last[i]>>bit&1
				w |= uint32(immediate) >> at & 1 << bit
			}
			return w
		})
	case test:
		var mask uint16
		for i := range width {
			if first[i]&last[i] != 0 {
				mask |= 1 << i
			}
		}
		c.mask[o.reg&7] = mask
		c.ip += uintptr(n)
		return
	default:
		c.fail("not one of the instructions known here")
	}

	if k := p2 & 7; k != 0 { // what the mask leaves out stays, or with z becomes 0
		for i := range width {
			if c.mask[k]>>i&1 == 0 {
				result[i] = c.vec[target][i]
				if p2>>7 == 1 {
					result[i] = 0
				}
			}
		}
	}
	clear(result[width:])
	c.vec[target] = result
	c.ip += uintptr(n)
}
