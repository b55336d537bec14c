// Command veritrail records, seals, searches and verifies an audit trail. One
// file a subcommand; this one holds what they share: flags, exit codes, and
// where things are.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, the same for every command.
const (
	exitDone     = 0 // done, and all holds
	exitNotHeld  = 1 // a check did not hold, or input was rejected
	exitUsage    = 2 // wrong usage or configuration
	exitNotDone  = 3 // could not be done: I/O, network
	exitOverSoon = 130
)

// coded is an error that knows its exit code. An empty one was reported before.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func usageError(format string, args ...any) error {
	return &coded{exitUsage, fmt.Errorf(format, args...)}
}

// errReported ends a command with a code after it said why itself.
var errReported = errors.New("")

func main() {
	// The first signal asks for an end that loses nothing; a second one, while
	// the program still waits for its input, ends it at once: from before anybody
	// sees that the first one came.
	ctx, end := context.WithCancel(context.Background())
	first := make(chan os.Signal, 1)
	signal.Notify(first, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-first
		signal.Stop(first)
		end()
	}()
	os.Exit(run(ctx, os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	code := exitNotDone
	var c *coded
	switch {
	case errors.As(err, &c):
		code = c.code
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		code = exitOverSoon
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, "veritrail:", err)
	}
	return code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "veritrail",
		Short: "A verifiable audit trail: record, seal, search, verify",
		Long: `Veritrail records compliance events into a sealed trail on disk that anyone who
holds the files and a public key can verify offline.

Begin with:

  veritrail up                             run it here, with everything embedded
  veritrail verify                         check the trail that it writes`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w\nsee: %s --help", err, cmd.CommandPath())
	})
	root.CompletionOptions.DisableDefaultCmd = true // newCompletion says more
	root.AddCommand(
		newUp(), newRecord(), newSearch(), newTail(), newShow(), newStats(), newIndex(), newVerify(), newExport(), newKeys(),
		newDoctor(), newConfig(), newService(), newCompletion(), newVersion(),
	)
	for _, c := range root.Commands() {
		codedArgs(c)
	}
	completeFlags(root)
	return root
}

// codedArgs makes wrong arguments exit like wrong flags.
func codedArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError("%w\nsee: %s --help", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		codedArgs(sub)
	}
}
