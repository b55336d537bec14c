//go:build !linux && !windows

package main

func kernelRelease() string { return "" }
