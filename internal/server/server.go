// Package server owns the HTTP interface of a trail: events in, events with
// their proofs out, and the log itself as C2SP tlog-tiles
// (https://c2sp.org/tlog-tiles), so that any tlog client can read and check it.
// Every path, body and code is in docs/http.md.
//
// An event is answered for when it is acknowledged by the recorder, and every
// answer to POST /v1/events says of each event what became of it, also when the
// request as a whole failed: nothing is lost silently.
//
// What the log shows to everybody are hashes and signatures. Events, the entry
// bundles that hold them, and metrics need the token. Over plain HTTP it serves
// on loopback only, and there it turns away what a web page in a browser of
// this machine may have sent.
//
// It writes nothing but through the recorder, knows no file but the checkpoint,
// and puts no part of an event into an error or a log.
package server

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/checkpoint"
	"github.com/veritrail/veritrail/internal/metrics"
	"github.com/veritrail/veritrail/internal/search"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

// Defaults of a Config.
const (
	DefaultMaxBody     = 32 << 20 // bytes
	DefaultRememberIDs = 1_000_000
)

// Bounds of what a client can make the server do.
const (
	maxEvents    = 100_000 // in one request
	maxEventText = 1 << 20 // of one event, white space and escapes included

	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 2 * time.Minute // for a whole request
	writeTimeout      = 5 * time.Minute // from its header to the end of the answer
	idleTimeout       = 2 * time.Minute
	shutdownTimeout   = 30 * time.Second
	lookupTimeout     = time.Minute
	lookups           = 4 // at once; each reads through the log

	rememberFor = 24 * time.Hour
)

// Config says what to serve. Dir, View, Origin, VKeys, Token, and Recorder or
// Problem are required.
type Config struct {
	Dir string // the trail's directory, for its checkpoint
	// Recorder takes the events in. It is nil when the trail is damaged and
	// can only be read; Problem says why then.
	Recorder *recorder.Recorder
	Problem  error
	// View is the log as it is now. The same view is the same pointer: the
	// checkpoint file is read again only when the view has changed.
	View   func() *trail.View
	Origin string
	VKeys  []string // public keys of the checkpoints

	// Searcher finds events. When it is nil the leaves are read through.
	Searcher Searcher
	// Index says how far the index is that Searcher asks; nil when there is none.
	Index func() IndexState

	// RememberIDs is of how many of the newest events an id that comes again is
	// recognised, and RememberFor for how long: 1,000,000 and 24 h when 0. Each
	// takes about 85 bytes of memory. Below 0 none is.
	RememberIDs int
	RememberFor time.Duration
	// Redacts says that the Recorder's Redactor changes values: what is in the
	// trail is not what was sent then.
	Redacts bool

	Token       string // what clients prove themselves with
	PublicTiles bool   // entry bundles are for everybody, too

	Log     *slog.Logger     // discarded when nil
	MaxBody int64            // of a request, also when it is unpacked; 32 MiB when 0
	Now     func() time.Time // time.Now when nil
}

// IndexState is how far an index is.
type IndexState struct {
	Lag        uint64 // leaves that are not indexed, and that a search must read
	Rebuilding string // while parts of it are missing: how far it is, in words
}

// Server serves one trail. It is safe for concurrent use.
type Server struct {
	cfg     Config
	trusted []checkpoint.Verifier
	token   [sha256.Size]byte
	metrics *metrics.Set
	looking chan struct{} // holds a value for each lookup that runs
	newest  newest
	events  int // the most in one request

	searcher  Searcher
	window    *window
	cursorKey []byte
	streams   chan struct{} // holds a value for each stream that runs
	stall     time.Duration // how long a stream's client may take nothing
	stopping  chan struct{} // closed when Serve ends
	stop      func()        // closes stopping, once
}

// New checks the Config, and reads the ids of the newest events. It starts
// nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Dir == "":
		return nil, errors.New("server: Dir is not set")
	case cfg.View == nil:
		return nil, errors.New("server: View is not set")
	case cfg.Origin == "":
		return nil, errors.New("server: Origin is not set")
	case len(cfg.VKeys) == 0:
		return nil, errors.New("server: VKeys is not set")
	case cfg.Token == "":
		return nil, errors.New("server: Token is not set")
	case (cfg.Recorder == nil) != (cfg.Problem != nil):
		return nil, errors.New("server: want either a Recorder or the Problem why there is none")
	case cfg.MaxBody < 0:
		return nil, fmt.Errorf("server: MaxBody is %d", cfg.MaxBody)
	case cfg.RememberIDs > math.MaxInt32:
		return nil, fmt.Errorf("server: RememberIDs is %d", cfg.RememberIDs)
	case cfg.RememberFor < 0:
		return nil, fmt.Errorf("server: RememberFor is %s", cfg.RememberFor)
	}
	s := &Server{
		cfg: cfg, token: sha256.Sum256([]byte(cfg.Token)), cursorKey: cursorKey(cfg.Token),
		looking: make(chan struct{}, lookups), streams: make(chan struct{}, maxStreams), stall: streamStall, stopping: make(chan struct{}),
		events: maxEvents,
	}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.cfg.Token = "" // the digest is enough from here on
	for i, text := range cfg.VKeys {
		v, err := checkpoint.ParseVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("server: public key %d: %w", i+1, err)
		}
		s.trusted = append(s.trusted, v)
	}
	if cfg.Log == nil {
		s.cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBody == 0 {
		s.cfg.MaxBody = DefaultMaxBody
	}
	if cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	if s.searcher = cfg.Searcher; s.searcher == nil {
		s.searcher = scanner{s}
	}
	s.metrics = metrics.New(veritrail.Version, s.numbers)
	s.fillWindow()
	return s, nil
}

