package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Nobody edits assembly by hand: what is committed is what this program writes.
func TestKernelsAreAsGenerated(t *testing.T) {
	for name := range kernels {
		want, err := generate(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what is generated: run go generate in internal/suite/lanes", name)
		}
	}
	files, err := filepath.Glob(filepath.Join("..", "*.s"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(kernels) {
		t.Errorf("%d files of assembly, %d are generated", len(files), len(kernels))
	}
}

// The first and last constants of FIPS 180-4, 4.2.2 and 5.3.3, and GB/T
// 32905-2016, 4.2 and 5.3.3.
func TestConstants(t *testing.T) {
	for name, tt := range map[string]struct {
		values      []uint32
		n           int
		first, last uint32
	}{
		"K of SHA-256":     {primeRoots(64, 3), 64, 0x428a2f98, 0xc67178f2},
		"H of SHA-256":     {primeRoots(8, 2), 8, 0x6a09e667, 0x5be0cd19},
		"rotated T of SM3": {sm3K(), 64, 0x79cc4519, 0x3d43cec5},
	} {
		if v := tt.values; len(v) != tt.n || v[0] != tt.first || v[len(v)-1] != tt.last {
			t.Errorf("%s: got %d values, %#x … %#x", name, len(v), v[0], v[len(v)-1])
		}
	}
}
