package checkpoint

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/veritrail/veritrail/internal/suite"
)

const origin = "example.com/payroll"

// pair is a key made for a test: the same one for the same origin and seed.
type pair struct {
	signer   Signer
	verifier Verifier
	private  string
	vkey     string
}

func source(seed string) *rand.ChaCha8 { return rand.NewChaCha8(suite.SHA256.Sum([]byte(seed))) }

func ed25519Pair(t testing.TB, origin, seed string) pair {
	t.Helper()
	private, vkey, err := GenerateEd25519(origin, source(seed))
	return parsePair(t, private, vkey, err)
}

func sm2Pair(t testing.TB, origin, seed string) pair {
	t.Helper()
	private, vkey, err := GenerateSM2(origin, source(seed))
	return parsePair(t, private, vkey, err)
}

func parsePair(t testing.TB, private, vkey string, err error) pair {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	v, err := ParseVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return pair{s, v, private, vkey}
}

func sm3Root(seed string) *suite.Hash {
	h := suite.SM3.Sum([]byte(seed))
	return &h
}

func sign(t testing.TB, c Checkpoint, keys ...pair) []byte {
	t.Helper()
	var signers []Signer
	for _, k := range keys {
		signers = append(signers, k.signer)
	}
	n, err := Sign(c, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestSignedCheckpointOpens(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	root := suite.SHA256.Sum([]byte("root"))
	tests := []struct {
		name string
		c    Checkpoint
		keys []pair
	}{
		{"Ed25519 alone", Checkpoint{Origin: origin, Size: 7, Root: root}, []pair{ed}},
		{"with SM3", Checkpoint{Origin: origin, Size: 7, Root: root, SM3Root: sm3Root("root")}, []pair{ed, sm}},
		{"SM2 line first", Checkpoint{Origin: origin, Size: 7, Root: root, SM3Root: sm3Root("root")}, []pair{sm, ed}},
		{"empty tree", Checkpoint{Origin: origin, Root: suite.SHA256.EmptyRoot()}, []pair{ed}},
		{"largest size", Checkpoint{Origin: origin, Size: math.MaxUint64, Root: root}, []pair{ed}},
		{"extensions", Checkpoint{Origin: origin, Size: 1, Root: root, Extensions: []string{"a b", "— c d"}}, []pair{ed}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var trusted []Verifier
			var want []Signature
			for _, k := range tt.keys {
				trusted = append(trusted, k.verifier)
				want = append(want, Signature{origin, k.verifier.Algorithm(), k.verifier.KeyID()})
			}
			n := sign(t, tt.c, tt.keys...)
			got, sigs, err := Open(n, trusted)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.c) {
				t.Errorf("got %+v, want %+v", got, tt.c)
			}
			if !slices.Equal(sigs, want) {
				t.Errorf("got signatures %v, want %v", sigs, want)
			}
			loose, err := ParseUnverified(n)
			if err != nil {
				t.Fatal(err)
			}
			tt.c.SM3Root = nil
			if !reflect.DeepEqual(loose, tt.c) {
				t.Errorf("unverified: got %+v, want %+v", loose, tt.c)
			}
		})
	}
}

// The SM3 root must not reach a reader who cannot check it.
func TestSM3RootComesOnlyFromAVerifiedLine(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	n := sign(t, Checkpoint{Origin: origin, Size: 7, SM3Root: sm3Root("root")}, ed, sm)
	got, sigs, err := Open(n, []Verifier{ed.verifier})
	if err != nil {
		t.Fatal(err)
	}
	if got.SM3Root != nil || len(sigs) != 1 {
		t.Errorf("without an SM2 key: got SM3 root %v and signatures %v", got.SM3Root, sigs)
	}
	if text, _, _ := strings.Cut(string(n), "\n\n"); strings.Count(text, "\n") != 2 {
		t.Errorf("the text has extension lines:\n%s", text)
	}
}

