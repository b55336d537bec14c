package verify

import "slices"

// edit is one stretch in which the leaves found are not those remembered.
type edit struct {
	check     string
	old, olds int // the leaves remembered, by place
	now, nows int // the lines found in their place
}

// maxAlign bounds the work of aligning: a frame of 65,536 leaves that differ
// all over is named as a whole.
const maxAlign = 4 << 20

// align compares the leaves found with what is remembered of each, and tells
// what was done to them. Both are given by keys that are equal for equal leaves
// and hardly ever otherwise.
func align(old, now []uint64) []edit {
	start := 0
	for start < len(old) && start < len(now) && old[start] == now[start] {
		start++
	}
	end := 0
	for end < len(old)-start && end < len(now)-start && old[len(old)-1-end] == now[len(now)-1-end] {
		end++
	}
	a, b := old[start:len(old)-end], now[start:len(now)-end]
	switch {
	case len(a) == 0 && len(b) == 0:
		return nil
	case len(a) == len(b) && permuted(a, b):
		e := edit{check: leavesSwapped, old: start, olds: len(a), now: start, nows: len(b)}
		return []edit{e}
	case len(a) == len(b):
		if edits := sameLength(a, b, start); edits != nil {
			return edits
		}
	}
	if len(a)*len(b) > maxAlign {
		return []edit{kind(edit{old: start, olds: len(a), now: start, nows: len(b)}, old, now)}
	}
	var edits []edit
	for _, e := range diff(a, b) {
		e.old += start
		e.now += start
		edits = append(edits, kind(e, old, now))
	}
	return edits
}

func permuted(a, b []uint64) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// sameLength takes leaves for changed in their places, unless more than half
// are: then they may have been moved.
func sameLength(a, b []uint64, start int) []edit {
	var edits []edit
	for i := range a {
		if a[i] != b[i] {
			edits = append(edits, edit{check: leafChanged, old: start + i, olds: 1, now: start + i, nows: 1})
		}
	}
	if len(a) > 4 && len(edits) > len(a)/2 {
		return nil
	}
	return edits
}

// kind names an edit by what is there and what is gone.
func kind(e edit, old, now []uint64) edit {
	switch {
	case e.nows == 0:
		e.check = leafRemoved
	case e.olds > 0:
		e.check = leafChanged
	default:
		e.check = leafInserted
		all := true
		for _, k := range now[e.now : e.now+e.nows] {
			all = all && slices.Contains(old, k)
		}
		if all {
			e.check = leafDuplicated
		}
	}
	return e
}

// diff finds the fewest leaves removed and inserted (the longest common
// subsequence), as stretches.
func diff(a, b []uint64) []edit {
	// length[i][j] of the longest common subsequence of a[i:] and b[j:].
	w := len(b) + 1
	length := make([]int32, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				length[i*w+j] = length[(i+1)*w+j+1] + 1
			} else {
				length[i*w+j] = max(length[(i+1)*w+j], length[i*w+j+1])
			}
		}
	}
	var edits []edit
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		if i < len(a) && j < len(b) && a[i] == b[j] {
			i, j = i+1, j+1
			continue
		}
		e := edit{old: i, now: j}
		for i < len(a) || j < len(b) {
			if i < len(a) && j < len(b) && a[i] == b[j] {
				break
			}
			if j == len(b) || i < len(a) && length[(i+1)*w+j] >= length[i*w+j+1] {
				i++
			} else {
				j++
			}
		}
		e.olds, e.nows = i-e.old, j-e.now
		edits = append(edits, e)
	}
	return edits
}
