package suite

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func hash(t testing.TB, s string) Hash {
	t.Helper()
	return Hash(unhex(t, s))
}

// root is MTH of RFC 6962 §2.1, as the text defines it.
func root(d Digest, leaves [][]byte) Hash {
	switch len(leaves) {
	case 0:
		return d.EmptyRoot()
	case 1:
		return d.LeafHash(leaves[0])
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	left, right := root(d, leaves[:k]), root(d, leaves[k:])
	return d.NodeHash(&left, &right)
}

// The eight leaves and nine roots that Certificate Transparency's
// implementations have tested with since RFC 6962.
func TestRootsOfCertificateTransparency(t *testing.T) {
	var leaves [][]byte
	for _, s := range []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657",
		"606162636465666768696a6b6c6d6e6f"} {
		leaves = append(leaves, unhex(t, s))
	}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	for size, want := range roots {
		if got := root(SHA256, leaves[:size]); got != hash(t, want) {
			t.Errorf("size %d: got %x, want %s", size, got, want)
		}
	}
}

// The hashes of "L123456", and of the node over "N123" and "N456", of the same
// origin. The node there is over four-byte children, so it is taken as a plain
// digest of the prefixed bytes; NodeHash is held to its definition below.
func TestLeafHashOfCertificateTransparency(t *testing.T) {
	want := hash(t, "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56")
	if got := SHA256.LeafHash([]byte("L123456")); got != want {
		t.Errorf("leaf: got %x, want %x", got, want)
	}
	want = hash(t, "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb")
	if got := SHA256.Sum([]byte("\x01N123N456")); got != want {
		t.Errorf("node: got %x, want %x", got, want)
	}
}

// GB/T 32905-2016, appendix A, and what OpenSSL 3 says of the messages with the
// prefixes of a leaf and of a node.
func TestSM3KnownAnswers(t *testing.T) {
	tests := []struct{ name, message, want string }{
		{"appendix A.1", "abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"},
		{"appendix A.2", strings.Repeat("abcd", 16), "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"},
		{"empty", "", "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"},
	}
	for _, tt := range tests {
		if got := SM3.Sum([]byte(tt.message)); got != hash(t, tt.want) {
			t.Errorf("%s: got %x, want %s", tt.name, got, tt.want)
		}
	}
	if got, want := SM3.EmptyRoot(), hash(t, tests[2].want); got != want {
		t.Errorf("empty root: got %x, want %x", got, want)
	}
}

// openssl is a judge that shares no code with us.
func openssl(t *testing.T, digest string, message []byte) Hash {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("the openssl command (version 3) is needed: %v", err)
	}
	cmd := exec.Command(bin, "dgst", "-"+digest, "-binary")
	cmd.Stdin = bytes.NewReader(message)
	out, err := cmd.Output()
	if err != nil || len(out) != Size {
		t.Fatalf("openssl dgst -%s: %v, %d bytes", digest, err, len(out))
	}
	return Hash(out)
}

func TestDigestsAgreeWithOpenSSL(t *testing.T) {
	random := rand.NewChaCha8(Hash{1})
	// Lengths around the padding of a 64-byte block, and of several.
	for _, n := range []int{0, 1, 54, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000, 4095, 4096, 70000} {
		message := make([]byte, n)
		if _, err := random.Read(message); err != nil {
			t.Fatal(err)
		}
		for _, d := range []Digest{SHA256, SM3} {
			name := d.String()
			if got, want := d.Sum(message), openssl(t, name, message); got != want {
				t.Errorf("%s of %d bytes: got %x, want %x", name, n, got, want)
			}
			if got, want := d.LeafHash(message), openssl(t, name, append([]byte{0}, message...)); got != want {
				t.Errorf("%s leaf of %d bytes: got %x, want %x", name, n, got, want)
			}
			if n >= 2*Size {
				left, right := Hash(message), Hash(message[Size:])
				node := slices.Concat([]byte{1}, message[:2*Size])
				if got, want := d.NodeHash(&left, &right), openssl(t, name, node); got != want {
					t.Errorf("%s node: got %x, want %x", name, got, want)
				}
			}
		}
	}
}

