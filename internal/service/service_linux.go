package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/veritrail/veritrail/internal/durable"
)

// system is systemd.
type system struct {
	unitDir string
	// systemctl runs it with these arguments and returns what it says.
	systemctl func(ctx context.Context, args ...string) ([]byte, error)
}

func (s *Service) connect() error {
	s.system.unitDir = "/etc/systemd/system"
	if s.cfg.PerUser {
		config, err := os.UserConfigDir()
		if err != nil {
			return fmt.Errorf("service: %w", err)
		}
		s.system.unitDir = filepath.Join(config, "systemd", "user")
	}
	s.system.systemctl = systemctl
	return nil
}

func systemctl(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "systemctl", args...) //nolint:gosec // a verb and the name of a unit, which New checked
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("systemctl %s: %w: %s", args[0], err, strings.TrimSpace(said.String()))
	}
	return out, nil
}

func (s *Service) ctl(ctx context.Context, args ...string) ([]byte, error) {
	if s.cfg.PerUser {
		args = append([]string{"--user"}, args...)
	}
	return s.system.systemctl(ctx, args...)
}

func (s *Service) unitName() string { return s.cfg.Name + ".service" }
func (s *Service) unitPath() string { return filepath.Join(s.system.unitDir, s.unitName()) }

// stateRoot is where StateDirectory= lies; what it names, the service may write.
const stateRoot = "/var/lib"

func (s *Service) plan() (string, error) {
	unit, err := s.unit()
	if err != nil {
		return "", err
	}
	return "# " + s.unitPath() + "\n" + unit, nil
}

// unit is the text of the unit file.
func (s *Service) unit() (string, error) {
	state := filepath.Join(stateRoot, s.cfg.Name)
	inState := s.cfg.DataDir == state || strings.HasPrefix(s.cfg.DataDir, state+"/")
	if !s.cfg.PerUser && s.cfg.Account == "" && !inState {
		return "", fmt.Errorf("service: data directory %s is outside %s: name the account that owns it", s.cfg.DataDir, state)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[Unit]")
	line("Description=%s", specifiers.Replace(s.cfg.Description))
	if !s.cfg.PerUser {
		line("After=network.target local-fs.target time-sync.target")
		line("RequiresMountsFor=%s", quote(s.cfg.DataDir))
	}
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	line("ExecStart=%s", command(s.cfg.Exe, s.cfg.Args))
	line("Restart=on-failure")
	line("RestartSec=5")
	line("# Wrong usage or configuration: a restart would not mend it.")
	line("RestartPreventExitStatus=2")
	line("# A trail that was not closed is looked through first.")
	line("TimeoutStartSec=600")
	line("TimeoutStopSec=%d", int(s.cfg.StopTimeout.Seconds()))
	line("UMask=0077")
	line("NoNewPrivileges=yes")
	if s.cfg.PerUser {
		// The rest needs privileges, or name spaces that many a kernel refuses to users.
		line("")
		line("[Install]")
		line("WantedBy=default.target")
		return b.String(), nil
	}
	if s.cfg.Account == "" {
		line("DynamicUser=yes")
	} else {
		line("User=%s", specifiers.Replace(s.cfg.Account))
	}
	line("StateDirectory=%s", s.cfg.Name)
	line("StateDirectoryMode=0700")
	// What the program keeps outside its data, such as the newest checkpoint, goes to the state directory as well.
	line("Environment=%s", quote("XDG_STATE_HOME="+state))
	line("ProtectSystem=strict")
	if !inState {
		line("ReadWritePaths=%s", quote(s.cfg.DataDir))
	}
	line("ProtectHome=%s", protectHome(s.cfg))
	if !mentions(s.cfg, "/tmp", "/var/tmp") {
		line("PrivateTmp=yes")
	}
	for _, hardened := range []string{
		"PrivateDevices=yes", "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes",
		"ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "RestrictNamespaces=yes", "RestrictRealtime=yes",
		"RestrictSUIDSGID=yes", "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "CapabilityBoundingSet=",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX", "SystemCallArchitectures=native", "SystemCallFilter=@system-service",
		"SystemCallErrorNumber=EPERM",
	} {
		line("%s", hardened)
	}
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return b.String(), nil
}

// protectHome hides the home directories, unless the program or its data lie in
// one: then they can be read.
func protectHome(cfg Config) string {
	if mentions(cfg, "/home", "/root", "/run/user") {
		return "read-only"
	}
	return "yes"
}

// mentions tells whether a path that the service uses lies in one of places.
func mentions(cfg Config, places ...string) bool {
	for _, path := range append([]string{cfg.Exe, cfg.DataDir}, cfg.Args...) {
		for _, place := range places {
			if strings.HasPrefix(path, place+"/") {
				return true
			}
		}
	}
	return false
}

// specifiers keeps % from being one (systemd.unit(5), SPECIFIERS).
var specifiers = strings.NewReplacer("%", "%%")

// quote writes one word of a setting (systemd.syntax(7), QUOTING).
func quote(word string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(word) {
		switch c := word[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '%':
			b.WriteString("%%")
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c) // UTF-8 is taken as it is
		}
	}
	b.WriteByte('"')
	return b.String()
}

