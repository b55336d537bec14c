package main

import (
	"math/bits"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sm3IV is the initial value of GB/T 32905-2016, 4.1.
var sm3IV = []uint32{
	0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e,
}

// sm3K are the constants of 4.2, rotated by the number of the round as step 1
// of the compression function uses them.
func sm3K() []uint32 {
	k := make([]uint32, 64)
	for j := range k {
		t := uint32(0x79cc4519)
		if j >= 16 {
			t = 0x7a879d8a
		}
		k[j] = bits.RotateLeft32(t, j%32)
	}
	return k
}

// The shuffles within a 128-bit half: bytes of each word reversed, and each
// word rotated left by 8 bits.
var (
	swapBytes = []uint32{0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f}
	rotate8   = []uint32{0x02010003, 0x06050407, 0x0a09080b, 0x0e0d0c0f}
)

func at(m operand.Mem, offset int) operand.Mem { return m.Offset(offset) }

// params loads the arguments of a kernel and returns the label of the loop's
// head. The index goes up by 4 bytes a lane and step: it indexes the resets
// as it is, the offsets twice over, the outputs eight times over.
type params struct {
	program, lines, index, end reg.GPPhysical
}

func (p params) load(c *build.Context, lanes int) {
	c.Load(c.Param("p"), p.program)
	c.Load(c.Param("lines"), p.lines)
	c.Load(c.Param("steps"), p.end)
	c.SHLQ(operand.U8(uint8(bits.TrailingZeros(uint(4*lanes)))), p.end)
	c.XORQ(p.index, p.index)
}

func (p params) field(offset int) operand.Mem {
	return operand.Mem{Base: p.program, Disp: offset}
}

func (p params) offset(lane int) operand.Mem {
	return operand.Mem{Base: p.program, Disp: fieldOffset + 8*lane, Index: p.index, Scale: 2}
}

func (p params) reset(lane int) operand.Mem {
	return operand.Mem{Base: p.program, Disp: fieldReset + 4*lane, Index: p.index, Scale: 1}
}

func (p params) out(bytes int) operand.Mem {
	return operand.Mem{Base: p.program, Disp: fieldOut + bytes, Index: p.index, Scale: 8}
}

// address puts the address of a lane's block into r: an offset from lines, or,
// when its top bit is set, from the program.
func (p params) address(c *build.Context, lane int, r, tmp reg.GPPhysical) {
	c.MOVQ(p.offset(lane), r)
	c.MOVQ(p.lines, tmp)
	c.BTRQ(operand.U8(63), r)
	c.CMOVQCS(p.program, tmp)
	c.ADDQ(tmp, r)
}

func (p params) loop(c *build.Context, lanes int) {
	c.ADDQ(operand.U32(uint32(4*lanes)), p.index)
	c.CMPQ(p.index, p.end)
	c.JNE(operand.LabelRef("step"))
}

// table is the constants of the rounds, size bytes each.
type table struct {
	operand.Mem
	size int
}

// unroll writes the 64 rounds: the first 16 straight, the others as a loop of 16,
// in which the registers and the places of the schedule come round. Unrolled to
// the end the code does not fit the processor's cache of decoded instructions, and
// takes half as long again.
func unroll(c *build.Context, k table, rounds func(from int, constant func(j int) operand.Mem)) {
	at, end := reg.RAX, reg.RCX
	rounds(0, func(j int) operand.Mem { return k.Offset(k.size * j) })
	c.LEAQ(k.Offset(k.size*16), at)
	c.LEAQ(k.Offset(k.size*64), end)
	c.Label("rounds")
	rounds(16, func(j int) operand.Mem { return operand.Mem{Base: at, Disp: k.size * (j - 16)} })
	c.ADDQ(operand.U32(uint32(k.size*16)), at)
	c.CMPQ(at, end)
	c.JNE(operand.LabelRef("rounds"))
}

func emitOr(c *build.Context, a, b operand.Op, dst reg.VecPhysical)  { c.VPOR(a, b, dst) }
func emitAnd(c *build.Context, a, b operand.Op, dst reg.VecPhysical) { c.VPAND(a, b, dst) }
func emitXor(c *build.Context, a, b operand.Op, dst reg.VecPhysical) { c.VPXOR(a, b, dst) }
func emitAdd(c *build.Context, a, b operand.Op, dst reg.VecPhysical) { c.VPADDD(a, b, dst) }

// ahead is how many rounds before its first use a word of the schedule is made:
// round j takes W[j+4].
const ahead = 5

// sm3AVX2 runs eight lanes, one a dword of a register.
//
// Without a rotate instruction a rotation is two shifts and an OR, and shifts
// are what the kernel is short of. So where rotations differ by 8 bits, the
// second is a byte shuffle of the first: P0(x) = x ^ (x ^ x<<<8)<<<9, P1(x) =
// x ^ (x ^ x<<<8)<<<15, and W[j]<<<15 = (W[j]<<<7)<<<8, for which the words
// rotated by 7 are kept beside the words.
func sm3AVX2(c *build.Context) {
	const lanes = 8
	k := table{words(c, "sm3K8", lanes, sm3K()), 4 * lanes}
	iv := words(c, "sm3IV8", 1, sm3IV)
	swap := words(c, "swapBytes8", 1, append(swapBytes, swapBytes...))
	rot8 := words(c, "rotate8x8", 1, append(rotate8, rotate8...))
	top := words(c, "topByte8", lanes, []uint32{0xff000000})

	function(c, "sm3AVX2", "sm3AVX2 runs the program's steps through eight lanes of SM3.")
	p := params{program: reg.RDI, lines: reg.RSI, index: reg.RBX, end: reg.R14}
	p.load(c, lanes)
	c.Label("step")

	// Where the lanes' blocks are.
	address := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.RCX, reg.RDX}
	for lane, r := range address {
		p.address(c, lane, r, reg.RAX)
	}

	y := []reg.VecPhysical{
		reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
		reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
	}
	x := []reg.VecPhysical{reg.X0, reg.X1, reg.X2, reg.X3}
	w := func(j int) operand.Mem { return p.field(fieldW + 32*(j%16)) }
	// rot(j) is W[j] rotated left by 7.
	rot := func(j int) operand.Mem { return p.field(fieldW + 512 + 32*(j%16)) }
	rotl := func(n uint8, src, dst, tmp reg.VecPhysical) {
		c.VPSLLD(operand.U8(n), src, tmp)
		c.VPSRLD(operand.U8(32-n), src, dst)
		c.VPOR(tmp, dst, dst)
	}

	reset, shuffle := y[15], y[14]
	c.VMOVDQU(p.reset(0), reset)
	c.VMOVDQU(swap, shuffle)
	// The blocks, four words of all lanes at a time, transposed.
	for chunk := range 4 {
		for i := range 4 {
			c.VMOVDQU(operand.Mem{Base: address[i], Disp: 16 * chunk}, x[i])
			c.VINSERTI128(operand.U8(1), operand.Mem{Base: address[i+4], Disp: 16 * chunk}, y[i], y[i])
			c.VPSHUFB(shuffle, y[i], y[i])
		}
		c.VPUNPCKLDQ(y[1], y[0], y[4])
		c.VPUNPCKHDQ(y[1], y[0], y[5])
		c.VPUNPCKLDQ(y[3], y[2], y[6])
		c.VPUNPCKHDQ(y[3], y[2], y[7])
		c.VPUNPCKLQDQ(y[6], y[4], y[8])
		c.VPUNPCKHQDQ(y[6], y[4], y[9])
		c.VPUNPCKLQDQ(y[7], y[5], y[10])
		c.VPUNPCKHQDQ(y[7], y[5], y[11])
		if chunk == 0 {
			// A message that begins here has the prefix as its first byte, whatever stands there.
			c.VPAND(top, reset, y[12])
			c.VPANDN(y[8], y[12], y[8])
			c.VPBROADCASTD(p.field(fieldPrefix), y[13])
			c.VPAND(y[12], y[13], y[13])
			c.VPOR(y[13], y[8], y[8])
		}
		for i := range 4 {
			j := 4*chunk + i
			c.VMOVDQU(y[8+i], w(j))
			if j >= 3 {
				rotl(7, y[8+i], y[12], y[13])
				c.VMOVDQU(y[12], rot(j))
			}
		}
	}
	// The chaining value: what the last step left, or the initial value.
	for i := range 8 {
		c.VMOVDQU(p.out(32*i), y[i])
		c.VPBROADCASTD(at(iv, 4*i), y[8])
		c.VPBLENDVB(reset, y[8], y[i], y[i])
		c.VMOVDQU(y[i], p.field(fieldV+32*i))
	}
	mask := y[15]
	c.VMOVDQU(rot8, mask)

	unroll(c, k, func(from int, constant func(j int) operand.Mem) {
		code := newCode(8)
		s := [8]value{0, 1, 2, 3, 4, 5, 6, 7}
		left := func(n uint8, a value) value {
			return code.unary(true, func(c *build.Context, a operand.Op, dst reg.VecPhysical) { c.VPSLLD(operand.U8(n), a, dst) }, a)
		}
		right := func(n uint8, a value) value {
			return code.unary(true, func(c *build.Context, a operand.Op, dst reg.VecPhysical) { c.VPSRLD(operand.U8(n), a, dst) }, a)
		}
		byte8 := func(a value) value {
			return code.unary(true, func(c *build.Context, a operand.Op, dst reg.VecPhysical) { c.VPSHUFB(mask, a, dst) }, a)
		}
		or := func(a, b value) value { return code.binary(emitOr, a, b) }
		and := func(a, b value) value { return code.binary(emitAnd, a, b) }
		xor := func(a, b value) value { return code.binary(emitXor, a, b) }
		plus := func(a, b value) value { return code.binary(emitAdd, a, b) }
		rotl := func(n uint8, a value) value { return or(left(n, a), right(32-n, a)) }
		word := func(j int) (operand.Mem, int) { return w(j), j % 16 }
		rotated := func(j int) (operand.Mem, int) { return rot(j), 16 + j%16 }

		for j := from; j < from+16; j++ {
			A, B, C, D, E, F, G, H := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
			if i := j + ahead; i >= 16 { // W[i] in the place of W[i-16], and what later words need of it
				x := code.load(word(i - 16))
				m, place := word(i - 9)
				x = code.withMemory(emitXor, m, place, x)
				x = xor(x, byte8(code.load(rotated(i-3))))
				r15 := rotl(15, x)
				m, place = rotated(i - 13)
				x = code.withMemory(emitXor, m, place, x)
				m, place = word(i - 6)
				x = code.withMemory(emitXor, m, place, x)
				x = xor(xor(x, r15), byte8(r15)) // P1
				m, place = word(i)
				code.store(x, m, place)
				m, place = rotated(i)
				code.store(rotl(7, x), m, place)
			}
			m, place := word(j)
			H = code.withMemory(emitAdd, m, place, H)
			x := code.load(m, place)
			m, place = word(j + 4)
			D = plus(D, code.withMemory(emitXor, m, place, x))
			a12 := rotl(12, A)
			ss1 := rotl(7, plus(code.withMemory(emitAdd, constant(j), -1, a12), E))
			ss2 := xor(ss1, a12)
			if j < 16 {
				D = plus(D, xor(xor(A, B), C))
				H = plus(H, xor(xor(F, G), E))
			} else {
				D = plus(D, or(and(or(A, B), C), and(A, B)))
				H = plus(H, xor(and(xor(F, G), E), G))
			}
			D = plus(D, ss2) // TT1
			H = plus(H, ss1) // TT2
			B, F = rotl(9, B), rotl(19, F)
			r9 := rotl(9, H)
			H = xor(xor(H, r9), byte8(r9)) // P0(TT2)
			s = [8]value{D, A, B, C, H, E, F, G}
		}
		code.emit(c, y[:8], s[:], y[:8], y[8:15])
	})
	for i := range 8 {
		c.VPXOR(p.field(fieldV+32*i), y[i], y[i])
		c.VMOVDQU(y[i], p.out(32*lanes+32*i))
	}
	p.loop(c, lanes)
	c.VZEROUPPER()
	c.RET()
}

