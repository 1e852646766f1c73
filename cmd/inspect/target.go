// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

// target is what a user asks for: an address with its port, or a Service.
type target struct {
	addr netip.AddrPort
	// namespace and name are empty for an address.
	namespace, name string
	// port is the name or number of one of the Service's ports, empty for all.
	port string
	// protocol is 0 for any.
	protocol bpf.Protocol
}

// parseTarget reads ADDRESS:PORT[/PROTOCOL] or NAMESPACE/NAME[:PORT][/PROTOCOL].
func parseTarget(text string) (target, error) {
	var t target
	rest := text
	if i := strings.LastIndex(text, "/"); i >= 0 {
		if protocol, err := parseProtocol(text[i+1:]); err == nil && (strings.Contains(text[:i], "/") || isAddrPort(text[:i])) {
			t.protocol, rest = protocol, text[:i]
		}
	}
	if addr, err := netip.ParseAddrPort(rest); err == nil {
		t.addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		return t, nil
	}
	var found bool
	if t.namespace, t.name, found = strings.Cut(rest, "/"); found {
		t.name, t.port, found = strings.Cut(t.name, ":")
		if t.namespace != "" && t.name != "" && (!found || t.port != "") && !strings.ContainsAny(t.namespace+t.port, ":/") && !strings.Contains(t.name, "/") {
			return t, nil
		}
	}
	return target{}, fmt.Errorf("%q: expected ADDRESS:PORT[/tcp|udp|sctp], as 10.96.0.1:443 or [fd00::1]:53/udp, or NAMESPACE/NAME[:PORT]", text)
}

func isAddrPort(text string) bool {
	_, err := netip.ParseAddrPort(text)
	return err == nil
}

func parseProtocol(text string) (bpf.Protocol, error) {
	for _, p := range []bpf.Protocol{bpf.ProtocolTCP, bpf.ProtocolUDP, bpf.ProtocolSCTP} {
		if strings.EqualFold(text, p.String()) {
			return p, nil
		}
	}
	return 0, fmt.Errorf("protocol %q: expected tcp, udp or sctp", text)
}

func (t target) String() string {
	text := t.addr.String()
	if t.name != "" {
		text = t.namespace + "/" + t.name
		if t.port != "" {
			text += ":" + t.port
		}
	}
	if t.protocol != 0 {
		text += "/" + strings.ToLower(t.protocol.String())
	}
	return text
}

// matches tells whether an address is meant, whatever its scope.
func (t target) matches(f bpf.Frontend) bool {
	return t.addr == netip.AddrPortFrom(f.Addr, f.Port) && (t.protocol == 0 || t.protocol == f.Protocol)
}

// ports are the ports of a Service that are meant, those of the nodes among
// them.
func (t target) ports(s *corev1.Service) map[uint16]bool {
	out := map[uint16]bool{}
	for _, p := range s.Spec.Ports {
		if t.port == "" || t.port == p.Name || t.port == strconv.Itoa(int(p.Port)) {
			out[uint16(p.Port)], out[uint16(p.NodePort)] = true, true
		}
	}
	delete(out, 0)
	return out
}

// frontends returns those of tables that are meant.
func (t target) frontends(tables proxy.Tables, c cluster) ([]bpf.Frontend, error) {
	var out []bpf.Frontend
	if t.name == "" {
		for f := range tables {
			if t.matches(f) {
				out = append(out, f)
			}
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("no frontend %s in the data path; %s", t, neighbours(tables, t.addr.Addr()))
		}
		return out, nil
	}
	s := c.service(t.namespace, t.name)
	if s == nil {
		return nil, fmt.Errorf("no Service %s/%s", t.namespace, t.name)
	}
	ports := t.ports(s)
	if len(ports) == 0 {
		return nil, fmt.Errorf("service %s/%s has no port %s; its ports are %s", t.namespace, t.name, t.port, portNames(s))
	}
	owners := proxy.Owners(c.own(), c.facts)
	for f := range tables {
		if owners[f] == "Service "+t.namespace+"/"+t.name && ports[f.Port] && (t.protocol == 0 || t.protocol == f.Protocol) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("service %s has no frontend in the data path", t)
	}
	return out, nil
}

// neighbours says which frontends there are instead.
func neighbours(tables proxy.Tables, addr netip.Addr) string {
	var same []bpf.Frontend
	for f := range tables {
		if f.Addr == addr && f.Port != 0 {
			same = append(same, f)
		}
	}
	if len(same) == 0 {
		return fmt.Sprintf("none has the address %s, see `proxy list`", addr)
	}
	const few = 5
	sortFrontends(same)
	var names []string
	for _, f := range same {
		if name := frontendName(f); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	if len(names) > few {
		return fmt.Sprintf("%s has %d others, see `proxy list`", addr, len(names))
	}
	return "this address has " + strings.Join(names, ", ")
}

func portNames(s *corev1.Service) string {
	var names []string
	for _, p := range s.Spec.Ports {
		name := strconv.Itoa(int(p.Port))
		if p.Name != "" {
			name += " (" + p.Name + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

func (c cluster) service(namespace, name string) *corev1.Service {
	for _, s := range c.objects.Services {
		if s.Namespace == namespace && s.Name == name {
			return s
		}
	}
	return nil
}
