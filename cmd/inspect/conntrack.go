// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/duration"

	"slipway.dev/slipway/bpf"
)

// connection is one way of a connection to a Service that is translated packet by
// packet.
type connection struct {
	Protocol string         `json:"protocol"`
	Packets  string         `json:"packets"`
	Client   netip.AddrPort `json:"client"`
	Service  netip.AddrPort `json:"service"`
	Backend  netip.AddrPort `json:"backend"`
	Rewrites string         `json:"rewrites"`
	// As is this node's address towards a backend of another node.
	As          netip.AddrPort `json:"as,omitzero"`
	IdleSeconds float64        `json:"idleSeconds"`
}

// connectionOf tells client, Service and backend apart. Both ways of a
// connection with another node's backend look the same but for the Service.
func connectionOf(c bpf.Conntrack, isFrontend func(netip.AddrPort) bool) connection {
	out := connection{Protocol: c.Protocol.String(), Packets: "requests", Rewrites: c.Rewrite.String(), IdleSeconds: c.Idle.Seconds()}
	reply := c.Rewrite == bpf.RewriteSource ||
		c.Rewrite == bpf.RewriteBoth && isFrontend(c.From) && !isFrontend(c.Dst)
	switch {
	case !reply:
		out.Client, out.Service, out.Backend, out.As = c.Src, c.Dst, c.To, c.From
	case c.Rewrite == bpf.RewriteSource:
		out.Packets, out.Client, out.Service, out.Backend = "replies", c.Dst, c.To, c.Src
	default:
		out.Packets, out.Client, out.Service, out.Backend, out.As = "replies", c.To, c.From, c.Src, c.Dst
	}
	return out
}

// filter selects connections.
type filter struct {
	address, protocol string
	addr              netip.Addr
	port              uint16
	proto             bpf.Protocol
}

func (f *filter) parse() error {
	var err error
	if f.protocol != "" {
		if f.proto, err = parseProtocol(f.protocol); err != nil {
			return fmt.Errorf("--protocol: %w", err)
		}
	}
	if f.address == "" {
		return nil
	}
	if at, err := netip.ParseAddrPort(f.address); err == nil {
		f.addr, f.port = at.Addr().Unmap(), at.Port()
		return nil
	}
	if f.addr, err = netip.ParseAddr(f.address); err != nil {
		return fmt.Errorf("--address %q: expected ADDRESS or ADDRESS:PORT", f.address)
	}
	f.addr = f.addr.Unmap()
	return nil
}

func (f *filter) keeps(c connection) bool {
	if f.proto != 0 && f.proto.String() != c.Protocol {
		return false
	}
	return !f.addr.IsValid() || slices.ContainsFunc([]netip.AddrPort{c.Client, c.Service, c.Backend, c.As}, func(at netip.AddrPort) bool {
		return at.Addr() == f.addr && (f.port == 0 || f.port == at.Port())
	})
}

func conntrackCommand(cfg Config) *cobra.Command {
	format := output{allowed: []string{"json"}}
	var only filter
	var count bool
	cmd := &cobra.Command{
		Use:   "conntrack",
		Short: "List the connections that are translated packet by packet",
		Long: `List the connections that are translated packet by packet: from other hosts, and
of pods whose sockets are not seen. Each has two entries, one for its requests and one
for the replies. Connections of other pods and of the node itself are translated when
they begin and have no entry.`,
		Example: fmt.Sprintf("  # All that a client, a Service address or a pod has to do with\n  %[1]s proxy conntrack --address 192.0.2.7\n\n"+
			"  # How many there are\n  %[1]s proxy conntrack --protocol udp --count", cfg.Program),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := only.parse(); err != nil {
				return err
			}
			all, err := cfg.connections(only)
			if err != nil {
				return err
			}
			if count {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), len(all))
				return err
			}
			return format.print(cmd.OutOrStdout(), all, func(out io.Writer) error { return printConnections(out, all) })
		},
	}
	cmd.Flags().StringVar(&only.address, "address", "", "only entries with this client, Service or backend: ADDRESS or ADDRESS:PORT")
	cmd.Flags().StringVar(&only.protocol, "protocol", "", "only entries of this protocol: tcp or udp")
	cmd.Flags().BoolVar(&count, "count", false, "print only how many entries there are")
	format.register(cmd)
	return cmd
}

// connections reads the entries that the filter keeps, sorted.
func (c Config) connections(only filter) ([]connection, error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	frontends, err := v.Frontends()
	if err != nil {
		return nil, err
	}
	all := []connection{}
	for entry, err := range v.Conntrack() {
		if err != nil {
			return nil, err
		}
		found := connectionOf(entry, func(at netip.AddrPort) bool {
			_, ok := frontends[bpf.Frontend{Addr: at.Addr(), Port: at.Port(), Protocol: entry.Protocol, Scope: bpf.ScopeExternal}]
			return ok
		})
		if only.keeps(found) {
			all = append(all, found)
		}
	}
	slices.SortFunc(all, func(a, b connection) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), a.Service.Compare(b.Service), a.Client.Compare(b.Client), -cmp.Compare(a.Packets, b.Packets))
	})
	return all, nil
}

func printConnections(out io.Writer, all []connection) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "PROTOCOL\tPACKETS\tCLIENT\tSERVICE\tBACKEND\tREWRITES\tIDLE")
	for _, c := range all {
		rewrites := c.Rewrites
		if c.As.IsValid() {
			rewrites += ", as " + c.As.String()
		}
		idle := duration.HumanDuration(time.Duration(c.IdleSeconds * float64(time.Second)))
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.Protocol, c.Packets, c.Client, c.Service, c.Backend, rewrites, idle)
	}
	return table.Flush()
}