// command writes a command line, where $ would be a variable (systemd.service(5),
// COMMAND LINES). Plain words stay plain, for whoever reads them.
func command(exe string, args []string) string {
	words := []string{plainOrQuoted(exe)}
	for _, a := range args {
		words = append(words, strings.ReplaceAll(plainOrQuoted(a), "$", "$$"))
	}
	return strings.Join(words, " ")
}

func plainOrQuoted(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=:,+@"
	if word != "" && strings.Trim(word, plain) == "" && !strings.ContainsAny(word[:1], "@-:+") || strings.HasPrefix(word, "--") && strings.Trim(word, plain) == "" {
		return word
	}
	return quote(word)
}

func (s *Service) install(ctx context.Context) error {
	unit, err := s.unit()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(s.unitPath()); err == nil {
		return fmt.Errorf("service: %s: %w", s.unitPath(), ErrInstalled)
	}
	if err := os.MkdirAll(s.system.unitDir, 0o755); err != nil { //nolint:gosec // systemd and its users read it
		return privilege(err)
	}
	if err := durable.WriteFile(s.unitPath(), []byte(unit)); err != nil {
		return privilege(err)
	}
	if err := os.Chmod(s.unitPath(), 0o644); err != nil { //nolint:gosec // units are public, and hold no secret
		return privilege(err)
	}
	if _, err := s.ctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("service: %s is written: %w", s.unitPath(), err)
	}
	if _, err := s.ctl(ctx, "enable", s.unitName()); err != nil {
		return fmt.Errorf("service: %s is written: %w", s.unitPath(), err)
	}
	return nil
}

func privilege(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("service: %w: %w", ErrPrivilege, err)
	}
	return fmt.Errorf("service: %w", err)
}

func (s *Service) installed() error {
	if _, err := os.Lstat(s.unitPath()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("service: %s: %w", s.unitPath(), ErrNotInstalled)
	} else if err != nil {
		return privilege(err)
	}
	return nil
}

// Because of Type=notify, systemctl waits until the service is ready.
func (s *Service) start(ctx context.Context) error { return s.control(ctx, "start") }

func (s *Service) stop(ctx context.Context) error { return s.control(ctx, "stop") }

func (s *Service) control(ctx context.Context, verb string) error {
	if err := s.installed(); err != nil {
		return err
	}
	if _, err := s.ctl(ctx, verb, s.unitName()); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	return nil
}

func (s *Service) remove(ctx context.Context) error {
	if err := s.installed(); err != nil {
		return err
	}
	if _, err := s.ctl(ctx, "disable", "--now", s.unitName()); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if err := durable.OS.Remove(s.unitPath()); err != nil {
		return privilege(err)
	}
	if _, err := s.ctl(ctx, "daemon-reload"); err != nil {
		return fmt.Errorf("service: %s is removed: %w", s.unitPath(), err)
	}
	return nil
}

func (s *Service) status(ctx context.Context) (Status, error) {
	if err := s.installed(); errors.Is(err, ErrNotInstalled) {
		return Status{State: NotInstalled}, nil
	} else if err != nil {
		return Status{}, err
	}
	out, err := s.ctl(ctx, "show", "--property=ActiveState,MainPID,Result,StatusText", s.unitName())
	if err != nil {
		return Status{}, fmt.Errorf("service: %w", err)
	}
	return parseShow(string(out))
}

func parseShow(text string) (Status, error) {
	var st Status
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "=")
		switch key {
		case "ActiveState":
			state, ok := map[string]State{
				"active": Running, "reloading": Running, "activating": Starting, "deactivating": Stopping, "inactive": Stopped, "failed": Failed,
			}[value]
			if !ok {
				return st, fmt.Errorf("service: systemctl show: state %q is none that it documents", value)
			}
			st.State = state
		case "MainPID":
			pid, err := strconv.Atoi(value)
			if err != nil {
				return st, errors.New("service: systemctl show: MainPID is not a number")
			}
			st.PID = pid
		case "Result":
			if value != "success" {
				st.Note = value
			}
		case "StatusText":
			if st.Note == "" {
				st.Note = value
			}
		}
	}
	if st.State == "" {
		return st, errors.New("service: systemctl show: no ActiveState")
	}
	return st, nil
}

func run(ctx context.Context, cfg RunConfig, serve func(ctx context.Context, ready func()) error) error {
	notify := func(string) error { return nil }
	if cfg.NotifySocket != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "unixgram", cfg.NotifySocket) // one that begins with @ is abstract
		if err != nil {
			return fmt.Errorf("service: notify socket: %w", err)
		}
		defer conn.Close()
		notify = func(state string) error {
			if _, err := conn.Write([]byte(state)); err != nil {
				return fmt.Errorf("service: notify socket: %w", err)
			}
			return nil
		}
	}
	// Whoever waits for word from the service must get it: what could not be said is an error of the service.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	say := func(state string) {
		if err := notify(state); err != nil {
			cancel(err)
		}
	}
	// serve can return before the context has started what follows its end, so both ways of ending say it, once.
	stopping := sync.OnceValue(func() error { return notify("STOPPING=1\nSTATUS=stopping") })
	defer context.AfterFunc(ctx, func() { _ = stopping() })()
	err := serve(ctx, func() { say("READY=1\nSTATUS=serving") })
	if ctx.Err() != nil {
		err = errors.Join(err, stopping())
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}
