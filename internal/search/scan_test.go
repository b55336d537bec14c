package search

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/veritrail/veritrail/recorder"
)

func TestScannerFindsInBothOrders(t *testing.T) {
	rec, err := recorder.Open(recorder.Config{
		Dir: filepath.Join(t.TempDir(), "trail"), Origin: "example.com/scan", CheckpointEvery: time.Hour, CheckpointLeaves: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Close()
	const size = 700
	for n := range size {
		if _, err := rec.Event("APP.TEST").Sub("user", "u").Obj("n", fmt.Sprint(n)).RecordAsync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := rec.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	scanner := NewScanner(rec.Trail().View().Leaves())
	q, err := Parse([]string{"obj.n=*7"})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	for _, r := range [][2]uint64{{0, size}, {0, 0}, {1, 2}, {7, 8}, {100, 600}, {255, 257}, {256, 512}, {511, 700}, {650, 650}} {
		for _, newest := range []bool{false, true} {
			for _, most := range []int{1000, 3} {
				var want, got []uint64
				for n := r[0]; n < r[1]; n++ {
					if n%10 == 7 {
						want = append(want, n)
					}
				}
				if newest {
					slices.Reverse(want)
				}
				gaps, err := scanner.Search(t.Context(), q, r[0], r[1], newest, func(h Hit) error {
					if n, _ := h.Event.Object.Get("n"); n != fmt.Sprint(h.Leaf) {
						t.Errorf("leaf %d comes with the event of another", h.Leaf)
					}
					if got = append(got, h.Leaf); len(got) == most {
						return enough
					}
					return nil
				})
				if len(want) >= most {
					if want = want[:most]; err != enough { //nolint:errorlint // returned as it is
						t.Errorf("%v: %v", r, err)
					}
				} else if err != nil {
					t.Errorf("%v: %v", r, err)
				}
				if !slices.Equal(got, want) || len(gaps) > 0 {
					t.Errorf("%v, newest %t, %d at most: got %v, want %v, gaps %v", r, newest, most, got, want, gaps)
				}
			}
		}
	}
}
