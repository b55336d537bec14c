// Package lanes hashes many independent messages at once: SM3 (GB/T
// 32905-2016) and SHA-256 (FIPS 180-4) on amd64, one message a lane of the
// vector registers, or two through the SHA instructions.
//
// The blocks of one message depend on each other, those of different messages
// do not. A Kernel therefore takes a batch and keeps each of its lanes busy: when
// a message ends, the next takes its lane, whatever their lengths are. Each
// message is one prefix byte and a stretch of a larger buffer, where it is read
// in place; only its last block is copied, for the padding.
//
// A kernel is used only where the processor and the operating system have what
// it needs, and only after it has agreed with the scalar code on a few messages,
// once in each process. Elsewhere there is none, and the caller hashes one
// message after the other.
//
// The kernels are written by the program in gen. How they work, what else was
// tried and what was measured is in docs/design/lanes.md.
package lanes

//go:generate go -C gen run . ..

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/emmansun/gmsm/sm3"
)

// Size is the length in bytes of a digest.
const Size = 32

// blockSize is that of both hash functions.
const blockSize = 64

// A Kernel is a hash function in lanes. It may be used concurrently.
type Kernel struct {
	id    kernelID
	name  string
	lanes int
	// steps is how many a program has at most: enough to spread the cost of
	// writing one, few enough to stay in the cache. maxCells bounds steps*lanes.
	steps int
	// Where word i of lane n's chaining value stands in a step's output:
	// at words[i] + n*stride.
	words  [8]int
	stride int
	// scalar is what the kernel must agree with.
	scalar func([]byte) [Size]byte
}

type kernelID int

const (
	sm3AVX512Kernel kernelID = iota + 1
	sm3AVX2Kernel
	sha256NIKernel
)

// transposed is the order of a kernel whose lanes are the elements of vectors.
func transposed(lanes int) (words [8]int) {
	for i := range words {
		words[i] = i * lanes
	}
	return words
}

// kernels are all there are, the faster first.
var kernels = []*Kernel{
	{sm3AVX512Kernel, "avx512", 16, 32, transposed(16), 1, sm3.Sum},
	{sm3AVX2Kernel, "avx2", 8, 32, transposed(8), 1, sm3.Sum},
	{sha256NIKernel, "sha-ni", 2, 128, [8]int{3, 2, 7, 6, 1, 0, 5, 4}, 8, sha256.Sum256},
}

var (
	chooseSM3    = sync.OnceValue(func() *Kernel { return choose(sm3AVX512Kernel, sm3AVX2Kernel) })
	chooseSHA256 = sync.OnceValue(func() *Kernel { return choose(sha256NIKernel) })
)

// SM3 is the fastest kernel for SM3 that works on this machine, nil when there
// is none.
func SM3() *Kernel { return chooseSM3() }

// SHA256 is the fastest kernel for SHA-256 that works on this machine and beats
// crypto/sha256, nil when there is none.
func SHA256() *Kernel { return chooseSHA256() }

func choose(ids ...kernelID) *Kernel {
	for _, k := range kernels {
		for _, id := range ids {
			if k.id == id && k.supported() && k.agrees() {
				return k
			}
		}
	}
	return nil
}

// String names the instructions that the kernel uses.
func (k *Kernel) String() string { return k.name }

// Lanes is how many messages are hashed at a time.
func (k *Kernel) Lanes() int { return k.lanes }

// Lines hashes the lines that stand one behind the other, each followed by one
// terminator byte that is not part of it, and each behind the prefix: line i ends
// before ends[i], and line i+1 begins at ends[i]+1. It fills dst, which is as long
// as ends and does not overlap lines.
func (k *Kernel) Lines(dst [][Size]byte, prefix byte, lines []byte, ends []int) {
	k.hash(dst[:len(ends)], prefix, batch{data: lines, ends: ends})
}

