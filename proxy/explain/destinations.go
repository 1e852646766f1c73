// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// Destinations are the addresses by which a client would reach a Service, or
// one of its ports by name or number: cluster addresses from inside, of other
// hosts the load-balancer and external addresses, or else the NodePorts.
func Destinations(s *corev1.Service, port string, from Client, facts proxy.Facts) ([]Destination, error) {
	name := s.Namespace + "/" + s.Name
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		return nil, fmt.Errorf("service %s is only a name: DNS answers with %s", name, s.Spec.ExternalName)
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		return nil, fmt.Errorf("service %s is headless: DNS answers with the addresses of its endpoints; ask for one of these", name)
	}
	var out []Destination
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, strings.Trim(fmt.Sprintf("%d %s", p.Port, p.Name), " "))
		if port != "" && port != p.Name && port != strconv.Itoa(int(p.Port)) {
			continue
		}
		protocol := bpf.ProtocolTCP
		switch p.Protocol {
		case corev1.ProtocolUDP:
			protocol = bpf.ProtocolUDP
		case corev1.ProtocolSCTP:
			protocol = bpf.ProtocolSCTP
		}
		for _, addr := range addresses(s, p, from, facts) {
			if reachable(from, addr.Addr()) {
				out = append(out, Destination{addr, protocol})
			}
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if from.Outside() {
		return nil, fmt.Errorf("service %s has no address for other hosts of the client's family: none of a load balancer, no external IP, no NodePort", name)
	}
	return nil, fmt.Errorf("service %s has no port %s of the client's family; its ports are %s", name, port, strings.Join(ports, ", "))
}

func addresses(s *corev1.Service, port corev1.ServicePort, from Client, facts proxy.Facts) []netip.AddrPort {
	texts := s.Spec.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.Spec.ClusterIP}
	}
	if from.Outside() {
		texts = slices.Clone(s.Spec.ExternalIPs)
		for _, in := range s.Status.LoadBalancer.Ingress {
			texts = append(texts, in.IP)
		}
	}
	var out []netip.AddrPort
	for _, text := range texts {
		if addr, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.AddrPortFrom(addr.Unmap(), uint16(port.Port)))
		}
	}
	if from.Outside() && len(out) == 0 && port.NodePort != 0 {
		for _, addr := range facts.NodeAddrs {
			out = append(out, netip.AddrPortFrom(addr, uint16(port.NodePort)))
		}
	}
	return out
}

// reachable tells whether a client has an address of the family.
func reachable(from Client, addr netip.Addr) bool {
	switch {
	case from.Outside():
		return from.Addr.Is4() == addr.Is4()
	case from.Pod == nil || from.Pod.Spec.HostNetwork || len(from.Pod.Status.PodIPs) == 0:
		return true
	}
	return slices.ContainsFunc(from.Pod.Status.PodIPs, func(ip corev1.PodIP) bool {
		own, err := netip.ParseAddr(ip.IP)
		return err == nil && own.Is4() == addr.Is4()
	})
}
