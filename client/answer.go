package client

import (
	"bytes"
	"math"
)

// quick reads the answer to events that were all recorded, as the server writes
// it:
//
//	{"accepted":2,"rejected":0,"results":[{"line":1,"id":"…","leaf":7,"status":"recorded"},…]}
//
// It reports whether the text is one, and changes nothing if not: whatever else
// JSON can say is for package encoding/json, which takes ten times as long.
func (a *answer) quick(text []byte, events int) bool {
	s := scanner{text}
	if _, ok := s.number(`{"accepted":`); !ok || !s.skip(`,"rejected":0,"results":[`) {
		return false
	}
	// What is told of an event is longer than this.
	const least = len(`{"line":1,"leaf":0,"status":"recorded"}`)
	results := make([]result, 0, min(events, len(text)/least+1))
	leaves := make([]uint64, 0, cap(results))
	for len(results) < cap(results) {
		line, ok := s.number(`{"line":`)
		if !ok || line > math.MaxInt32 || !s.skip(`,"id":"`) || !s.plain() {
			return false
		}
		leaf, ok := s.number(`","leaf":`)
		if !ok || !s.skip(`,"status":"recorded"`) {
			return false
		}
		leaves = append(leaves, leaf)
		results = append(results, result{
			Line: int(line), Status: "recorded", Leaf: &leaves[len(leaves)-1], Duplicate: s.skip(`,"duplicate":true`),
		})
		if s.skip(`}]}`) && len(bytes.TrimSpace(s.text)) == 0 {
			a.Results = results
			return true
		}
		if !s.skip(`},`) {
			return false
		}
	}
	return false
}

type scanner struct{ text []byte }

// skip goes behind what is next, if it is that.
func (s *scanner) skip(what string) bool {
	if len(s.text) < len(what) || string(s.text[:len(what)]) != what {
		return false
	}
	s.text = s.text[len(what):]
	return true
}

// plain goes to the end of an id.
func (s *scanner) plain() bool {
	for i, c := range s.text {
		if c == '"' {
			s.text = s.text[i:]
			return true
		}
		if c != '-' && (c < '0' || '9' < c) && (c < 'a' || 'f' < c) {
			return false
		}
	}
	return false
}

// number reads a number behind what is next.
func (s *scanner) number(behind string) (n uint64, ok bool) {
	if !s.skip(behind) {
		return 0, false
	}
	const most = 18 // digits, so that no sum overflows
	i := 0
	for ; i < len(s.text) && i <= most && '0' <= s.text[i] && s.text[i] <= '9'; i++ {
		n = 10*n + uint64(s.text[i]-'0')
	}
	if i == 0 || i > most || i > 1 && s.text[0] == '0' {
		return 0, false
	}
	s.text = s.text[i:]
	return n, true
}
