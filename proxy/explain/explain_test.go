// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "a", Name: name, Labels: map[string]string{"app": name}}
}

func pod(name, addr, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: meta(name), Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: addr, PodIPs: []corev1.PodIP{{IP: addr}}},
	}
}

// example is a Service with an endpoint on each of two nodes, and one that is
// not ready.
func example(change func(*Input, *corev1.Service, *discoveryv1.EndpointSlice)) Input {
	service := &corev1.Service{
		ObjectMeta: meta("web"),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, NodePort: 30080, Protocol: corev1.ProtocolTCP}},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range []struct {
		addr, node string
		ready      bool
	}{{"10.244.0.5", "n1", true}, {"10.244.0.6", "n1", false}, {"10.244.1.5", "n2", true}} {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.addr}, NodeName: &e.node, Conditions: discoveryv1.EndpointConditions{Ready: &e.ready},
		})
	}
	in := Input{
		Facts: proxy.Facts{NodeName: "n1", NodeAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, PeerAddrs: []netip.Addr{netip.MustParseAddr("192.0.2.2")}},
		Objects: proxy.Objects{
			Services: []*corev1.Service{service}, Slices: []*discoveryv1.EndpointSlice{slice},
			Pods: []*corev1.Pod{pod("client", "10.244.0.7", "n1"), pod("web-1", "10.244.0.5", "n1"), pod("web-2", "10.244.1.5", "n2"), pod("far", "10.244.1.7", "n2")},
		},
		To: to("10.96.0.5:80"),
	}
	in.From.Pod = in.Objects.Pods[0]
	if change != nil {
		change(&in, service, slice)
	}
	if in.Kernel == nil {
		in.Kernel, _ = proxy.Compile(proxy.Objects{Services: in.Objects.Services, Slices: in.Objects.Slices}, in.Facts)
	}
	return in
}

func to(addr string) Destination {
	return Destination{netip.MustParseAddrPort(addr), bpf.ProtocolTCP}
}

func text(e Explanation) []string {
	out := []string{"from " + e.From, "to " + e.To}
	for _, s := range e.Steps {
		out = append(out, s.Says)
		for _, d := range s.Details {
			out = append(out, "- "+d)
		}
	}
	return out
}

const (
	fromPod   = "from pod a/client (10.244.0.7), on this node"
	local     = "- 10.244.0.5:8080, pod a/web-1 on this node"
	remote    = "- 10.244.1.5:8080, pod a/web-2 on node n2"
	notReady  = "- 10.244.0.6:8080, on this node: is not ready"
	atSocket  = "The address is translated at the socket, when it connects. Packets carry the backend's address from the start; none is changed."
	toLocal   = "- to a pod of this node: directly, past the host's network"
	toRemote  = "- to another node: routed, with the client's address as the source"
	agree     = "The kernel has what the API's objects call for."
	twoOf     = "It has 2 backends, one of which is taken at random:"
	clusterIP = "to 10.96.0.5:80/TCP: ClusterIP of Service a/web, port http"
	differs   = "The kernel differs from the API's objects: the proxy is behind, or does not run. See `slipway status`, and try again."
)

