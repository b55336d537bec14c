package health

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestOthersThatCanReadAreNamed(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "key")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	for mode, tt := range map[os.FileMode]struct {
		want  Result
		found string
	}{
		0o600: {OK, "for the owner alone"}, 0o400: {OK, ""}, 0o640: {Fail, name + " can be read by its group"},
		0o602: {Fail, "by everybody"}, 0o644: {Fail, "by its group and everybody"},
	} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		want(t, Readers([]string{dir, missing, name}, mend), tt.want, tt.found)
	}
}

func TestMountsAreFoundByDevice(t *testing.T) {
	const mounts = `22 27 0:21 / /proc rw,relatime - proc none rw
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue,barrier=0
40 35 0:44 / /srv rw,relatime - nfs4 host:/srv rw,vers=4.2
broken
41 35 98:1 / /x
`
	kind, options := mountOf(mounts, 98, 0)
	if kind != "ext3" || !slices.Contains(options, "noatime") || !slices.Contains(options, "barrier=0") {
		t.Errorf("got %s, %v", kind, options)
	}
	if kind, _ := mountOf(mounts, 0, 44); kind != "nfs4" {
		t.Errorf("got %s", kind)
	}
	if kind, options := mountOf(mounts, 98, 1); kind != "" || options != nil {
		t.Errorf("got %s, %v", kind, options)
	}
	for kind, want := range map[string][2]bool{"ext4": {}, "nfs4": {true, false}, "tmpfs": {false, true}, "fuse.sshfs": {true, false}} {
		if network, memory := kindOf(kind); network != want[0] || memory != want[1] {
			t.Errorf("%s: %v, %v", kind, network, memory)
		}
	}
}
