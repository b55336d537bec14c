package lanes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// BenchmarkAgainstScalar hashes the same lines in lanes and one by one, in
// turns, and reports the medians of both and their ratio: other work on the
// machine slows both alike.
func BenchmarkAgainstScalar(b *testing.B) {
	const n = 128
	for _, k := range supported() {
		for _, size := range []int{64, 100, 400, 432, 4000} {
			b.Run(fmt.Sprintf("%s/%d", k, size), func(b *testing.B) {
				lengths := make([]int, n)
				for i := range lengths {
					lengths[i] = size
				}
				against(b, k, lengths)
			})
		}
		b.Run(fmt.Sprintf("%s/300-500", k), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 2))
			lengths := make([]int, n)
			for i := range lengths {
				lengths[i] = 300 + random.IntN(201)
			}
			against(b, k, lengths)
		})
	}
}

func against(b *testing.B, k *Kernel, lengths []int) {
	lines, ends := lined(rand.New(rand.NewPCG(1, 2)), lengths...)
	dst := make([][Size]byte, len(ends))
	var inLanes, alone []time.Duration
	message := make([]byte, 1+slices.Max(lengths))
	for b.Loop() {
		start := time.Now()
		k.Lines(dst, 0, lines, ends)
		middle := time.Now()
		at := 0
		for i, end := range ends {
			dst[i] = k.scalar(message[:1+copy(message[1:], lines[at:end])])
			at = end + 1
		}
		inLanes = append(inLanes, middle.Sub(start))
		alone = append(alone, time.Since(middle))
	}
	slices.Sort(inLanes)
	slices.Sort(alone)
	lane, scalar := inLanes[len(inLanes)/2], alone[len(alone)/2]
	b.ReportMetric(float64(lane.Nanoseconds())/float64(len(ends)), "ns/message")
	b.ReportMetric(float64(scalar.Nanoseconds())/float64(len(ends)), "ns/scalar-message")
	b.ReportMetric(float64(scalar)/float64(lane), "x-scalar")
}
