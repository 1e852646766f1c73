// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
)

// hostPorts makes the frontends of pods that ask for ports of the node. A
// Service that has such a port already keeps it, and so does the older pod.
func (c *compiler) hostPorts(pods []*corev1.Pod) {
	ordered := slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
	})
	for _, pod := range ordered {
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		for _, container := range slices.Concat(sidecars(pod), pod.Spec.Containers) {
			for _, port := range container.Ports {
				if port.HostPort != 0 {
					c.hostPort(pod, port)
				}
			}
		}
	}
}

// sidecars are the init containers that run as long as the pod (KEP-753).
func sidecars(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

func (c *compiler) hostPort(pod *corev1.Pod, port corev1.ContainerPort) {
	protocol, ok := protocolOf(port.Protocol)
	if !ok {
		c.podProblem(pod, "hostPort %d protocol %s: only TCP and UDP are served", port.HostPort, port.Protocol)
		return
	}
	on, err := c.hostAddrs(port.HostIP)
	if err != nil {
		c.podProblem(pod, "hostPort %d: %v", port.HostPort, err)
		return
	}
	for _, in := range pod.Status.PodIPs {
		ip, err := netip.ParseAddr(in.IP)
		if err != nil {
			continue // The kubelet has not told it yet.
		}
		target := Target{Backends: []bpf.Backend{{Addr: ip.Unmap(), Port: uint16(port.ContainerPort), Flags: bpf.BackendLocalPod}}}
		for _, addr := range on {
			if addr.Is4() == ip.Is4() {
				c.claim(pod, bpf.Frontend{Addr: addr, Port: uint16(port.HostPort), Protocol: protocol}, target)
			}
		}
	}
}

// claim gives a pod a frontend for clients of each scope.
func (c *compiler) claim(pod *corev1.Pod, f bpf.Frontend, target Target) {
	scopes := []bpf.Scope{bpf.ScopeCluster, bpf.ScopeExternal}
	if f.Addr.IsLoopback() {
		scopes = scopes[:1]
	}
	for _, f.Scope = range scopes {
		if owner, taken := c.owners[f]; taken {
			c.podProblem(pod, "hostPort %d/%s on %s: belongs to %s already", f.Port, f.Protocol, f.Addr, owner)
			return
		}
		c.owners[f] = "Pod " + pod.Namespace + "/" + pod.Name
		c.tables[f] = target
	}
}

// hostAddrs are the addresses that a pod's hostIP means.
func (c *compiler) hostAddrs(hostIP string) ([]netip.Addr, error) {
	if hostIP == "" {
		return append([]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, c.facts.NodeAddrs...), nil
	}
	addr, err := netip.ParseAddr(hostIP)
	if err != nil {
		return nil, fmt.Errorf("hostIP %q: expected an IP address", hostIP)
	}
	if addr = addr.Unmap(); !addr.IsUnspecified() {
		return []netip.Addr{addr}, nil
	}
	all, _ := c.hostAddrs("")
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return a.Is4() != addr.Is4() }), nil
}

func (c *compiler) podProblem(pod *corev1.Pod, format string, args ...any) {
	c.problems = append(c.problems, Problem{
		Object: "Pod " + pod.Namespace + "/" + pod.Name, Message: fmt.Sprintf(format, args...),
	})
}
