//go:build !windows

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHangup tells of SIGHUP from here on; those that come while one waits
// to be taken are one with it.
func notifyHangup() <-chan os.Signal {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c
}
