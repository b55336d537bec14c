//go:build !windows

package e2e

import (
	"os"
	"os/exec"
)

func interruptForParent() {}

func canInterrupt(*exec.Cmd) {}

func sendInterrupt(cmd *exec.Cmd) error { return cmd.Process.Signal(os.Interrupt) }
