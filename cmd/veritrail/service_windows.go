package main

import (
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const (
	serviceHasUsers = false

	servicePrivileges = `To install, start, stop or remove a service takes an administrator, in an elevated
prompt. Without those rights, have this program start whenever you log on (it ends
when you log off):

  reg add HKCU\Software\Microsoft\Windows\CurrentVersion\Run /v veritrail /d "\"C:\path\to\veritrail.exe\" up"`

	serviceDataHelp    = `%ProgramData%\NAME\trail`
	serviceLogHelp     = `service.log beside the trail`
	serviceAccountHelp = "`ACCOUNT` that it runs as, such as \"NT AUTHORITY\\LocalService\", which then needs rights to the data directory (default: the system)"
)

func serviceDataDir(f *serviceFlags) (string, error) {
	dir := os.Getenv("ProgramData")
	if !filepath.IsAbs(dir) {
		return "", usageError("ProgramData is not set: say where with --data DIR")
	}
	return filepath.Join(dir, f.name, "trail"), nil
}

// A service of Windows has no stderr that anybody sees.
func serviceLogFile(data string) string { return filepath.Join(filepath.Dir(data), "service.log") }

// swallowConsoleSignals keeps the log-off of some user, which the console
// handlers of services hear of too, from ending the service. The service
// manager says when it is to stop.
func swallowConsoleSignals() {
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGTERM)
}