func TestExplain(t *testing.T) {
	policyLocal := corev1.ServiceInternalTrafficPolicyLocal
	type change = func(*Input, *corev1.Service, *discoveryv1.EndpointSlice)
	for name, tt := range map[string]struct {
		change change
		want   []string
	}{
		"pod to cluster address": {nil, []string{
			fromPod, clusterIP, "The data path finds the frontend 10.96.0.5:80/TCP, for pods and the node.",
			twoOf, local, remote, "Not used:", notReady, atSocket, toLocal, toRemote, agree,
		}},
		"policy Local": {func(in *Input, s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Spec.InternalTrafficPolicy = &policyLocal
		}, []string{
			fromPod, clusterIP, "The data path finds the frontend 10.96.0.5:80/TCP, for pods and the node.",
			"It has one backend:", local, "Not used:", notReady, remote + ": is not on this node, and internalTrafficPolicy is Local", atSocket, toLocal, agree,
		}},
		"no endpoints": {func(_ *Input, _ *corev1.Service, s *discoveryv1.EndpointSlice) { s.Endpoints = nil }, []string{
			fromPod, clusterIP, "The data path finds the frontend 10.96.0.5:80/TCP, for pods and the node.",
			"It has no backends.", "The connection is refused at the socket (connection refused), at once.", agree,
		}},
		"no such port, datagrams": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) {
			in.To = Destination{netip.MustParseAddrPort("10.96.0.5:53"), bpf.ProtocolUDP}
		}, []string{
			fromPod, "to 10.96.0.5:53/UDP: ClusterIP of Service a/web, which has no such port",
			"The data path has no frontend 10.96.0.5:53/UDP; the address is a Service's, which has no such port.",
			"A socket may connect, but each datagram that it sends is refused at once (connection refused).",
		}},
		"no such port": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) { in.To = to("10.96.0.5:81") }, []string{
			fromPod, "to 10.96.0.5:81/TCP: ClusterIP of Service a/web, which has no such port",
			"The data path has no frontend 10.96.0.5:81/TCP; the address is a Service's, which has no such port.",
			"The connection is refused at the socket (connection refused), at once.",
		}},
		"other host to NodePort": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) {
			in.From, in.To = Client{Addr: netip.MustParseAddr("192.0.2.9")}, to("192.0.2.1:30080")
			in.Drops = map[bpf.DropReason]uint64{2: 5, 7: 3}
		}, []string{
			"from the host 192.0.2.9", "to 192.0.2.1:30080/TCP: NodePort of Service a/web",
			"The data path finds the frontend 192.0.2.1:30080/TCP, for packets from other hosts.",
			twoOf, local, remote, "Not used:", notReady,
			"The first packet is translated at the uplink, and noted in conntrack; all others follow it.",
			"- to a pod of this node: new destination; the pod sees the client's address",
			"- to another node: new destination, and this node's address as the source (SNAT), so that replies come back here",
			agree, "Since it was started the data path has dropped, of all packets on such a way: fib 3.",
		}},
		"other host to NodePort without endpoints": {func(in *Input, _ *corev1.Service, s *discoveryv1.EndpointSlice) {
			in.From, in.To, s.Endpoints = Client{Addr: netip.MustParseAddr("192.0.2.9")}, to("192.0.2.1:30080"), nil
		}, []string{
			"from the host 192.0.2.9", "to 192.0.2.1:30080/TCP: NodePort of Service a/web",
			"The data path finds the frontend 192.0.2.1:30080/TCP, for packets from other hosts.",
			"It has no backends.", "The connection is refused at the uplink: with a TCP reset, or an ICMP error.", agree,
		}},
		"other host, endpoints elsewhere": {func(in *Input, s *corev1.Service, slice *discoveryv1.EndpointSlice) {
			in.From, in.To, slice.Endpoints = Client{Addr: netip.MustParseAddr("192.0.2.9")}, to("192.0.2.1:30080"), slice.Endpoints[2:]
			s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		}, []string{
			"from the host 192.0.2.9", "to 192.0.2.1:30080/TCP: NodePort of Service a/web",
			"The data path finds the frontend 192.0.2.1:30080/TCP, for packets from other hosts.",
			"It has no backends.", "Not used:", remote + ": is not on this node, and externalTrafficPolicy is Local",
			"There are endpoints on other nodes only, and the policy is Local: packets are dropped at the uplink and counted as no_endpoint.", agree,
		}},
		"other host, not in source ranges": {func(in *Input, s *corev1.Service, slice *discoveryv1.EndpointSlice) {
			in.From, in.To, slice.Endpoints = Client{Addr: netip.MustParseAddr("192.0.2.9")}, to("192.0.2.200:80"), slice.Endpoints[:1]
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.200"}}
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
		}, []string{
			"from the host 192.0.2.9", "to 192.0.2.200:80/TCP: load-balancer address of Service a/web, port http",
			"The data path finds the frontend 192.0.2.200:80/TCP, for packets from other hosts.", "It has one backend:", local,
			"The client is in none of the Service's source ranges: packets are dropped at the uplink and counted as source_range.",
			"- allowed are 198.51.100.0/24", agree,
		}},
		"pod, not in source ranges": {func(in *Input, s *corev1.Service, slice *discoveryv1.EndpointSlice) {
			in.To, slice.Endpoints = to("192.0.2.200:80"), slice.Endpoints[:1]
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.200"}}
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
		}, []string{
			fromPod, "to 192.0.2.200:80/TCP: load-balancer address of Service a/web, port http",
			"The data path finds the frontend 192.0.2.200:80/TCP, for pods and the node.", "It has one backend:", local,
			"The client is in none of the Service's source ranges: the connection is refused at the socket (operation not permitted) and counted as source_range.",
			"- allowed are 198.51.100.0/24", agree,
		}},
		"other host to cluster address": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) {
			in.From = Client{Addr: netip.MustParseAddr("192.0.2.9")}
		}, []string{
			"from the host 192.0.2.9", clusterIP, "The data path has no frontend 10.96.0.5:80/TCP for packets from other hosts.",
			"- there is one for pods and the node", "Packets are left to this node's own network: a process that listens there answers, or nobody.",
		}},
		"pod to pod": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) { in.To = to("10.244.0.5:8080") }, []string{
			fromPod, "to 10.244.0.5:8080/TCP: the pod a/web-1, on this node", "The data path has no frontend 10.244.0.5:8080/TCP for pods and the node.",
			"Packets go from pod to pod on this node, past the host's network.",
		}},
		"pod to the internet": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) { in.To = to("203.0.113.1:443") }, []string{
			fromPod, "to 203.0.113.1:443/TCP: an address of no Service, pod or node", "The data path has no frontend 203.0.113.1:443/TCP for pods and the node.",
			"Packets are routed by this node; what leaves the cluster has the node's address as its source.",
		}},
		"pod of another node": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) { in.From.Pod = in.Objects.Pods[3] }, []string{
			"from pod a/far (10.244.1.7), on node n2", clusterIP,
			"The pod is on node n2: only the kernel there has what becomes of its connections. Run this command there.",
		}},
		"network policy": {func(in *Input, _ *corev1.Service, s *discoveryv1.EndpointSlice) {
			s.Endpoints = s.Endpoints[:1]
			deny := &networkingv1.NetworkPolicy{ObjectMeta: meta("deny")}
			other := &networkingv1.NetworkPolicy{ObjectMeta: meta("other"), Spec: networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "far"}}}}
			in.Policies = []*networkingv1.NetworkPolicy{deny, other}
		}, []string{
			fromPod, clusterIP, "The data path finds the frontend 10.96.0.5:80/TCP, for pods and the node.", "It has one backend:", local, atSocket, toLocal,
			"NetworkPolicies that select one of these pods: a/deny. Slipway does not enforce NetworkPolicies: they change nothing.", agree,
		}},
		"SCTP": {func(in *Input, s *corev1.Service, es *discoveryv1.EndpointSlice) {
			s.Spec.Ports[0].Protocol, es.Ports[0].Protocol = corev1.ProtocolSCTP, new(corev1.ProtocolSCTP)
			es.Endpoints = es.Endpoints[:1]
			in.To.Protocol = bpf.ProtocolSCTP
		}, []string{
			fromPod, strings.Replace(clusterIP, "TCP", "SCTP", 1), "The data path finds the frontend 10.96.0.5:80/SCTP, for pods and the node.", "It has one backend:", local,
			"The address is translated in each packet, on the pod's interface.", toLocal, agree,
		}},
		"protocol that is not served": {func(in *Input, s *corev1.Service, _ *discoveryv1.EndpointSlice) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.200"}}
			s.Spec.Ports[0].Protocol = "DCCP"
			in.To = to("192.0.2.200:80")
		}, []string{
			fromPod, "to 192.0.2.200:80/TCP: load-balancer address of Service a/web, which has no such port",
			"The data path has no frontend 192.0.2.200:80/TCP for pods and the node.",
			"Packets are routed by this node; what leaves the cluster has the node's address as its source.",
			"Service a/web: spec.ports[0].protocol DCCP: only TCP, UDP and SCTP are served",
		}},
		"kernel is behind": {func(in *Input, _ *corev1.Service, s *discoveryv1.EndpointSlice) {
			in.Kernel, _ = proxy.Compile(proxy.Objects{Services: in.Objects.Services, Slices: in.Objects.Slices}, in.Facts)
			in.Kernel = maps.Clone(in.Kernel)
			s.Endpoints = s.Endpoints[:2]
		}, []string{
			fromPod, clusterIP, "The data path finds the frontend 10.96.0.5:80/TCP, for pods and the node.",
			twoOf, local, remote, "Not used:", notReady, atSocket, toLocal, toRemote, differs,
			"- too much: " + strings.TrimPrefix(remote, "- "), "- 4 other frontends differ, too",
		}},
		"kernel has nothing": {func(in *Input, _ *corev1.Service, _ *discoveryv1.EndpointSlice) { in.Kernel = proxy.Tables{} }, []string{
			fromPod, clusterIP, "The data path has no frontend 10.96.0.5:80/TCP for pods and the node.",
			"Packets are routed by this node; what leaves the cluster has the node's address as its source.", differs,
			"- the frontend is missing; it should have 2 backends", "- 5 other frontends differ, too",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, text(Explain(example(tt.change)))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
