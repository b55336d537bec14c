package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/client"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// toServer says where `record` sends to, and how.
type toServer struct {
	url, tokenFile, caFile, certFile, keyFile, spool string
	wait                                             time.Duration
}

// recordTo sends events to a server. Without a spool it gives up when the server
// has not taken an event for as long as wait says; with one, what was not sent by
// then stays in the spool and goes first the next time.
//
// Another form than the event's becomes one here, so that it has an id before it
// is sent the first time.
func recordTo(ctx context.Context, in io.Reader, to toServer, cfg *config, shape string) error {
	shapes, err := recorder.NewShapes(cfg.shapes())
	if err != nil {
		return usageError("configuration: schemas: %w", err)
	}
	if !(recorder.Config{Shapes: cfg.shapes()}).KnowsShape(shape) {
		return usageError("--shape %q: want event, record, or a form that --config describes", shape)
	}
	t := newTally()
	cc := client.Config{
		URL: to.url, BatchEvents: 10_000, BatchBytes: 8 << 20, QueueBytes: 16 << 20,
		CloseTimeout: time.Millisecond, // what is not acknowledged by then was given up
	}
	if to.spool != "" {
		cc.Spool, cc.Policy, cc.CloseTimeout = to.spool, client.AckSpool, to.wait
		cc.Rejected = func(e *client.RejectedError) { t.rejectSpooled(e.ID, describeRejected(e)) }
	}
	if cc.TLS, err = clientTLS(to.caFile, to.certFile, to.keyFile); err != nil {
		return err
	}
	if to.certFile == "" || to.tokenFile != "" {
		if cc.Token, err = clientToken(to.tokenFile); err != nil {
			return err
		}
	}
	c, err := client.New(cc)
	if err != nil {
		return usageError("%w", err)
	}
	type sent struct {
		line  uint64
		event client.Pending
	}
	const inFlight = 32_768
	waiting := make(chan sent, inFlight)
	settled := make(chan struct{})
	giveUp, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() {
		defer close(settled)
		for s := range waiting {
			if _, recorded := s.event.Leaf(); recorded { // most are by the time it is their turn
				t.record(1)
				continue
			}
			if giveUp.Err() != nil { // the server is away: what it has taken is known by now
				if err := s.event.Wait(giveUp); err == nil {
					t.record(1)
				} else {
					t.fail(fmt.Errorf("line %d: %w", s.line, err))
				}
				continue
			}
			bounded, cancel := context.WithTimeout(giveUp, to.wait)
			err := s.event.Wait(bounded)
			cancel()
			var rejected *client.RejectedError
			switch {
			case err == nil:
				t.record(1)
			case errors.As(err, &rejected):
				t.rejectFor(s.line, describeRejected(rejected))
			default:
				t.fail(fmt.Errorf("line %d: %w", s.line, err))
				stop()
			}
		}
	}()
	lines := newLineReader(in)
	for ctx.Err() == nil && giveUp.Err() == nil && lines.next() {
		p, err := recordLine(giveUp, c, shapes, shape, lines.text)
		if err == nil {
			waiting <- sent{lines.number, p}
			continue
		}
		if !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
			t.fail(fmt.Errorf("line %d: %w", lines.number, err))
			break // the lines behind it would only fail as well
		}
		t.reject(lines.number, err)
	}
	close(waiting)
	<-settled
	if err := c.Close(); err != nil {
		var left *client.LeftError
		switch {
		case !errors.As(err, &left):
			t.fail(err)
		case left.Spooled > 0:
			fmt.Fprintf(os.Stderr, "%s events wait in the spool %s: %v\n", count(left.Spooled), to.spool, left.Last)
		}
	}
	return t.finish(errors.Join(lines.err, ctx.Err()))
}

// recordLine hands one line to the client.
func recordLine(ctx context.Context, c *client.Client, shapes *recorder.Shapes, shape string, text []byte) (client.Pending, error) {
	if shapes.IsEvent(shape, text) {
		return c.RecordJSON(ctx, text)
	}
	var d veritrail.Draft
	if err := shapes.Read(&d, shape, text); err != nil {
		return client.Pending{}, err
	}
	return c.RecordAsync(ctx, d.Event())
}

func describeRejected(e *client.RejectedError) string {
	if e.Conflict {
		return client.ErrConflict.Error()
	}
	var what []string
	for _, v := range e.Violations {
		what = append(what, v.String())
	}
	return strings.Join(what, "; ")
}

// clientTLS is nil when the system's roots and no certificate will do.
func clientTLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	if caFile == "" && certFile == "" && keyFile == "" {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, usageError("--ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usageError("--ca: %s: no certificate in it", caFile)
		}
	}
	if certFile != "" || keyFile != "" {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, usageError("--cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
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
