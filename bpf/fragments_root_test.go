// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// echoUDP sends back whatever comes to a socket in a namespace.
func echoUDP(t *testing.T, ns netns.NsHandle, host string) (at netip.AddrPort) {
	t.Helper()
	within(t, ns, func() error {
		conn, err := net.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			return err
		}
		t.Cleanup(func() { conn.Close() })
		at = netip.MustParseAddrPort(conn.LocalAddr().String())
		go func() {
			for buf := make([]byte, 65536); ; {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				if _, err := conn.WriteTo(buf[:n], from); err != nil {
					return
				}
			}
		}()
		return nil
	})
	return at
}

// sendLarge sends a datagram in several fragments and waits until it comes back.
func sendLarge(to netip.AddrPort) error {
	conn, err := net.Dial("udp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	data, back := make([]byte, 20000), make([]byte, 65536)
	for i := range data {
		data[i] = byte(i / 7)
	}
	if _, err := conn.Write(data); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(3 * time.Second))
	n, err := conn.Read(back)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, back[:n]) {
		return fmt.Errorf("%d bytes came back, other ones than the %d that were sent", n, len(data))
	}
	return nil
}

// Datagrams that are larger than a packet reach backends of all places, and so do
// their answers.
func TestRootFragments(t *testing.T) {
	l := newLab(t)
	peer, _ := l.addPeer(t)
	first := uint32(0)
	for family, a := range labAddrs {
		for name, tt := range map[string]struct {
			ns    netns.NsHandle
			host  string
			flags bpf.BackendFlags
		}{
			"pod":          {l.pod, a.pod, bpf.BackendLocalPod},
			"host network": {l.node, a.node, bpf.BackendLocalHost},
			"another node": {peer, peerAddrs[family].pod, 0},
		} {
			t.Run(family+" "+name, func(t *testing.T) {
				first += 4
				server := echoUDP(t, tt.ns, tt.host)
				service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
				publish(t, l.datapath, bpf.Frontend{
					Addr: service.Addr(), Port: service.Port(), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal,
				}, first, bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: tt.flags})
				for range 3 {
					within(t, l.outside, func() error { return sendLarge(service) })
				}
			})
		}
	}
}

// A fragment that comes before the first one is dropped, when it can only be for a
// Service.
func TestRootFragmentsOutOfOrder(t *testing.T) {
	l := newLab(t)
	client, service := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("198.51.100.1")
	packet := frame(client, service, unix.IPPROTO_UDP, make([]byte, 64))
	binary.BigEndian.PutUint16(packet[14+6:], 0x0010)
	if verdict, out := l.run(t, packet); verdict != verdictNext || !bytes.Equal(out, packet) {
		t.Errorf("for another address: verdict %d, %x", verdict, out)
	}
	publish(t, l.datapath, bpf.Frontend{Addr: service, Scope: bpf.ScopeExternal}, 0)
	if verdict, _ := l.run(t, packet); verdict != verdictDrop {
		t.Errorf("for a Service: verdict %d", verdict)
	}
	wantDrop(t, l.datapath, "fragment")
}
