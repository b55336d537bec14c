package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/trail"
)

// Lines go to a server in requests of at most so many, or so many bytes.
const (
	linesPerPost = 5_000
	bytesPerPost = 8 << 20
)

// poster sends lines to a server.
type poster struct {
	client *http.Client
	url    string
	token  string
	tally  *tally

	body  bytes.Buffer
	lines []uint64 // their numbers in the input
}

// recordTo sends events to a server. What it answered for is counted as
// recorded; after an answer that never came, the lines of that request are
// reported as not recorded, though some may be.
func recordTo(ctx context.Context, in io.Reader, to, tokenFile, caFile, shape string) error {
	u, err := url.Parse(strings.TrimSuffix(to, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return usageError("--to %.200q: want a URL, as http://127.0.0.1:8790", to)
	}
	u = u.JoinPath("v1/events")
	if shape != "" {
		u.RawQuery = url.Values{"shape": {shape}}.Encode()
	}
	p := &poster{url: u.String(), tally: newTally()}
	if p.client, err = newHTTPClient(caFile); err != nil {
		return err
	}
	if p.token, err = clientToken(tokenFile); err != nil {
		return err
	}
	lines := newLineReader(in)
	for ctx.Err() == nil && lines.next() {
		p.lines = append(p.lines, lines.number)
		p.body.Write(lines.text)
		p.body.WriteByte('\n')
		if len(p.lines) < linesPerPost && p.body.Len() < bytesPerPost {
			continue
		}
		if err := p.post(ctx); err != nil {
			p.tally.fail(err)
			return p.tally.finish(lines.err)
		}
	}
	if err := p.post(ctx); err != nil {
		p.tally.fail(err)
	}
	return p.tally.finish(errors.Join(lines.err, ctx.Err()))
}

func clientToken(file string) (string, error) {
	if file != "" {
		return readToken(file)
	}
	if token := os.Getenv("VERITRAIL_TOKEN"); token != "" {
		return token, nil
	}
	dir, err := dataDir("")
	if err != nil {
		return "", err
	}
	token, err := readToken(filepath.Join(dir, trail.TokenFile))
	if err != nil {
		return "", usageError("no API token: give it with --token-file FILE or $VERITRAIL_TOKEN; a server keeps it in DATA/token")
	}
	return token, nil
}

// answer is what the server says of a request's lines.
type answer struct {
	Results []struct {
		Line       int                   `json:"line"`
		Status     string                `json:"status"`
		Violations []veritrail.Violation `json:"violations"`
		Error      string                `json:"error"`
	} `json:"results"`
	Error struct {
		Message string `json:"message"`
	} `json:"error"`
}

const maxAnswer = 64 << 20

func (p *poster) post(ctx context.Context) error {
	if len(p.lines) == 0 {
		return nil
	}
	first, last := p.lines[0], p.lines[len(p.lines)-1]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(p.body.Bytes()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+p.token)
	resp, err := p.client.Do(req)
	if err != nil {
		return fmt.Errorf("lines %d to %d: %w", first, last, err)
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&a); err != nil {
		return fmt.Errorf("lines %d to %d: the server answers %s, and no JSON", first, last, resp.Status)
	}
	settled := 0
	for _, r := range a.Results {
		if r.Line < 1 || r.Line > len(p.lines) {
			return fmt.Errorf("lines %d to %d: the server answers for line %d of %d", first, last, r.Line, len(p.lines))
		}
		number := p.lines[r.Line-1]
		switch r.Status {
		case "recorded":
			p.tally.record(1)
			settled++
		case "rejected":
			var what []string
			for _, v := range r.Violations {
				what = append(what, v.String())
			}
			p.tally.rejectFor(number, what...)
			settled++
		}
	}
	if settled < len(p.lines) {
		return fmt.Errorf("lines %d to %d: the server answers %s for %d of %d lines: %s",
			first, last, resp.Status, settled, len(p.lines), cmp.Or(a.Error.Message, "without a reason"))
	}
	p.body.Reset()
	p.lines = p.lines[:0]
	return nil
}
