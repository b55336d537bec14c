// Package examples holds runnable programs that record into a trail, each with one adapter:
//
//	go run ./slog
//	go run ./zap
//	go run ./zerolog
//	go run ./nethttp
//	go run ./grpc
//	go run ./client -url http://127.0.0.1:8790 -token-file t1/token
//	curl/record.sh http://127.0.0.1:8790 t1/token
//
// The first five make a trail in the directory that they are given, or in a new one, and say how to check it. The last two
// record into a running `veritrail up`. The tests here run all of them as a user would, verify the trails they leave, and
// search them for what they recorded.
//
// It is a module of its own: what the examples need is no part of the product.
package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/veritrail/veritrail"
)

// An example is a program and what it must leave in a trail.
type example struct {
	name string
	// run runs it to its end. Its trail is data.
	run   func(t *testing.T, vt program, data string)
	finds []find
}

// A find is a search, by the words of `veritrail search`, and how many events it must find.
type find struct {
	where []string
	want  int
}

// logged is what each of the three loggers records.
var logged = []find{
	{[]string{"act=AUTH.LOGIN.FAIL", "sub.user=u2", "sev=WARN", "ctx.ip=192.0.2.7", "ctx.msg=wrong PIN"}, 1},
	{[]string{"act=AUTH.LOGIN.OK", "sub.user=u1", "sev=INFO"}, 1},
	{[]string{"act=DATA.TRANSFER", "sub.user=u1", "obj.account=62", "ctx.amount=100"}, 1},
	{[]string{"act=*"}, 3}, // and nothing that names no action
}

var examples = []example{
	{"slog", recordsInto("./slog"), logged},
	{"zap", recordsInto("./zap"), logged},
	{"zerolog", recordsInto("./zerolog"), logged},
	{"nethttp", recordsInto("./nethttp"), []find{
		{[]string{"act=AUTH.LOGIN.FAIL", "sub.user=u2", "ctx.outcome=denied", "ctx.status=401", "ctx.ip=127.0.0.1"}, 1},
		{[]string{"act=AUTH.LOGIN.OK", "sub.user=u1", "ctx.outcome=ok", "obj.api=/v1/login"}, 1},
		{[]string{"act=DATA.READ", "sub.user=u1", "obj.account=62", "obj.api=/v1/accounts/{account}"}, 1},
		{[]string{"act=DATA.TRANSFER", "ctx.phase=intent"}, 1},
		{[]string{"act=DATA.TRANSFER", "ctx.phase=outcome", "ctx.amount=100", "ctx.bytes_in=10"}, 1},
		{[]string{"act=ACCESS.HTTP.GET", "ctx.phase=outcome", "ctx.status=404", "sub.svc=payments"}, 1},
		{[]string{"act=*"}, 10}, // an intent and an outcome of each but /healthz
	}},
	{"grpc", recordsInto("./grpc"), []find{
		{[]string{"act=SYS.HEALTH.CHECK", "sub.user=u1", "ctx.outcome=ok", "obj.api=/grpc.health.v1.Health/Check"}, 1},
		{[]string{"act=SYS.HEALTH.CHECK", "ctx.outcome=denied", "ctx.code=PermissionDenied", "sub.svc=payments"}, 1},
		{[]string{"act=NET.RPC", "sub.svc=teller", "ctx.phase=intent"}, 3},
		{[]string{"act=NET.RPC", "ctx.phase=outcome", "ctx.rpc=server_stream", "ctx.code=Canceled", "ctx.received=1"}, 1},
		{[]string{"act=ACCESS.RPC", "ctx.rpc=server_stream", "ctx.sent=1"}, 1},
		{[]string{"act=*"}, 9},
	}},
	{"client", recordsThroughClient, []find{
		{[]string{"act=DATA.ACCOUNT.READ", "sub.user=10086", "obj.table=account"}, 2},
		{[]string{"act=DATA.ACCOUNT.READ", "obj.row=2"}, 1},
	}},
}

func TestExamples(t *testing.T) {
	vt := newProgram(t)
	for _, tt := range slices.Concat(examples, scripts) {
		t.Run(tt.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "trail")
			tt.run(t, vt, data)
			if said := vt.run(t, "verify", data); !bytes.HasPrefix(said, []byte("INTACT")) {
				t.Errorf("verify: %s", said)
			}
			for _, f := range tt.finds {
				events := vt.search(t, data, f.where)
				if len(events) != f.want {
					t.Errorf("search %s: %d events, want %d\n%v", strings.Join(f.where, ", "), len(events), f.want, events)
				}
			}
		})
	}
}

// search returns the events that it finds, having seen that the proof of each holds.
func (p program) search(t *testing.T, data string, where []string) []veritrail.ComplianceEvent {
	t.Helper()
	args := []string{"search", "--data", data, "--json"}
	for _, w := range where {
		args = append(args, "--where", w)
	}
	var events []veritrail.ComplianceEvent
	for line := range bytes.Lines(p.run(t, args...)) {
		var hit struct {
			Proof string                    `json:"proof"`
			Event veritrail.ComplianceEvent `json:"event"`
		}
		if err := json.Unmarshal(line, &hit); err != nil {
			t.Fatalf("search: %s: %v", line, err)
		}
		if hit.Proof != "holds" {
			t.Errorf("search: the proof of %s: %s", hit.Event.Action, hit.Proof)
		}
		events = append(events, hit.Event)
	}
	return events
}

// recordsInto runs an example that writes to the trail itself.
func recordsInto(dir string) func(*testing.T, program, string) {
	return func(t *testing.T, _ program, data string) {
		t.Helper()
		bin := build(t, ".", dir)
		if out, err := exec.CommandContext(t.Context(), bin, data).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", dir, err, out)
		}
	}
}

// recordsOver runs an example that speaks to `veritrail up`.
func recordsOver(command func(url, tokenFile string) []string) func(*testing.T, program, string) {
	return func(t *testing.T, vt program, data string) {
		t.Helper()
		url, stop := vt.up(t, data)
		args := command(url, filepath.Join(data, "token"))
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		stop()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

// recordsThroughClient runs the example that keeps events on disk while the server is away.
func recordsThroughClient(t *testing.T, vt program, data string) {
	t.Helper()
	spool := filepath.Join(t.TempDir(), "spool")
	recordsOver(func(url, tokenFile string) []string {
		return []string{build(t, ".", "./client"), "-url", url, "-token-file", tokenFile, "-spool", spool, "-events", "2"}
	})(t, vt, data)
}

// build builds the program in dir of a module, and returns where it is.
func build(t *testing.T, module, dir string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), filepath.Base(dir))
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", bin, dir)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", dir, err, out)
	}
	return bin
}
