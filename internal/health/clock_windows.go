package health

import (
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
)

// clockSource asks whether the Windows Time service runs, and by what it sets
// the clock. How far it is off, it tells administrators only.
func clockSource() (source string, synchronized bool, maxError time.Duration) {
	const key = `SYSTEM\CurrentControlSet\Services\W32Time\Parameters`
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, key, registry.QUERY_VALUE)
	if err != nil {
		return "", false, 0
	}
	kind, _, err := k.GetStringValue("Type")
	_ = k.Close()
	if err != nil {
		return "", false, 0
	}
	running, known := timeServiceRuns()
	switch {
	case !known:
		return "", false, 0
	case kind == "NoSync":
		return "Windows Time, set to NoSync", false, 0
	case !running:
		// It is started by triggers, and rests in between on machines that are
		// in no domain: that alone is no fault.
		return "", false, 0
	}
	return "Windows Time (" + kind + ")", true, 0
}

func timeServiceRuns() (running, known bool) {
	scm, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return false, false
	}
	defer func() { _ = windows.CloseServiceHandle(scm) }()
	name, err := windows.UTF16PtrFromString("W32Time")
	if err != nil {
		return false, false
	}
	service, err := windows.OpenService(scm, name, windows.SERVICE_QUERY_STATUS)
	if err != nil {
		return false, false
	}
	defer func() { _ = windows.CloseServiceHandle(service) }()
	var status windows.SERVICE_STATUS
	if err := windows.QueryServiceStatus(service, &status); err != nil {
		return false, false
	}
	return status.CurrentState == windows.SERVICE_RUNNING, true
}
