package trail

// OpenFiles is the number of segments held open.
func (l *Leaves) OpenFiles() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) != len(l.used) {
		panic("the list of open segments and their order differ")
	}
	return len(l.open)
}

// HoldOpen sets how many segments are held open at most. It comes before the
// first reading.
func (l *Leaves) HoldOpen(most int) { l.most = most }
