package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/windows"
)

// interruptVariable names, to this program when it calls itself, the process
// at whose console it presses Ctrl-C.
const interruptVariable = "E2E_INTERRUPT"

// canInterrupt gives a program a console of its own: Ctrl-C goes to all who
// share one.
func canInterrupt(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_CONSOLE, HideWindow: true}
}

func sendInterrupt(cmd *exec.Cmd) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	helper := exec.Command(self)
	helper.Env = append(os.Environ(), interruptVariable+"="+strconv.Itoa(cmd.Process.Pid))
	if out, err := helper.CombinedOutput(); err != nil {
		return fmt.Errorf("pressing Ctrl-C: %w: %s", err, out)
	}
	return nil
}

func interruptForParent() {
	pid, err := strconv.Atoi(os.Getenv(interruptVariable))
	if err != nil {
		return
	}
	kernel := windows.NewLazySystemDLL("kernel32.dll")
	_, _, _ = kernel.NewProc("FreeConsole").Call() // there may be none
	for _, call := range []struct {
		name string
		args []uintptr
	}{
		{"AttachConsole", []uintptr{uintptr(pid)}},
		{"SetConsoleCtrlHandler", []uintptr{0, 1}}, // not to this program itself
		{"GenerateConsoleCtrlEvent", []uintptr{windows.CTRL_C_EVENT, 0}},
	} {
		if ok, _, err := kernel.NewProc(call.name).Call(call.args...); ok == 0 {
			fmt.Fprintln(os.Stderr, call.name, err)
			os.Exit(1)
		}
	}
	os.Exit(0)
}
