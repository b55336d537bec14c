package main

import (
	"math/big"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// sha256NI runs two lanes. The round instruction takes four cycles and can be
// begun every two, so that two messages go through in the time of one.
func sha256NI(c *build.Context) {
	const lanes = 2
	k := words(c, "sha256K", 1, primeRoots(64, 3))
	h := primeRoots(8, 2)
	// As the instructions want it: F E B A, then H G D C, from the low word up.
	iv := words(c, "sha256IV", 1, []uint32{h[5], h[4], h[1], h[0], h[7], h[6], h[3], h[2]})
	swap := words(c, "swapBytes2", 1, swapBytes)

	function(c, "sha256NI", "sha256NI runs the program's steps through two lanes of SHA-256.")
	p := params{program: reg.RDI, lines: reg.RSI, index: reg.RBX, end: reg.R14}
	p.load(c, lanes)

	// Per lane: the state in two registers, four of message.
	type lane struct {
		block reg.GPPhysical
		s, m  []reg.VecPhysical
		tmp   reg.VecPhysical
	}
	both := []lane{
		{reg.R8, []reg.VecPhysical{reg.X1, reg.X2}, []reg.VecPhysical{reg.X3, reg.X4, reg.X5, reg.X6}, reg.X13},
		{reg.R9, []reg.VecPhysical{reg.X7, reg.X8}, []reg.VecPhysical{reg.X9, reg.X10, reg.X11, reg.X12}, reg.X14},
	}
	wk, shuffle := reg.X0, reg.X15
	ivAt, begins, chain, head := reg.RCX, reg.RDX, reg.R10, reg.R11
	c.LEAQ(iv, ivAt)
	c.VMOVDQU(swap, shuffle)
	c.Label("step")
	for n, l := range both {
		p.address(c, n, l.block, reg.RAX)
		// Continue from what the last step left, or begin: then the prefix is the first byte, whatever stands there.
		c.LEAQ(p.out(32*n), chain)
		c.LEAQ(p.field(fieldHead), head)
		c.LEAQ(p.field(fieldHead+32), reg.RAX)
		c.MOVL(p.reset(n), begins.As32())
		c.TESTL(begins.As32(), begins.As32())
		c.CMOVQNE(ivAt, chain)
		c.CMOVQNE(reg.RAX, head)
		for i := range 4 {
			c.VMOVDQU(operand.Mem{Base: l.block, Disp: 16 * i}, l.m[i])
			if i == 0 {
				c.VPAND(operand.Mem{Base: head}, l.m[0], l.m[0])
				c.VPOR(operand.Mem{Base: head, Disp: 16}, l.m[0], l.m[0])
			}
			c.VPSHUFB(shuffle, l.m[i], l.m[i])
		}
		for i := range 2 {
			c.VMOVDQU(operand.Mem{Base: chain, Disp: 16 * i}, l.s[i])
			c.VMOVDQU(l.s[i], p.field(fieldV+32*n+16*i))
		}
	}
	for g := range 16 { // four rounds each
		for _, l := range both {
			m := func(i int) reg.VecPhysical { return l.m[(g+i+4)%4] }
			c.VPADDD(at(k, 16*g), m(0), wk)
			c.SHA256RNDS2(wk, l.s[0], l.s[1])
			if g >= 3 && g < 15 {
				c.VPALIGNR(operand.U8(4), m(-1), m(0), l.tmp)
				c.VPADDD(l.tmp, m(1), m(1))
				c.SHA256MSG2(m(0), m(1))
			}
			c.VPSHUFD(operand.U8(0x0e), wk, wk)
			c.SHA256RNDS2(wk, l.s[1], l.s[0])
			if g >= 1 && g < 13 {
				c.SHA256MSG1(m(0), m(-1))
			}
		}
	}
	for n, l := range both {
		for i := range 2 {
			c.VPADDD(p.field(fieldV+32*n+16*i), l.s[i], l.s[i])
			c.VMOVDQU(l.s[i], p.out(32*lanes+32*n+16*i))
		}
	}
	p.loop(c, lanes)
	c.RET()

	c.Function("cpuid")
	c.Attributes(attr.NOSPLIT)
	c.SignatureExpr("func(leaf, subleaf uint32) (eax, ebx uint32)")
	c.Doc("cpuid is the instruction of that name.")
	c.Load(c.Param("leaf"), reg.EAX)
	c.Load(c.Param("subleaf"), reg.ECX)
	c.CPUID()
	c.Store(reg.EAX, c.Return("eax"))
	c.Store(reg.EBX, c.Return("ebx"))
	c.RET()
}

// primeRoots are the first 32 bits of the fractional parts of the square or
// cube roots of the first n primes: FIPS 180-4, 4.2.2 and 5.3.3.
func primeRoots(n, root int) []uint32 {
	var out []uint32
	for p := int64(2); len(out) < n; p++ {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		// The root of p·2^(32·root), rounded down, is the root of p with 32 bits behind the point.
		want := new(big.Int).Lsh(big.NewInt(p), uint(32*root))
		low, high := big.NewInt(0), new(big.Int).Lsh(big.NewInt(p), 32)
		for new(big.Int).Sub(high, low).Cmp(big.NewInt(1)) > 0 {
			mid := new(big.Int).Rsh(new(big.Int).Add(low, high), 1)
			if new(big.Int).Exp(mid, big.NewInt(int64(root)), nil).Cmp(want) > 0 {
				high = mid
			} else {
				low = mid
			}
		}
		out = append(out, uint32(low.Uint64()))
	}
	return out
}
