// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"os"

	"slipway.dev/slipway/kubelet"
	"slipway.dev/slipway/node/host"
)

// runKubelet runs the kubelet of this node. It is started when the API server
// is ready: before that it would only back off, for seconds.
func (m *member) runKubelet(ctx context.Context) error {
	return kubelet.Run(ctx, m.kubeletConfig())
}

func (m *member) kubeletConfig() kubelet.Config {
	cfg := kubelet.Config{
		NodeName:      m.cfg.NodeName,
		NodeIPs:       m.cfg.NodeIPs,
		RootDir:       m.cfg.kubeletDir(),
		Kubeconfig:    m.cfg.data("pki", "kubelet.kubeconfig"),
		RuntimeSocket: m.cfg.containerd().Socket(),
		CgroupRoot:    "/" + cgroupName,
		ClusterDNS:    m.cfg.dnsAddresses()[:1],
		ClusterDomain: m.cfg.ClusterDomain,
		OOMScoreAdj:   host.OOMScore(),
		ResolvConf:    resolvConf(),
		PKI:           func(name string) string { return m.cfg.data("pki", name) },
	}
	if m.joined != nil {
		cfg.Bootstrap = m.cfg.bootstrapFile()
	}
	return cfg
}

// resolvConf is the host's list of DNS servers: systemd-resolved keeps the
// real servers in another file than /etc/resolv.conf, which names only its
// own stub on loopback.
func resolvConf() string {
	const resolved = "/run/systemd/resolve/resolv.conf"
	if _, err := os.Stat(resolved); err == nil {
		return resolved
	}
	return "/etc/resolv.conf"
}
