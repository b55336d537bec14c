package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail"
	"github.com/veritrail/veritrail/internal/durable"
	"github.com/veritrail/veritrail/internal/index"
	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/server"
	"github.com/veritrail/veritrail/internal/trail"
	"github.com/veritrail/veritrail/recorder"
)

const defaultListen = "127.0.0.1:8790"

func newUp() *cobra.Command {
	var f struct {
		data, listen, config, origin string
		logLevel, logFormat, logFile string
		sm3, publicTiles, verbose    bool
	}
	c := &cobra.Command{
		Use:   "up",
		Short: "Run it all here: the trail, its HTTP interface, and this host on record",
		Long: `Opens the trail, or makes one with new keys, and serves it on a local port until it
is interrupted. Its own start, configuration and stop are events, and so is what it
sees of this host: the system, the Go toolchains, the names (never the values) of
environment variables.

Without TLS it listens on loopback addresses only. A program records with the API
token, which lies in DATA/token. The newest checkpoint is also kept outside the
data directory, so that verify can tell when the trail was set back.

The first interrupt or SIGTERM stops it in order: requests that have begun get their
answers, and everything acknowledged is on disk and sealed. A second one ends it at
once. SIGHUP makes it open its log file again, and read the log's level from the
configuration file.`,
		Example: `  veritrail up
  veritrail up --data trail --listen 127.0.0.1:9000
  veritrail up --config veritrail.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(f.config)
			if err != nil {
				return err
			}
			cfg.Data, cfg.Origin = cmp.Or(f.data, cfg.Data), cmp.Or(f.origin, cfg.Origin)
			cfg.Listen = cmp.Or(f.listen, cfg.Listen, defaultListen)
			cfg.PublicTiles = cfg.PublicTiles || f.publicTiles
			if f.sm3 {
				cfg.Digests = []string{"sha256", "sm3"}
			}
			if cfg.Data, err = dataDir(cfg.Data); err != nil {
				return err
			}
			if f.verbose {
				f.logLevel = cmp.Or(f.logLevel, "debug")
			}
			cfg.Log.Level, cfg.Log.Format, cfg.Log.File = cmp.Or(f.logLevel, cfg.Log.Level), cmp.Or(f.logFormat, cfg.Log.Format), cmp.Or(f.logFile, cfg.Log.File)
			log, err := openLog(cfg.Log, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			reload := newReloads()
			if log.file != nil {
				reload.add("log file", log.file.Reopen)
			}
			if f.config != "" && f.logLevel == "" {
				reload.add("log level", func() error {
					again, err := loadConfig(f.config)
					if err != nil {
						return err
					}
					return log.setLevel(again.Log.Level)
				})
			}
			err = up(cmd.Context(), cmd.OutOrStdout(), cfg, log.Logger, reload, func() {})
			if err != nil && log.file != nil {
				log.Error("ended", "problem", err) // standard error has it from main
			}
			return errors.Join(err, log.close())
		},
	}
	c.Flags().StringVar(&f.data, "data", "", "the trail's directory (default: in $XDG_STATE_HOME or %LOCALAPPDATA%)")
	c.Flags().StringVar(&f.listen, "listen", "", "`ADDR` to serve on (default "+defaultListen+"; port 0: any)")
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE`")
	c.Flags().StringVar(&f.origin, "origin", "", "`NAME` of a trail that is made")
	c.Flags().BoolVar(&f.sm3, "sm3", false, "give a trail that is made an SM3 tree and SM2 signatures too")
	c.Flags().BoolVar(&f.publicTiles, "public-tiles", false, "serve entry bundles, which hold the events, without the token")
	c.Flags().StringVar(&f.logFile, "log-file", "", "write the program's own log to `FILE`, in files of bounded size, instead of standard error")
	c.Flags().StringVar(&f.logFormat, "log-format", "", "text or json (default text)")
	c.Flags().StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (default info)")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log every request: --log-level debug")
	return c
}

