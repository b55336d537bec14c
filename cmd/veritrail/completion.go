package main

import (
	"bytes"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/veritrail/veritrail/recorder"
)

func newCompletion() *cobra.Command {
	c := &cobra.Command{
		Use:   "completion",
		Short: "Print a script that completes commands, flags and values in a shell",
		Long: `Prints a script for a shell; each shell's help says where to put it. To try it in
this session only:

  bash        source <(veritrail completion bash)
  zsh         source <(veritrail completion zsh)
  fish        veritrail completion fish | source
  powershell  veritrail completion powershell | Out-String | Invoke-Expression`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, shell := range []struct {
		name, where string
		script      func(root *cobra.Command, b *bytes.Buffer) error
	}{
		{"bash", `It needs the package bash-completion. For each new session of yours:

  mkdir -p ~/.local/share/bash-completion/completions
  veritrail completion bash > ~/.local/share/bash-completion/completions/veritrail`,
			func(root *cobra.Command, b *bytes.Buffer) error { return root.GenBashCompletionV2(b, true) }},
		{"zsh", `For each new session, into a directory that is in $fpath, with completion switched
on in ~/.zshrc (autoload -U compinit; compinit):

  veritrail completion zsh > "${fpath[1]}/_veritrail"`,
			func(root *cobra.Command, b *bytes.Buffer) error { return root.GenZshCompletion(b) }},
		{"fish", `For each new session:

  veritrail completion fish > ~/.config/fish/completions/veritrail.fish`,
			func(root *cobra.Command, b *bytes.Buffer) error { return root.GenFishCompletion(b, true) }},
		{"powershell", `For each new session, add this line to the file that $PROFILE names:

  veritrail completion powershell | Out-String | Invoke-Expression`,
			func(root *cobra.Command, b *bytes.Buffer) error { return root.GenPowerShellCompletionWithDesc(b) }},
	} {
		c.AddCommand(&cobra.Command{
			Use: shell.name, Short: "Print the script for " + shell.name, Long: "Prints the script for " + shell.name + ".\n\n" + shell.where,
			Args: cobra.NoArgs, DisableFlagsInUseLine: true, ValidArgsFunction: cobra.NoFileCompletions,
			RunE: func(cmd *cobra.Command, _ []string) error {
				var b bytes.Buffer
				if err := shell.script(cmd.Root(), &b); err != nil {
					return err
				}
				_, err := cmd.OutOrStdout().Write(b.Bytes())
				return err
			},
		})
	}
	return c
}

// completeFlags adds what the values of flags may be, by the flags' names: one
// name has one meaning in every command.
func completeFlags(c *cobra.Command) {
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		complete := completionOf(f.Name)
		if complete == nil {
			return
		}
		if err := c.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // registered twice: by mistake
		}
	})
	if c.ValidArgsFunction == nil && !c.HasSubCommands() {
		c.ValidArgsFunction = argsCompletion(c.Name())
	}
	for _, sub := range c.Commands() {
		completeFlags(sub)
	}
}

func completionOf(flag string) cobra.CompletionFunc {
	switch flag {
	case "data", "tiles":
		return directories
	case "config":
		return files("yaml", "yml", "json")
	case "ca":
		return files("pem", "crt")
	case "ack":
		return fixed("durable\ton the disk", "sealed\tunder a signed checkpoint", "buffered\thanded to the system")
	case "log-level":
		return fixed("debug", "info", "warn", "error")
	case "log-format":
		return fixed("text", "json")
	case "since", "until":
		return fixed("1h", "24h", "7d", "30d")
	case "where":
		return conditions
	case "listen":
		return fixed(defaultListen, "127.0.0.1:0\tany free port")
	case "url", "to":
		return fixed("http://" + defaultListen)
	case "origin", "top", "limit":
		return cobra.NoFileCompletions
	}
	return nil
}

// argsCompletion is of a command's arguments: files, unless it takes none.
func argsCompletion(command string) cobra.CompletionFunc {
	switch command {
	case "verify":
		return nil // a directory, a case, a file
	case "check":
		return files("yaml", "yml", "json")
	}
	return cobra.NoFileCompletions
}

func fixed(values ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
}

func directories(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

func files(extensions ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return extensions, cobra.ShellCompDirectiveFilterFileExt
	}
}

// conditions completes --where: the fields first, then the catalogue of
// actions and the severities.
func conditions(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	var out []string
	add := func(values ...string) {
		for _, v := range values {
			if strings.HasPrefix(v, typed) && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	standard := recorder.DefaultAllowlist()
	switch {
	case strings.HasPrefix(typed, "act="):
		for _, action := range standard.Actions {
			add("act=" + action)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	case strings.HasPrefix(typed, "sev"):
		for _, s := range []string{"DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"} {
			add("sev="+s, "sev>="+s)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
	add("act=", "sev=", "sev>=", "id=", "text=", "obj.", "ctx.", "ctx.ip=", "ctx.trace_id=")
	for _, s := range standard.Subjects {
		add("sub." + s + "=")
	}
	return out, more
}
