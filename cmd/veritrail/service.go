package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/service"
)

// serviceFlags are what the subcommands of service share.
type serviceFlags struct {
	name    string
	perUser bool
}

func newService() *cobra.Command {
	c := &cobra.Command{
		Use:   "service",
		Short: "Run it as a service of the system, from the start of the machine on",
		Long: `Makes ` + "`veritrail up`" + ` a service: of systemd on Linux, of the service manager on
Windows. It starts with the system, is restarted when it fails, and at a stop seals
what it has before it ends.

` + servicePrivileges,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f serviceFlags
	c.PersistentFlags().StringVar(&f.name, "name", "veritrail", "the service's `NAME`")
	if serviceHasUsers {
		c.PersistentFlags().BoolVar(&f.perUser, "user", false, "a service of this user's own, which takes no privileges")
	}
	c.AddCommand(newServiceInstall(&f), newServiceStart(&f), newServiceStop(&f), newServiceRemove(&f), newServiceStatus(&f), newServiceRun(&f))
	return c
}

// serviceError gives an error of the service its exit code, and the next step.
func serviceError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, service.ErrPrivilege):
		return fmt.Errorf("%w\n%s", err, servicePrivileges)
	case errors.Is(err, service.ErrNotInstalled):
		return usageError("%w; see: veritrail service install --help", err)
	case errors.Is(err, service.ErrInstalled):
		return usageError("%w; take it away first: veritrail service remove", err)
	}
	return err
}

func (f *serviceFlags) open() (*service.Service, error) {
	s, err := service.New(service.Config{Name: f.name, PerUser: f.perUser})
	if err != nil {
		return nil, usageError("%w", err)
	}
	return s, nil
}

