//go:build !windows

package main

import "path/filepath"

const (
	serviceHasUsers = true

	servicePrivileges = `A service of the whole system takes root. With --user it takes no privileges: the
service is one of your own systemd, which runs while you are logged in, and beyond
that after: loginctl enable-linger`

	serviceDataHelp    = "/var/lib/NAME/trail; with --user, the one that `veritrail up` makes"
	serviceLogHelp     = "the journal"
	serviceAccountHelp = "`USER` that it runs as, who owns the data directory (default: one that exists while it runs, for data in /var/lib/NAME)"
)

func serviceDataDir(f *serviceFlags) (string, error) {
	if f.perUser {
		return dataDir("")
	}
	return filepath.Join("/var/lib", f.name, "trail"), nil
}

func serviceLogFile(string) string { return "" } // stderr is the journal's

// swallowConsoleSignals has nothing to do: SIGTERM is how systemd stops a service.
func swallowConsoleSignals() {}
