package main

import (
	"strings"
	"testing"
)

func TestChartFitsItsTerminal(t *testing.T) {
	counts := map[string]uint64{"user=王小明": 1_000_000, "user=u1": 1_000, "user=\x1b[31m": 1, "user=u2": 500_000}
	for _, columns := range []int{0, 20, 40, 80, 300} {
		var b strings.Builder
		chart(&b, "subjects", counts, false, 10, columns)
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 5 {
			t.Fatalf("%d lines: %q", len(lines), lines)
		}
		column := 0
		for i, line := range lines[1:] {
			if strings.Contains(line, "\x1b") {
				t.Errorf("a control character is printed: %q", line)
			}
			bars := strings.IndexAny(line, "█▉▊▋▌▍▎▏")
			if (bars >= 0) != (columns >= 40) {
				t.Errorf("%d columns: %q", columns, line)
			}
			if columns > 0 && cells(line) > columns && columns >= 40 {
				t.Errorf("%d columns, a line of %d: %q", columns, cells(line), line)
			}
			if bars < 0 {
				bars = len(line)
			}
			if at := cells(strings.TrimRight(line[:bars], " ")); i == 0 {
				column = at
			} else if at != column {
				t.Errorf("%d columns: numbers end in column %d and %d", columns, column, at)
			}
		}
	}
}

func TestBarsAreToAnEighth(t *testing.T) {
	for _, c := range []struct {
		n, most uint64
		want    string
	}{{0, 10, ""}, {1, 1000, "▏"}, {10, 10, "██"}, {5, 10, "█"}, {3, 8, "▊"}, {7, 16, "▉"}, {9, 16, "█▏"}} {
		if got := bar(c.n, c.most, 2); got != c.want {
			t.Errorf("%d of %d: got %q, want %q", c.n, c.most, got, c.want)
		}
	}
}

func TestCells(t *testing.T) {
	for s, want := range map[string]int{"": 0, "abc": 3, "王小明": 6, "ａ": 2, "é": 1, "e\u0301": 1, "🙂": 2, "한": 2, "▏": 1} {
		if got := cells(s); got != want {
			t.Errorf("%q: got %d, want %d", s, got, want)
		}
	}
}
