package lanes

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"os/exec"
	"sync"
	"testing"

	"github.com/emmansun/gmsm/sm3"
)

// supported lists the kernels that this machine can run.
func supported() []*Kernel {
	var out []*Kernel
	for _, k := range kernels {
		if k.supported() {
			out = append(out, k)
		}
	}
	return out
}

// lined are random lines of the lengths given.
func lined(random *rand.Rand, lengths ...int) (lines []byte, ends []int) {
	source := rand.NewChaCha8([Size]byte{byte(random.Uint32())})
	for _, n := range lengths {
		line := make([]byte, n)
		_, _ = source.Read(line)
		lines = append(lines, line...)
		ends = append(ends, len(lines))
		lines = append(lines, byte(random.Uint32()))
	}
	return lines, ends
}

// oneByOne is what Lines must give.
func oneByOne(k *Kernel, prefix byte, lines []byte, ends []int) [][Size]byte {
	var out [][Size]byte
	start := 0
	for _, end := range ends {
		out = append(out, k.scalar(append([]byte{prefix}, lines[start:end]...)))
		start = end + 1
	}
	return out
}

// emulated hashes as Lines does, with another processor.
func emulated(k *Kernel, prefix byte, lines []byte, ends []int, run func(k *Kernel, p *program, lines []byte, steps int)) [][Size]byte {
	dst := make([][Size]byte, len(ends))
	b := batch{data: lines, ends: ends}
	m := new(machine)
	m.begin(k, prefix, len(ends))
	for {
		steps := m.fill(&b)
		if steps == 0 {
			return dst
		}
		run(k, &m.program, lines, steps)
		m.collect(dst, steps)
	}
}

// model runs a program as the comments on its fields say. The compression
// functions are those of gmsm and the standard library, by way of the state that
// they marshal: what they call it, the words, the bytes of an unfinished block,
// and the length.
func model(k *Kernel, p *program, lines []byte, steps int) {
	newHash, magic := sm3.New, "sm3\x03"
	if k.id == sha256NIKernel {
		newHash, magic = sha256.New, "sha\x03"
	}
	initial := words(newHash(), magic)
	width := 8 * k.lanes
	for at := range steps * k.lanes {
		step, lane := at/k.lanes, at%k.lanes
		var state [8]uint32
		for i, w := range k.words {
			state[i] = p.out[step*width+w+lane*k.stride]
		}
		var block [blockSize]byte
		if offset := p.offset[at]; offset&scratch != 0 {
			block = p.last[(offset&^scratch-lastOffset)/blockSize]
		} else {
			copy(block[:], lines[offset:offset+blockSize])
		}
		if p.reset[at] != 0 {
			state = initial
			block[0] = byte(p.prefix >> 24)
		}
		h := newHash()
		marshaled := []byte(magic)
		for _, w := range state {
			marshaled = binary.BigEndian.AppendUint32(marshaled, w)
		}
		marshaled = append(marshaled, make([]byte, blockSize+8)...)
		if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(marshaled); err != nil {
			panic(err)
		}
		h.Write(block[:])
		for i, w := range words(h, magic) {
			p.out[(step+1)*width+k.words[i]+lane*k.stride] = w
		}
	}
}

func words(h hash.Hash, magic string) (out [8]uint32) {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err)
	}
	for i := range out {
		out[i] = binary.BigEndian.Uint32(b[len(magic)+4*i:])
	}
	return out
}

func compare(t *testing.T, name string, ends []int, got, want [][Size]byte) {
	t.Helper()
	start := 0
	for i, end := range ends {
		if got[i] != want[i] {
			t.Fatalf("%s: message %d of %d, %d bytes: got %x, want %x", name, i, len(ends), end-start, got[i], want[i])
		}
		start = end + 1
	}
}

// mixtures are batches of lengths that a scheduler could get wrong.
func mixtures(random *rand.Rand) map[string][]int {
	each := make([]int, 301)
	for i := range each {
		each[i] = i
	}
	shuffled := make([]int, 0, 600)
	for _, n := range random.Perm(301) {
		shuffled = append(shuffled, n, random.IntN(700))
	}
	same := make([]int, 1000)
	for i := range same {
		same[i] = 400
	}
	long := []int{5, 70000, 63, 64}
	for range 40 {
		long = append(long, random.IntN(900))
	}
	several := make([]int, 30)
	for i := range several {
		several[i] = random.IntN(70001)
	}
	mixed := map[string][]int{
		"each length": each, "shuffled": shuffled, "same": same, "one long": long, "long": several,
		"none": nil, "empty": {0}, "empties": make([]int, 40), "one": {55}, "one of two blocks": {56}, "begins whole": {63, 0, 63, 0},
	}
	for n := 1; n <= 40; n++ { // around every number of lanes
		lengths := make([]int, n)
		for i := range lengths {
			lengths[i] = random.IntN(200)
		}
		mixed[fmt.Sprintf("%d messages", n)] = lengths
	}
	return mixed
}

