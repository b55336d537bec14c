package checkpoint

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/veritrail/veritrail/internal/suite"
)

// Before a raw public key these bytes make a SubjectPublicKeyInfo (RFC 5480,
// GB/T 35276; RFC 8410), which is what openssl reads.
const (
	spkiSM2     = "3059301306072a8648ce3d020106082a811ccf5501822d034200"
	spkiEd25519 = "302a300506032b6570032100"
)

// openssl runs the openssl command, which the tests need: it is the judge of
// our SM2 that shares no code with us.
func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	bin, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatalf("the openssl command (version 3) is needed: %v", err)
	}
	out, err := exec.Command(bin, args...).CombinedOutput()
	return string(out), err
}

func file(t *testing.T, data string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func publicDER(t *testing.T, v Verifier) string {
	t.Helper()
	if v.Algorithm() == SM2SM3 {
		return string(unhex(t, spkiSM2)) + v.key[len(typeSM2SM3):]
	}
	return string(unhex(t, spkiEd25519)) + v.key[len(typeEd25519):]
}

func opensslVerifiesSM2(t *testing.T, public, message, sig string) bool {
	t.Helper()
	out, err := openssl(t, "dgst", "-sm3", "-sigopt", "distid:1234567812345678", "-keyform", "DER",
		"-verify", file(t, public), "-signature", file(t, sig), file(t, message))
	t.Logf("openssl: %s", strings.TrimSpace(out))
	if err == nil != strings.Contains(out, "Verified OK") {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	if err != nil && !strings.Contains(out, "Verification failure") {
		t.Fatalf("openssl could not check the signature: %s", out)
	}
	return err == nil
}

// lineBytes is what follows the key ID in a signature line.
func lineBytes(t *testing.T, line string) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(strings.Fields(line)[2])
	if err != nil {
		t.Fatal(err)
	}
	return string(raw[4:])
}

func TestOpenSSLVerifiesOurLines(t *testing.T) {
	ed, sm := ed25519Pair(t, origin, "a"), sm2Pair(t, origin, "a")
	root := sm3Root("root")
	text, edLine, smLine := parts(t, sign(t, Checkpoint{Origin: origin, Size: 7, SM3Root: root}, ed, sm))

	// The message, written out: not through the code under test.
	message := "veritrail.dev/sm2-sm3/v1\nsm3 " + base64.StdEncoding.EncodeToString(root[:]) + "\n" + text
	sig := lineBytes(t, smLine)
	if sig[:suite.Size] != string(root[:]) {
		t.Error("the line does not begin with the SM3 root")
	}
	if !opensslVerifiesSM2(t, publicDER(t, sm.verifier), message, sig[suite.Size:]) {
		t.Error("openssl refuses our SM2 signature")
	}
	if opensslVerifiesSM2(t, publicDER(t, sm.verifier), message+"x", sig[suite.Size:]) {
		t.Error("openssl accepts our SM2 signature of another message")
	}

	out, err := openssl(t, "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER",
		"-inkey", file(t, publicDER(t, ed.verifier)), "-sigfile", file(t, lineBytes(t, edLine)), "-in", file(t, text))
	if err != nil {
		t.Errorf("openssl refuses our Ed25519 signature: %s", out)
	}
}

func TestOpenSSLVerifiesTheExampleOfTheStandard(t *testing.T) {
	sig := string(der(t, hexInt(t, sm2ExampleR), hexInt(t, sm2ExampleS)))
	if !opensslVerifiesSM2(t, string(unhex(t, spkiSM2+sm2ExamplePoint)), sm2ExampleMessage, sig) {
		t.Error("openssl refuses the example of GB/T 32918.5")
	}
}

// opensslSigner is a key that never was in our code.
type opensslSigner struct {
	t        *testing.T
	private  string // file name
	verifier Verifier
}

func (s opensslSigner) Verifier() Verifier { return s.verifier }

func (s opensslSigner) Sign(message []byte) ([]byte, error) {
	sig := filepath.Join(s.t.TempDir(), "sig")
	out, err := openssl(s.t, "dgst", "-sm3", "-sigopt", "distid:1234567812345678",
		"-sign", s.private, "-out", sig, file(s.t, string(message)))
	if err != nil {
		s.t.Fatalf("openssl: %s", out)
	}
	return os.ReadFile(sig)
}

func TestOpenVerifiesWhatOpenSSLSigned(t *testing.T) {
	private := filepath.Join(t.TempDir(), "key.pem")
	if out, err := openssl(t, "genpkey", "-algorithm", "SM2", "-out", private); err != nil {
		t.Fatalf("openssl: %s", out)
	}
	public := filepath.Join(t.TempDir(), "public.der")
	if out, err := openssl(t, "pkey", "-in", private, "-pubout", "-outform", "DER", "-out", public); err != nil {
		t.Fatalf("openssl: %s", out)
	}
	spki, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	point, ok := strings.CutPrefix(hex.EncodeToString(spki), spkiSM2)
	if !ok {
		t.Fatalf("openssl: public key %x is not an SM2 SubjectPublicKeyInfo", spki)
	}
	sm, err := ParseVerifier(newVerifier(origin, typeSM2SM3+string(unhex(t, point))).String())
	if err != nil {
		t.Fatal(err)
	}

	ed := ed25519Pair(t, origin, "a")
	c := Checkpoint{Origin: origin, Size: 7, SM3Root: sm3Root("root")}
	n, err := Sign(c, ed.signer, opensslSigner{t, private, sm})
	if err != nil {
		t.Fatal(err)
	}
	got, sigs, err := Open(n, []Verifier{ed.verifier, sm})
	if err != nil {
		t.Fatal(err)
	}
	if got.SM3Root == nil || *got.SM3Root != *c.SM3Root || len(sigs) != 2 {
		t.Errorf("got SM3 root %v and signatures %v", got.SM3Root, sigs)
	}
}
