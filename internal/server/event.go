package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/suite"
	"github.com/veritrail/veritrail/internal/trail"
)

// eventInfo is what goes with an event's leaf.
type eventInfo struct {
	Leaf       uint64     `json:"leaf"`
	Segment    string     `json:"segment,omitempty"`
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
	w.Header().Add("Vary", "Accept")
	asText := accepted(r.Header.Values("Accept"), typeJSON, "text/plain") == "text/plain"
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
// finds the later.
func (s *Server) find(ctx context.Context, id veritrail.UUID) (index uint64, found bool, err error) {
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return 0, false, ctx.Err()
	}
	q, err := search.Parse([]string{"id=" + id.String()})
	if err != nil {
		return 0, false, err
	}
	gaps, err := s.searcher.Search(ctx, q, 0, s.size(), true, func(h search.Hit) error {
		index, found = h.Leaf, true
		return errFull
	})
	switch {
	case found:
		return index, true, nil
	case err == nil && len(gaps) > 0: // it may be there
		err = gaps[0].Err
	}
	return 0, false, err
}

// writeEvent answers with the leaf as it is, byte for byte: its hash is what the
// proof is about.
func writeEvent(w http.ResponseWriter, leaf []byte, info eventInfo) {
	out := append(appendEvent(nil, leaf, info), '\n')
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(out) // the client may have gone
}

// appendEvent writes one JSON object: a leaf and what goes with it.
func appendEvent(out, leaf []byte, info eventInfo) []byte {
	rest, err := json.Marshal(info)
	if err != nil {
		panic(err) // strings and numbers can be marshaled
	}
	out = slices.Grow(out, len(leaf)+len(rest)+16)
	out = append(out, `{"event":`...)
	out = append(out, leaf...)
	out = append(out, ',')
	return append(out, rest[1:]...)
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

// accepted is the first of the offered media types that an Accept header names,
// the first offer when it names none or leaves the choice.
func accepted(accept []string, offers ...string) string {
	for kind := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, params, err := mime.ParseMediaType(strings.TrimSpace(kind))
		if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) || params["q"] == "0" {
			continue
		}
		group, wild := strings.CutSuffix(name, "*")
		for _, offer := range offers {
			if name == offer || name == "*/*" || wild && strings.HasPrefix(offer, group) {
				return offer
			}
		}
	}
	return offers[0]
}
