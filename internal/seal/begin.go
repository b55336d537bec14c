package seal

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// Begin opens the keys of the trail in dir. When there is no trail it makes one,
// and its keys, first: origin and sm3 say which then. An empty origin is the
// host's name and part of the instance id.
func Begin(dir, origin string, sm3 bool) (*keys.Ring, error) {
	keysDir := filepath.Join(dir, trail.KeysDir)
	_, err := trail.ReadIdentity(dir)
	if err == nil {
		return keys.Open(keysDir)
	}
	if !errors.Is(err, trail.ErrNoTrail) {
		return nil, err
	}
	if err := checkVacant(dir); err != nil {
		return nil, err
	}
	id := trail.Identity{Origin: origin, Created: time.Now(), Digests: suite.NewSet()}
	if sm3 {
		id.Digests = suite.NewSet(suite.SM3)
	}
	_, _ = rand.Read(id.Instance[:]) // never fails: it ends the program instead
	if id.Origin == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the trail needs an origin: %w", err)
		}
		id.Origin = strings.ReplaceAll(host, "+", "-") + "/" + hex.EncodeToString(id.Instance[:4])
	}
	if err := checkpoint.CheckOrigin(id.Origin); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	ring, err := beginKeys(keysDir, &id, origin != "")
	if err != nil {
		return nil, err
	}
	if err := trail.Create(durable.OS, dir, id); err != nil {
		return nil, err
	}
	return ring, nil
}

// beginKeys makes the keys of a new trail. When a crash interrupted an earlier
// beginning, the keys made then, all or some, are those of the trail, and say
// what it is; named means that the origin is the caller's wish, which they must
// then be for.
func beginKeys(dir string, id *trail.Identity, named bool) (*keys.Ring, error) {
	origin, digests, err := keys.Begun(dir)
	if err != nil {
		return nil, err
	}
	if origin != "" {
		if named && origin != id.Origin {
			return nil, fmt.Errorf("%s: holds keys of %s, made for a trail that was not begun; name that origin, or remove them", dir, origin)
		}
		id.Origin = origin
		id.Digests |= digests
	}
	ring, err := keys.Create(dir, id.Origin, id.Digests)
	if errors.Is(err, fs.ErrExist) {
		ring, err = keys.Open(dir)
	}
	if err != nil {
		return nil, err
	}
	id.Digests = ring.Digests()
	return ring, nil
}

// checkVacant keeps a trail from being begun beside the remains of another.
func checkVacant(dir string) error {
	segments, err := trail.Segments(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(segments) > 0 {
		return fmt.Errorf("%s: %w, but %d segments: restore its trail.json, or record into another directory", dir, trail.ErrNoTrail, len(segments))
	}
	return nil
}