// Clients of the C2SP format know nothing of SM2 and must not need to.
func TestPlainNoteClientOpensCheckpoint(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	n := sign(t, Checkpoint{Origin: origin, Size: 7, SM3Root: sm3Root("root")}, ed, sm)

	plain, err := note.NewVerifier(ed.vkey)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(n, note.VerifierList(plain))
	if err != nil {
		t.Fatal(err)
	}
	if len(opened.Sigs) != 1 || len(opened.UnverifiedSigs) != 1 {
		t.Errorf("got %d verified and %d other lines, want 1 and 1", len(opened.Sigs), len(opened.UnverifiedSigs))
	}

	opened, err = note.Open(n, note.VerifierList(ed.verifier, sm.verifier))
	if err != nil {
		t.Fatal(err)
	}
	if len(opened.Sigs) != 2 {
		t.Errorf("with our verifiers: got %d verified lines, want 2", len(opened.Sigs))
	}

	plainSigner, err := note.NewSigner(ed.private)
	if err != nil {
		t.Fatalf("the note package cannot read our private key: %v", err)
	}
	theirs, err := note.Sign(&note.Note{Text: opened.Text}, plainSigner)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(theirs, []Verifier{ed.verifier}); err != nil {
		t.Errorf("a note signed by the note package: %v", err)
	}
}

// Checkpoints of a log that other people run, with the key they publish. The
// second carries the line of a witness whose key nobody gave us.
func TestOpensCheckpointsOfAPublicLog(t *testing.T) {
	const name = "log2025-1.rekor.sigstore.dev"
	v, err := ParseVerifier(name + "+cf119915+AbfK5adZJxsI323FwGD2AJJ9F4i89cfDuLdGJBIYntuO")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		note string
		size uint64
	}{
		{name + "\n412115\n+8vUkEgBK/ansexBUomzocaWoPEmPIzxJC/y+xNMQN4=\n\n— " + name +
			" zxGZFahCZ/+MqTjH4rC5MWcdLDWbpetE5l30RZfQc4BQkRjWSoKipEUPjvHENeZDHIlAsuezJcLzUVvItpNjaSRoMAs=\n", 412115},
		{name + "\n139911860\nEliTHtnx44DhEBH+5qIXBtQsSpc54Avam7mIYEvxnTA=\n\n— " + name +
			" zxGZFcOra4Y7QpuiQen+CmnUvDZbxSXfBOXJzL+HKIeR9aC58QTfao58ABqkhVyBhQDseS+TZdDNpcnZhoRxkh7IbQ0=\n" +
			"— witness.stagemole.eu Z/euoAAAAABqxF18wrJCADsJ1G5Lc2JaRjZqqBwjpNqH24yQse4iJ4rKS6b5MtvHP+IbKYXwaWuW" +
			"okdGA+BubLFi+TrwK7xpKr6XBw==\n", 139911860},
	}
	for _, tt := range tests {
		c, sigs, err := Open([]byte(tt.note), []Verifier{v})
		if err != nil {
			t.Errorf("size %d: %v", tt.size, err)
			continue
		}
		if want := []Signature{{name, Ed25519, "cf119915"}}; !slices.Equal(sigs, want) {
			t.Errorf("size %d: got signatures %v, want %v", tt.size, sigs, want)
		}
		if c.Origin != name || c.Size != tt.size {
			t.Errorf("got %s at %d, want %s at %d", c.Origin, c.Size, name, tt.size)
		}
	}
}

// With every key trusted, no byte of a note is free: a change of any one is
// found, and told as one of the four outcomes.
func TestOpenFindsEveryChangedByte(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	trusted := []Verifier{ed.verifier, sm.verifier}
	n := sign(t, Checkpoint{Origin: origin, Size: 1234, SM3Root: sm3Root("root")}, ed, sm)
	count := map[error]int{}
	for i := range n {
		for bit := range 8 {
			bad := slices.Clone(n)
			bad[i] ^= 1 << bit
			c, sigs, err := Open(bad, trusted)
			if err == nil {
				t.Fatalf("byte %d bit %d: opened:\n%s", i, bit, bad)
			}
			if c.Origin != "" || c.SM3Root != nil || sigs != nil {
				t.Fatalf("byte %d bit %d: an error came with a result", i, bit)
			}
			k := kind(err)
			if k == nil {
				t.Fatalf("byte %d bit %d: error of no kind: %v", i, bit, err)
			}
			count[k]++
		}
	}
	for _, k := range []error{ErrMalformed, ErrBadSignature, ErrUnknownKey} {
		if count[k] == 0 {
			t.Errorf("no change was told as %v", k)
		}
	}
}

func kind(err error) error {
	for _, k := range []error{ErrMalformed, ErrUnknownKey, ErrBadSignature, ErrOrigin} {
		if errors.Is(err, k) {
			return k
		}
	}
	return nil
}

