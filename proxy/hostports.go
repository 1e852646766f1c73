// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
)

// compilePod makes the frontends of a pod that asks for ports of the node. A
// Service that has such a port already keeps it, and so does the older pod.
func compilePod(pod *corev1.Pod, facts Facts) *claims {
	c := newCompiler("Pod "+podName(pod), pod.CreationTimestamp, facts)
	c.claims.pod = true
	if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return c.claims
	}
	for _, container := range slices.Concat(sidecars(pod), pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				c.hostPort(pod, port)
			}
		}
	}
	return c.claims
}

func podName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }

// sidecars are the init containers that run as long as the pod (KEP-753).
func sidecars(pod *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(pod.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

func (c *compiler) hostPort(pod *corev1.Pod, port corev1.ContainerPort) {
	protocol, ok := protocolOf(port.Protocol)
	if !ok {
		c.problem("hostPort %d protocol %s: only TCP, UDP and SCTP are served", port.HostPort, port.Protocol)
		return
	}
	on, err := c.hostAddrs(port.HostIP)
	if err != nil {
		c.problem("hostPort %d: %v", port.HostPort, err)
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
				c.claim(bpf.Frontend{Addr: addr, Port: uint16(port.HostPort), Protocol: protocol, Scope: bpf.ScopeCluster}, target)
				if !addr.IsLoopback() {
					c.claim(bpf.Frontend{Addr: addr, Port: uint16(port.HostPort), Protocol: protocol, Scope: bpf.ScopeExternal}, target)
				}
			}
		}
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
