// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

func backendsCommand(cfg Config) *cobra.Command {
	format := output{allowed: []string{"json"}}
	cmd := &cobra.Command{
		Use:     "backends",
		Short:   "List what addresses are translated to",
		Example: "  " + cfg.Program + " proxy backends",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tables, err := cfg.tables()
			if err != nil {
				return err
			}
			all := countBackends(tables)
			return format.print(cmd.OutOrStdout(), all, func(out io.Writer) error { return printBackends(out, all) })
		},
	}
	format.register(cmd)
	return cmd
}

// countBackends returns each backend once, with how many frontends lead to it.
func countBackends(tables proxy.Tables) []backend {
	count := map[bpf.Backend]int{}
	for _, t := range tables {
		for _, b := range t.Backends {
			count[b]++
		}
	}
	out := make([]backend, 0, len(count))
	for b, n := range count {
		out = append(out, backend{Address: b.Addr, Port: b.Port, Place: place(b.Flags), Frontends: n})
	}
	slices.SortFunc(out, func(a, b backend) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Place, b.Place))
	})
	return out
}

func printBackends(out io.Writer, all []backend) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "BACKEND\tPLACE\tFRONTENDS")
	for _, b := range all {
		fmt.Fprintf(table, "%s\t%s\t%d\n", b.name(), b.Place, b.Frontends)
	}
	return table.Flush()
}
