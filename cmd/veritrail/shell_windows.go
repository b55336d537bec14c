package main

import (
	"fmt"
	"strings"
)

// quoteArg is one argument as PowerShell takes it.
func quoteArg(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// recordExample records an event from PowerShell, where there is no curl that
// keeps the quotes of JSON.
func recordExample(base, token string) string {
	return fmt.Sprintf(`'{"sub":{"user":"u1"},"act":"AUTH.LOGIN.OK"}' | %s record --to %s --token-file %s`, self(), base, quoteArg(token))
}