func TestLinesAgreesWithScalarCode(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, lengths := range mixtures(random) {
		lines, ends := lined(random, lengths...)
		before := bytes.Clone(lines)
		for _, k := range supported() {
			got := make([][Size]byte, len(ends))
			k.Lines(got, 0, lines, ends)
			compare(t, k.name+", "+name, ends, got, oneByOne(k, 0, lines, ends))
		}
		if !bytes.Equal(lines, before) {
			t.Fatalf("%s: the lines were changed", name)
		}
	}
}

// The scheduling of every width, those included that this machine has no
// instructions for.
func TestProgramsHashEachMessage(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for name, lengths := range mixtures(random) {
		if name == "long" && testing.Short() {
			continue
		}
		lines, ends := lined(random, lengths...)
		for _, k := range kernels {
			if len(lines) == 0 {
				continue
			}
			compare(t, k.name+", "+name, ends, emulated(k, 7, lines, ends, model), oneByOne(k, 7, lines, ends))
		}
	}
}

// A program need not come from the scheduler.
func TestKernelsRunRandomPrograms(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	lines, _ := lined(random, 9999)
	for _, k := range supported() {
		for range 20 {
			p := randomProgram(random, k, len(lines))
			steps := 1 + random.IntN(k.steps)
			want := *p
			model(k, &want, lines, steps)
			k.run(p, &lines[0], steps)
			if p.out != want.out {
				t.Fatalf("%s: after %d steps the chaining values are not the model's", k.name, steps)
			}
		}
	}
}

func randomProgram(random *rand.Rand, k *Kernel, lines int) *program {
	m := new(machine)
	m.begin(k, byte(random.Uint32()), 1)
	for i := range m.out {
		m.out[i] = random.Uint32()
	}
	for at := range k.steps * k.lanes {
		for i := range m.last[at] {
			m.last[at][i] = byte(random.Uint32())
		}
		m.offset[at] = uint64(random.IntN(lines - blockSize))
		if random.IntN(3) == 0 {
			m.offset[at] = scratch | (lastOffset + uint64(at)*blockSize)
		}
		if random.IntN(3) == 0 {
			m.reset[at] = ^uint32(0)
		}
	}
	return &m.program
}

func TestRecordsAgreesWithScalarCode(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for _, size := range []int{0, 1, 54, 55, 62, 63, 64, 65, 119, 400} {
		for _, n := range []int{0, 1, 2, 7, 8, 9, 16, 17, 300} {
			data, _ := lined(random, n*size)
			for _, k := range supported() {
				got := make([][Size]byte, n)
				k.Records(got, 1, data, size)
				for i := range got {
					if want := k.scalar(append([]byte{1}, data[i*size:(i+1)*size]...)); got[i] != want {
						t.Fatalf("%s: record %d of %d, %d bytes: got %x, want %x", k.name, i, n, size, got[i], want)
					}
				}
			}
		}
	}
}

// OpenSSL shares no code with gmsm, the standard library or us.
func TestLinesAgreesWithOpenSSL(t *testing.T) {
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("the openssl command (version 3) is needed: %v", err)
	}
	random := rand.New(rand.NewPCG(9, 10))
	lengths := []int{0, 1, 54, 55, 56, 62, 63, 64, 118, 119, 120, 126, 127, 128, 400, 70000}
	for range 14 {
		lengths = append(lengths, random.IntN(70001))
	}
	lines, ends := lined(random, lengths...)
	for _, k := range supported() {
		name := "-sm3"
		if k.id == sha256NIKernel {
			name = "-sha256"
		}
		got := make([][Size]byte, len(ends))
		k.Lines(got, 0, lines, ends)
		var want [][Size]byte
		start := 0
		for _, end := range ends {
			cmd := exec.Command(bin, "dgst", name, "-binary")
			cmd.Stdin = bytes.NewReader(append([]byte{0}, lines[start:end]...))
			out, err := cmd.Output()
			if err != nil || len(out) != Size {
				t.Fatalf("openssl dgst %s: %v, %d bytes", name, err, len(out))
			}
			want = append(want, [Size]byte(out))
			start = end + 1
		}
		compare(t, k.name, ends, got, want)
	}
}

