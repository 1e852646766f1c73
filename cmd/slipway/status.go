// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/node"
)

func statusCommand(cfg *node.Config) *cobra.Command {
	var how checkOutput
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell the health of each component, and what to do about it",
		Long: `Tell the health of each component of the node on this machine in words. The
exit status is 0 when all of them do their work.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.RequireRoot("status"); err != nil {
				return err
			}
			return how.print(cmd.OutOrStdout(), node.Status(cmd.Context(), *cfg))
		},
	}
	how.register(cmd)
	return cmd
}

func checkCommand(cfg *node.Config) *cobra.Command {
	var how checkOutput
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that this machine has what a node needs",
		Long: `Check that this machine has what a node needs: root, programs, cgroups, features
of the kernel, addresses, room and ports, as "slipway up" does before it starts. A
line that begins with "note" does not keep a node from starting. It changes
nothing. The exit status is 0 when nothing is missing.`,
		Example: `  slipway check

  # With the flags that the start will have
  slipway check --data-dir /srv/slipway --ingress-http-port 8080

  # For a program
  slipway check -o json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			full, err := cfg.Complete()
			if err == nil {
				err = full.Validate()
			}
			checks := node.CheckMachine(cmd.Context(), full)
			if err != nil {
				checks = append(checks, node.Check{Name: "configuration", Says: err.Error(), Do: "change the flags"})
			}
			return how.print(cmd.OutOrStdout(), checks)
		},
	}
	how.register(cmd)
	flags := cmd.Flags()
	flags.Var(addrs(&cfg.NodeIPs), "node-ip", "addresses of the node, one or one of each family (default: those of the default route's interface)")
	flags.Var(prefixes(&cfg.PodCIDRs), "pod-cidr", "ranges of pod addresses, one or one of each family")
	flags.Uint16Var(&cfg.APIPort, "api-port", cfg.APIPort, "port of the API server")
	flags.Uint16Var(&cfg.HTTPPort, "ingress-http-port", cfg.HTTPPort, "port of the ingress for HTTP")
	flags.Uint16Var(&cfg.HTTPSPort, "ingress-https-port", cfg.HTTPSPort, "port of the ingress for HTTPS")
	return cmd
}

// checkOutput is how checks are printed.
type checkOutput struct{ format string }

func (o *checkOutput) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "json, or empty for a table")
}

func (o *checkOutput) print(out io.Writer, checks []node.Check) error {
	switch o.format {
	case "":
		printChecks(out, checks)
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(checks); err != nil {
			return fmt.Errorf("print checks: %w", err)
		}
	default:
		return fmt.Errorf("--output %q: expected json", o.format)
	}
	for _, c := range checks {
		if !c.OK {
			return errSilent
		}
	}
	return nil
}

// printChecks prints a line for each check, and what to do below those that
// are not OK or notes.
func printChecks(out io.Writer, checks []node.Check) {
	for _, c := range checks {
		mark := "ok  "
		switch {
		case !c.OK:
			mark = "FAIL"
		case c.Note:
			mark = "note"
		}
		fmt.Fprintf(out, "%s  %-22s %s\n", mark, c.Name, c.Says)
		if mark != "ok  " && c.Do != "" {
			fmt.Fprintf(out, "      %-22s -> %s\n", "", c.Do)
		}
	}
}