// up serves a trail until ctx ends, and calls ready once it does. Whoever can
// read a file of theirs again while it runs adds that to reload.
func up(ctx context.Context, out io.Writer, cfg *config, log *slog.Logger, reload *reloads, ready func()) (err error) {
	tlsConfig, err := cfg.tlsConfig(log)
	if err != nil {
		return err
	}
	rc, err := cfg.recorder(cfg.Data)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("%w; choose another address with --listen", err)
	}
	defer func() { err = errors.Join(err, ignoreNetClosed(listener.Close())) }()
	if addr, ok := listener.Addr().(*net.TCPAddr); tlsConfig == nil && (!ok || !addr.IP.IsLoopback()) {
		return usageError("--listen %s: not a loopback address: the token and the events would cross the network in the clear; configure tls", cfg.Listen)
	}
	sc := server.Config{Dir: cfg.Data, Log: log}
	if err := cfg.server(&sc); err != nil {
		return err
	}
	rec, kept, err := openKept(rc)
	switch {
	case err == nil:
		defer func() { err = errors.Join(err, rec.Close(), kept.close()) }()
		sc.Recorder, sc.View, sc.VKeys = rec, rec.Trail().View, rec.Keys()
		sc.Origin = rec.Trail().Identity().Origin
		idx, errIndex := openIndex(cfg, rec, log)
		if errIndex != nil {
			return errIndex
		}
		defer func() { err = errors.Join(err, idx.Close()) }()
		sc.Searcher, sc.Index = idx, indexState(idx, cfg.Index.Off)
	case errors.Is(err, recorder.ErrDamaged), errors.Is(err, recorder.ErrBehindCheckpoint):
		log.Error("the trail cannot be written any more; serving it for reading", "problem", err)
		idx, errRead := readOnly(&sc, cfg.Data, err)
		if errRead != nil {
			return errRead
		}
		defer func() { err = errors.Join(err, idx.Close()) }()
	default:
		return explainOpen(err)
	}
	if sc.Token, err = ensureToken(cfg.Data); err != nil {
		return err
	}
	srv, err := server.New(sc)
	if err != nil {
		return err
	}
	if rec != nil {
		if err := recordStart(ctx, rec, cfg, listener.Addr()); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, recordStop(rec)) }()
	}
	scheme := "http"
	if tlsConfig != nil {
		scheme = "https"
	}
	announce(out, cfg, &sc, scheme+"://"+listener.Addr().String())
	announceDegraded(out, log, degraded(cfg))
	log.Info("serving", "address", listener.Addr(), "trail", cfg.Data, "origin", sc.Origin, "version", versionInfo().Version)
	ctx, settle := watch(ctx, log, rec, cfg.Data, reload)
	defer settle()
	ready() // whoever connects now waits in the listener's queue, no more
	if err := srv.Serve(ctx, listener, tlsConfig); err != nil {
		return err
	}
	log.Info("stopping")
	fmt.Fprintln(out, "stopping: everything acknowledged is on disk")
	return nil
}

// openIndex keeps the trail's index from now on. It follows what is durable, and
// the recorder does not know of it: without an index, or with one that somebody
// else keeps, events are recorded and found all the same.
func openIndex(cfg *config, rec *recorder.Recorder, log *slog.Logger) (*index.Index, error) {
	ic, err := cfg.Index.config(cfg.Data, func() uint64 { return rec.Stats().Size })
	if err != nil {
		return nil, err
	}
	ic.Leaves = rec.Trail().View().Leaves()
	ic.Problem = func(problem error) {
		log.Warn("the index is being mended; searches go on without it", "problem", problem)
	}
	if cfg.Index.Off {
		return index.None(cfg.Data, ic.Leaves)
	}
	idx, err := index.Open(ic)
	if err != nil {
		log.Warn("no index is kept; searches use what is there and read the rest", "problem", err)
		return index.OpenReader(cfg.Data, ic.Leaves)
	}
	return idx, nil
}

// indexState tells the server how far the index is. One that is switched off is
// as it should be.
func indexState(idx *index.Index, off bool) func() server.IndexState {
	return func() server.IndexState {
		st := idx.Status()
		out := server.IndexState{Lag: st.Lag}
		if st.Rebuilding() && !off {
			out.Rebuilding = st.String()
		}
		return out
	}
}

