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
	ring, err := keys.Create(keysDir, id.Origin, id.Digests)
	if errors.Is(err, fs.ErrExist) { // a crash came between the keys and the trail
		if ring, err = keys.Open(keysDir); err == nil {
			id.Origin = ring.Origin()
		}
	}
	if err != nil {
		return nil, err
	}
	return ring, trail.Create(durable.OS, dir, id)
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