// scanner reads through the leaves of the newest view.
type scanner struct{ s *Server }

func (c scanner) Search(ctx context.Context, q *search.Query, first, end uint64, newest bool, hit func(search.Hit) error) ([]search.Gap, error) {
	return search.NewScanner(c.s.cfg.View().Leaves()).Search(ctx, q, first, end, newest, hit)
}

// fillWindow remembers the ids of the newest events there are. An id that it
// can't read is not recognised when it comes again.
func (s *Server) fillWindow() {
	if s.cfg.RememberIDs == 0 {
		s.cfg.RememberIDs = DefaultRememberIDs
	}
	if s.cfg.RememberFor == 0 {
		s.cfg.RememberFor = rememberFor
	}
	s.window = newWindow(s.cfg.RememberIDs, s.cfg.RememberFor, s.cfg.Now)
	if s.cfg.Recorder == nil {
		return
	}
	// What is remembered counts as acknowledged, which may mean sealed.
	if st := s.cfg.Recorder.Stats(); st.Sealed < st.Size {
		if err := s.cfg.Recorder.Seal(context.Background()); err != nil {
			s.cfg.Log.Warn("no checkpoint of what was recorded before", slog.Any("error", err))
		}
	}
	if err := s.window.fill(context.Background(), s.cfg.View().Leaves(), s.size()); err != nil {
		s.cfg.Log.Warn("not all ids of the newest events could be read: those are not recognised when they come again", slog.Any("error", err))
	}
}

// Handler answers requests as Serve does, but for the check of the Host header
// on loopback, which is Serve's.
func (s *Server) Handler() http.Handler { return s.handler(false) }

// Serve answers requests on ln until ctx ends, then lets those that have begun
// finish, for 30 seconds at most, and closes ln. When it returns nil, every
// request that was taken has had its answer; close the Recorder after it.
// Without a tlsConfig it refuses to serve anywhere but on loopback.
func (s *Server) Serve(ctx context.Context, ln net.Listener, tlsConfig *tls.Config) error {
	loopback := isLoopback(ln.Addr())
	if tlsConfig == nil && !loopback {
		err := fmt.Errorf("server: %s: not a loopback address: the token and the events would cross the network in the clear; configure TLS", ln.Addr())
		return errors.Join(err, ln.Close())
	}
	srv := &http.Server{
		Handler: s.handler(loopback), MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug), // connections that clients broke
	}
	ended := make(chan error, 1)
	go func() {
		if tlsConfig == nil {
			ended <- srv.Serve(ln)
			return
		}
		srv.TLSConfig = tlsConfig.Clone()
		ended <- srv.ServeTLS(ln, "", "")
	}()
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("server: %s: %w", ln.Addr(), err), srv.Close())
	case <-ctx.Done():
	}
	s.stop() // streams would go on for ever
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(bounded)
	if err != nil {
		err = errors.Join(fmt.Errorf("server: %s: requests still ran after %s and were cut off", ln.Addr(), shutdownTimeout), srv.Close())
	}
	if serr := <-ended; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// numbers is the trail for metrics.
func (s *Server) numbers() metrics.Trail {
	index := s.indexState()
	if s.cfg.Recorder == nil {
		out := metrics.Trail{ReadOnly: true, Leaves: s.cfg.View().Size(), IndexLag: index.Lag, IndexRebuilding: index.Rebuilding != ""}
		if sealed, err := s.sealed(); err == nil && sealed != nil {
			out.Sealed = sealed.Checkpoint.Size
		}
		return out
	}
	st := s.cfg.Recorder.Stats()
	return metrics.Trail{
		Leaves: st.Size, Sealed: st.Sealed, Halted: st.Halted != nil,
		Events: st.Leaves, Rejected: st.Rejected, Lost: st.Lost, Batches: st.Batches, Checkpoints: st.Checkpoints, Repairs: st.Repairs,
		LeafBytes: st.LeafBytes, StoredBytes: st.StoredBytes, SyncTime: st.SyncTime, Waiting: st.Waiting,
		IndexLag: index.Lag, IndexRebuilding: index.Rebuilding != "",
	}
}

func (s *Server) indexState() IndexState {
	if s.cfg.Index == nil {
		return IndexState{}
	}
	return s.cfg.Index()
}
