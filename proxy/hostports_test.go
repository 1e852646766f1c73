// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func podWith(name string, ips string, ports ...corev1.ContainerPort) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: ports}}},
	}
	for ip := range strings.FieldsSeq(ips) {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	return p
}

func TestHostPorts(t *testing.T) {
	port := func(hostIP string, protocol corev1.Protocol) corev1.ContainerPort {
		return corev1.ContainerPort{HostPort: 8000, ContainerPort: 80, HostIP: hostIP, Protocol: protocol}
	}
	nodePort := service(func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 8000 })
	ended := podWith("p", "10.244.0.7", port("", corev1.ProtocolTCP))
	ended.Status.Phase = corev1.PodSucceeded
	onHost := podWith("p", "192.0.2.1", port("", corev1.ProtocolTCP))
	onHost.Spec.HostNetwork = true
	for name, tt := range map[string]struct {
		pods     []*corev1.Pod
		services []*corev1.Service
		want     []string
		problems []string
	}{
		"all addresses": {
			pods: []*corev1.Pod{podWith("p", "10.244.0.7 fd00:244::7", port("", corev1.ProtocolTCP))},
			want: []string{
				"127.0.0.1:8000 TCP/0 -> 10.244.0.7:80(1)",
				"192.0.2.1:8000 TCP/0 -> 10.244.0.7:80(1)", "192.0.2.1:8000 TCP/1 -> 10.244.0.7:80(1)",
				"[2001:db8::1]:8000 TCP/0 -> [fd00:244::7]:80(1)", "[2001:db8::1]:8000 TCP/1 -> [fd00:244::7]:80(1)",
			},
		},
		"one port, by address and protocol": {
			pods: []*corev1.Pod{
				podWith("p", "10.244.0.7", port("127.0.0.1", corev1.ProtocolTCP)),
				podWith("q", "10.244.0.8", port("192.0.2.1", corev1.ProtocolTCP)),
				podWith("r", "10.244.0.9", port("192.0.2.1", corev1.ProtocolUDP)),
			},
			want: []string{
				"127.0.0.1:8000 TCP/0 -> 10.244.0.7:80(1)",
				"192.0.2.1:8000 TCP/0 -> 10.244.0.8:80(1)", "192.0.2.1:8000 TCP/1 -> 10.244.0.8:80(1)",
				"192.0.2.1:8000 UDP/0 -> 10.244.0.9:80(1)", "192.0.2.1:8000 UDP/1 -> 10.244.0.9:80(1)",
			},
		},
		"no address yet": {pods: []*corev1.Pod{podWith("p", "", port("", corev1.ProtocolTCP))}},
		"ended":          {pods: []*corev1.Pod{ended}},
		"on the host":    {pods: []*corev1.Pod{onHost}},
		"no address":     {pods: []*corev1.Pod{podWith("p", "10.244.0.7", port("x", corev1.ProtocolTCP))}, problems: []string{`Pod a/p: hostPort 8000: hostIP "x": expected an IP address`}},
		"other protocol": {pods: []*corev1.Pod{podWith("p", "10.244.0.7", port("", "DCCP"))}, problems: []string{"Pod a/p: hostPort 8000 protocol DCCP: only TCP, UDP and SCTP are served"}},
		"taken by a Service": {
			pods: []*corev1.Pod{podWith("p", "10.244.0.7", port("127.0.0.1", corev1.ProtocolTCP))}, services: []*corev1.Service{nodePort},
			want: []string{
				"10.96.0.5:80 TCP/0 ->", "127.0.0.1:8000 TCP/0 ->", "192.0.2.1:8000 TCP/0 ->", "192.0.2.1:8000 TCP/1 ->",
			},
			problems: []string{"Pod a/p: 127.0.0.1 port 8000/TCP: belongs to Service a/web already"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tables, problems := Compile(Objects{Services: tt.services, Pods: tt.pods}, node)
			if diff := cmp.Diff(tt.want, text(tables)); diff != "" {
				t.Errorf("tables (-want +got):\n%s", diff)
			}
			var said []string
			for _, p := range problems {
				said = append(said, p.Error())
			}
			if diff := cmp.Diff(tt.problems, said); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}
