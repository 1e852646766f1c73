// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/bpf"
)

func TestConnectionOf(t *testing.T) {
	at := netip.MustParseAddrPort
	client, service, pod, own := at("192.0.2.9:40000"), at("192.0.2.1:30080"), at("10.244.1.5:8080"), at("192.0.2.1:5000")
	frontends := map[bpf.Frontend]bpf.Range{
		{Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolTCP, Scope: bpf.ScopeExternal}: {},
		{Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}: {},
	}
	for name, tt := range map[string]struct {
		entry bpf.Conntrack
		want  *connection
	}{
		"requests to a backend of this node": {
			bpf.Conntrack{Protocol: bpf.ProtocolTCP, Src: client, Dst: service, Rewrite: bpf.RewriteDestination, To: pod},
			&connection{protocol: bpf.ProtocolTCP, tuple: tuple{client, service}, to: pod, keep: keepTCP},
		},
		"its replies": {
			bpf.Conntrack{Protocol: bpf.ProtocolTCP, Src: pod, Dst: client, Rewrite: bpf.RewriteSource, To: service}, nil,
		},
		"requests to a backend of another node": {
			bpf.Conntrack{Protocol: bpf.ProtocolUDP, Src: client, Dst: service, Rewrite: bpf.RewriteBoth, To: pod, From: own},
			&connection{protocol: bpf.ProtocolUDP, tuple: tuple{client, service}, to: pod, from: own, keep: keepUDP},
		},
		"replies of that": {
			bpf.Conntrack{Protocol: bpf.ProtocolUDP, Src: pod, Dst: own, Rewrite: bpf.RewriteBoth, To: client, From: service}, nil,
		},
		"datagrams of long ago": {
			bpf.Conntrack{Protocol: bpf.ProtocolUDP, Src: client, Dst: service, Rewrite: bpf.RewriteDestination, To: pod, Idle: 3 * time.Minute}, nil,
		},
		"a connection that is silent": {
			bpf.Conntrack{Protocol: bpf.ProtocolTCP, Src: client, Dst: service, Rewrite: bpf.RewriteDestination, To: pod, Idle: time.Hour},
			&connection{protocol: bpf.ProtocolTCP, tuple: tuple{client, service}, to: pod, keep: keepTCP},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := connectionOf(tt.entry, frontends)
			if tt.want == nil {
				tt.want = &connection{}
			}
			if ok != (*tt.want != connection{}) {
				t.Errorf("is to be handed over: %v", ok)
			}
			if diff := cmp.Diff(*tt.want, got, cmp.AllowUnexported(connection{}, tuple{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); ok && diff != "" {
				t.Error(diff)
			}
		})
	}
}