func newServiceInstall(f *serviceFlags) *cobra.Command {
	var g struct {
		data, listen, config, account, logFile string
		dryRun                                 bool
	}
	c := &cobra.Command{
		Use:   "install",
		Short: "Register the service; start it with `veritrail service start`",
		Long: `Registers this program, where it lies now, as a service that serves one trail. Nothing
is started yet. With --dry-run it prints what it would register and changes nothing.

` + servicePrivileges,
		Example: `  veritrail service install
  veritrail service install --config /etc/veritrail.yaml --dry-run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := service.Config{Name: f.name, PerUser: f.perUser, Account: g.account, Description: "Veritrail: a verifiable audit trail"}
			var err error
			if cfg.Exe, err = os.Executable(); err != nil {
				return err
			}
			file, err := loadConfig(g.config)
			if err != nil {
				return err
			}
			data := cmp.Or(g.data, file.Data)
			if data == "" {
				if data, err = serviceDataDir(f); err != nil {
					return err
				}
			}
			if cfg.DataDir, err = filepath.Abs(data); err != nil {
				return err
			}
			cfg.Args = []string{"service", "run", "--name", f.name, "--data", cfg.DataDir}
			for _, flag := range []struct {
				name, value string
				isPath      bool
			}{{"--config", g.config, true}, {"--listen", g.listen, false}, {"--log-file", cmp.Or(g.logFile, serviceLogFile(cfg.DataDir)), true}} {
				if flag.value == "" {
					continue
				}
				if flag.isPath {
					if flag.value, err = filepath.Abs(flag.value); err != nil {
						return err
					}
				}
				cfg.Args = append(cfg.Args, flag.name, flag.value)
			}
			s, err := service.New(cfg)
			if err != nil {
				return usageError("%w", err)
			}
			plan, err := s.Plan()
			if err != nil {
				return usageError("%w", err)
			}
			if g.dryRun {
				fmt.Fprint(cmd.OutOrStdout(), plan)
				return nil
			}
			if err := s.Install(cmd.Context()); err != nil {
				return serviceError(err)
			}
			user := ""
			if f.perUser {
				user = " --user"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "installed: %s, which serves %s\nstart it with: %s service start%s --name %s\n", f.name, cfg.DataDir, self(), user, f.name)
			return nil
		},
	}
	c.Flags().StringVar(&g.data, "data", "", "the trail's directory (default: "+serviceDataHelp+")")
	c.Flags().StringVar(&g.listen, "listen", "", "`ADDR` to serve on (default "+defaultListen+")")
	c.Flags().StringVar(&g.config, "config", "", "configuration `FILE`")
	c.Flags().StringVar(&g.account, "account", "", serviceAccountHelp)
	c.Flags().StringVar(&g.logFile, "log-file", "", "`FILE` for the log (default: "+serviceLogHelp+")")
	c.Flags().BoolVar(&g.dryRun, "dry-run", false, "print what would be registered, and change nothing")
	return c
}

// A start may look through a whole trail, a stop seals one; both say when they are done.
const servicePatience = 10 * time.Minute

func serviceVerb(f *serviceFlags, use, short, done string, do func(ctx context.Context, s *service.Service) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), servicePatience)
			defer cancel()
			if err := do(ctx, s); err != nil {
				return serviceError(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), done)
			return nil
		},
	}
}

func newServiceStart(f *serviceFlags) *cobra.Command {
	return serviceVerb(f, "start", "Start the service, and wait until it serves", "started",
		func(ctx context.Context, s *service.Service) error { return s.Start(ctx) })
}

func newServiceStop(f *serviceFlags) *cobra.Command {
	return serviceVerb(f, "stop", "Stop the service, and wait until the trail is sealed and closed", "stopped",
		func(ctx context.Context, s *service.Service) error { return s.Stop(ctx) })
}

func newServiceRemove(f *serviceFlags) *cobra.Command {
	return serviceVerb(f, "remove", "Stop the service and take its registration away; the trail stays", "removed; the trail stays where it is",
		func(ctx context.Context, s *service.Service) error { return s.Remove(ctx) })
}

func newServiceStatus(f *serviceFlags) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Say whether the service runs; the exit code is 1 when it does not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := f.open()
			if err != nil {
				return err
			}
			st, err := s.Status(cmd.Context())
			if err != nil {
				return serviceError(err)
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), st); err != nil {
					return err
				}
			} else {
				line := f.name + ": " + string(st.State)
				if st.PID != 0 {
					line += fmt.Sprintf(", process %d", st.PID)
				}
				if st.Note != "" {
					line += ": " + safe(st.Note)
				}
				fmt.Fprintln(cmd.OutOrStdout(), line)
			}
			if st.State != service.Running {
				return &coded{exitNotHeld, errReported}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// newServiceRun is what install registers; nobody types it.
func newServiceRun(f *serviceFlags) *cobra.Command {
	var g struct{ data, listen, config, logFile string }
	c := &cobra.Command{
		Use:    "run",
		Short:  "Be the service; the system calls it",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			cfg, errConfig := loadConfig(g.config)
			if errConfig != nil {
				cfg = new(config) // it is the service that fails, and the log tells why
			}
			cfg.Log.File = cmp.Or(g.logFile, cfg.Log.File)
			log, err := openLog(cfg.Log, os.Stderr)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, log.close()) }()
			reload, out := newReloads(), io.Writer(os.Stderr)
			if log.file != nil {
				reload.add("log file", log.file.Reopen)
				out = log.file
			}
			if cfg.Log.Format == "json" {
				out = io.Discard // what up prints for people; the log says the same
			}
			swallowConsoleSignals()
			serve := func(ctx context.Context, ready func()) error {
				if errConfig != nil {
					return errConfig
				}
				cfg.Data, cfg.Listen = cmp.Or(g.data, cfg.Data), cmp.Or(g.listen, cfg.Listen, defaultListen)
				if cfg.Data, err = dataDir(cfg.Data); err != nil {
					return err
				}
				return up(ctx, out, cfg, log.Logger, reload, ready)
			}
			err = service.Run(cmd.Context(), service.RunConfig{Name: f.name, NotifySocket: os.Getenv("NOTIFY_SOCKET")}, serve)
			if err != nil && log.file != nil {
				log.Error("the service ends", "problem", err) // nobody reads its stderr
			}
			return err
		},
	}
	c.Flags().StringVar(&g.data, "data", "", "the trail's directory")
	c.Flags().StringVar(&g.listen, "listen", "", "`ADDR` to serve on")
	c.Flags().StringVar(&g.config, "config", "", "configuration `FILE`")
	c.Flags().StringVar(&g.logFile, "log-file", "", "`FILE` for the log")
	return c
}
