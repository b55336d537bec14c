package main

import (
	"cmp"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/veritrail/veritrail/recorder"
	"github.com/veritrail/veritrail/schemas"
)

func newConfig() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check a configuration file, or show the configuration in effect",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newConfigCheck(), newConfigShow(), newConfigSchema())
	return c
}

func newConfigCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say everything that is wrong with a configuration file, and where",
		Long: `Reads a configuration file as up does, and names each unknown key, wrong type and
wrong value by line, column and JSON Pointer, and what was expected there. It also
loads the certificate, and looks whether the directories can be written. Values are
not repeated. The exit code is 2 when something is wrong.`,
		Example: "  veritrail config check veritrail.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readConfig(args[0])
			if err != nil {
				return err
			}
			cfg, t := parseConfig(text)
			if len(t.problems) == 0 {
				t.checkMeaning(cfg)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				answer := struct {
					File     string          `json:"file"`
					OK       bool            `json:"ok"`
					Problems []configProblem `json:"problems"`
				}{args[0], len(t.problems) == 0, append([]configProblem{}, t.problems...)}
				err = printJSON(out, answer)
			} else {
				err = printProblems(out, args[0], t.problems)
			}
			if err == nil && len(t.problems) > 0 {
				err = &coded{exitUsage, errReported}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func printProblems(out io.Writer, name string, problems []configProblem) error {
	for _, p := range problems {
		sep := ":"
		if p.Line == 0 {
			sep = ": "
		}
		if _, err := fmt.Fprintf(out, "%s%s%s\n", name, sep, p); err != nil {
			return err
		}
	}
	if len(problems) == 0 {
		_, err := fmt.Fprintf(out, "%s: in order\n", name)
		return err
	}
	return nil
}

func newConfigShow() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the configuration in effect, defaults included; secrets are not shown",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			cfg, err := loadConfig(name)
			if err != nil {
				return err
			}
			if err := cfg.fillIn(); err != nil {
				return err
			}
			var doc yaml.Node
			if err := doc.Encode(cfg); err != nil {
				return err
			}
			hideSecrets(&doc, configSchema())
			if asJSON {
				var v any
				if err := doc.Decode(&v); err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), v)
			}
			enc := yaml.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent(2)
			if err := enc.Encode(&doc); err != nil {
				return err
			}
			return enc.Close()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema (draft-07) of the configuration file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(schemas.Config())
			return err
		},
	}
}

// fillIn puts the defaults where nothing is said.
func (c *config) fillIn() (err error) {
	if c.Data, err = dataDir(c.Data); err != nil {
		return err
	}
	c.Listen = cmp.Or(c.Listen, defaultListen)
	c.Ack = cmp.Or(c.Ack, "durable")
	if len(c.Digests) == 0 {
		c.Digests = []string{"sha256"}
	}
	standard := recorder.DefaultAllowlist()
	if len(c.Allow.Subjects) == 0 {
		c.Allow.Subjects = standard.Subjects
	}
	if len(c.Allow.Actions) == 0 {
		c.Allow.Actions = standard.Actions
	}
	c.Log.fillIn()
	return nil
}

const hidden = "(set, not shown)"

// hideSecrets replaces what the schema marks writeOnly.
func hideSecrets(n *yaml.Node, schema map[string]any) {
	switch n.Kind {
	case yaml.DocumentNode:
		for _, sub := range n.Content {
			hideSecrets(sub, schema)
		}
	case yaml.SequenceNode:
		items, _ := schema["items"].(map[string]any)
		for _, sub := range n.Content {
			hideSecrets(sub, items)
		}
	case yaml.MappingNode:
		properties, _ := schema["properties"].(map[string]any)
		for i := 0; i+1 < len(n.Content); i += 2 {
			sub, _ := properties[n.Content[i].Value].(map[string]any)
			if secret, _ := sub["writeOnly"].(bool); secret {
				value := n.Content[i+1]
				if empty := value.Kind == yaml.ScalarNode && (value.Value == "" || value.ShortTag() == "!!null"); !empty {
					n.Content[i+1] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: hidden}
				}
				continue
			}
			hideSecrets(n.Content[i+1], sub)
		}
	}
}
