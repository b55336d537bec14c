package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// system is the service manager; each operation opens it anew, with the rights
// that it needs.
type system struct {
	manager func(access uint32) (*mgr.Mgr, error)
}

func (s *Service) connect() error {
	if s.cfg.PerUser {
		return errors.New("service: Windows has no services of a single user")
	}
	s.system.manager = manager
	return nil
}

func (s *Service) plan() (string, error) {
	words := []string{windows.EscapeArg(s.cfg.Exe)}
	for _, a := range s.cfg.Args {
		words = append(words, windows.EscapeArg(a))
	}
	account := s.cfg.Account
	if account == "" {
		account = "LocalSystem"
	}
	return fmt.Sprintf("name      %s\nstart     automatic\naccount   %s\ncommand   %s\nfailure   restart after 5 s, 5 s, 60 s; counted anew after a day\n",
		s.cfg.Name, account, strings.Join(words, " ")), nil
}

// manager opens the service manager with certain rights.
func manager(access uint32) (*mgr.Mgr, error) {
	h, err := windows.OpenSCManager(nil, nil, access)
	if err != nil {
		return nil, privilege("service manager", err)
	}
	return &mgr.Mgr{Handle: h}, nil
}

// with calls do with the open service.
func (s *Service) with(access uint32, do func(*mgr.Service) error) (err error) {
	m, err := s.system.manager(windows.SC_MANAGER_CONNECT)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Disconnect()) }()
	name, err := windows.UTF16PtrFromString(s.cfg.Name)
	if err != nil {
		return err
	}
	h, err := windows.OpenService(m.Handle, name, access)
	if err != nil {
		return privilege(s.cfg.Name, err)
	}
	service := &mgr.Service{Name: s.cfg.Name, Handle: h}
	defer func() { err = errors.Join(err, service.Close()) }()
	return do(service)
}

func privilege(place string, err error) error {
	switch {
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("service: %s: %w: it takes an administrator, in an elevated prompt", place, ErrPrivilege)
	case errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST):
		return fmt.Errorf("service: %s: %w", place, ErrNotInstalled)
	case errors.Is(err, windows.ERROR_SERVICE_EXISTS):
		return fmt.Errorf("service: %s: %w", place, ErrInstalled)
	}
	return fmt.Errorf("service: %s: %w", place, err)
}

func (s *Service) install(context.Context) (err error) {
	m, err := s.system.manager(windows.SC_MANAGER_CONNECT | windows.SC_MANAGER_CREATE_SERVICE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Disconnect()) }()
	service, err := m.CreateService(s.cfg.Name, s.cfg.Exe, mgr.Config{
		StartType: mgr.StartAutomatic, ErrorControl: mgr.ErrorNormal, ServiceStartName: s.cfg.Account,
		DisplayName: s.cfg.Name, Description: s.cfg.Description,
	}, s.cfg.Args...)
	if err != nil {
		return privilege(s.cfg.Name, err)
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	restart := func(after time.Duration) mgr.RecoveryAction {
		return mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: after}
	}
	err = service.SetRecoveryActions([]mgr.RecoveryAction{restart(5 * time.Second), restart(5 * time.Second), restart(time.Minute)}, 24*60*60)
	if err == nil {
		// A program that ends with an error has failed as much as one that crashed.
		err = knownSetting(service.SetRecoveryActionsOnNonCrashFailures(true))
	}
	if err == nil {
		err = knownSetting(s.setPreshutdown(service))
	}
	if err != nil {
		return errors.Join(privilege(s.cfg.Name, err), service.Delete())
	}
	return nil
}

// knownSetting lets a refinement pass that this service manager does not know;
// Wine's does not.
func knownSetting(err error) error {
	if errors.Is(err, windows.ERROR_INVALID_LEVEL) {
		return nil
	}
	return err
}

// setPreshutdown lets the service have its time when the system goes down, too.
func (s *Service) setPreshutdown(service *mgr.Service) error {
	info := struct{ milliseconds uint32 }{uint32(s.cfg.StopTimeout.Milliseconds())}
	return windows.ChangeServiceConfig2(service.Handle, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&info))) //nolint:gosec // G103: as the call takes it
}

func (s *Service) start(ctx context.Context) error {
	return s.with(windows.SERVICE_START|windows.SERVICE_QUERY_STATUS, func(service *mgr.Service) error {
		if err := service.Start(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
			return privilege(s.cfg.Name, err)
		}
		return s.await(ctx, service, svc.Running)
	})
}

func (s *Service) stop(ctx context.Context) error {
	return s.with(windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS, func(service *mgr.Service) error { return s.stopOpen(ctx, service) })
}

