//go:build !windows

package main

import (
	"fmt"
	"strings"
)

// quoteArg is one argument as a shell takes it.
func quoteArg(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:=@,%"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// recordExample records an event from a shell.
func recordExample(base, token string) string {
	return fmt.Sprintf(`curl -H "Authorization: Bearer $(cat %s)" -d '{"sub":{"user":"u1"},"act":"AUTH.LOGIN.OK"}' %s/v1/events`, quoteArg(token), base)
}
