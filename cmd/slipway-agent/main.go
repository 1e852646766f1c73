// SPDX-License-Identifier: Apache-2.0

// Command slipway-agent runs the data plane of one node on a cluster that
// people already have: service proxy, pod network, volumes and ingress.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/cmd/inspect"
	"slipway.dev/slipway/internal/trim"
	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/node/agent"
	"slipway.dev/slipway/proxy"
)

// headerTimeout bounds how long a client may take to ask for metrics.
const headerTimeout = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "slipway-agent:", err)
		os.Exit(1)
	}
}

// options are the flags that do not go straight into the agent's Config.
type options struct {
	kubeconfig   string
	nodeIPs      []string
	clusterCIDRs []string
	metrics      string
}

func command() *cobra.Command {
	var opts options
	cfg := agent.Config{HTTPPort: 80, HTTPSPort: 443, ProxyHealth: ":10256", Balancing: proxy.BalanceRandom, Forwarding: proxy.ForwardSNAT, Paths: agent.Paths{
		Pins: "/sys/fs/bpf/slipway", Cgroup: "/sys/fs/cgroup", Kubelet: "/var/lib/kubelet",
		Volumes: "/var/lib/slipway/volumes", CNIState: "/var/lib/slipway/cni",
		CNISocket: "/run/slipway/cni.sock", CNIConf: "/etc/cni/net.d",
	}}
	cmd := &cobra.Command{
		Use:   "slipway-agent --node-name NAME --node-ip ADDRESS --cluster-cidr RANGE",
		Short: "Run the Slipway data plane of one node",
		Long: `Run the data plane of one node of a cluster that exists already: service
proxy, pod network, volumes and ingress. The node must forward IPv4 and IPv6
and have a BPF file system; the executable slipway-cni must be where the
container runtime looks for CNI plugins.`,
		Example: `  slipway-agent --node-name n1 --node-ip 192.0.2.7 --cluster-cidr 10.244.0.0/16 \
    --kubeconfig /etc/kubernetes/agent.kubeconfig`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true, Version: version.Version,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), cfg, opts) },
	}
	cmd.AddCommand(inspect.Commands(inspect.Config{
		Program: "slipway-agent", Pins: func() string { return cfg.Pins },
		Client: func() (kubernetes.Interface, error) { return newClient(opts.kubeconfig) },
	})...)
	flags := cmd.Flags()
	shared := cmd.PersistentFlags()
	shared.StringVar(&opts.kubeconfig, "kubeconfig", "", "kubeconfig of the agent (default: the service account of the pod)")
	flags.StringVar(&cfg.NodeName, "node-name", "", "name of the Node object")
	flags.StringSliceVar(&opts.nodeIPs, "node-ip", nil, "addresses of the node, one or one of each family")
	flags.StringSliceVar(&opts.clusterCIDRs, "cluster-cidr", nil, "ranges of pod addresses of the whole cluster")
	flags.StringVar(&opts.metrics, "metrics-address", "127.0.0.1:9964", "address to serve metrics on")
	flags.Uint16Var(&cfg.HTTPPort, "ingress-http-port", cfg.HTTPPort, "port of the ingress for HTTP")
	flags.Uint16Var(&cfg.HTTPSPort, "ingress-https-port", cfg.HTTPSPort, "port of the ingress for HTTPS")
	flags.StringSliceVar(&cfg.NodePortAddresses, "nodeport-addresses", nil, "ranges of the node's addresses that NodePorts are served on, and the words primary, localhost and all (default: all)")
	flags.StringVar(&cfg.ProxyHealth, "healthz-bind-address", cfg.ProxyHealth, "address to serve the health of the service proxy on; empty for none")
	flags.Var(&cfg.Balancing, "external-load-balancing", "how connections from other hosts find their backend, unless the Service says")
	flags.Var(&cfg.Forwarding, "external-forwarding", "how connections from other hosts get to backends of other nodes, unless the Service says")
	shared.StringVar(&cfg.Pins, "pin-dir", cfg.Pins, "directory on a BPF file system")
	flags.StringVar(&cfg.Cgroup, "cgroup", cfg.Cgroup, "cgroup v2 directory that all pods and node processes are below")
	flags.StringVar(&cfg.Kubelet, "kubelet-dir", cfg.Kubelet, "root directory of the kubelet")
	flags.StringVar(&cfg.Volumes, "volume-dir", cfg.Volumes, "directory for the data of volumes")
	flags.StringVar(&cfg.CNIState, "cni-state-dir", cfg.CNIState, "directory for the addresses of pods")
	flags.StringVar(&cfg.CNISocket, "cni-socket", cfg.CNISocket, "socket that slipway-cni connects to")
	flags.StringVar(&cfg.CNIConf, "cni-conf-dir", cfg.CNIConf, "directory where the runtime looks for CNI configuration")
	return cmd
}

// run runs all parts until ctx ends or one of them fails.
func run(ctx context.Context, cfg agent.Config, opts options) error {
	trim.Start()
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	klog.SetSlogLogger(cfg.Log)
	registry := prometheus.NewRegistry()
	cfg.Registry = registry
	var err error
	if cfg.NodeIPs, err = parse("--node-ip", opts.nodeIPs, netip.ParseAddr); err != nil {
		return err
	}
	if cfg.ClusterCIDRs, err = parse("--cluster-cidr", opts.clusterCIDRs, netip.ParsePrefix); err != nil {
		return err
	}
	config, err := clientConfig(opts.kubeconfig)
	if err != nil {
		return err
	}
	if cfg.Client, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("make API client: %w", err)
	}
	if cfg.Dynamic, err = dynamic.NewForConfig(config); err != nil {
		return fmt.Errorf("make API client: %w", err)
	}
	data, err := agent.Open(cfg)
	if err != nil {
		return err
	}
	defer data.Close()
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range data.Parts() {
		group.Go(func() error {
			if err := part.Run(ctx); err != nil {
				return fmt.Errorf("%s failed: %w", part.Name, err)
			}
			return nil
		})
	}
	group.Go(func() error { return serveMetrics(ctx, opts.metrics, registry) })
	group.Go(func() error {
		if data.WaitServing(ctx) == nil {
			trim.Run(ctx, cfg.Log)
		}
		return nil
	})
	return group.Wait()
}

func clientConfig(kubeconfig string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	return config, nil
}

// newClient is for commands, which end soon.
func newClient(kubeconfig string) (kubernetes.Interface, error) {
	config, err := clientConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func parse[T any](flag string, texts []string, one func(string) (T, error)) ([]T, error) {
	var out []T
	for _, text := range texts {
		value, err := one(text)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", flag, text, err)
		}
		out = append(out, value)
	}
	return out, nil
}

func serveMetrics(ctx context.Context, addr string, registry *prometheus.Registry) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
