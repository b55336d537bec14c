package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

const (
	cacheNever = "no-cache"
	// The log only grows: what a path names never changes. The path of a partial
	// tile is of no more interest once the next leaf has come.
	cacheForever = "max-age=31536000, immutable"
	cacheBriefly = "max-age=60"
)

var errOutside = errors.New("not in the log at the size of its checkpoint")

// underCheckpoint is the log under its newest checkpoint. When there is none, or
// it can't be read, it answers itself and returns nil.
func (s *Server) underCheckpoint(w http.ResponseWriter) *trail.Sealed {
	sealed, err := s.sealed()
	if err != nil {
		s.unreadable(w, "checkpoint", err)
		return nil
	}
	if sealed == nil {
		p := problemf(http.StatusNotFound, "no_checkpoint", "no checkpoint was signed yet")
		p.retryAfter = 1
		p.write(w)
		return nil
	}
	return sealed
}

// unreadable answers for the trail's files. What is wrong with them is for the
// log.
func (s *Server) unreadable(w http.ResponseWriter, what string, err error) {
	s.cfg.Log.Error("trail not readable", slog.String("what", what), slog.Any("error", err))
	problemf(http.StatusInternalServerError, "unreadable", "the trail's files can't be read; run veritrail verify on it").write(w)
}

func (s *Server) getCheckpoint(w http.ResponseWriter, _ *http.Request) {
	if sealed := s.underCheckpoint(w); sealed != nil {
		writeText(w, cacheNever, string(sealed.Note))
	}
}

func (s *Server) getTile(w http.ResponseWriter, r *http.Request) {
	s.writeTile(w, r, suite.SHA256)
}

func (s *Server) getSM3Tile(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.cfg.View().Root(suite.SM3); !ok {
		problemf(http.StatusNotFound, "no_sm3", "this trail has no SM3 tree").write(w)
		return
	}
	s.writeTile(w, r, suite.SM3)
}

func (s *Server) writeTile(w http.ResponseWriter, r *http.Request, d suite.Digest) {
	s.writeUnderCheckpoint(w, "tile/"+r.PathValue("path"), "public", func(sealed *trail.Sealed, t tlog.Tile, entries bool) ([]byte, error) {
		if entries { // SM3 has no bundles of its own, and the others have a route of theirs
			return nil, errOutside
		}
		hashes, err := sealed.Tiles(d).ReadTile(t)
		return tlog.MarshalTile(hashes), err
	})
}

func (s *Server) getEntries(w http.ResponseWriter, r *http.Request) {
	who := "private"
	if s.cfg.PublicTiles {
		who = "public"
	}
	s.writeUnderCheckpoint(w, "tile/entries/"+r.PathValue("path"), who, func(sealed *trail.Sealed, t tlog.Tile, _ bool) ([]byte, error) {
		return sealed.Bundle(t.N, t.Width)
	})
}

// writeUnderCheckpoint answers with what a path of C2SP tlog-tiles names, as far
// as the checkpoint that is served reaches.
func (s *Server) writeUnderCheckpoint(w http.ResponseWriter, path, who string, read func(*trail.Sealed, tlog.Tile, bool) ([]byte, error)) {
	t, entries, err := tlog.ParsePath(path)
	if err != nil {
		problemf(http.StatusNotFound, "tile_path", "want tile/<level>/<index>[.p/<width>], as C2SP tlog-tiles says").write(w)
		return
	}
	sealed := s.underCheckpoint(w)
	if sealed == nil {
		return
	}
	var content []byte
	if err = errOutside; inside(t, sealed.Checkpoint.Size) {
		content, err = read(sealed, t, entries)
	}
	if errors.Is(err, errOutside) {
		problemf(http.StatusNotFound, "outside", "%v", errOutside).write(w)
		return
	}
	if err != nil {
		s.unreadable(w, path, err)
		return
	}
	cache := cacheForever
	if t.Width < tlog.TileWidth {
		cache = cacheBriefly
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", who+", "+cache)
	_, _ = w.Write(content) // the client may have gone
}

// inside tells whether a log of that size has the tile.
func inside(t tlog.Tile, size uint64) bool {
	have := size >> (tlog.TileHeight * t.Level)
	return t.N <= have/tlog.TileWidth && t.N*tlog.TileWidth+uint64(t.Width) <= have
}

func (s *Server) getKeys(w http.ResponseWriter, _ *http.Request) {
	writeText(w, cacheNever, strings.Join(s.cfg.VKeys, "\n")+"\n")
}

func getHealth(w http.ResponseWriter, _ *http.Request) { writeText(w, "no-store", "ok\n") }

// getReady tells the world no more than a word: what is wrong with the disk is
// not its business.
func (s *Server) getReady(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.cfg.Recorder == nil:
		problemf(http.StatusServiceUnavailable, "read_only", "the trail can only be read").write(w)
	case s.cfg.Recorder.Stats().Halted != nil:
		p := problemf(http.StatusServiceUnavailable, "halted", "the trail is halted until its disk works")
		p.retryAfter = 2
		p.write(w)
	default:
		writeText(w, "no-store", "ready\n")
	}
}

func (s *Server) getIndex(w http.ResponseWriter, _ *http.Request) {
	writeText(w, cacheNever, fmt.Sprintf(indexPage, s.cfg.Origin))
}

const indexPage = `Veritrail: the trail %s

with the token, as Authorization: Bearer TOKEN, or a client certificate
  POST /v1/events           record: one JSON object, an array, or one object a line
  GET  /v1/events           search: where=, since=, until=, order=, limit=, cursor=, proof=1
                            (Accept: application/x-ndjson for lines, text/event-stream
                            for those that come)
  GET  /v1/events/{id}      an event, its proof and the checkpoint it is under
                            (Accept: text/plain for a c2sp.org/tlog-proof)
  GET  /v1/tile/entries/…   the events, 256 a file
  GET  /metrics             numbers for Prometheus

for everybody
  GET  /v1/checkpoint       the newest signed checkpoint   (also /checkpoint)
  GET  /v1/tile/…           the tree, as C2SP tlog-tiles   (also /tile/…)
  GET  /v1/sm3/tile/…       the SM3 tree, when there is one
  GET  /v1/keys             the public keys that sign checkpoints
  GET  /v1/openapi.json     this interface, as OpenAPI 3.1
  GET  /healthz, /readyz    does it run, does it record
`
