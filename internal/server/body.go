package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Why a body can't be read any further.
var (
	errNoEvent  = errors.New("the body holds no event")
	errTextLong = errors.New("the text of an event is longer than 1 MiB")
	errNotArray = errors.New("not a JSON array")
)

// body cuts a request's body into the texts of events, as they arrive. It has
// one of three forms:
//
//	[ … ]       the elements of an array
//	{ … }       one JSON value, over as many lines as it likes
//	{ … }\n …   a value a line, empty lines aside (https://github.com/ndjson/ndjson-spec)
//
// It holds one event at a time in memory, and judges none: what is not JSON is
// handed out like the rest.
type body struct {
	src  *bufio.Reader
	line int    // of the event handed out last, from 1; or its number in the array
	long []byte // memory of a line that is longer than src's buffer

	first []byte // read to tell the form, and not yet handed out
	whole bool   // first is all there is
	// notJSON: first is all there is, and is not JSON.
	notJSON bool

	array    *json.Decoder
	budget   *budget
	element  json.RawMessage
	arrayEnd bool
}

// openBody tells the form from how the body begins, or knows it to be lines.
func openBody(src io.Reader, lines bool) (*body, error) {
	b := &body{src: bufio.NewReaderSize(src, 64<<10)}
	begin, err := b.skipSpace()
	switch {
	case errors.Is(err, io.EOF):
		return nil, errNoEvent
	case err != nil:
		return nil, err
	case lines:
		return b, nil
	case begin == '[':
		return b, b.openArray()
	}
	return b, b.tellForm()
}

// skipSpace goes to the first byte that is not white space, and counts lines.
func (b *body) skipSpace() (byte, error) {
	for {
		c, err := b.src.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case '\n':
			b.line++
		case ' ', '\t', '\r':
		default:
			return c, b.src.UnreadByte()
		}
	}
}

// tellForm reads what it takes to know whether the body is one value or a value
// a line.
func (b *body) tellForm() error {
	first, err := b.readLine()
	if err != nil {
		return err
	}
	b.first = bytes.Clone(first)
	if json.Valid(b.first) {
		return nil // lines, of which there may be one
	}
	b.first = append(b.first, '\n')
	rest, err := io.ReadAll(io.LimitReader(b.src, int64(maxEventText-len(b.first))+1))
	if err != nil {
		return err
	}
	b.first = append(b.first, rest...)
	ended := len(b.first) <= maxEventText
	if ended && json.Valid(b.first) {
		b.whole = true
		return nil
	}
	if hasObjectLine(rest) { // so the first line was one that is broken
		b.src = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(b.first), b.src), 64<<10)
		b.first = nil
		return nil
	}
	if !ended {
		return errTextLong
	}
	b.whole, b.notJSON = true, true
	return nil
}

func hasObjectLine(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '{' && json.Valid(line) {
			return true
		}
	}
	return false
}

// next is the text of the next event, valid until the next call. The error is
// io.EOF behind the last.
func (b *body) next() ([]byte, error) {
	switch {
	case b.array != nil:
		return b.nextElement()
	case b.first != nil:
		text := b.first
		b.first = nil
		b.line++
		return text, nil
	case b.whole:
		return nil, io.EOF
	}
	for {
		line, err := b.readLine()
		if err != nil {
			return nil, err
		}
		b.line++
		if len(bytes.Trim(line, " \t\r")) > 0 {
			return line, nil
		}
	}
}

// readLine reads a line and leaves its newline away. A line that broke off
// because the client did is an error, not a line.
func (b *body) readLine() ([]byte, error) {
	b.long = b.long[:0]
	for {
		part, err := b.src.ReadSlice('\n')
		if len(b.long)+len(part) > maxEventText+1 {
			return nil, errTextLong
		}
		switch {
		case err == nil:
			part = part[:len(part)-1]
		case errors.Is(err, bufio.ErrBufferFull):
			b.long = append(b.long, part...)
			continue
		case !errors.Is(err, io.EOF) || len(b.long)+len(part) == 0:
			return nil, err
		}
		if len(b.long) > 0 {
			b.long = append(b.long, part...)
			part = b.long
		}
		if len(part) > maxEventText {
			return nil, errTextLong
		}
		return part, nil
	}
}

func (b *body) openArray() error {
	b.line = 0 // counts elements from here on
	b.budget = &budget{src: b.src}
	b.array = json.NewDecoder(b.budget)
	b.budget.allow()
	_, err := b.array.Token() // the bracket
	return err
}

func (b *body) nextElement() ([]byte, error) {
	if b.arrayEnd {
		return nil, io.EOF
	}
	b.budget.allow()
	if b.array.More() {
		if err := b.array.Decode(&b.element); err != nil {
			return nil, b.arrayError(err)
		}
		if len(b.element) > maxEventText {
			return nil, errTextLong
		}
		b.line++
		return b.element, nil
	}
	if _, err := b.array.Token(); err != nil {
		return nil, b.arrayError(err)
	}
	if _, err := b.array.Token(); !errors.Is(err, io.EOF) {
		return nil, b.arrayError(err)
	}
	b.arrayEnd = true
	return nil, io.EOF
}

// arrayError says where an array stops being one, and leaves out what was there
// instead. Errors of the connection stay what they are.
func (b *body) arrayError(err error) error {
	var syntax *json.SyntaxError
	if err == nil || errors.As(err, &syntax) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && b.budget.ended {
		return fmt.Errorf("%w behind element %d", errNotArray, b.line)
	}
	return err
}

// budget bounds what the decoder reads for one element.
type budget struct {
	src   io.Reader
	left  int
	ended bool
}

func (b *budget) allow() { b.left = 2 * maxEventText }

func (b *budget) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTextLong
	}
	n, err := b.src.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}