func TestLeafHashesHashesEachLineAlone(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var lines []byte
		var ends []int
		var leaves [][]byte
		for range random.IntN(20) {
			n := random.IntN(200)
			if random.IntN(8) == 0 {
				n = 4000 + random.IntN(5000) // past what fits the small buffer
			}
			leaf := make([]byte, n)
			for i := range leaf {
				leaf[i] = byte(random.Uint32())
			}
			leaves = append(leaves, leaf)
			lines = append(lines, leaf...)
			ends = append(ends, len(lines))
			lines = append(lines, '\n')
		}
		before := bytes.Clone(lines)
		for _, d := range []Digest{SHA256, SM3} {
			got := make([]Hash, len(ends))
			d.LeafHashes(got, lines, ends)
			for i, leaf := range leaves {
				if want := d.LeafHash(leaf); got[i] != want {
					t.Fatalf("%s: leaf %d of %d bytes: got %x, want %x", d, i, len(leaf), got[i], want)
				}
				if want := d.Sum(append([]byte{0}, leaf...)); got[i] != want {
					t.Fatalf("%s: leaf %d of %d bytes: got %x, want its prefixed digest %x", d, i, len(leaf), got[i], want)
				}
			}
		}
		if !bytes.Equal(lines, before) {
			t.Fatal("the lines were changed")
		}
	}
}

func TestNodeHashesHashesEachPairAlone(t *testing.T) {
	random := rand.NewChaCha8(Hash{3})
	children := make([]Hash, 2*300)
	for i := range children {
		if _, err := random.Read(children[i][:]); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []Digest{SHA256, SM3} {
		for n := range 300 {
			got := make([]Hash, n)
			d.NodeHashes(got, children)
			for i := range got {
				if want := d.NodeHash(&children[2*i], &children[2*i+1]); got[i] != want {
					t.Fatalf("%s: node %d of %d: got %x, want %x", d, i, n, got[i], want)
				}
			}
		}
	}
}

func TestLinesStandAsLeafHashesTakesThem(t *testing.T) {
	leaves := [][]byte{[]byte("one"), nil, []byte("with\nline"), []byte("")}
	lines, ends := Lines(leaves)
	if want := "one\n\nwith\nline\n\n"; string(lines) != want || !slices.Equal(ends, []int{3, 4, 14, 15}) {
		t.Errorf("got %q with ends %v, want %q", lines, ends, want)
	}
	for _, d := range []Digest{SHA256, SM3} {
		got := make([]Hash, len(leaves))
		d.LeafHashes(got, lines, ends)
		for i, leaf := range leaves {
			if want := d.LeafHash(leaf); got[i] != want {
				t.Errorf("%s: leaf %d: got %x, want %x", d, i, got[i], want)
			}
		}
	}
}

// A leaf's hash is on the way of every event.
func TestHashesAllocateNothing(t *testing.T) {
	lines, ends := Lines(make([][]byte, 100))
	var nodes [100]Hash
	children := make([]Hash, 200)
	for _, d := range []Digest{SHA256, SM3} {
		for name, f := range map[string]func(){
			"LeafHash":   func() { d.LeafHash(lines) },
			"LeafHashes": func() { d.LeafHashes(nodes[:], lines, ends) },
			"NodeHashes": func() { d.NodeHashes(nodes[:], children) },
		} {
			if n := testing.AllocsPerRun(100, f); n > 0 {
				t.Errorf("%s %s: %v allocations a call", d, name, n)
			}
		}
	}
}

// Whatever the bytes are, the terminators among them too.
func FuzzLeafHashes(f *testing.F) {
	f.Add([]byte("one"), []byte("two"))
	f.Add([]byte(""), []byte("\n\n"))
	f.Add(bytes.Repeat([]byte("x"), 4096), []byte{0, 1})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		lines := slices.Concat(one, []byte{'\n'}, two)
		for _, d := range []Digest{SHA256, SM3} {
			var got [2]Hash
			d.LeafHashes(got[:], lines, []int{len(one), len(lines)})
			want := [2]Hash{d.Sum(append([]byte{0}, one...)), d.Sum(append([]byte{0}, two...))}
			if got != want {
				t.Fatalf("%s: got %x, want %x", d, got, want)
			}
		}
	})
}

