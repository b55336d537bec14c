package veritrailzerolog

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/veritrail/veritrail/internal/logevent"
)

const (
	maxLine  = 1 << 20 // far more than an event holds
	maxDepth = 16      // what lies deeper stays JSON
)

// flatten calls add for every field of a line, in order, under its whole name.
func flatten(line []byte, add func(name, value string)) error {
	if len(line) > maxLine {
		return fmt.Errorf("line of %d bytes: want at most %d", len(line), maxLine)
	}
	object := bytes.TrimSpace(line)
	// The errors of encoding/json show characters of the line; its judgement is enough.
	if len(object) == 0 || object[0] != '{' || !json.Valid(object) {
		return fmt.Errorf("line of %d bytes: want one JSON object", len(line))
	}
	w := walk{text: object, add: add}
	w.object("", 1)
	return nil
}

// A walk goes over JSON that is known to be valid, so it need not look twice.
type walk struct {
	text []byte
	at   int
	add  func(name, value string)
}

func (w *walk) object(prefix string, depth int) {
	w.at++ // the brace
	for {
		switch w.space() {
		case '}':
			w.at++
			return
		case ',':
			w.at++
			continue
		}
		name := prefix + logevent.JSON(w.value())
		w.space()
		w.at++ // the colon
		if w.space() == '{' && depth < maxDepth {
			w.object(name+".", depth+1)
			continue
		}
		w.add(name, logevent.JSON(w.value()))
	}
}

// space passes over white space and returns what comes then.
func (w *walk) space() byte {
	for {
		switch c := w.text[w.at]; c {
		case ' ', '\t', '\r', '\n':
			w.at++
		default:
			return c
		}
	}
}

// value passes over one value and returns it.
func (w *walk) value() []byte {
	start := w.at
	switch w.text[w.at] {
	case '"':
		w.str()
	case '{', '[':
		w.nested()
	default:
		for bytes.IndexByte([]byte(" \t\r\n,}]"), w.text[w.at]) < 0 {
			w.at++
		}
	}
	return w.text[start:w.at]
}

func (w *walk) nested() {
	for open := 0; ; {
		switch w.text[w.at] {
		case '"':
			w.str()
			continue
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		w.at++
		if open == 0 {
			return
		}
	}
}

func (w *walk) str() {
	for w.at++; w.text[w.at] != '"'; w.at++ {
		if w.text[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
}
