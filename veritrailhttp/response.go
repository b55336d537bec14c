package veritrailhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// A response passes everything on and remembers the status and the size of the answer.
type response struct {
	http.ResponseWriter
	status   int // 0 until the header is written
	written  int64
	hijacked bool
}

// Unwrap is what http.ResponseController asks for.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *response) WriteHeader(status int) {
	// 1xx announce an answer; only 101 is one.
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.begun()
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// ReadFrom keeps the way open for sendfile.
func (w *response) ReadFrom(src io.Reader) (n int64, err error) {
	w.begun()
	if to, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		n, err = to.ReadFrom(src)
	} else {
		n, err = io.Copy(struct{ io.Writer }{w.ResponseWriter}, src)
	}
	w.written += n
	return n, err
}

func (w *response) begun() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// flusher and hijacker are what a handler may ask for by type assertion. A wrapped response has them when the one
// inside does, and not otherwise: a handler that finds no Flusher may answer in another way.
type flusher struct{ *response }

func (w flusher) Flush() {
	w.begun()
	w.ResponseWriter.(http.Flusher).Flush() // wrapped has tried
}

type hijacker struct{ *response }

func (w hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.ResponseWriter.(http.Hijacker).Hijack() // wrapped has tried
	if err == nil {
		w.hijacked = true
	}
	return conn, rw, err
}

// wrapped returns w with the abilities of the writer inside.
func (w *response) wrapped() http.ResponseWriter {
	_, flushes := w.ResponseWriter.(http.Flusher)
	_, hijacks := w.ResponseWriter.(http.Hijacker)
	switch {
	case flushes && hijacks:
		return struct {
			*response
			http.Flusher
			http.Hijacker
		}{w, flusher{w}, hijacker{w}}
	case flushes:
		return flusher{w}
	case hijacks:
		return hijacker{w}
	default:
		return w
	}
}

// countedBody counts what the handler reads. A handler may leave a goroutine behind that still reads.
type countedBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