// sm3AVX512 runs sixteen lanes. It has a rotate instruction, one for any
// function of three operands, and registers enough for the whole schedule.
func sm3AVX512(c *build.Context) {
	const lanes = 16
	const (
		xor3 = 0x96 // a ^ b ^ c
		maj  = 0xe8 // a&b | a&c | b&c
		ch   = 0xca // a&b | ^a&c, where a is what the destination was
	)
	k := table{words(c, "sm3K16", 1, sm3K()), 4}
	iv := words(c, "sm3IV16", 1, sm3IV)
	swap := words(c, "swapBytes16", 1, append(append(append(swapBytes, swapBytes...), swapBytes...), swapBytes...))
	body := words(c, "notTopByte16", 1, []uint32{0x00ffffff})

	function(c, "sm3AVX512", "sm3AVX512 runs the program's steps through sixteen lanes of SM3.")
	p := params{program: reg.RDI, lines: reg.RSI, index: reg.RBX, end: reg.R14}
	p.load(c, lanes)
	c.Label("step")

	z := []reg.VecPhysical{
		reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
		reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
		reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
	}
	low := []reg.VecPhysical{ // the low 128 bits of z[16:]
		reg.X16, reg.X17, reg.X18, reg.X19, reg.X20, reg.X21, reg.X22, reg.X23,
		reg.X24, reg.X25, reg.X26, reg.X27, reg.X28, reg.X29, reg.X30, reg.X31,
	}
	// The state is in z[0:8], the schedule in w, the rest is z[8:16].
	w := z[16:32]
	t := z[8:16]

	// The blocks, four lanes at a time; each register takes four words of them.
	address := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}
	for i := range 4 {
		for n, r := range address {
			p.address(c, i+4*n, r, reg.RAX)
		}
		for chunk := range 4 {
			c.VMOVDQU32(operand.Mem{Base: address[0], Disp: 16 * chunk}, low[4*chunk+i])
			for n := 1; n < 4; n++ {
				c.VINSERTI32X4(operand.U8(uint8(n)), operand.Mem{Base: address[n], Disp: 16 * chunk}, w[4*chunk+i], w[4*chunk+i])
			}
		}
	}
	c.VMOVDQU32(swap, t[4])
	for chunk := range 4 {
		b := w[4*chunk : 4*chunk+4]
		c.VPUNPCKLDQ(b[1], b[0], t[0])
		c.VPUNPCKHDQ(b[1], b[0], t[1])
		c.VPUNPCKLDQ(b[3], b[2], t[2])
		c.VPUNPCKHDQ(b[3], b[2], t[3])
		c.VPUNPCKLQDQ(t[2], t[0], b[0])
		c.VPUNPCKHQDQ(t[2], t[0], b[1])
		c.VPUNPCKLQDQ(t[3], t[1], b[2])
		c.VPUNPCKHQDQ(t[3], t[1], b[3])
		for i := range 4 {
			c.VPSHUFB(t[4], b[i], b[i])
		}
	}
	// A message that begins here has the prefix as its first byte, whatever stands there.
	begins := reg.K1
	c.VMOVDQU32(p.reset(0), t[0])
	c.VPTESTMD(t[0], t[0], begins)
	c.VPANDD_BCST(body, w[0], begins, w[0])
	c.VPORD_BCST(p.field(fieldPrefix), w[0], begins, w[0])
	// The chaining value: what the last step left, or the initial value.
	for i := range 8 {
		c.VMOVDQU32(p.out(64*i), z[i])
		c.VPBROADCASTD(at(iv, 4*i), begins, z[i])
		c.VMOVDQU32(z[i], p.field(fieldV+64*i))
	}

	s := [8]reg.VecPhysical(z[:8])
	unroll(c, k, func(from int, constant func(j int) operand.Mem) {
		for j := from; j < from+16; j++ {
			A, B, C, D, E, F, G, H := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
			this, fourth := w[j%16], w[(j+4)%16]
			if i := j + 4; i >= 16 { // W[i] in the place of W[i-16]
				c.VPROLD(operand.U8(15), w[(i-3)%16], t[0])
				c.VPTERNLOGD(operand.U8(xor3), w[(i-9)%16], t[0], fourth)
				c.VPROLD(operand.U8(15), fourth, t[0])
				c.VPROLD(operand.U8(23), fourth, t[1])
				c.VPTERNLOGD(operand.U8(xor3), t[1], t[0], fourth) // P1
				c.VPROLD(operand.U8(7), w[(i-13)%16], t[2])
				c.VPTERNLOGD(operand.U8(xor3), w[(i-6)%16], t[2], fourth)
			}
			c.VPADDD(this, H, H)
			c.VPXORD(fourth, this, t[0])
			c.VPADDD(t[0], D, D)
			c.VPROLD(operand.U8(12), A, t[1])
			c.VPADDD_BCST(constant(j), t[1], t[2])
			c.VPADDD(E, t[2], t[2])
			c.VPROLD(operand.U8(7), t[2], t[2]) // SS1
			c.VPXORD(t[2], t[1], t[1])          // SS2
			c.VMOVDQA32(A, t[3])
			c.VMOVDQA32(E, t[4])
			ff, gg := uint8(xor3), uint8(xor3)
			if j >= 16 {
				ff, gg = maj, ch
			}
			c.VPTERNLOGD(operand.U8(ff), C, B, t[3])
			c.VPTERNLOGD(operand.U8(gg), G, F, t[4])
			c.VPADDD(t[3], D, D)
			c.VPADDD(t[1], D, D) // TT1
			c.VPADDD(t[4], H, H)
			c.VPADDD(t[2], H, H) // TT2
			c.VPROLD(operand.U8(9), B, B)
			c.VPROLD(operand.U8(19), F, F)
			c.VPROLD(operand.U8(9), H, t[5])
			c.VPROLD(operand.U8(17), H, t[6])
			c.VPTERNLOGD(operand.U8(xor3), t[6], t[5], H) // P0(TT2)
			s = [8]reg.VecPhysical{D, A, B, C, H, E, F, G}
		}
	})
	must(s == [8]reg.VecPhysical(z[:8]), "sm3: the registers do not come round")
	for i := range 8 {
		c.VPXORD(p.field(fieldV+64*i), z[i], z[i])
		c.VMOVDQU32(z[i], p.out(32*lanes+64*i))
	}
	p.loop(c, lanes)
	c.VZEROUPPER()
	c.RET()
}
