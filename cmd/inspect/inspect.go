// SPDX-License-Identifier: Apache-2.0

// Package inspect is the commands about the service proxy of a node, the same in
// slipway and in slipway-agent. They read what is pinned in the kernel, whether or
// not any process runs, and change nothing but for cleanup and remove, by which the
// node goes from kube-proxy to this proxy and back. What the API knows besides is
// asked for, but most commands do without.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// apiTimeout is how long the API may take to answer.
const apiTimeout = 5 * time.Second

// Config says where the data path and the API of a node are. The functions are
// called when flags have been read.
type Config struct {
	// Program is the name that the user has started.
	Program string
	// Pins is the directory of the pinned data path.
	Pins func() string
	// Client has the rights to read Services, EndpointSlices, Pods and Nodes.
	Client func() (kubernetes.Interface, error)
}

// Commands returns the commands.
func Commands(cfg Config) []*cobra.Command {
	return []*cobra.Command{proxyCommand(cfg), explainCommand(cfg)}
}

func proxyCommand(cfg Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Look inside the service proxy of this node",
		Long: `Look inside the service proxy of this node. All is read from the kernel, as
packets find it; it works while no process runs, too. Names of Services come
from the API and are "-" when it does not answer.

Two commands change something: cleanup removes what kube-proxy has left when this
proxy has taken its place, and remove is the way back.`,
		PersistentPreRunE: cfg.requireRoot,
	}
	cmd.AddCommand(listCommand(cfg), getCommand(cfg), backendsCommand(cfg), conntrackCommand(cfg),
		cleanupCommand(cfg), removeCommand(cfg))
	return cmd
}

func (c Config) requireRoot(cmd *cobra.Command, _ []string) error {
	if os.Geteuid() == 0 {
		return nil
	}
	return fmt.Errorf("%s needs root: run it with sudo", cmd.CommandPath())
}

// view opens the data path.
func (c Config) view() (*bpf.View, error) {
	v, err := bpf.OpenView(c.Pins())
	switch {
	case errors.Is(err, bpf.ErrNoDatapath):
		return nil, fmt.Errorf("%w; %s makes one when it starts", err, c.Program)
	case errors.Is(err, bpf.ErrOtherLayout):
		return nil, fmt.Errorf("%w; use the %s that runs here, or restart it with this one", err, c.Program)
	}
	return v, err
}

// tables reads all frontends with their backends.
func (c Config) tables() (proxy.Tables, error) {
	v, err := c.view()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return readTables(v)
}

func readTables(v *bpf.View) (proxy.Tables, error) {
	frontends, err := v.Frontends()
	if err != nil {
		return nil, err
	}
	sources, err := v.Sources()
	if err != nil {
		return nil, err
	}
	out := proxy.Tables{}
	for f, r := range frontends {
		backends, err := v.Backends(r)
		if err != nil {
			return nil, fmt.Errorf("read backends of %s port %d/%s: %w", f.Addr, f.Port, f.Protocol, err)
		}
		target := proxy.Target{
			Backends: backends, Affinity: r.Affinity, Service: r.Service, Silent: r.Silent, Maglev: r.Maglev, Direct: r.Direct,
		}
		if r.Sources != 0 {
			target.Sources = slices.SortedFunc(slices.Values(sources[r.Sources]), netip.Prefix.Compare)
		}
		out[f] = target
	}
	return out, nil
}

// cluster is what the API knows.
type cluster struct {
	objects proxy.Objects
	facts   proxy.Facts
	nodes   []*corev1.Node
}

// cluster asks the API for all that frontends are made of.
func (c Config) cluster(ctx context.Context) (cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	client, err := c.Client()
	if err != nil {
		return cluster{}, err
	}
	addrs, err := proxy.NodeAddrs()
	if err != nil {
		return cluster{}, err
	}
	return readCluster(ctx, client, addrs)
}

func readCluster(ctx context.Context, client kubernetes.Interface, addrs []netip.Addr) (cluster, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return cluster{}, fmt.Errorf("list nodes: %w", err)
	}
	services, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return cluster{}, fmt.Errorf("list services: %w", err)
	}
	found, err := client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return cluster{}, fmt.Errorf("list endpoint slices: %w", err)
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return cluster{}, fmt.Errorf("list pods: %w", err)
	}
	out := cluster{nodes: pointers(nodes.Items)}
	out.facts = proxy.NewFacts(proxy.NodeOf(out.nodes, addrs), addrs, out.nodes)
	out.objects = proxy.Objects{Services: pointers(services.Items), Slices: pointers(found.Items), Pods: pointers(pods.Items)}
	return out, nil
}

// own is the objects as the proxy of this node sees them: with its own pods.
func (c cluster) own() proxy.Objects {
	objects := c.objects
	objects.Pods = nil
	for _, pod := range c.objects.Pods {
		if pod.Spec.NodeName != "" && pod.Spec.NodeName == c.facts.NodeName {
			objects.Pods = append(objects.Pods, pod)
		}
	}
	return objects
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