// Records hashes records of one size, one behind the other, each behind the
// prefix. It fills dst, which does not overlap records: it says how many there
// are.
func (k *Kernel) Records(dst [][Size]byte, prefix byte, records []byte, size int) {
	k.hash(dst, prefix, batch{data: records[:len(dst)*size], size: size})
}

// batch is where the messages are.
type batch struct {
	data []byte
	ends []int // of lines, nil for records
	size int   // of a record
}

// bounds are those of message i.
func (b *batch) bounds(i int) (start, end int) {
	switch {
	case b.ends == nil:
		return i * b.size, (i + 1) * b.size
	case i == 0:
		return 0, b.ends[0]
	}
	return b.ends[i-1] + 1, b.ends[i]
}

var machines = sync.Pool{New: func() any { return new(machine) }}

func (k *Kernel) hash(dst [][Size]byte, prefix byte, b batch) {
	if len(dst) == 0 {
		return
	}
	if len(b.data) == 0 { // messages of nothing but the prefix: there is nothing to point at
		empty := k.scalar([]byte{prefix})
		for i := range dst {
			start, end := b.bounds(i)
			_ = b.data[start:end]
			dst[i] = empty
		}
		return
	}
	m, _ := machines.Get().(*machine)
	m.begin(k, prefix, len(dst))
	for {
		steps := m.fill(&b)
		if steps == 0 {
			break
		}
		k.run(&m.program, &b.data[0], steps)
		m.collect(dst, steps)
	}
	machines.Put(m)
}

// agrees compares the kernel with the scalar code, on messages that fill all
// lanes and end in each way a message can end.
func (k *Kernel) agrees() bool {
	var data [2400]byte
	for i := range data {
		data[i] = byte(i*i>>3) ^ byte(i)
	}
	var ends []int
	for end := 3; len(ends) < k.lanes+2; end += 11*len(ends)%130 + 1 {
		ends = append(ends, end)
	}
	got := make([][Size]byte, len(ends))
	k.Lines(got, 1, data[:], ends)
	message := make([]byte, 0, 256)
	start := 0
	for i, end := range ends {
		message = append(append(message[:0], 1), data[start:end]...)
		if got[i] != k.scalar(message) {
			return false
		}
		start = end + 1
	}
	return true
}

// What bounds the programs of all kernels. A cell is a step of a lane.
const (
	maxLanes = 16
	maxSteps = 128
	maxCells = 512
)

// program is what a kernel runs: for each step and lane one block. The kernels
// know its layout; lanes_amd64.go holds it to that. What is said per step and
// lane is indexed by step*lanes + lane.
type program struct {
	// v and w are the kernel's own: the chaining value of the step, the message schedule.
	v [8 * maxLanes]uint32
	w [256]uint32
	// head is what the first 16 bytes of a block are ANDed and ORed with,
	// where a message goes on, and where it begins.
	head [2][2][16]byte
	// prefix is the message's first byte as the top byte of a word.
	prefix uint32
	_      [15]uint32
	// offset is where the block is: from the beginning of the lines, or, with
	// scratch set, of the program.
	offset [maxCells]uint64
	// reset is all ones where a message begins. Its first byte is then the
	// prefix, whatever stands there.
	reset [maxCells]uint32
	// out is the chaining value before the first step and after each.
	out [8 * (maxCells + maxLanes)]uint32
	// last are the blocks that do not stand in the lines.
	last [maxCells][blockSize]byte
}

const (
	// scratch marks an offset from the program.
	scratch = 1 << 63
	// lastOffset is that of last in the program.
	lastOffset = 24704
)

// message is one in a lane.
type message struct {
	index      int
	start, end int
	next       int // block
	blocks     int
}

// machine turns a batch into programs. It holds no pointers. It is so large that
// it is allocated at a page's beginning, which makes the kernels' loads aligned.
type machine struct {
	program

	k         *Kernel
	n         int // messages in the batch
	at        int // the next one
	from      int // from here on they are taken in order
	order     [64]uint8
	lane      [maxLanes]message
	free      [maxSteps + 1]uint16 // by step: the lanes that become free
	busy      [maxLanes]int        // by lane: the step after its last
	finished  [maxCells]finished
	nFinished int
	nLast     uint // of the program's last
}

