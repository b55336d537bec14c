package main

import (
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/veritrail/veritrail/internal/keys"
	"github.com/veritrail/veritrail/internal/trail"
)

func newKeys() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Show a trail's public keys",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(newKeysExport(), newKeysList())
	return c
}

func newKeysExport() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print the public keys (C2SP signed-note vkeys), one a line, Ed25519 first",
		Long: `Prints the public keys that check the trail's checkpoints. Give them to auditors by
a way of their own, before there is a dispute: a key that comes with the trail
only proves that the trail agrees with itself.`,
		Example: `  veritrail keys export --data trail > bank.vkeys
  veritrail verify trail --key bank.vkeys`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(data)
			if err != nil {
				return err
			}
			_, vkeys, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
			if err != nil {
				return explainNoTrail(dir, err)
			}
			for _, k := range vkeys {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), k); err != nil {
					return err
				}
			}
			return nil
		},
	}
	dataFlag(c, &data)
	return c
}

func newKeysList() *cobra.Command {
	var f struct {
		data   string
		asJSON bool
	}
	c := &cobra.Command{
		Use:   "list",
		Short: "List the public keys: algorithm, id, name",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(f.data)
			if err != nil {
				return err
			}
			verifiers, vkeys, err := keys.ReadVKeys(filepath.Join(dir, trail.KeysDir))
			if err != nil {
				return explainNoTrail(dir, err)
			}
			if f.asJSON {
				type key struct {
					Algorithm string `json:"algorithm"`
					KeyID     string `json:"key_id"`
					Name      string `json:"name"`
					VKey      string `json:"vkey"`
				}
				var out []key
				for i, v := range verifiers {
					out = append(out, key{v.Algorithm(), v.KeyID(), v.Name(), vkeys[i]})
				}
				return printJSON(cmd.OutOrStdout(), out)
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ALGORITHM\tKEY ID\tNAME")
			for _, v := range verifiers {
				fmt.Fprintf(w, "%s\t%s\t%s\n", v.Algorithm(), v.KeyID(), v.Name())
			}
			return w.Flush()
		},
	}
	dataFlag(c, &f.data)
	c.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	return c
}
