package main

import (
	"cmp"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/veritrail/veritrail"
)

// hostEvents describe the machine as it is when up starts, so that a new trail
// holds something real at once: the host, the Go toolchains on it, and the
// names of the environment variables. Their values stay where they are.
func hostEvents() []*veritrail.ComplianceEvent {
	subject := map[string]string{"svc": "veritrail"}
	events := []*veritrail.ComplianceEvent{{
		Severity: veritrail.SeverityInfo, Action: "SYS.HOST.SEEN", Subject: subject,
		Object: map[string]string{
			"os": runtime.GOOS, "arch": runtime.GOARCH, "kernel": kernelVersion(), "cpus": strconv.Itoa(runtime.NumCPU()),
		},
	}}
	for _, root := range goRoots() {
		version := goVersion(root)
		if version == "" {
			continue
		}
		events = append(events, &veritrail.ComplianceEvent{
			Severity: veritrail.SeverityInfo, Action: "SYS.TOOLCHAIN.SEEN", Subject: subject,
			Object: map[string]string{"kind": "go", "root": root, "version": version},
		})
	}
	names := environmentNames()
	const perEvent = 500 // names; an event is bounded
	for part := range slices.Chunk(names, perEvent) {
		events = append(events, &veritrail.ComplianceEvent{
			Severity: veritrail.SeverityInfo, Action: "ENV.NAMES.SEEN", Subject: subject,
			Object: map[string]string{"count": strconv.Itoa(len(names)), "names": strings.Join(part, " ")},
		})
	}
	return events
}

func environmentNames() []string {
	var names []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if name == "" || len(name) > 100 { // Windows keeps drives' directories under empty names
			continue
		}
		names = append(names, strings.ToValidUTF8(name, "?"))
	}
	slices.Sort(names)
	return names
}

// goRoots are the places where Go toolchains usually are. Nothing is run.
func goRoots() []string {
	var roots []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		name := filepath.Join(dir, "go")
		if runtime.GOOS == "windows" {
			name += ".exe"
		}
		if real, err := filepath.EvalSymlinks(name); err == nil {
			roots = append(roots, filepath.Dir(filepath.Dir(real)))
		}
	}
	roots = append(roots, os.Getenv("GOROOT"), "/usr/local/go", `C:\Program Files\Go`)
	if home, err := os.UserHomeDir(); err == nil {
		sdks, err := filepath.Glob(filepath.Join(home, "sdk", "go*"))
		if err == nil {
			roots = append(roots, sdks...)
		}
	}
	slices.Sort(roots)
	return slices.Compact(roots)
}

// goVersion is what the file VERSION of a Go installation says, "" when root
// is none.
func goVersion(root string) string {
	if root == "" {
		return ""
	}
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil || len(text) > 1000 {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if !strings.HasPrefix(line, "go") && !strings.HasPrefix(line, "devel") {
		return ""
	}
	return strings.ToValidUTF8(strings.TrimSpace(line), "?")
}

func kernelVersion() string { return cmp.Or(kernelRelease(), "unknown") }
