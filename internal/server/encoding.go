package server

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Bodies may be compressed on both ways (RFC 9110 §8.4): gzip (RFC 1952) and
// zstd (RFC 8878, with windows of 8 MiB at most, as RFC 9659 says).
const (
	codingGzip = "gzip"
	codingZstd = "zstd"

	maxWindow = 8 << 20
	// A body that becomes so many times larger, once it is larger than freeText,
	// is there to do harm. Events of a real program compress by 5 to 50.
	maxRatio = 250
	freeText = 4 << 20

	// compressFrom is where an answer is worth compressing.
	compressFrom = 16 << 10
)

// Why a compressed body can't be read any further.
var (
	errTextLarge = errors.New("the text of the body is too large")
	errRatio     = errors.New("the body is compressed too well to be one of events")
	errCoding    = errors.New("the body is not what its Content-Encoding says")
)

// codingOf is how a request's body is compressed, "" when it is not.
func codingOf(h http.Header) (string, *problem) {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ",")))
	switch coding {
	case "", "identity":
		return "", nil
	case codingGzip, "x-gzip":
		return codingGzip, nil
	case codingZstd:
		return codingZstd, nil
	}
	return "", problemf(http.StatusUnsupportedMediaType, "content_encoding", "want a body without Content-Encoding, or with gzip or zstd")
}

// decoder is a gzip or zstd reader that can be used again.
type decoder interface {
	io.Reader
	Reset(io.Reader) error
}

var (
	gzipReaders = sync.Pool{New: func() any { return new(gzip.Reader) }}
	zstdReaders = sync.Pool{New: func() any {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			panic(err) // the options are constants
		}
		return d
	}}
)

// inflated reads a compressed body, as far as it is none of those that are made
// to fill a memory.
type inflated struct {
	src  counted
	pool *sync.Pool
	dec  decoder
	out  int64
	max  int64
	err  error
}

// openInflated begins to read a body of that coding. Its close gives the
// decoder back.
func openInflated(coding string, body io.Reader, maxBytes int64) *inflated {
	f := &inflated{src: counted{src: body}, max: maxBytes, pool: &gzipReaders}
	if coding == codingZstd {
		f.pool = &zstdReaders
	}
	return f
}

func (f *inflated) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if f.dec == nil {
		f.dec, _ = f.pool.Get().(decoder)
		if err := f.dec.Reset(&f.src); err != nil {
			f.err = f.cause(err)
			return 0, f.err
		}
	}
	n, err := f.dec.Read(p)
	f.out += int64(n)
	switch {
	case f.out > f.max:
		n, err = 0, errTextLarge
	case f.out > freeText && f.out/maxRatio > f.src.n:
		n, err = 0, errRatio
	case err != nil && !errors.Is(err, io.EOF):
		err = f.cause(err)
	}
	f.err = err
	return n, err
}

// cause tells a body that breaks off, or a connection that does, from one that
// is not compressed at all.
func (f *inflated) cause(err error) error {
	switch {
	case f.src.err != nil && !errors.Is(f.src.err, io.EOF):
		return f.src.err
	case errors.Is(err, io.EOF) && f.src.n == 0:
		return io.EOF // no body
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errBroken
	}
	return errCoding
}

func (f *inflated) close() {
	if f.dec == nil {
		return
	}
	// The body must not be kept alive. That an empty reader is no gzip is known.
	_ = f.dec.Reset(strings.NewReader(""))
	f.pool.Put(f.dec)
	f.dec = nil
}

// errBroken is io.ErrUnexpectedEOF of a body that was compressed.
var errBroken = errors.New("the compressed body ended early")

// counted counts what was read, and keeps why no more was.
type counted struct {
	src io.Reader
	n   int64
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += int64(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// encoder is a gzip or zstd writer that can be used again.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

var (
	gzipWriters = sync.Pool{New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
		if err != nil {
			panic(err) // the level is a constant
		}
		return w
	}}
	zstdWriters = sync.Pool{New: func() any {
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
		if err != nil {
			panic(err) // the options are constants
		}
		return w
	}}
)

// acceptedCoding is how an answer may be compressed, "" when it may not.
func acceptedCoding(accept []string) string {
	best := ""
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		if q := strings.ReplaceAll(strings.ToLower(params), " ", ""); strings.HasPrefix(q, "q=0") && strings.Trim(q[3:], ".0") == "" {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(name)) {
		case codingZstd:
			return codingZstd
		case codingGzip, "x-gzip", "*":
			best = codingGzip
		}
	}
	return best
}

// compressing compresses the large answers of h for clients that ask for it.
func compressing(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		coding := acceptedCoding(r.Header.Values("Accept-Encoding"))
		if coding == "" || r.Method == http.MethodHead {
			h(w, r)
			return
		}
		c := &compressor{ResponseWriter: w, coding: coding}
		defer c.close()
		h(c, r)
	}
}

// compressor holds an answer back until it is large enough to be compressed, or
// ends, or is flushed.
type compressor struct {
	http.ResponseWriter
	coding  string
	code    int
	held    []byte
	decided bool
	pool    *sync.Pool
	enc     encoder // nil when the answer goes as it is
}

func (c *compressor) WriteHeader(code int) {
	if code < 200 {
		c.ResponseWriter.WriteHeader(code)
		return
	}
	if c.code == 0 {
		c.code = code
	}
	if c.Header().Get("Content-Type") == typeSSE {
		_ = c.decide(false) // nothing is held yet
	}
}

func (c *compressor) Write(b []byte) (int, error) {
	if c.code == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		c.held = append(c.held, b...)
		if len(c.held) < compressFrom {
			return len(b), nil
		}
		return len(b), c.decide(true)
	}
	if c.enc != nil {
		return c.enc.Write(b)
	}
	return c.ResponseWriter.Write(b)
}

// decide says once how the answer goes, and lets go what was held back.
func (c *compressor) decide(compress bool) error {
	c.decided = true
	h := c.Header()
	if compress && h.Get("Content-Encoding") == "" {
		c.pool = &gzipWriters
		if c.coding == codingZstd {
			c.pool = &zstdWriters
		}
		c.enc, _ = c.pool.Get().(encoder)
		c.enc.Reset(c.ResponseWriter)
		h.Set("Content-Encoding", c.coding)
		h.Del("Content-Length")
	}
	if c.code != 0 {
		c.ResponseWriter.WriteHeader(c.code)
	}
	held := c.held
	c.held = nil
	if len(held) == 0 {
		return nil
	}
	_, err := c.Write(held)
	return err
}

// FlushError is for http.ResponseController.
func (c *compressor) FlushError() error {
	if !c.decided {
		if c.code == 0 {
			c.WriteHeader(http.StatusOK)
		}
		if err := c.decide(false); err != nil {
			return err
		}
	}
	if c.enc != nil {
		if err := c.enc.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (c *compressor) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *compressor) close() {
	if !c.decided && (c.code != 0 || len(c.held) > 0) {
		_ = c.decide(false) // the client may have gone
	}
	if c.enc != nil {
		_ = c.enc.Close()
		c.enc.Reset(nil)
		c.pool.Put(c.enc)
		c.enc = nil
	}
}
