package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/tlog"
	"github.com/veritrail/veritrail/internal/trail"
)

// eventInfo is what goes with an event's leaf.
type eventInfo struct {
	Leaf       uint64     `json:"leaf"`
	Segment    string     `json:"segment"`
	Sealed     bool       `json:"sealed"`
	Proof      *proofInfo `json:"proof,omitempty"`
	Checkpoint string     `json:"checkpoint,omitempty"`
}

type proofInfo struct {
	TreeSize uint64   `json:"tree_size"`
	Root     string   `json:"root"`
	SHA256   []string `json:"sha256"`
	SM3Root  string   `json:"sm3_root,omitempty"`
	SM3      []string `json:"sm3,omitempty"`
}

func (s *Server) getEvent(w http.ResponseWriter, r *http.Request) {
	id, err := veritrail.ParseUUID(r.PathValue("id"))
	if err != nil {
		problemf(http.StatusBadRequest, "id", "want a UUID: 8-4-4-4-12 hexadecimal digits").write(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), lookupTimeout)
	defer cancel()
	index, found, err := s.find(ctx, id)
	switch {
	case err != nil && ctx.Err() != nil:
		p := problemf(http.StatusServiceUnavailable, "lookup_time", "the event was not found in time; it may be there")
		p.retryAfter = 5
		p.write(w)
		return
	case err != nil:
		s.unreadable(w, "leaves", err)
		return
	case !found:
		problemf(http.StatusNotFound, "unknown_event", "no event has this id").write(w)
		return
	}
	leaf, place, err := s.cfg.View().Leaves().ReadPlace(index)
	if err != nil {
		s.unreadable(w, "leaf", err)
		return
	}
	sealed, err := s.sealed()
	if err != nil {
		s.unreadable(w, "checkpoint", err)
		return
	}
	w.Header().Set("Vary", "Accept")
	asText := wantsText(r.Header.Values("Accept"))
	if sealed == nil || index >= sealed.Checkpoint.Size {
		if asText {
			p := problemf(http.StatusNotFound, "not_sealed", "the event is durable; no checkpoint covers it yet")
			p.retryAfter = 1
			p.write(w)
			return
		}
		writeEvent(w, leaf, eventInfo{Leaf: index, Segment: place.Segment})
		return
	}
	proof, err := sealed.Prove(index, leaf)
	if err != nil {
		s.unreadable(w, "proof", err)
		return
	}
	if asText {
		writeText(w, "no-store", tlogProof(&proof, sealed.Note))
		return
	}
	writeEvent(w, leaf, eventInfo{
		Leaf: index, Segment: place.Segment, Sealed: true, Proof: newProofInfo(&proof, sealed), Checkpoint: string(sealed.Note),
	})
}

// find looks for the event of that id, newest first: of two with one id it
// finds the later. There is no index behind it; it reads the log backwards.
func (s *Server) find(ctx context.Context, id veritrail.UUID) (index uint64, found bool, err error) {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	// A leaf is canonical: its id comes first, in lower case.
	begin := fmt.Appendf(nil, `{"id":"%s"`, id)
	view := s.cfg.View()
	end := view.Size()
	if s.cfg.Recorder != nil {
		end = max(end, s.cfg.Recorder.Stats().Size) // with what is durable and not yet sealed
	}
	for end > 0 {
		if err := ctx.Err(); err != nil {
			return 0, false, err
		}
		first := (end - 1) / tlog.TileWidth * tlog.TileWidth
		leaves, err := view.Leaves().Read(first, int(end-first))
		if err != nil {
			return 0, false, err
		}
		for i := len(leaves) - 1; i >= 0; i-- {
			if bytes.HasPrefix(leaves[i], begin) {
				return first + uint64(i), true, nil
			}
		}
		end = first
	}
	return 0, false, nil
}

// writeEvent answers with the leaf as it is, byte for byte: its hash is what the
// proof is about.
func writeEvent(w http.ResponseWriter, leaf []byte, info eventInfo) {
	rest, err := json.Marshal(info)
	if err != nil {
		panic(err) // strings and numbers can be marshaled
	}
	out := make([]byte, 0, len(leaf)+len(rest)+16)
	out = append(out, `{"event":`...)
	out = append(out, leaf...)
	out = append(out, ',')
	out = append(out, rest[1:]...)
	out = append(out, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(out) // the client may have gone
}

func newProofInfo(p *trail.Proof, sealed *trail.Sealed) *proofInfo {
	out := &proofInfo{
		TreeSize: sealed.Checkpoint.Size, Root: encode(sealed.Checkpoint.Root), SHA256: encodeAll(p.SHA256),
	}
	if root := sealed.Checkpoint.SM3Root; root != nil {
		out.SM3Root, out.SM3 = encode(*root), encodeAll(p.SM3)
	}
	return out
}

func encode(h suite.Hash) string { return base64.StdEncoding.EncodeToString(h[:]) }

func encodeAll(hashes []suite.Hash) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = encode(h)
	}
	return out
}

// tlogProof is the proof in the form of https://c2sp.org/tlog-proof.
func tlogProof(p *trail.Proof, note []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nindex %d\n", p.Leaf)
	for _, h := range p.SHA256 {
		b.WriteString(encode(h) + "\n")
	}
	b.WriteString("\n")
	b.Write(note)
	return b.String()
}

// wantsText tells whether an Accept header names text/plain before JSON.
func wantsText(accept []string) bool {
	for _, kind := range strings.Split(strings.Join(accept, ","), ",") {
		name, params, err := mime.ParseMediaType(strings.TrimSpace(kind))
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || params["q"] == "0" {
			continue
		}
		switch name {
		case "text/plain", "text/*":
			return true
		case "application/json", "application/*", "*/*":
			return false
		}
	}
	return false
}
