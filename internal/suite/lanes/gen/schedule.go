package main

import (
	"slices"

	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// A value is what an instruction of a straight piece of code leaves, or one of
// the values it begins with.
type value int

// code is a straight piece of code before its instructions have an order and its
// values have registers. The processor looks only some sixty instructions ahead;
// so what it shall do at the same time must stand close together.
type code struct {
	instrs []instr
	values int
	slots  map[int]slot
}

type instr struct {
	emit   func(c *build.Context, src []operand.Op, dst reg.VecPhysical)
	src    []value
	dst    value // -1: a store
	shift  bool  // needs one of the two units that shift and shuffle
	memory bool  // loads or stores
	alu    bool
	after  []int // instructions whose result it needs, or whose reading of memory it must not overtake
}

// slot is the instructions that wrote and read a place in memory.
type slot struct {
	writer  int
	readers []int
}

func newCode(inputs int) *code { return &code{values: inputs, slots: map[int]slot{}} }

func (k *code) add(in instr) value {
	in.dst = value(k.values)
	k.values++
	k.instrs = append(k.instrs, in)
	return in.dst
}

// reads notes that the instruction to come reads the place, so that it stays
// behind what wrote it.
func (k *code) reads(in *instr, place int) {
	s, ok := k.slots[place]
	if !ok {
		s.writer = -1
	}
	if s.writer >= 0 {
		in.after = append(in.after, s.writer)
	}
	s.readers = append(s.readers, len(k.instrs))
	k.slots[place] = s
	in.memory = true
}

func (k *code) unary(shift bool, emit func(c *build.Context, a operand.Op, dst reg.VecPhysical), a value) value {
	return k.add(instr{src: []value{a}, shift: shift, alu: true, emit: func(c *build.Context, src []operand.Op, dst reg.VecPhysical) {
		emit(c, src[0], dst)
	}})
}

func (k *code) binary(emit func(c *build.Context, a, b operand.Op, dst reg.VecPhysical), a, b value) value {
	return k.add(instr{src: []value{a, b}, alu: true, emit: func(c *build.Context, src []operand.Op, dst reg.VecPhysical) {
		emit(c, src[0], src[1], dst)
	}})
}

// withMemory is binary with m as its first operand. place is -1 for a constant.
func (k *code) withMemory(emit func(c *build.Context, a, b operand.Op, dst reg.VecPhysical), m operand.Mem, place int, b value) value {
	in := instr{src: []value{b}, alu: true, memory: true, emit: func(c *build.Context, src []operand.Op, dst reg.VecPhysical) {
		emit(c, m, src[0], dst)
	}}
	if place >= 0 {
		k.reads(&in, place)
	}
	return k.add(in)
}

func (k *code) load(m operand.Mem, place int) value {
	in := instr{memory: true, emit: func(c *build.Context, _ []operand.Op, dst reg.VecPhysical) { c.VMOVDQU(m, dst) }}
	k.reads(&in, place)
	return k.add(in)
}

func (k *code) store(a value, m operand.Mem, place int) {
	in := instr{src: []value{a}, dst: -1, memory: true, emit: func(c *build.Context, src []operand.Op, _ reg.VecPhysical) { c.VMOVDQU(src[0], m) }}
	in.after = append(in.after, k.slots[place].readers...)
	k.slots[place] = slot{writer: len(k.instrs)}
	k.instrs = append(k.instrs, in)
}

const (
	// storeLatency is in how many cycles what is stored can be loaded.
	storeLatency = 8
	// window is how far an instruction may overtake others; farther only takes registers.
	window = 30
)

// order is a list schedule: cycle by cycle the instructions that are ready, those
// first that have the longest way to the end behind them, as many as the units
// take and the registers hold. The processor is like a Zen 3: four units, of which
// two shift.
func (k *code) order(outputs []value, registers int) []int {
	n := len(k.instrs)
	maker := make([]int, k.values)
	for v := range maker {
		maker[v] = -1
	}
	uses := make([]int, k.values)
	for i, in := range k.instrs {
		if in.dst >= 0 {
			maker[in.dst] = i
		}
		for _, v := range in.src {
			uses[v]++
		}
	}
	for _, v := range outputs {
		uses[v]++
	}
	needs := make([][]int, n)
	followers := make([][]int, n)
	for i, in := range k.instrs {
		needs[i] = slices.Clone(in.after)
		for _, v := range in.src {
			if maker[v] >= 0 {
				needs[i] = append(needs[i], maker[v])
			}
		}
		for _, d := range needs[i] {
			followers[d] = append(followers[d], i)
		}
	}
	latency := func(i int) int {
		if k.instrs[i].dst < 0 {
			return storeLatency
		}
		return 1
	}
	height := make([]int, n)
	for i := n - 1; i >= 0; i-- {
		for _, f := range followers[i] {
			height[i] = max(height[i], height[f])
		}
		height[i] += latency(i)
	}
	ready := make([]int, n) // the cycle from which on it can begin, when nothing is missing
	missing := make([]int, n)
	for i := range needs {
		missing[i] = len(needs[i])
	}
	oldest, live := 0, 0
	for v := range k.values {
		if maker[v] < 0 && uses[v] > 0 {
			live++
		}
	}
	done := make([]bool, n)
	var out []int
	for cycle := 0; len(out) < n; cycle++ {
		units, shifts, memories := 4, 2, 2
		for {
			best := -1
			for oldest < n && done[oldest] {
				oldest++
			}
			for i, in := range k.instrs[:min(n, oldest+window)] {
				if done[i] || missing[i] > 0 || ready[i] > cycle || in.alu && units == 0 || in.shift && shifts == 0 || in.memory && memories == 0 {
					continue
				}
				if best >= 0 && height[i] <= height[best] {
					continue
				}
				frees := slices.ContainsFunc(in.src, func(v value) bool { return uses[v] == 1 })
				if in.dst >= 0 && !frees && live == registers {
					continue
				}
				best = i
			}
			if best < 0 {
				break
			}
			in := k.instrs[best]
			done[best] = true
			out = append(out, best)
			if in.alu {
				units--
			}
			if in.shift {
				shifts--
			}
			if in.memory {
				memories--
			}
			for _, v := range in.src {
				if uses[v]--; uses[v] == 0 {
					live--
				}
			}
			if in.dst >= 0 {
				live++
			}
			for _, f := range followers[best] {
				missing[f]--
				ready[f] = max(ready[f], cycle+latency(best))
			}
		}
		must(cycle < 100*n, "schedule: %d instructions do not fit %d registers", n-len(out), registers)
	}
	return out
}

// emit writes the code: inputs[i] is value i, the outputs end in the registers
// given, and so many others are free.
func (k *code) emit(c *build.Context, inputs []reg.VecPhysical, outputs []value, target, free []reg.VecPhysical) {
	order := k.order(outputs, len(inputs)+len(free))
	uses := make([]int, k.values)
	for _, in := range k.instrs {
		for _, v := range in.src {
			uses[v]++
		}
	}
	for _, v := range outputs {
		uses[v]++
	}
	at := map[value]reg.VecPhysical{}
	for i, r := range inputs {
		at[value(i)] = r
	}
	free = slices.Clone(free)
	for _, i := range order {
		in := k.instrs[i]
		var src []operand.Op
		for _, v := range in.src {
			src = append(src, at[v])
		}
		for _, v := range in.src {
			if uses[v]--; uses[v] == 0 {
				free = append(free, at[v])
				delete(at, v)
			}
		}
		var dst reg.VecPhysical
		if in.dst >= 0 {
			must(len(free) > 0, "schedule: no register is free")
			pick := 0
			if o := slices.Index(outputs, in.dst); o >= 0 {
				pick = max(0, slices.Index(free, target[o]))
			}
			dst = free[pick]
			free = slices.Delete(free, pick, pick+1)
			at[in.dst] = dst
		}
		in.emit(c, src, dst)
	}
	// What did not find its place.
	for moved := true; moved; {
		moved = false
		for o, v := range outputs {
			if at[v] == target[o] {
				continue
			}
			if f := slices.Index(free, target[o]); f >= 0 {
				c.VMOVDQA(at[v], target[o])
				free[f] = at[v]
				at[v] = target[o]
				moved = true
			}
		}
		if moved {
			continue
		}
		for o, v := range outputs { // a ring: open it
			if at[v] != target[o] {
				c.VMOVDQA(at[v], free[0])
				free[0], at[v] = at[v], free[0]
				moved = true
				break
			}
		}
	}
}
