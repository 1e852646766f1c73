// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
)

// client says who connects.
func (e *explainer) client() string {
	switch pod := e.From.Pod; {
	case pod != nil && pod.Spec.HostNetwork:
		return fmt.Sprintf("pod %s/%s, in the network of node %s", pod.Namespace, pod.Name, pod.Spec.NodeName)
	case pod != nil:
		return fmt.Sprintf("pod %s/%s (%s), on %s", pod.Namespace, pod.Name, cmp.Or(pod.Status.PodIP, "no address yet"), e.nodeWords(pod.Spec.NodeName))
	case e.From.Outside():
		return fmt.Sprintf("the host %s", e.From.Addr)
	}
	return "this node, " + e.Facts.NodeName
}

func (e *explainer) nodeWords(name string) string {
	switch name {
	case "":
		return "no node yet"
	case e.Facts.NodeName:
		return "this node"
	}
	return "node " + name
}

// address says what the destination is.
func (e *explainer) address() string {
	addr := e.To.Addr.Addr()
	for _, s := range e.Objects.Services {
		if kind := kindOf(s, addr); kind != "" {
			return fmt.Sprintf("%s of Service %s/%s%s", kind, s.Namespace, s.Name, e.portWords(s))
		}
	}
	if owner := e.portOwner(); owner != "" {
		return owner
	}
	if pod := e.podAt(addr); pod != nil {
		return fmt.Sprintf("the pod %s/%s, on %s", pod.Namespace, pod.Name, e.nodeWords(pod.Spec.NodeName))
	}
	switch {
	case slices.Contains(e.Facts.NodeAddrs, addr):
		return "an address of this node, and no NodePort or hostPort"
	case slices.Contains(e.Facts.PeerAddrs, addr):
		return "an address of another node, and no NodePort"
	}
	return "an address of no Service, pod or node"
}

// portOwner is what a port of a node's address belongs to.
func (e *explainer) portOwner() string {
	for _, scope := range []bpf.Scope{bpf.ScopeCluster, bpf.ScopeExternal} {
		owner := e.owners[bpf.Frontend{Addr: e.To.Addr.Addr(), Port: e.To.Addr.Port(), Protocol: e.To.Protocol, Scope: scope}]
		kind, name, _ := strings.Cut(owner, " ")
		switch kind {
		case "Service":
			return "NodePort of Service " + name
		case "Pod":
			return "hostPort of pod " + name
		}
	}
	return ""
}

// kindOf is what an address is to a Service, empty when it is none of its own.
func kindOf(s *corev1.Service, addr netip.Addr) string {
	is := func(text string) bool {
		own, err := netip.ParseAddr(text)
		return err == nil && own.Unmap() == addr
	}
	switch {
	case slices.ContainsFunc(append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...), is):
		return "ClusterIP"
	case slices.ContainsFunc(s.Spec.ExternalIPs, is):
		return "external IP"
	case slices.ContainsFunc(s.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool { return is(in.IP) }):
		return "load-balancer address"
	}
	return ""
}

func (e *explainer) portWords(s *corev1.Service) string {
	for _, p := range s.Spec.Ports {
		if uint16(p.Port) == e.To.Addr.Port() && string(p.Protocol) == e.To.Protocol.String() {
			if p.Name != "" {
				return ", port " + p.Name
			}
			return ""
		}
	}
	return ", which has no such port"
}

// podAt is the pod with an address of its own.
func (e *explainer) podAt(addr netip.Addr) *corev1.Pod {
	for _, pod := range e.Objects.Pods {
		if pod.Spec.HostNetwork || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		if slices.ContainsFunc(pod.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == addr.String() }) {
			return pod
		}
	}
	return nil
}

// backend names a backend: its address, its pod, and where it is. The node is
// only used when there is no such pod.
func (e *explainer) backend(b bpf.Backend, node string) string {
	text := netip.AddrPortFrom(b.Addr, b.Port).String()
	switch pod := e.podAt(b.Addr); {
	case b.Flags&bpf.BackendLocalHost != 0:
		return text + ", this node itself"
	case pod != nil:
		return fmt.Sprintf("%s, pod %s/%s on %s", text, pod.Namespace, pod.Name, e.nodeWords(pod.Spec.NodeName))
	case b.Flags&bpf.BackendLocalPod != 0:
		return text + ", on this node"
	case node != "":
		return fmt.Sprintf("%s, on node %s", text, node)
	}
	return text + ", not on this node"
}
