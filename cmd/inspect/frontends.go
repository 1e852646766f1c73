// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// frontend is one with all it leads to, for people and as JSON.
type frontend struct {
	Address netip.Addr `json:"address"`
	// Port is 0, and Protocol any, for all that have no frontend of their own.
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
	// Scope is cluster or external.
	Scope string `json:"scope"`
	// Owner is KIND NAMESPACE/NAME, empty when it is not known.
	Owner string `json:"owner,omitempty"`
	// AffinitySeconds is 0 without session affinity.
	AffinitySeconds uint32 `json:"affinitySeconds"`
	// Sources are the only addresses that may use it, if any.
	Sources  []netip.Prefix `json:"sources,omitempty"`
	Backends []backend      `json:"backends"`
}

type backend struct {
	Address netip.Addr `json:"address"`
	Port    uint16     `json:"port"`
	// Place is "local pod", "local host" or "remote".
	Place string `json:"place"`
	// Frontends is how many lead to it, where that is asked for.
	Frontends int `json:"frontends,omitempty"`
}

func scopeName(s bpf.Scope) string {
	if s == bpf.ScopeExternal {
		return "external"
	}
	return "cluster"
}

func place(flags bpf.BackendFlags) string {
	switch {
	case flags&bpf.BackendLocalHost != 0:
		return "local host"
	case flags&bpf.BackendLocalPod != 0:
		return "local pod"
	}
	return "remote"
}

// anyProtocol is that of a frontend for all ports that the address has no other
// for.
const anyProtocol = "any"

func protocolName(p bpf.Protocol) string {
	if p == 0 {
		return anyProtocol
	}
	return p.String()
}

func frontendName(f bpf.Frontend) string {
	return joinName(netip.AddrPortFrom(f.Addr, f.Port), protocolName(f.Protocol))
}

func joinName(at netip.AddrPort, protocol string) string {
	if protocol == anyProtocol {
		return strings.TrimSuffix(at.String(), "0") + "*"
	}
	return at.String() + "/" + protocol
}

func sortFrontends(all []bpf.Frontend) {
	slices.SortFunc(all, func(a, b bpf.Frontend) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Scope, b.Scope))
	})
}

// describe makes frontends of tables printable, sorted.
func describe(tables proxy.Tables, which []bpf.Frontend, owners map[bpf.Frontend]string) []frontend {
	sortFrontends(which)
	out := make([]frontend, len(which))
	for i, f := range which {
		out[i] = frontend{
			Address: f.Addr, Port: f.Port, Protocol: protocolName(f.Protocol), Scope: scopeName(f.Scope), Owner: owners[f],
			AffinitySeconds: tables[f].Affinity, Sources: tables[f].Sources, Backends: []backend{},
		}
		for _, b := range tables[f].Backends {
			out[i].Backends = append(out[i].Backends, backend{Address: b.Addr, Port: b.Port, Place: place(b.Flags)})
		}
	}
	return out
}

func (f frontend) name() string {
	return joinName(netip.AddrPortFrom(f.Address, f.Port), f.Protocol)
}

func (f frontend) affinity() string {
	if f.AffinitySeconds == 0 {
		return "-"
	}
	return (time.Duration(f.AffinitySeconds) * time.Second).String()
}

// owner is the Service's name, or for a port of a pod its kind too.
func (f frontend) owner() string {
	return cmp.Or(strings.ReplaceAll(strings.TrimPrefix(f.Owner, "Service "), " ", ":"), "-")
}

func (b backend) name() string { return netip.AddrPortFrom(b.Address, b.Port).String() }

func listCommand(cfg Config) *cobra.Command {
	format := output{allowed: []string{"wide", "json"}}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the addresses that are translated",
		Long: `List the addresses that are translated: for each the number of backends, whether
clients keep theirs (session affinity), and the Service. Scope "cluster" is for
pods and the node itself, "external" for packets from other hosts. Entries that
are for all other ports of an address are listed with -o wide or json: with scope
"cluster" these are refused, with "external" only echo requests are answered.`,
		Example: fmt.Sprintf("  %[1]s proxy list\n\n  # With all backends, and the entries for all other ports\n  %[1]s proxy list -o wide", cfg.Program),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tables, err := cfg.tables()
			if err != nil {
				return err
			}
			all := describe(tables, slices.Collect(maps.Keys(tables)), cfg.owners(cmd))
			return format.print(cmd.OutOrStdout(), all, func(out io.Writer) error {
				return printFrontends(out, all, format.value == "wide")
			})
		},
	}
	format.register(cmd)
	return cmd
}

// owners are those that the API knows; none when it does not answer.
func (c Config) owners(cmd *cobra.Command) map[bpf.Frontend]string {
	known, err := c.cluster(cmd.Context())
	if err != nil {
		return nil
	}
	return proxy.Owners(known.own(), known.facts)
}

func printFrontends(out io.Writer, all []frontend, wide bool) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	header := "FRONTEND\tSCOPE\tBACKENDS\tAFFINITY\tSERVICE"
	if wide {
		header += "\tTO"
	}
	fmt.Fprintln(table, header)
	for _, f := range all {
		if f.Protocol == anyProtocol && !wide {
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s", f.name(), f.Scope, len(f.Backends), f.affinity(), f.owner())
		if wide {
			names := make([]string, len(f.Backends))
			for i, b := range f.Backends {
				names[i] = b.name()
			}
			fmt.Fprintf(table, "\t%s", cmp.Or(strings.Join(names, ","), "-"))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

func getCommand(cfg Config) *cobra.Command {
	format := output{allowed: []string{"json"}}
	cmd := &cobra.Command{
		Use:   "get ADDRESS:PORT[/tcp|udp|sctp] | NAMESPACE/NAME[:PORT]",
		Short: "Show an address, or all of a Service, with the backends",
		Example: fmt.Sprintf("  %[1]s proxy get 10.96.0.10:53/udp\n\n  # All addresses of a Service, or of one of its ports\n"+
			"  %[1]s proxy get kube-system/kube-dns\n  %[1]s proxy get kube-system/kube-dns:metrics", cfg.Program),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			want, err := parseTarget(args[0])
			if err != nil {
				return err
			}
			all, err := cfg.get(cmd, want)
			if err != nil {
				return err
			}
			return format.print(cmd.OutOrStdout(), all, func(out io.Writer) error { return printFrontend(out, all) })
		},
	}
	format.register(cmd)
	return cmd
}

func (c Config) get(cmd *cobra.Command, want target) ([]frontend, error) {
	tables, err := c.tables()
	if err != nil {
		return nil, err
	}
	known, err := c.cluster(cmd.Context())
	if err != nil && want.name != "" {
		return nil, fmt.Errorf("%s: the addresses of a Service are known to the API, which does not answer (%w); ask for ADDRESS:PORT", want, err)
	}
	which, err := want.frontends(tables, known)
	if err != nil {
		return nil, err
	}
	return describe(tables, which, proxy.Owners(known.own(), known.facts)), nil
}

func printFrontend(out io.Writer, all []frontend) error {
	for i, f := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "Frontend:  %s\nScope:     %s\nService:   %s\nAffinity:  %s\n", f.name(), f.Scope, f.owner(), f.affinity())
		if len(f.Sources) > 0 {
			fmt.Fprintf(out, "Only for:  %s\n", strings.Trim(fmt.Sprint(f.Sources), "[]"))
		}
		fmt.Fprintf(out, "Backends:  %d\n", len(f.Backends))
		table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
		for _, b := range f.Backends {
			fmt.Fprintf(table, "  %s\t%s\n", b.name(), b.Place)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}
