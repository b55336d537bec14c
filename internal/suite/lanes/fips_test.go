package lanes

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"testing"
)

// Who runs in FIPS 140-3 mode wants SHA-256 from the validated module.
func TestFIPSModeKeepsToTheStandardLibrary(t *testing.T) {
	if fips140.Enabled() {
		if k := SHA256(); k != nil {
			t.Fatalf("SHA-256 goes through %s", k)
		}
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^TestFIPSModeKeepsToTheStandardLibrary$")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=on")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("in FIPS mode: %v\n%s", err, out)
	}
}