// What stands around the messages must not matter, and is not there at all at
// the ends of the buffer.
func TestLinesReadsNothingButTheMessages(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for _, k := range supported() {
		lines, ends := lined(random, 63, 400, 0, 64, 500, 127, 31, 62, 63, 200)
		want := oneByOne(k, 0, lines, ends)
		got := make([][Size]byte, len(ends))
		for i, end := range ends { // all terminators changed
			lines[end] = byte(i) + 200
		}
		k.Lines(got, 0, lines, ends)
		compare(t, k.name, ends, got, want)
		// Without the last terminator.
		tight := bytes.Clone(lines[:ends[len(ends)-1]])
		k.Lines(got, 0, tight[:len(tight):len(tight)], ends)
		compare(t, k.name, ends, got, want)
	}
}

func TestLinesPanicsWhenEndsAreOutOfOrder(t *testing.T) {
	for _, k := range supported() {
		for name, ends := range map[string][]int{
			"behind the lines": {10, 200}, "going back": {50, 20}, "negative": {-1, 20}, "twice the same": {20, 20},
		} {
			panicked := func() (is bool) {
				defer func() { is = recover() != nil }()
				k.Lines(make([][Size]byte, len(ends)), 0, make([]byte, 100), ends)
				return false
			}()
			panickedToo := func() (is bool) {
				defer func() { is = recover() != nil }()
				k.Lines(make([][Size]byte, len(ends)), 0, nil, ends)
				return false
			}()
			if !panicked || !panickedToo {
				t.Errorf("%s: ends %s: hashed", k.name, name)
			}
		}
		// The machine that panicked must not spoil what comes after it.
		if !k.agrees() {
			t.Errorf("%s: wrong digests after a panic", k.name)
		}
	}
}

func TestKernelsMayBeUsedConcurrently(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 14))
	lengths := make([]int, 200)
	for i := range lengths {
		lengths[i] = random.IntN(600)
	}
	lines, ends := lined(random, lengths...)
	for _, k := range supported() {
		want := oneByOne(k, 0, lines, ends)
		results := make([][][Size]byte, 4)
		var wg sync.WaitGroup
		for i := range results {
			results[i] = make([][Size]byte, len(ends))
			wg.Go(func() {
				for range 10 {
					k.Lines(results[i], 0, lines, ends)
				}
			})
		}
		wg.Wait()
		for _, got := range results {
			compare(t, k.name, ends, got, want)
		}
	}
}

// A kernel that computes something else is not used.
func TestKernelThatDisagreesIsNotChosen(t *testing.T) {
	for _, k := range supported() {
		if !k.agrees() {
			t.Errorf("%s: does not agree with the scalar code", k.name)
		}
		wrong := *k
		wrong.scalar = func(b []byte) [Size]byte {
			h := k.scalar(b)
			h[31] ^= 1
			return h
		}
		if wrong.agrees() {
			t.Errorf("%s: agrees with a digest in which a bit is flipped", k.name)
		}
		broken := *k
		broken.words[3], broken.words[4] = k.words[4], k.words[3]
		if broken.agrees() {
			t.Errorf("%s: agrees although two words are swapped", k.name)
		}
	}
}

func TestChosenKernelIsTheFirstThatWorks(t *testing.T) {
	for _, tt := range []struct {
		got *Kernel
		ids []kernelID
	}{{SM3(), []kernelID{sm3AVX512Kernel, sm3AVX2Kernel}}, {SHA256(), []kernelID{sha256NIKernel}}} {
		var want *Kernel
		for _, k := range supported() {
			for _, id := range tt.ids {
				if want == nil && k.id == id {
					want = k
				}
			}
		}
		if tt.got != want {
			t.Errorf("got %v, want %v", tt.got, want)
		}
	}
}

func TestLinesAllocatesNothing(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 16))
	lines, ends := lined(random, make([]int, 300)...)
	dst := make([][Size]byte, len(ends))
	for _, k := range supported() {
		// A collection in between takes the pooled machines away, hence the one half.
		if n := testing.AllocsPerRun(200, func() { k.Lines(dst, 0, lines, ends) }); n > 0.5 {
			t.Errorf("%s: %v allocations a call", k.name, n)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\n\nthree"), byte(0))
	f.Add(bytes.Repeat([]byte("x"), 64), byte(1))
	f.Add(bytes.Join([][]byte{bytes.Repeat([]byte("y"), 55), bytes.Repeat([]byte("z"), 119), nil}, []byte("\n")), byte(2))
	f.Add(bytes.Repeat([]byte("0123456\n"), 40), byte(3))
	f.Fuzz(func(t *testing.T, lines []byte, prefix byte) {
		var ends []int
		for i, c := range lines {
			if c == '\n' {
				ends = append(ends, i)
			}
		}
		for _, k := range supported() {
			got := make([][Size]byte, len(ends))
			k.Lines(got, prefix, lines, ends)
			compare(t, k.name, ends, got, oneByOne(k, prefix, lines, ends))
		}
	})
}
