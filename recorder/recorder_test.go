package recorder

import (
	"context"
	"path/filepath"
	"testing"
)

func TestSmoke(t *testing.T) {
	r, err := Open(Config{Dir: filepath.Join(t.TempDir(), "t")})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Event("AUTH.LOGIN.OK").Sub("user", "u1").Record(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
