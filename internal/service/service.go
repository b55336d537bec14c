// Package service makes a program a service of the operating system: of
// systemd on Linux, of the service manager on Windows.
//
// On Linux, Install writes a unit file (systemd.unit(5)) and asks systemctl for
// the rest. The unit is of Type=notify: the program says itself when it is
// ready, and systemd starts what comes after it only then. It runs without
// privileges, with the whole file system read-only to it but for its own data.
//
// On Windows, Install registers the program with the service manager, which
// takes an administrator, to start with the system and to be restarted when it
// fails.
//
// Run is the other half: what the service itself calls, to be told when to stop
// and to tell that it is ready. The program is installed with such arguments
// that it gets there; it does not guess whether it is a service.
//
// It knows nothing of what the program does. It reads neither flags nor the
// environment.
package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config describes a service. Name is required everywhere; Exe and DataDir are
// what Install needs besides.
type Config struct {
	Name        string   // letters, digits, "-" and "_"
	Description string   // one line, for people
	Exe         string   // the program, an absolute path
	Args        []string // what it is started with
	DataDir     string   // the directory it writes to, an absolute path

	// PerUser is a service of this user's own systemd. Windows has none such.
	PerUser bool
	// Account is whom it runs as. When it is empty: on Linux a user that
	// exists while the service runs (DynamicUser), and DataDir must be in
	// /var/lib/NAME then; on Windows the system.
	Account string
	// StopTimeout is how long a stop may take before the system ends the
	// program; 90 s when 0.
	StopTimeout time.Duration
}

// Status is what is known of a service.
type Status struct {
	State State  `json:"state"`
	PID   int    `json:"pid,omitempty"`
	Note  string `json:"note,omitempty"` // the system's own words, such as why it failed
}

// State is what a service is doing.
type State string

// The states.
const (
	NotInstalled State = "not installed"
	Stopped      State = "stopped"
	Starting     State = "starting"
	Running      State = "running"
	Stopping     State = "stopping"
	Failed       State = "failed"
)

// Errors a caller acts upon.
var (
	// ErrPrivilege: this user may not do that to a service.
	ErrPrivilege = errors.New("not allowed to this user")
	// ErrInstalled: there is a service of this name.
	ErrInstalled = errors.New("already installed")
	// ErrNotInstalled: there is none.
	ErrNotInstalled = errors.New("not installed")
)

// Service is a service of this system, installed or not.
type Service struct {
	cfg    Config
	system system
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// New checks what every operation needs. It asks the system nothing.
func New(cfg Config) (*Service, error) {
	if !validName.MatchString(cfg.Name) {
		return nil, fmt.Errorf("service: name %q: want letters, digits, - and _, at most 64", cfg.Name)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 90 * time.Second
	}
	s := &Service{cfg: cfg}
	return s, s.connect()
}

// Plan says what Install would do, as text for people: on Linux the unit file.
func (s *Service) Plan() (string, error) {
	if err := s.check(); err != nil {
		return "", err
	}
	return s.plan()
}

// Install registers the service, to start with the system, and does not start
// it. Its error is ErrInstalled when there is one of this name.
func (s *Service) Install(ctx context.Context) error {
	if err := s.check(); err != nil {
		return err
	}
	return s.install(ctx)
}

// check looks at what Install needs.
func (s *Service) check() error {
	for what, path := range map[string]string{"program": s.cfg.Exe, "data directory": s.cfg.DataDir} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("service: %s %q: want an absolute path", what, path)
		}
	}
	texts := append([]string{s.cfg.Exe, s.cfg.DataDir, s.cfg.Account, s.cfg.Description}, s.cfg.Args...)
	if slices.ContainsFunc(texts, func(s string) bool { return strings.ContainsAny(s, "\x00\r\n") }) {
		return errors.New("service: a line break or a zero byte in an argument")
	}
	return nil
}

// Start starts the service and returns when it is ready.
func (s *Service) Start(ctx context.Context) error { return s.start(ctx) }

// Stop asks the service to stop and returns when it has. One that does not run
// is no error.
func (s *Service) Stop(ctx context.Context) error { return s.stop(ctx) }

// Remove stops the service and takes its registration away. Its data stays.
func (s *Service) Remove(ctx context.Context) error { return s.remove(ctx) }

// Status asks what the service is doing.
func (s *Service) Status(ctx context.Context) (Status, error) { return s.status(ctx) }

// RunConfig says how a service speaks with the system that started it.
type RunConfig struct {
	Name string // on Windows
	// NotifySocket is systemd's $NOTIFY_SOCKET; empty when nobody listens.
	NotifySocket string
	StopTimeout  time.Duration // 90 s when 0
}

// Run is called by the program when it was started as a service. It calls serve,
// which calls ready once it serves, and returns when serve has. The context of
// serve ends when the system asks the service to stop: on Linux, when ctx does.
func Run(ctx context.Context, cfg RunConfig, serve func(ctx context.Context, ready func()) error) error {
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = 90 * time.Second
	}
	return run(ctx, cfg, serve)
}
