// SPDX-License-Identifier: Apache-2.0

// Package agent wires the data plane of one node: BPF programs, service
// proxy, pod network, volumes and ingress. It is what `slipway up` runs
// beside a bundled cluster and what `slipway-agent` runs alone on a cluster
// that people already have; it never imports Kubernetes' own internals. An
// Agent belongs to one supervisor; its parts run concurrently.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni"
	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/firewall"
	"slipway.dev/slipway/cni/peers"
	"slipway.dev/slipway/csi"
	"slipway.dev/slipway/ingress"
	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/proxy"
	"slipway.dev/slipway/proxy/takeover"
)

// Config is what the data plane needs to know about its node.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	// NodeIPs are the node's addresses, as the API knows them.
	NodeIPs []netip.Addr
	// ClusterCIDRs are the pod ranges of the whole cluster: traffic to them
	// keeps the pod's address.
	ClusterCIDRs []netip.Prefix
	// Forwarded are interfaces, besides those of pods, whose packets the firewall of
	// the host shall forward.
	Forwarded []string
	// HTTPPort and HTTPSPort are where the ingress listens.
	HTTPPort, HTTPSPort uint16
	// NodePortAddresses say on which of the node's addresses NodePorts are served:
	// ranges, "primary", "localhost" and "all".
	NodePortAddresses []string
	// ProxyHealth is where the health of the service proxy is served.
	ProxyHealth string
	// Balancing is how connections from other hosts find their backend.
	Balancing proxy.Balancing
	// Forwarding is how they get to backends of other nodes.
	Forwarding proxy.Forwarding
	Paths
	// Client and Dynamic have the rights of the agent.
	Client   kubernetes.Interface
	Dynamic  dynamic.Interface
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Paths are where the data plane keeps what it owns.
type Paths struct {
	// Pins is where BPF objects are pinned.
	Pins string
	// Cgroup is the cgroup v2 directory that socket programs attach to.
	Cgroup string
	// Kubelet is the kubelet's root directory.
	Kubelet string
	// Volumes holds the data of volumes.
	Volumes string
	// CNIState holds the addresses of pods; it survives reboots.
	CNIState string
	// CNISocket is where slipway-cni reaches the agent.
	CNISocket string
	// CNIConf is where the runtime looks for the CNI configuration.
	CNIConf string
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case c.NodeName == "":
		return errors.New("agent: no node name given")
	case len(c.NodeIPs) == 0:
		return errors.New("agent: no node address given")
	case len(c.ClusterCIDRs) == 0:
		return errors.New("agent: no pod range of the cluster given")
	case c.Client == nil || c.Dynamic == nil:
		return errors.New("agent: no API clients given")
	}
	_, err := proxy.ParseNodePortAddresses(c.NodePortAddresses)
	return err
}

// Part is a piece of the data plane that runs until its context ends.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Agent is the data plane of one node.
type Agent struct {
	cfg       Config
	informers informers.SharedInformerFactory
	// ownPods are the pods of this node only.
	ownPods  informers.SharedInformerFactory
	events   record.EventBroadcaster
	datapath *bpf.Datapath
	takeover *takeover.Watch
	proxy    *proxy.Proxy
	tables   *tables
	volumes  *csi.Driver
	ingress  *ingress.Controller
	peers    *peers.Peers
	firewall *firewall.Keeper
	balancer balancer
	// network is nil until the node has its pod CIDRs.
	network atomic.Pointer[network]
}

// network is the pod network with the node's own addresses in it.
type network struct {
	server   *cni.Server
	gateways []netip.Addr
}

// Open loads or adopts the BPF programs and makes all parts; none runs yet.
func Open(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, informers: informers.NewSharedInformerFactory(cfg.Client, 0), ownPods: podsOf(cfg), events: record.NewBroadcaster()}
	var err error
	a.takeover, err = takeover.New(takeover.Config{PodRanges: cfg.ClusterCIDRs, Log: cfg.Log.With("component", "proxy")})
	if err != nil {
		return nil, err
	}
	if a.datapath, err = openDatapath(cfg, a.takeover); err != nil {
		return nil, err
	}
	if err := a.makeParts(); err != nil {
		a.datapath.Close()
		return nil, err
	}
	a.sendEvents()
	return a, nil
}

func podsOf(cfg Config) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = "spec.nodeName=" + cfg.NodeName
	}))
}

func (a *Agent) makeParts() error {
	var err error
	a.proxy, err = proxy.New(proxy.Config{
		NodeName: a.cfg.NodeName, Informers: a.informers, Pods: a.ownPods.Core().V1().Pods(), Datapath: a.datapath,
		NodePortAddresses: a.cfg.NodePortAddresses, Balancing: a.cfg.Balancing, Forwarding: a.cfg.Forwarding,
		HealthAddress: a.cfg.ProxyHealth, Registry: a.cfg.Registry,
		Recorder: a.recorder("slipway-proxy"), Log: a.cfg.Log.With("component", "proxy"),
	})
	if err != nil {
		return fmt.Errorf("make proxy: %w", err)
	}
	a.tables = &tables{datapath: a.datapath, written: a.proxy.Written, tell: a.nodeWarns("slipway-bpf"), log: a.cfg.Log.With("component", "bpf")}
	if a.cfg.Registry != nil {
		if err := a.cfg.Registry.Register(a.tables); err != nil {
			return fmt.Errorf("make metrics of tables: %w", err)
		}
	}
	a.peers, err = peers.New(peers.Config{
		NodeName: a.cfg.NodeName, Nodes: a.informers.Core().V1().Nodes(), Log: a.cfg.Log.With("component", "cni"),
	})
	if err != nil {
		return fmt.Errorf("make routes to nodes: %w", err)
	}
	a.firewall = firewall.New(firewall.Config{
		Interfaces: append([]string{device.Prefix + "+"}, a.cfg.Forwarded...), Log: a.cfg.Log.With("component", "firewall"),
	})
	if a.balancer, err = a.newBalancer(); err != nil {
		return fmt.Errorf("make load-balancer addresses: %w", err)
	}
	a.volumes, err = csi.New(csi.Config{
		NodeName: a.cfg.NodeName, Root: a.cfg.Volumes, KubeletRoot: a.cfg.Kubelet, Version: version.Version,
		Client: a.cfg.Client, Registry: a.cfg.Registry, Log: a.cfg.Log.With("component", "csi"),
	})
	if err != nil {
		return fmt.Errorf("make storage driver: %w", err)
	}
	a.ingress, err = ingress.New(ingress.Config{
		NodeName: a.cfg.NodeName, Client: a.cfg.Client, Informers: a.informers,
		HTTPAddr: fmt.Sprintf(":%d", a.cfg.HTTPPort), HTTPSAddr: fmt.Sprintf(":%d", a.cfg.HTTPSPort),
		Addresses: a.cfg.NodeIPs, Registry: a.cfg.Registry, Log: a.cfg.Log.With("component", "ingress"),
	})
	if err != nil {
		return fmt.Errorf("make ingress: %w", err)
	}
	return nil
}

// Close gives up this process' handles on the data path, which goes on.
func (a *Agent) Close() error {
	a.events.Shutdown()
	return a.datapath.Close()
}