func TestOpenTellsWhatFailed(t *testing.T) {
	ed, ed2, sm, sm2 := ed25519Pair(t, origin, "a"), ed25519Pair(t, origin, "b"), sm2Pair(t, origin, "a"), sm2Pair(t, origin, "b")
	other := ed25519Pair(t, "example.com/stock", "a")
	c := Checkpoint{Origin: origin, Size: 7, Root: suite.SHA256.Sum([]byte("root")), SM3Root: sm3Root("root")}
	later := c
	later.Size, later.SM3Root = 8, sm3Root("later")
	elsewhere := Checkpoint{Origin: "example.com/stock", Size: 7}

	full := sign(t, c, ed, sm)
	text, edLine, smLine := parts(t, full)
	_, laterEd, laterSM := parts(t, sign(t, later, ed, sm))
	_, _, smLine2 := parts(t, sign(t, c, ed, sm2))
	swapped := c
	swapped.SM3Root = sm3Root("swapped")
	_, _, swappedLine2 := parts(t, sign(t, swapped, ed, sm2))
	_, _, againSM := parts(t, sign(t, c, ed, sm)) // SM2 signatures are randomized
	borrowed := strings.Replace(string(sign(t, elsewhere, other)), "example.com/stock\n", origin+"\n", 1)
	plainOther, err := note.NewSigner(other.private)
	if err != nil {
		t.Fatal(err)
	}
	misnamed, err := note.Sign(&note.Note{Text: text}, plainOther)
	if err != nil {
		t.Fatal(err)
	}

	trust := func(keys ...pair) (out []Verifier) {
		for _, k := range keys {
			out = append(out, k.verifier)
		}
		return out
	}
	tests := []struct {
		name    string
		note    string
		trusted []Verifier
		want    error
	}{
		{"nobody trusted", string(full), nil, ErrUnknownKey},
		{"a stranger of the same name", string(full), trust(ed2), ErrUnknownKey},
		{"no Ed25519 key trusted", string(full), trust(sm), ErrUnknownKey},
		{"Ed25519 line gone", text + "\n" + smLine, trust(ed, sm), ErrUnknownKey},
		{"SM2 line gone", text + "\n" + edLine, trust(ed, sm), ErrUnknownKey},
		{"SM2 line of a stranger", text + "\n" + edLine + smLine2, trust(ed, sm), ErrUnknownKey},
		{"Ed25519 line of another checkpoint", text + "\n" + laterEd + smLine, trust(ed, sm), ErrBadSignature},
		{"SM2 line of another checkpoint", text + "\n" + edLine + laterSM, trust(ed, sm), ErrBadSignature},
		{"two SM3 roots", text + "\n" + edLine + smLine + swappedLine2, trust(ed, sm, sm2), ErrBadSignature},
		{"two lines of one key", text + "\n" + edLine + smLine + againSM, trust(ed, sm), ErrMalformed},
		{"size changed", strings.Replace(string(full), "\n7\n", "\n6\n", 1), trust(ed, sm), ErrBadSignature},
		{"origin changed", strings.Replace(string(full), origin+"\n", "example.com/x\n", 1), trust(ed, sm), ErrBadSignature},
		{"another log's", string(sign(t, elsewhere, other)), trust(ed, sm), ErrOrigin},
		{"another log's under our name", borrowed, trust(ed), ErrUnknownKey},
		{"ours signed by another log", string(misnamed), trust(other), ErrOrigin},
		{"ours signed by another log we know too", string(misnamed), trust(ed, other), ErrUnknownKey},
		{"not a note", "hello", trust(ed), ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := Open([]byte(tt.note), tt.trusted)
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want an error of kind %q", err, tt.want)
			}
		})
	}

	good := []struct {
		name    string
		note    string
		trusted []Verifier
	}{
		{"old and new keys trusted", string(full), trust(ed, ed2, sm, sm2)},
		{"both SM2 keys signed", text + "\n" + edLine + smLine + smLine2, trust(ed, sm, sm2)},
		{"a key named twice", string(full), trust(ed, sm, ed)},
		{"a line repeated", text + "\n" + edLine + edLine + smLine, trust(ed, sm)},
		{"another log trusted too", string(full), trust(ed, sm, other)},
		{"lines of strangers", text + "\n" + edLine + smLine2 + smLine, trust(ed, sm)},
	}
	for _, tt := range good {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := Open([]byte(tt.note), tt.trusted)
			if err != nil {
				t.Fatal(err)
			}
			if got.SM3Root == nil || *got.SM3Root != *c.SM3Root {
				t.Errorf("got SM3 root %v, want %v", got.SM3Root, *c.SM3Root)
			}
		})
	}
}

