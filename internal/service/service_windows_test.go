package service

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

func absolute(parts ...string) string { return `C:\` + strings.Join(parts, `\`) }

func TestPlanQuotesTheCommand(t *testing.T) {
	s, err := New(Config{Name: "v", Exe: `C:\Program Files\v.exe`, Args: []string{"--data", `D:\审计 数据\`, `a"b`}, DataDir: `D:\审计 数据`})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan()
	if err != nil {
		t.Fatal(err)
	}
	want := `"C:\Program Files\v.exe" --data "D:\审计 数据\\" a\"b`
	if !strings.Contains(plan, want) || !strings.Contains(plan, "LocalSystem") {
		t.Errorf("got %s, want %s in it", plan, want)
	}
	if _, err := New(Config{Name: "v", PerUser: true}); err == nil {
		t.Error("a service of one user")
	}
}

// execute runs the handler as the service manager would.
type execution struct {
	requests chan svc.ChangeRequest
	reports  chan svc.Status
	ended    chan uint32
}

func execute(t *testing.T, h *handler) *execution {
	t.Helper()
	h.ctx = t.Context()
	e := &execution{make(chan svc.ChangeRequest), make(chan svc.Status), make(chan uint32, 1)}
	go func() {
		_, code := h.Execute(nil, e.requests, e.reports)
		e.ended <- code
	}()
	return e
}

// await drops the reports of a state that goes on until the next one.
func (e *execution) await(t *testing.T, want svc.State) svc.Status {
	t.Helper()
	for {
		select {
		case got := <-e.reports:
			if got.State == want {
				return got
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("state %d never came", want)
		}
	}
}

func TestHandlerStopsWhenAsked(t *testing.T) {
	for _, command := range []svc.Cmd{svc.Stop, svc.Shutdown, svc.PreShutdown} {
		closed := false
		h := &handler{stopTimeout: time.Minute, serve: func(ctx context.Context, ready func()) error {
			ready()
			<-ctx.Done()
			closed = true // as a trail is sealed and closed
			return nil
		}}
		e := execute(t, h)
		e.await(t, svc.StartPending)
		if st := e.await(t, svc.Running); st.Accepts&svc.AcceptStop == 0 || st.Accepts&svc.AcceptPreShutdown == 0 {
			t.Errorf("accepts %b", st.Accepts)
		}
		e.requests <- svc.ChangeRequest{Cmd: svc.Interrogate}
		e.await(t, svc.Running)
		e.requests <- svc.ChangeRequest{Cmd: command}
		if st := e.await(t, svc.StopPending); st.WaitHint == 0 {
			t.Error("no hint of how long it takes")
		}
		if code := <-e.ended; code != 0 || !closed || h.err != nil {
			t.Errorf("code %d, closed %v, %v", code, closed, h.err)
		}
	}
}

// A start that takes long is told to the manager again and again, and can be
// stopped.
func TestHandlerSaysThatAStartGoesOn(t *testing.T) {
	h := &handler{stopTimeout: time.Minute, serve: func(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }}
	e := execute(t, h)
	first := e.await(t, svc.StartPending)
	if second := e.await(t, svc.StartPending); second.CheckPoint <= first.CheckPoint {
		t.Errorf("check point %d after %d", second.CheckPoint, first.CheckPoint)
	}
	e.requests <- svc.ChangeRequest{Cmd: svc.Stop}
	e.await(t, svc.StopPending)
	if code := <-e.ended; code != 0 {
		t.Errorf("code %d", code)
	}
}

func TestHandlerTellsFailures(t *testing.T) {
	broken := errors.New("broken")
	h := &handler{stopTimeout: time.Minute, serve: func(context.Context, func()) error { return broken }}
	e := execute(t, h)
	e.await(t, svc.StartPending)
	if code := <-e.ended; code == 0 || !errors.Is(h.err, broken) {
		t.Errorf("code %d, %v", code, h.err)
	}
	// One that does not end in time.
	release := make(chan struct{})
	h = &handler{stopTimeout: 10 * time.Millisecond, serve: func(_ context.Context, ready func()) error { ready(); <-release; return nil }}
	e = execute(t, h)
	e.await(t, svc.Running)
	e.requests <- svc.ChangeRequest{Cmd: svc.Stop}
	e.await(t, svc.StopPending)
	if code := <-e.ended; code == 0 || h.err == nil {
		t.Errorf("code %d, %v", code, h.err)
	}
	close(release)
}

func TestStatusOfWindows(t *testing.T) {
	for want, found := range map[Status]svc.Status{
		{State: Starting, PID: 1}: {State: svc.StartPending, ProcessId: 1},
		{State: Running, PID: 2}:  {State: svc.Running, ProcessId: 2},
		{State: Stopping}:         {State: svc.StopPending},
		{State: Stopped}:          {State: svc.Stopped, Win32ExitCode: uint32(windows.ERROR_SERVICE_NEVER_STARTED)},
		{State: Failed, Note: "exit code 3"}: {State: svc.Stopped, Win32ExitCode: uint32(windows.ERROR_SERVICE_SPECIFIC_ERROR),
			ServiceSpecificExitCode: 3},
	} {
		if got := statusOf(found); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	for err, want := range map[error]error{
		windows.ERROR_ACCESS_DENIED: ErrPrivilege, windows.ERROR_SERVICE_DOES_NOT_EXIST: ErrNotInstalled, windows.ERROR_SERVICE_EXISTS: ErrInstalled,
	} {
		if got := privilege("x", err); !errors.Is(got, want) {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}