// finished is a message whose digest stands in lane after step-1.
type finished struct {
	message    int
	step, lane int32
}

func (m *machine) begin(k *Kernel, prefix byte, n int) {
	m.k, m.n = k, n
	m.at, m.from = 0, max(0, n-len(m.order))
	m.lane = [maxLanes]message{}
	m.prefix = uint32(prefix) << 24
	for i := range m.head[0][0] {
		m.head[0][0][i] = 0xff
	}
	m.head[1] = m.head[0]
	m.head[1][0][0], m.head[1][1][0] = 0, prefix
}

// blocks is how many blocks a message takes: prefix, data, 0x80 and length.
func blocks(data int) int { return int(uint(data+1+9+blockSize-1) / blockSize) }

// ordered is message i of those that are taken in order. They are the last ones,
// and the longest of them come first: so all lanes finish nearly together. A lane
// that goes on when the others are done works for itself alone.
func (m *machine) ordered(b *batch, i int) int {
	if b.ends == nil { // all of one length
		return i
	}
	if i == m.from {
		m.sort(b)
	}
	return m.from + int(m.order[i-m.from])
}

// sort orders the messages from m.from on by the number of blocks, the most first.
func (m *machine) sort(b *batch) {
	const classes = 64 // the last one is for all that are longer
	var class [len(m.order)]uint8
	var count [classes]int
	start, _ := b.bounds(m.from)
	for i, end := range b.ends[m.from:m.n] {
		c := min(blocks(len(b.data[start:end])), classes) - 1
		class[i] = uint8(c)
		count[c]++
		start = end + 1
	}
	at := 0
	for c := classes - 1; c >= 0; c-- {
		count[c], at = at, at+count[c]
	}
	for i, c := range class[:m.n-m.from] {
		m.order[count[c]] = uint8(i)
		count[c]++
	}
}

// fill writes the next program and returns the number of its steps, 0 when all
// messages are done.
func (m *machine) fill(b *batch) int {
	lanes := m.k.lanes
	m.nFinished, m.nLast = 0, 0
	clear(m.free[:m.k.steps+1])
	clear(m.reset[:m.k.steps*lanes])
	for lane := range lanes {
		m.busy[lane] = 0
		if m.lane[lane].next < m.lane[lane].blocks {
			m.place(b.data, lanes, lane, 0)
		} else {
			m.free[0] |= 1 << lane
		}
	}
	// What follows is done for each message: all of it stands here, and in local variables.
	limit, data := m.k.steps, b.data
	nFinished, nLast := m.nFinished, m.nLast
fill:
	for step := range limit {
		for free := m.free[step]; free != 0; free &= free - 1 {
			i := m.at
			if i >= m.from {
				if i == m.n {
					break fill
				}
				i = m.ordered(b, i)
			}
			m.at++
			lane := bits.TrailingZeros16(free)
			start, end := b.bounds(i)
			at := uint(step*lanes + lane)
			m.reset[at%maxCells] = ^uint32(0)
			length := uint(end - start + 1) // with the prefix
			stop := step + int((length+9+blockSize-1)/blockSize)
			if start == 0 || stop > limit {
				m.lane[lane] = message{index: i, start: start, end: end, blocks: stop - step}
				m.nFinished, m.nLast = nFinished, nLast
				m.place(data, lanes, lane, step)
				nFinished, nLast = m.nFinished, m.nLast
				continue
			}
			m.busy[lane] = stop
			m.free[stop] |= 1 << lane
			m.finished[nFinished%maxCells] = finished{i, int32(stop), int32(lane)}
			nFinished++
			from := uint(start - 1)
			for n := length / blockSize; n > 0; n-- {
				m.offset[at%maxCells] = uint64(from)
				at += uint(lanes)
				from += blockSize
			}
			rest := length % blockSize
			last := &m.last[nLast%maxCells]
			*last = [blockSize]byte{}
			copy(last[:], data[from:end])
			last[rest] = 0x80
			m.offset[at%maxCells] = scratch | uint64(lastOffset+nLast*blockSize)
			nLast++
			if rest > blockSize-9 {
				last = &m.last[nLast%maxCells]
				*last = [blockSize]byte{}
				m.offset[(at+uint(lanes))%maxCells] = scratch | uint64(lastOffset+nLast*blockSize)
				nLast++
			}
			binary.BigEndian.PutUint64(last[blockSize-8:], uint64(length)*8)
		}
	}
	m.nFinished, m.nLast = nFinished, nLast
	steps := 0
	for _, busy := range m.busy[:lanes] {
		steps = max(steps, busy)
	}
	// A lane without a message hashes whatever there is.
	for lane, busy := range m.busy[:lanes] {
		for step := busy; step < steps; step++ {
			m.offset[step*lanes+lane] = scratch | lastOffset
		}
	}
	return steps
}

