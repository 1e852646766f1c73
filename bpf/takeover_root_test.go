// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// talk is a client with a port of its own choice.
func talk(t *testing.T, l *lab, from, to netip.AddrPort) net.Conn {
	t.Helper()
	var conn net.Conn
	within(t, l.outside, func() (err error) {
		conn, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(from), net.UDPAddrFromAddrPort(to))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// answered sends a datagram and returns what comes back, empty when nothing does.
func answered(t *testing.T, conn net.Conn) string {
	t.Helper()
	buf := make([]byte, 64)
	if err := conn.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("who")); err != nil {
		t.Fatal(err)
	}
	n, _ := conn.Read(buf)
	return string(buf[:n])
}

// TestRootTakeoverFlows has a flow that netfilter translates, and then Services of
// ours at the same address and at another one. The programs may have been loaded
// before the kernel had connection tracking, as a module that came later.
func TestRootTakeoverFlows(t *testing.T) {
	for family, a := range labAddrs {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, tracking comes later: %v", family, late), func(t *testing.T) {
				takeoverFlows(t, a, late)
			})
		}
	}
}

func takeoverFlows(t *testing.T, a labAddr, late bool) {
	l := newLab(t)
	if late {
		within(t, l.node, l.datapath.LoseConntrack)
	}
	server := serveIn(t, l.pod, a.pod, "pod")
	node, from := netip.MustParseAddr(a.node), netip.AddrPortFrom(netip.MustParseAddr(a.outside), 7000)
	known, another := netip.AddrPortFrom(node, 30002), netip.AddrPortFrom(node, 30003)
	within(t, l.node, func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(
			"table inet t { chain pre { type nat hook prerouting priority dstnat; udp dport 30002 dnat %s to %s; }; }\n",
			map[bool]string{true: "ip", false: "ip6"}[node.Is4()], server))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("nft: %w: %s", err, out)
		}
		return nil
	})
	flow := talk(t, l, from, known)
	if got := answered(t, flow); got != "pod" {
		t.Fatalf("by netfilter: got %q", got)
	}
	within(t, l.node, func() error { return l.datapath.SetTakeover(bpf.TakeoverUplinks) })
	for i, service := range []netip.AddrPort{known, another} {
		publish(t, l.datapath, bpf.Frontend{
			Addr: node, Port: service.Port(), Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal,
		}, uint32(10*i), bpf.Backend{Addr: server.Addr(), Port: server.Port(), Flags: bpf.BackendLocalPod})
	}
	if got := answered(t, flow); got != "pod" {
		t.Errorf("the flow that netfilter translates: got %q", got)
	}
	wantEntries(t, l, 0)
	if got := answered(t, talk(t, l, netip.AddrPortFrom(from.Addr(), 7001), known)); got != "pod" {
		t.Errorf("a new flow: got %q", got)
	}
	wantEntries(t, l, 2)
	flow.Close()
	if got := answered(t, talk(t, l, from, another)); got != "" {
		t.Errorf("a flow whose replies look like those of the first: got %q", got)
	}
	wantDrop(t, l.datapath, "conntrack_conflict")
	if err := l.datapath.SetTakeover(bpf.TakeoverNew); err != nil {
		t.Fatal(err)
	}
	if got := answered(t, talk(t, l, netip.AddrPortFrom(from.Addr(), 7002), known)); got != "pod" {
		t.Errorf("a new flow that is left to netfilter: got %q", got)
	}
	wantEntries(t, l, 2)
}

func wantEntries(t *testing.T, l *lab, want int) {
	t.Helper()
	got := 0
	for _, err := range l.datapath.Conntrack() {
		if err != nil {
			t.Fatal(err)
		}
		got++
	}
	if got != want {
		t.Errorf("%d conntrack entries, expected %d", got, want)
	}
}

// TestRootTakeoverCost prints what packets between pods cost while netfilter may
// translate some.
func TestRootTakeoverCost(t *testing.T) {
	l := newLab(t)
	pod := netip.MustParseAddr(labAddrs["IPv4"].pod)
	rnd := rand.New(rand.NewPCG(1, 1))
	within(t, l.node, func() error {
		for name, proto := range map[string]byte{"TCP": unix.IPPROTO_TCP, "UDP": unix.IPPROTO_UDP} {
			for _, where := range []bpf.Takeover{0, bpf.TakeoverPods} {
				if err := l.datapath.SetTakeover(where); err != nil {
					return err
				}
				packet := plainFrame(rnd, netip.AddrPortFrom(pod, 4000), netip.AddrPortFrom(pod, 8080), proto)
				took, err := cost(l.datapath.PodFrom(), l.podWire.near, packet)
				if err != nil {
					return err
				}
				t.Logf("%s, connections looked for: %s: %v a packet", name, where, took)
			}
		}
		return nil
	})
}

// plainFrame has neither options nor flags that begin a connection.
func plainFrame(rnd *rand.Rand, src, dst netip.AddrPort, proto byte) []byte {
	for {
		packet := randomFrame(rnd, src, dst, proto)
		if m := parse(packet); m != nil && m.ports && len(m.options) == 0 && (proto != unix.IPPROTO_TCP || m.payload[13] == 0x10) {
			return packet
		}
	}
}

func cost(program *ebpf.Program, ifindex int, packet []byte) (time.Duration, error) {
	const repeat = 200000
	begin := time.Now()
	_, err := program.Run(&ebpf.RunOptions{Data: packet, DataOut: bytes.Clone(packet), Context: context(ifindex), Repeat: repeat})
	return time.Since(begin) / repeat, err
}
