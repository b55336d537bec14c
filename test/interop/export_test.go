package interop

import (
	"fmt"
	"testing"
)

// TestReadersAcceptExportedTrail exports trails at the sizes where bundles and tiles of each level begin, fill up
// and overflow. 70,000 entries have full and partial tiles of level 0 and 1, and a partial one of level 2.
func TestReadersAcceptExportedTrail(t *testing.T) {
	p := newProgram(t)

	// A trail may record events about itself. Their number tells how many of ours make a tree of a given size.
	var own int
	t.Run("empty", func(t *testing.T) {
		data, v := p.record(t, 0)
		var found tally
		c := checkAccepted(t, inDirectory(t, p.export(t, data)), v, found.visit)
		if found.events != 0 {
			t.Errorf("%d events in a trail without any", found.events)
		}
		own = int(c.N)
	})
	if own >= 255 {
		t.Fatalf("a trail without events has %d entries", own)
	}

	for _, size := range []int{own + 1, 255, 256, 257, 65_536, 65_537, 70_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data, v := p.record(t, size-own)
			var found tally
			c := checkAccepted(t, inDirectory(t, p.export(t, data)), v, found.visit)
			if c.N != int64(size) {
				t.Errorf("checkpoint of size %d, want %d", c.N, size)
			}
			if want := size - own; found.events != want {
				t.Errorf("%d events in the export, want %d", found.events, want)
			}
		})
	}
}

func TestReadersRefuseExportedTrailWithAByteChanged(t *testing.T) {
	p := newProgram(t)
	data, v := p.record(t, 70_000)
	dir := p.export(t, data)
	c := checkAccepted(t, inDirectory(t, dir), v, nil)
	checkRefused(t, dir, c.N, v)
}