// place puts the blocks of the lane's message, as far as they fit, into the
// steps from step on.
func (m *machine) place(data []byte, lanes, lane, step int) {
	msg := &m.lane[lane]
	length := uint(msg.end - msg.start + 1) // with the prefix
	whole := int(length / blockSize)        // blocks that stand in the lines, counting the byte before as the prefix
	rest := length % blockSize
	block := msg.next
	stop := min(step+msg.blocks-block, m.k.steps)
	msg.next += stop - step
	m.busy[lane] = stop
	if msg.next == msg.blocks {
		m.free[stop] |= 1 << lane
		m.finished[m.nFinished] = finished{msg.index, int32(stop), int32(lane)}
		m.nFinished++
	}

	at := uint(step*lanes + lane)
	end := uint(stop*lanes + lane)
	from := msg.start - 1 + blockSize*block
	if from < 0 { // no byte before
		last := &m.last[m.nLast%uint(len(m.last))]
		*last = [blockSize]byte{}
		copy(last[1:], data[:msg.end])
		if whole == 0 {
			m.pad(last, length, rest, true, msg.blocks == 1)
		}
		m.offset[at%uint(len(m.offset))] = scratch | uint64(lastOffset+m.nLast*blockSize)
		m.nLast++
		at += uint(lanes)
		block++
		from += blockSize
	}
	for ; block < whole && at < end; block++ {
		m.offset[at%uint(len(m.offset))] = uint64(from)
		at += uint(lanes)
		from += blockSize
	}
	for ; at < end; block++ { // the last block, or the last two
		last := &m.last[m.nLast%uint(len(m.last))]
		*last = [blockSize]byte{}
		if block == whole {
			copy(last[:], data[from:msg.end])
		}
		m.pad(last, length, rest, block == whole, block == msg.blocks-1)
		m.offset[at%uint(len(m.offset))] = scratch | uint64(lastOffset+m.nLast*blockSize)
		m.nLast++
		at += uint(lanes)
	}
}

// pad puts what follows a message's bytes into its last block, or its last two:
// the mark where they end, and the length.
func (m *machine) pad(last *[blockSize]byte, length, rest uint, mark, end bool) {
	if mark {
		last[rest%blockSize] = 0x80
	}
	if end {
		binary.BigEndian.PutUint64(last[blockSize-8:], uint64(length)*8)
	}
}

// collect takes the digests of the messages that ended in the program, and
// leaves the chaining values of the others to the next one.
func (m *machine) collect(dst [][Size]byte, steps int) {
	k := m.k
	for _, f := range m.finished[:m.nFinished] {
		out := m.out[int(f.step)*8*k.lanes+int(f.lane)*k.stride:]
		digest := &dst[f.message]
		for i, at := range k.words {
			binary.BigEndian.PutUint32(digest[4*i:], out[at])
		}
	}
	copy(m.out[:8*k.lanes], m.out[steps*8*k.lanes:])
}