// parts takes a note of one Ed25519 and one SM2 line apart.
func parts(t *testing.T, n []byte) (text, first, second string) {
	t.Helper()
	text, lines, ok := strings.Cut(string(n), "\n\n")
	split := strings.SplitAfter(lines, "\n")
	if !ok || len(split) != 3 {
		t.Fatalf("not a note with two lines:\n%s", n)
	}
	return text + "\n", split[0], split[1]
}

func TestMalformedCheckpointsAreRefused(t *testing.T) {
	const root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
	const line = "\n— example.com/payroll Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
	tests := []struct{ name, note, want string }{
		{"empty", "", "checkpoint: not a signed note"},
		{"no signature", "o\n1\n" + root + "\n", "checkpoint: not a signed note"},
		{"two lines", "o\n1\n" + line, "checkpoint: 2 lines of text, want origin, size and root"},
		{"empty origin", "\n1\n" + root + "\n" + line, "checkpoint: line 1: origin is empty"},
		{"origin with space", "a b\n1\n" + root + "\n" + line, "checkpoint: line 1: origin has white space at byte 1"},
		{"origin with plus", "a+b\n1\n" + root + "\n" + line, "checkpoint: line 1: origin has a plus sign at byte 1"},
		{"origin with zero-width space", "a\u200bb\n1\n" + root + "\n" + line,
			"checkpoint: line 1: origin has a control or format character at byte 1"},
		{"long origin", strings.Repeat("o", 256) + "\n1\n" + root + "\n" + line,
			"checkpoint: line 1: origin is 256 bytes long, the most is 255"},
		{"size not a number", "o\nx\n" + root + "\n" + line, "checkpoint: line 2: size is not a number"},
		{"size empty", "o\n\n" + root + "\n" + line, "checkpoint: line 2: size is not a number"},
		{"size signed", "o\n+1\n" + root + "\n" + line, "checkpoint: line 2: size is not a number"},
		{"size negative", "o\n-1\n" + root + "\n" + line, "checkpoint: line 2: size is not a number"},
		{"size with zeros", "o\n01\n" + root + "\n" + line, "checkpoint: line 2: size has leading zeros"},
		{"size 00", "o\n00\n" + root + "\n" + line, "checkpoint: line 2: size has leading zeros"},
		{"size over 64 bits", "o\n18446744073709551616\n" + root + "\n" + line,
			"checkpoint: line 2: size does not fit 64 bits"},
		{"root short", "o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxqw==\n" + line,
			"checkpoint: line 3: root has 31 bytes, want 32"},
		{"root not base64", "o\n1\n!" + root + "\n" + line, "checkpoint: line 3: root is not canonical base64"},
		{"root with stray bits", "o\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2J=\n" + line,
			"checkpoint: line 3: root is not canonical base64"},
		{"root without padding", "o\n1\n" + strings.TrimSuffix(root, "=") + "\n" + line,
			"checkpoint: line 3: root is not canonical base64"},
		{"empty extension", "o\n1\n" + root + "\n\nx\n" + line, "checkpoint: line 4 is empty"},
		{"control character", "o\n1\n" + root + "\r\n" + line, "checkpoint: not a signed note"},
		{"too long", "o\n1\n" + root + "\n" + strings.Repeat("x", MaxNoteBytes) + "\n" + line,
			fmt.Sprintf("checkpoint: %d bytes, the most is 65536", 2+2+len(root)+1+MaxNoteBytes+1+len(line))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseUnverified([]byte(tt.note))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want a malformed checkpoint", err)
			}
			if _, _, err := Open([]byte(tt.note), nil); !errors.Is(err, ErrMalformed) {
				t.Errorf("Open: got %v, want a malformed checkpoint", err)
			}
		})
	}
}

func TestNoteOfSixteenLinesOpens(t *testing.T) {
	ed := ed25519Pair(t, origin, "a")
	n := sign(t, Checkpoint{Origin: origin, Size: 7}, ed)
	for i := range 15 {
		w := ed25519Pair(t, fmt.Sprintf("witness.example/%d", i), "w")
		text, _, _ := strings.Cut(string(n), "\n\n")
		signer, err := note.NewSigner(w.private)
		if err != nil {
			t.Fatal(err)
		}
		one, err := note.Sign(&note.Note{Text: text + "\n"}, signer)
		if err != nil {
			t.Fatal(err)
		}
		n = append(n, one[len(text)+2:]...)
	}
	if _, sigs, err := Open(n, []Verifier{ed.verifier}); err != nil || len(sigs) != 1 {
		t.Errorf("got signatures %v and error %v", sigs, err)
	}
}