// Swapped children, and a leaf that spells a node, have other hashes.
func TestNodesAreOrderedAndNoLeaves(t *testing.T) {
	for _, d := range []Digest{SHA256, SM3} {
		left, right := d.LeafHash([]byte("left")), d.LeafHash([]byte("right"))
		node := d.NodeHash(&left, &right)
		if node == d.NodeHash(&right, &left) {
			t.Errorf("%s: the order of children does not count", d)
		}
		if node == d.LeafHash(slices.Concat(left[:], right[:])) {
			t.Errorf("%s: a leaf passes for a node", d)
		}
	}
}

func TestDigestNames(t *testing.T) {
	for name, d := range map[string]Digest{"sha256": SHA256, "sm3": SM3} {
		if got, err := ParseDigest(name); err != nil || got != d {
			t.Errorf("%s: got %v and error %v", name, got, err)
		}
		if d.String() != name {
			t.Errorf("got %s, want %s", d, name)
		}
	}
	for _, name := range []string{"", "SM3", "sha-256", "sha512", "digest-4"} {
		if d, err := ParseDigest(name); err == nil {
			t.Errorf("%q: parsed as %s", name, d)
		}
	}
	if got := Digest(4).String(); got != "digest-4" {
		t.Errorf("got %s", got)
	}
	// The bits are in files.
	if SHA256 != 1 || SM3 != 2 {
		t.Errorf("the bits changed: SHA256 is %d, SM3 is %d", SHA256, SM3)
	}
}

func TestSets(t *testing.T) {
	if got := NewSet().Digests(); !slices.Equal(got, []Digest{SHA256}) {
		t.Errorf("got %v, want SHA-256 alone", got)
	}
	if got := NewSet(SM3).Digests(); !slices.Equal(got, []Digest{SHA256, SM3}) {
		t.Errorf("got %v, want both, SHA-256 first", got)
	}
	for s := range 256 {
		err := Set(s).Check()
		if want := s == 1 || s == 3; (err == nil) != want {
			t.Errorf("set %#02x: got %v", s, err)
		}
	}
}

// Sizes of leaves that a benchmark names; events are of about 400 bytes.
func BenchmarkLeafHashes(b *testing.B) {
	for _, d := range []Digest{SHA256, SM3} {
		for _, size := range []int{100, 400, 4000} {
			b.Run(fmt.Sprintf("%s/%d", d, size), func(b *testing.B) {
				leaves := make([][]byte, 512)
				for i := range leaves {
					leaves[i] = bytes.Repeat([]byte{byte(i)}, size)
				}
				lines, ends := Lines(leaves)
				dst := make([]Hash, len(ends))
				b.SetBytes(int64(len(leaves) * size))
				b.ReportAllocs()
				for b.Loop() {
					d.LeafHashes(dst, lines, ends)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(leaves)), "ns/leaf")
			})
		}
	}
}

func BenchmarkNodeHashes(b *testing.B) {
	for _, d := range []Digest{SHA256, SM3} {
		b.Run(d.String(), func(b *testing.B) {
			children := make([]Hash, 512)
			dst := make([]Hash, 256)
			b.ReportAllocs()
			for b.Loop() {
				d.NodeHashes(dst, children)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(dst)), "ns/node")
		})
	}
}