func (s *Service) stopOpen(ctx context.Context, service *mgr.Service) error {
	_, err := service.Control(svc.Stop)
	switch {
	case errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE):
		return nil
	case errors.Is(err, windows.ERROR_SERVICE_CANNOT_ACCEPT_CTRL): // it starts, or stops already
	case err != nil:
		return privilege(s.cfg.Name, err)
	}
	return s.await(ctx, service, svc.Stopped)
}

func (s *Service) remove(ctx context.Context) error {
	return s.with(windows.SERVICE_STOP|windows.SERVICE_QUERY_STATUS|windows.DELETE, func(service *mgr.Service) error {
		if err := s.stopOpen(ctx, service); err != nil {
			return err
		}
		if err := service.Delete(); err != nil && !errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE) {
			return privilege(s.cfg.Name, err)
		}
		return nil
	})
}

func (s *Service) status(context.Context) (Status, error) {
	var st Status
	err := s.with(windows.SERVICE_QUERY_STATUS, func(service *mgr.Service) error {
		found, err := service.Query()
		if err != nil {
			return privilege(s.cfg.Name, err)
		}
		st = statusOf(found)
		return nil
	})
	if errors.Is(err, ErrNotInstalled) {
		return Status{State: NotInstalled}, nil
	}
	return st, err
}

func statusOf(found svc.Status) Status {
	st := Status{PID: int(found.ProcessId)}
	switch found.State {
	case svc.StartPending, svc.ContinuePending:
		st.State = Starting
	case svc.Running, svc.PausePending, svc.Paused:
		st.State = Running
	case svc.StopPending:
		st.State = Stopping
	case svc.Stopped:
		st.State = Stopped
		switch code := windows.Errno(found.Win32ExitCode); code {
		case 0, windows.ERROR_SERVICE_NEVER_STARTED:
		case windows.ERROR_SERVICE_SPECIFIC_ERROR:
			st.State, st.Note = Failed, fmt.Sprintf("exit code %d", found.ServiceSpecificExitCode)
		default:
			st.State, st.Note = Failed, code.Error()
		}
	}
	return st
}

// await asks until the service is in the state. One that stops instead has failed.
func (s *Service) await(ctx context.Context, service *mgr.Service, want svc.State) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := service.Query()
		if err != nil {
			return privilege(s.cfg.Name, err)
		}
		if found.State == want {
			return nil
		}
		if found.State == svc.Stopped {
			st := statusOf(found)
			return fmt.Errorf("service: %s: ended while starting: %s; its log says more", s.cfg.Name, st.Note)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("service: %s: %s: %w", s.cfg.Name, statusOf(found).State, ctx.Err())
		}
	}
}

func run(ctx context.Context, cfg RunConfig, serve func(ctx context.Context, ready func()) error) error {
	h := &handler{ctx: context.WithoutCancel(ctx), serve: serve, stopTimeout: cfg.StopTimeout}
	if err := svc.Run(cfg.Name, h); err != nil {
		return fmt.Errorf("service: %s: %w: was it started by the service manager?", cfg.Name, err)
	}
	return h.err
}

// handler serves one start of the service.
type handler struct {
	ctx         context.Context //nolint:containedctx // Execute, which needs it, is called through the system
	serve       func(ctx context.Context, ready func()) error
	stopTimeout time.Duration
	err         error
}

// pulse is how often the manager hears that a start or a stop goes on. It gives
// up on a service whose checkpoint does not move.
const pulse = time.Second

// Execute implements svc.Handler.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, report chan<- svc.Status) (bool, uint32) {
	// A service that opens a large trail, or closes one, is not hung.
	const hint = uint32(30 * time.Second / time.Millisecond)
	now := svc.Status{State: svc.StartPending, WaitHint: hint}
	report <- now
	ctx, cancel := context.WithCancel(h.ctx)
	defer cancel()
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { // ends when serve does, which Execute waits for
		done <- h.serve(ctx, func() { close(ready) })
	}()
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	var late <-chan time.Time
	for {
		select {
		case <-ready:
			ready = nil
			now = svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown}
			report <- now
		case <-tick.C:
			if now.State == svc.StartPending || now.State == svc.StopPending {
				now.CheckPoint++
				report <- now
			}
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				report <- now
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				if now.State == svc.StopPending {
					break
				}
				now = svc.Status{State: svc.StopPending, WaitHint: hint}
				report <- now
				cancel()
				timer := time.NewTimer(h.stopTimeout)
				defer timer.Stop() //nolint:gocritic // entered once: the state changed
				late, ready = timer.C, nil
			}
		case <-late:
			h.err = fmt.Errorf("service: did not end within %s of being asked to", h.stopTimeout)
			return true, exitFailed
		case h.err = <-done:
			if h.err != nil {
				return true, exitFailed
			}
			return false, 0
		}
	}
}

// exitFailed is what the manager is told when serve ended with an error.
const exitFailed = 3
