// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/dns"
	"slipway.dev/slipway/node/agent"
	"slipway.dev/slipway/node/host"
)

// startData starts the data plane, the kubelet and DNS, and waits until the
// node is Ready and all of it serves.
func (m *member) startData(ctx context.Context) error {
	client, err := m.newClient("agent.kubeconfig", "slipway-agent")
	if err != nil {
		return err
	}
	m.addProbe(checkAPI(client), checkNode(client, m.cfg.NodeName))
	data, err := m.startAgent(client)
	if err != nil {
		return err
	}
	if err := m.startKubelet(ctx, client, data); err != nil {
		return err
	}
	gateways, err := data.WaitNetwork(ctx)
	if err != nil {
		return err
	}
	m.steps.Show(Progress{Step: "pod network serves", Took: time.Since(m.begin)})
	if err := m.startDNS(ctx, client, gateways); err != nil {
		return err
	}
	if _, err := waitNode(ctx, client, m.cfg.NodeName, isReadySince(m.begin)); err != nil {
		return err
	}
	m.steps.Show(Progress{Step: "node Ready", Took: time.Since(m.begin)})
	return data.WaitServing(ctx)
}

// startKubelet starts the kubelet; on a node that is known already, after the
// pod network serves. A kubelet that finds no network reports the node as not
// Ready, and looks again only ten seconds later.
func (m *member) startKubelet(ctx context.Context, client kubernetes.Interface, data *agent.Agent) error {
	node, err := getNode(ctx, client, m.cfg.NodeName)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && len(node.Spec.PodCIDRs) > 0 {
		if _, err := data.WaitNetwork(ctx); err != nil {
			return err
		}
	}
	m.sup.Start("kubelet", stageRest, m.runKubelet)
	return nil
}

// labelControlPlane gives the node the role that `kubectl get nodes` shows. The
// kubelet may not give it to itself.
func labelControlPlane(ctx context.Context, client kubernetes.Interface, name string) error {
	role := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)
	err := insist(ctx, func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, role, metav1.PatchOptions{})
		return err
	})
	if err != nil {
		return fmt.Errorf("label node %s: %w", name, err)
	}
	return nil
}

// proxyHealth is where load balancers outside ask kube-proxy, too.
const proxyHealth = ":10256"

// startAgent starts all parts of the data plane.
func (m *member) startAgent(client kubernetes.Interface) (*agent.Agent, error) {
	group, err := host.Unified()
	if err != nil {
		return nil, err
	}
	config, err := m.clientConfig("agent.kubeconfig", "slipway-agent")
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of the agent: %w", err)
	}
	data, err := agent.Open(agent.Config{
		NodeName: m.cfg.NodeName, NodeIPs: m.cfg.NodeIPs, ClusterCIDRs: m.cfg.PodCIDRs,
		NodePortAddresses: m.cfg.NodePortAddresses, Balancing: m.cfg.Balancing, Forwarding: m.cfg.Forwarding, ProxyHealth: proxyHealth, HTTPPort: m.cfg.HTTPPort, HTTPSPort: m.cfg.HTTPSPort,
		Forwarded: m.cfg.bridges(), Paths: m.cfg.agentPaths(group), Client: client, Dynamic: objects, Registry: m.registry, Log: m.log,
	})
	if err != nil {
		return nil, err
	}
	for _, part := range data.Parts() {
		m.sup.Start(part.Name, stageRest, part.Run)
	}
	m.addProbe(agentProbes(data)...)
	services := m.cfg.podServices()
	if m.joined != nil {
		services = workerServices()
	}
	m.addProbe(func(ctx context.Context) Check { return m.cfg.checkInput(ctx, services) })
	return data, nil
}

func (c Config) agentPaths(group string) agent.Paths {
	return agent.Paths{
		Pins: c.PinDir(), Cgroup: group, Kubelet: c.kubeletDir(), Volumes: c.data("volumes"),
		CNIState: c.data("cni"), CNISocket: c.cniSocket(), CNIConf: c.run("cni", "net.d"),
	}
}

// agentProbes gives one probe for each part of the data plane.
func agentProbes(data *agent.Agent) []probe {
	var probes []probe
	for i := range data.Health() {
		probes = append(probes, func(context.Context) Check {
			h := data.Health()[i]
			return Check{Name: h.Name, OK: h.OK, Says: h.Says, Do: h.Do}
		})
	}
	return probes
}

// startDNS serves the cluster's names on the node's own addresses in the pod
// network.
func (m *member) startDNS(ctx context.Context, client kubernetes.Interface, addresses []netip.Addr) error {
	server, err := dns.Start(dns.Config{
		Addresses: addresses, Domain: m.cfg.ClusterDomain, ResolvConf: resolvConf(),
		Kubeconfig: m.cfg.certificates().Path("agent.kubeconfig"),
	})
	if err != nil {
		return err
	}
	m.sup.Start("dns", stageRest, server.Run)
	m.addProbe(m.checkDNS(addresses))
	return publishDNS(ctx, client, m.cfg, addresses)
}

// checkDNS asks the server for a name that every cluster has.
func (m *member) checkDNS(addresses []netip.Addr) probe {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, netip.AddrPortFrom(addresses[0], 53).String())
	}}
	return func(ctx context.Context) Check {
		name := "kubernetes.default.svc." + m.cfg.ClusterDomain + "."
		found, err := resolver.LookupHost(ctx, name)
		if err != nil {
			return Check{Name: "DNS", Says: err.Error(), Do: "look for CoreDNS errors in the log"}
		}
		return Check{Name: "DNS", OK: true, Says: fmt.Sprintf("%s is %s", name, found[0])}
	}
}
