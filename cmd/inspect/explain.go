// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
	"slipway.dev/slipway/proxy/explain"
)

func explainCommand(cfg Config) *cobra.Command {
	var nodePorts []string
	cmd := &cobra.Command{
		Use:   "explain FROM TO",
		Short: "Say what becomes of a connection, step by step",
		Long: `Say what becomes of a connection, step by step: what the address is, what the data
path of this node finds, which endpoints are used and why others are not, and what
is done to packets. It tells, too, when the kernel has something else than the API's
objects call for. Nothing is sent.

FROM is a pod as NAMESPACE/NAME, "node", or the address of another host.
TO is a Service as NAMESPACE/NAME[:PORT], or ADDRESS:PORT[/tcp|udp|sctp].`,
		Example: fmt.Sprintf("  %[1]s explain default/client default/web\n  %[1]s explain node 10.96.0.10:53/udp\n"+
			"  %[1]s explain 192.0.2.9 default/web:http", cfg.Program),
		Args:              cobra.ExactArgs(2),
		PersistentPreRunE: cfg.requireRoot,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := parseTarget(args[1])
			if err != nil {
				return fmt.Errorf("to: %w", err)
			}
			ports, err := proxy.ParseNodePortAddresses(nodePorts)
			if err != nil {
				return err
			}
			all, err := cfg.explain(cmd.Context(), args[0], to, ports)
			if err != nil {
				return err
			}
			return printExplanations(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().StringSliceVar(&nodePorts, "nodeport-addresses", nil, "what this node was started with, so that it is known which frontends there should be")
	return cmd
}

// explain reads all that is known and explains each address that is meant.
func (c Config) explain(ctx context.Context, from string, to target, ports proxy.NodePortAddresses) ([]explain.Explanation, error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	var in explain.Input
	if in.Kernel, err = readTables(v); err != nil {
		return nil, err
	}
	attached, err := v.Summary()
	if err != nil {
		return nil, err
	}
	known, err := c.cluster(ctx)
	if err != nil {
		return nil, fmt.Errorf("explain asks the API, which does not answer: %w; `%s proxy get ADDRESS:PORT` does without", err, c.Program)
	}
	if in.Policies, err = c.policies(ctx); err != nil {
		return nil, err
	}
	in.Objects, in.Facts, in.Drops = known.objects, known.facts, attached.Drops
	in.Facts.NodePorts = ports
	if in.From, err = known.client(from); err != nil {
		return nil, err
	}
	destinations, err := known.destinations(in.From, to)
	if err != nil {
		return nil, err
	}
	var out []explain.Explanation
	for _, in.To = range destinations {
		out = append(out, explain.Explain(in))
	}
	return out, nil
}

func (c Config) policies(ctx context.Context) ([]*networkingv1.NetworkPolicy, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	found, err := client.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list network policies: %w", err)
	}
	return pointers(found.Items), nil
}

// client is who FROM means: also a pod or this node by its address.
func (c cluster) client(text string) (explain.Client, error) {
	if text == "node" {
		return explain.Client{}, nil
	}
	addr, err := netip.ParseAddr(text)
	namespace, name, isName := strings.Cut(text, "/")
	if err != nil && (!isName || namespace == "" || name == "" || strings.Contains(name, "/")) {
		return explain.Client{}, fmt.Errorf("from: %q: expected NAMESPACE/NAME of a pod, node, or an address", text)
	}
	addr = addr.Unmap()
	for _, pod := range c.objects.Pods {
		if pod.Namespace == namespace && pod.Name == name || err == nil && hasAddr(pod, addr) {
			return explain.Client{Pod: pod}, nil
		}
	}
	if err != nil {
		return explain.Client{}, fmt.Errorf("from: no pod %s", text)
	}
	for _, own := range c.facts.NodeAddrs {
		if own == addr {
			return explain.Client{}, nil
		}
	}
	return explain.Client{Addr: addr}, nil
}

func hasAddr(pod *corev1.Pod, addr netip.Addr) bool {
	for _, ip := range pod.Status.PodIPs {
		if ip.IP == addr.String() && !pod.Spec.HostNetwork {
			return true
		}
	}
	return false
}

func (c cluster) destinations(from explain.Client, to target) ([]explain.Destination, error) {
	if to.name == "" {
		return []explain.Destination{{Addr: to.addr, Protocol: cmp.Or(to.protocol, bpf.ProtocolTCP)}}, nil
	}
	s := c.service(to.namespace, to.name)
	if s == nil {
		return nil, fmt.Errorf("to: no Service %s/%s", to.namespace, to.name)
	}
	all, err := explain.Destinations(s, to.port, from, c.facts)
	if err != nil || to.protocol == 0 {
		return all, err
	}
	var out []explain.Destination
	for _, d := range all {
		if d.Protocol == to.protocol {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("to: Service %s/%s has no such port of protocol %s", to.namespace, to.name, to.protocol)
	}
	return out, nil
}

func printExplanations(out io.Writer, all []explain.Explanation) error {
	var text strings.Builder
	for i, e := range all {
		if i > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "From  %s\nTo    %s\n\n", e.From, e.To)
		for n, step := range e.Steps {
			fmt.Fprintf(&text, "%d. %s\n", n+1, step.Says)
			for _, detail := range step.Details {
				fmt.Fprintf(&text, "     %s\n", detail)
			}
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
