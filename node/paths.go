// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/netip"
	"path/filepath"

	"slipway.dev/slipway/internal/version"
	"slipway.dev/slipway/node/containerd"
	"slipway.dev/slipway/node/pki"
)

// cgroupName is the cgroup under which all pods live.
const cgroupName = "slipway"

// dataVersion is the layout of the data directory. It grows when an older
// program could not read what a newer one has written.
const dataVersion = 1

func (c Config) data(parts ...string) string {
	return filepath.Join(append([]string{c.DataDir}, parts...)...)
}

func (c Config) run(parts ...string) string {
	return filepath.Join(append([]string{c.RunDir}, parts...)...)
}

// LogFile is where the process and the components in it log.
func (c Config) LogFile() string { return c.data("log", "slipway.log") }

// ContainerdSocket is the socket of the container runtime.
func (c Config) ContainerdSocket() string { return c.containerd().Socket() }

// PinDir is where the data path is pinned.
func (c Config) PinDir() string { return "/sys/fs/bpf/slipway" }

func (c Config) kubeletDir() string  { return c.data("kubelet") }
func (c Config) journal() string     { return c.data("host.json") }
func (c Config) cniSocket() string   { return c.run("cni.sock") }
func (c Config) statusSock() string  { return c.run("status.sock") }
func (c Config) versionFile() string { return c.data("version.json") }
func (c Config) lockFile() string    { return c.data("lock") }

func (c Config) sandboxImage() string { return "slipway.dev/pause:" + version.Kubernetes }

func (c Config) containerd() containerd.Config {
	return containerd.Config{
		Executable:   c.Executable,
		Root:         c.data("containerd"),
		State:        c.run("containerd"),
		BinDir:       c.data("bin"),
		CNIConfDir:   c.run("cni", "net.d"),
		SandboxImage: c.sandboxImage(),
		LogFile:      c.data("log", "containerd.log"),
	}
}

func (c Config) certificates() pki.Cluster {
	names := []string{
		"localhost", "127.0.0.1", "::1", c.NodeName,
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + c.ClusterDomain,
	}
	for _, ip := range c.NodeIPs {
		names = append(names, ip.String())
	}
	for _, cidr := range c.ServiceCIDRs {
		names = append(names, cidr.Masked().Addr().Next().String())
	}
	nodeNames := []string{c.NodeName}
	for _, ip := range c.NodeIPs {
		nodeNames = append(nodeNames, ip.String())
	}
	return pki.Cluster{
		Dir: c.data("pki"), Server: c.server(), NodeName: c.NodeName,
		Hosts: names, NodeHosts: nodeNames, AdminKubeconfig: c.Kubeconfig,
	}
}

// dnsAddresses are the tenth address of each service range, as is usual.
func (c Config) dnsAddresses() []netip.Addr {
	var out []netip.Addr
	for _, cidr := range c.ServiceCIDRs {
		addr := cidr.Masked().Addr()
		for range 10 {
			addr = addr.Next()
		}
		out = append(out, addr)
	}
	return out
}