func TestSignRefusesWhatOpenWouldRefuse(t *testing.T) {
	ed, sm, other := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a"), ed25519Pair(t, "example.com/stock", "a")
	c := Checkpoint{Origin: origin, Size: 7}
	with := func(change func(*Checkpoint)) Checkpoint {
		d := c
		change(&d)
		return d
	}
	extension := func(line string) Checkpoint {
		return with(func(c *Checkpoint) { c.Extensions = []string{line} })
	}
	tests := []struct {
		name    string
		c       Checkpoint
		signers []Signer
		want    string
	}{
		{"no signer", c, nil, "no Ed25519 key to sign it"},
		{"SM2 alone", with(func(c *Checkpoint) { c.SM3Root = sm3Root("r") }), []Signer{sm.signer}, "no Ed25519 key"},
		{"SM3 root nobody signs", with(func(c *Checkpoint) { c.SM3Root = sm3Root("r") }), []Signer{ed.signer}, "no SM2 key"},
		{"SM2 key with nothing to sign", c, []Signer{ed.signer, sm.signer}, "no SM3 root"},
		{"key of another origin", c, []Signer{other.signer}, "signing for example.com/payroll with the key example.com/stock"},
		{"key given twice", c, []Signer{ed.signer, ed.signer}, "given twice"},
		{"bad origin", with(func(c *Checkpoint) { c.Origin = "a b" }), []Signer{ed.signer}, "origin has white space"},
		{"empty extension", extension(""), []Signer{ed.signer}, "extension line 1 is empty"},
		{"extension of two lines", extension("a\nb"), []Signer{ed.signer}, "extension line 1 has a control character"},
		{"extension not UTF-8", extension("\xff"), []Signer{ed.signer}, "extension line 1 is not UTF-8"},
		{"huge extension", extension(strings.Repeat("x", MaxNoteBytes)), []Signer{ed.signer}, "bytes of text"},
		{"extension that leaves no room", extension(strings.Repeat("x", MaxNoteBytes-100)), []Signer{ed.signer}, "bytes, the most is"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := Sign(tt.c, tt.signers...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if n != nil {
				t.Errorf("got a note with the error:\n%s", n)
			}
		})
	}
}

// faultySigner is a key store gone wrong.
type faultySigner struct {
	Signer
	sign func([]byte) ([]byte, error)
}

func (s faultySigner) Sign(message []byte) ([]byte, error) { return s.sign(message) }

func TestSignReturnsNoSignatureThatDoesNotVerify(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	c := Checkpoint{Origin: origin, Size: 7, SM3Root: sm3Root("root")}
	unplugged := errors.New("token unplugged")
	for _, victim := range []pair{ed, sm} {
		bitFlipped := func(message []byte) ([]byte, error) {
			sig, err := victim.signer.Sign(message)
			if err == nil {
				sig[len(sig)-1] ^= 1
			}
			return sig, err
		}
		faults := map[string]func([]byte) ([]byte, error){
			"bit flipped":    bitFlipped,
			"other message":  func([]byte) ([]byte, error) { return victim.signer.Sign([]byte("other")) },
			"empty":          func([]byte) ([]byte, error) { return nil, nil },
			"key store gone": func([]byte) ([]byte, error) { return nil, unplugged },
		}
		for name, fault := range faults {
			t.Run(victim.verifier.Algorithm()+" "+name, func(t *testing.T) {
				signers := []Signer{ed.signer, sm.signer}
				for i := range signers {
					if signers[i] == victim.signer {
						signers[i] = faultySigner{victim.signer, fault}
					}
				}
				n, err := Sign(c, signers...)
				if err == nil || n != nil {
					t.Errorf("got note %q and error %v", n, err)
				}
				if name == "key store gone" && !errors.Is(err, unplugged) {
					t.Errorf("got %v, want the key store's error in it", err)
				}
			})
		}
	}
}

func TestSignersServeManyGoroutines(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	done := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			c := Checkpoint{Origin: origin, Size: uint64(i), SM3Root: sm3Root("root")}
			signed, err := Sign(c, ed.signer, sm.signer)
			if err == nil {
				_, _, err = Open(signed, []Verifier{ed.verifier, sm.verifier})
			}
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