// readOnly prepares to serve a trail that is not written, and searches it with
// what index there is.
func readOnly(sc *server.Config, dir string, problem error) (*index.Index, error) {
	view, _, err := trail.OpenView(dir)
	if err != nil {
		return nil, &coded{exitNotHeld, errors.Join(problem, err)}
	}
	id, err := trail.ReadIdentity(dir)
	if err != nil {
		return nil, err
	}
	_, vkeys, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
	if err != nil {
		return nil, err
	}
	idx, err := index.OpenReader(dir, view.Leaves())
	if err != nil {
		return nil, err
	}
	sc.Problem, sc.View, sc.VKeys, sc.Origin = problem, func() *trail.View { return view }, vkeys, id.Origin
	sc.Searcher = idx
	return idx, nil
}

// recordStart puts on record that the trail is served, how, and where.
func recordStart(ctx context.Context, rec *recorder.Recorder, cfg *config, addr net.Addr) error {
	digest, err := cfg.digest()
	if err != nil {
		return err
	}
	v := versionInfo()
	err = rec.RecordOwn(ctx, &veritrail.ComplianceEvent{
		Severity: veritrail.SeverityInfo, Action: "TRAIL.START", Subject: map[string]string{"svc": "veritrail"},
		Object: map[string]string{"config_sha256": digest, "listen": addr.String(), "version": v.Version, "revision": cmp.Or(v.Revision, "unknown"), "go": v.Go},
	})
	if err != nil {
		return err
	}
	// The host's own facts obey the allowlist like anybody's events; where it
	// leaves them out, they are left out.
	for _, e := range hostEvents() {
		if err := rec.Record(ctx, e); err != nil && !errors.Is(err, veritrail.ErrInvalidComplianceEvent) {
			return err
		}
	}
	return rec.Seal(ctx)
}

func recordStop(rec *recorder.Recorder) error {
	// Not the command's context: that is what has ended.
	return rec.RecordOwn(context.Background(), &veritrail.ComplianceEvent{
		Severity: veritrail.SeverityInfo, Action: "TRAIL.STOP", Subject: map[string]string{"svc": "veritrail"},
	})
}

// ensureToken reads the API token, or makes one.
func ensureToken(dir string) (string, error) {
	name := filepath.Join(dir, trail.TokenFile)
	b, err := os.ReadFile(name)
	if err == nil {
		if others, err := durable.OthersCanRead(name); err != nil || others {
			return "", errors.Join(err, usageError("%s: others can read the API token: run %s, or delete it for a new one", name, durable.RestrictCommand(name)))
		}
		if token := strings.TrimSpace(string(b)); len(token) >= 32 {
			return token, nil
		}
		return "", usageError("%s: want a token of 32 characters or more; delete it for a new one", name)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(secret[:])
	return token, durable.WriteFile(name, []byte(token+"\n"))
}

// announce says where things are and what to try.
func announce(out io.Writer, cfg *config, sc *server.Config, base string) {
	token := filepath.Join(cfg.Data, trail.TokenFile)
	fmt.Fprintf(out, `veritrail is up: %s
  trail   %s  (%s)
  token   %s
`, base, cfg.Data, sc.Origin, token)
	for _, k := range sc.VKeys {
		fmt.Fprintf(out, "  key     %s\n", k)
	}
	if sc.Recorder == nil {
		fmt.Fprintf(out, "\nFOR READING ONLY: %v\n", sc.Problem)
		return
	}
	data := ""
	if state, err := dataDir(""); err != nil || state != cfg.Data {
		data = " --data " + quoteArg(cfg.Data)
	}
	fmt.Fprintf(out, `
record an event:
  %s
find it, and check everything:
  %s search%s --where 'act=AUTH.*'
  %s verify%s

stop with Ctrl-C
`, recordExample(base, token), self(), data, self(), strings.TrimPrefix(data, " --data"))
}

// self is how this program was called, as people type it.
func self() string {
	name, err := os.Executable()
	if err == nil && strings.Contains(filepath.ToSlash(name), "/go-build") {
		return "go run ./cmd/veritrail" // a build that is gone when it ends
	}
	return filepath.Base(os.Args[0])
}

func ignoreNetClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
