// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// Requests of linux/ethtool.h.
const (
	setTxChecksums = 0x17
	setGRO         = 0x2c
)

// ethtool sets a feature of an interface of a namespace.
func ethtool(t testing.TB, ns netns.NsHandle, name string, request, value uint32) {
	t.Helper()
	within(t, ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		data := [2]uint32{request, value}
		ifreq := struct {
			name [unix.IFNAMSIZ]byte
			data *[2]uint32
			rest [16]byte
		}{data: &data}
		copy(ifreq.name[:], name)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq)))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// takesXDP has the far end of a veth pair take packets from XDP programs, and
// send such as come from a wire, with checksums.
func takesXDP(t testing.TB, far netns.NsHandle, name string) {
	t.Helper()
	ethtool(t, far, name, setGRO, 1)
	ethtool(t, far, name, setTxChecksums, 0)
}

// attachLabUplink attaches the programs to the lab's uplink again.
func (l *lab) attachLabUplink(t testing.TB) {
	t.Helper()
	within(t, l.node, func() error {
		return l.datapath.AttachUplink(l.uplink.near, addrs(labAddrs["IPv4"].node+" "+labAddrs["IPv6"].node))
	})
}

func wantXDP(t testing.TB, d *bpf.Datapath, ifindex int, want bool) {
	t.Helper()
	s, err := d.Summary()
	if err != nil {
		t.Fatal(err)
	}
	if have, attached := s.Uplinks[ifindex]; !attached || have != want {
		t.Fatalf("uplink %d has XDP: %v, attached: %v, expected %v", ifindex, have, attached, want)
	}
}

// The program is where it can send, is adopted by the next process, and goes
// where it cannot send any more.
func TestRootWireAttaches(t *testing.T) {
	l := newLab(t)
	wantXDP(t, l.datapath, l.uplink.near, false)
	takesXDP(t, l.outside, "eth0")
	l.attachLabUplink(t)
	wantXDP(t, l.datapath, l.uplink.near, true)
	second := &lab{node: l.node, uplink: l.uplink}
	within(t, l.node, func() error {
		l.datapath.Close()
		second.datapath = openDatapath(t, l.pins)
		return nil
	})
	wantXDP(t, second.datapath, l.uplink.near, true)
	second.attachLabUplink(t)
	wantXDP(t, second.datapath, l.uplink.near, true)
	ethtool(t, l.outside, "eth0", setGRO, 0)
	second.attachLabUplink(t)
	wantXDP(t, second.datapath, l.uplink.near, false)
	ethtool(t, l.outside, "eth0", setGRO, 1)
	second.attachLabUplink(t)
	wantXDP(t, second.datapath, l.uplink.near, true)
	if err := second.datapath.DetachUplink(l.uplink.near); err != nil {
		t.Fatal(err)
	}
	s, err := second.datapath.Summary()
	if err != nil || len(s.Uplinks) > 0 {
		t.Fatalf("after detaching: uplinks %v, %v", s.Uplinks, err)
	}
}

// Connections to backends of another node go through XDP alone, once the
// neighbours are known.
func TestRootWireForwards(t *testing.T) {
	l := newLab(t)
	takesXDP(t, l.outside, "eth0")
	l.attachLabUplink(t)
	peer, near := l.addPeer(t)
	takesXDP(t, peer, "eth0")
	within(t, l.node, func() error { return l.datapath.AttachUplink(near, peerOwn()) })
	wantXDP(t, l.datapath, near, true)
	first := uint32(1000)
	var run []func(*testing.T)
	for family, a := range peerAddrs {
		server := serveIn(t, peer, a.pod, "peer")
		for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP, "udp-unconnected": bpf.ProtocolUDP} {
			first += 4
			service := netip.AddrPortFrom(netip.MustParseAddr(labAddrs[family].node), uint16(30000+first))
			publish(t, l.datapath, bpf.Frontend{
				Addr: service.Addr(), Port: service.Port(), Protocol: protocol, Scope: bpf.ScopeExternal,
			}, first, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
			run = append(run, func(t *testing.T) {
				want := fmt.Sprintf("peer from %s", service)
				for range 3 {
					if got := askFrom(t, l.outside, kind, service); got != want {
						t.Fatalf("%s %s: got %q, expected %q", family, kind, got, want)
					}
				}
			})
		}
	}
	t.Run("with tcx", func(t *testing.T) {
		for _, one := range run {
			one(t)
		}
	})
	for _, index := range []int{l.uplink.near, near} {
		if err := l.datapath.DetachUplinkIn(index); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("alone", func(t *testing.T) {
		for _, one := range run {
			one(t)
		}
	})
}

// Local backends, affinity and source ranges mean the same with XDP before tcx,
// also for packets whose checksum is still to be made.
func TestRootWireLocalBackend(t *testing.T) {
	l := newLab(t)
	ethtool(t, l.outside, "eth0", setGRO, 1)
	l.attachLabUplink(t)
	wantXDP(t, l.datapath, l.uplink.near, true)
	peer, _ := l.addPeer(t)
	first := uint32(2000)
	for family, a := range labAddrs {
		local, remote := serveIn(t, l.pod, a.pod, "pod"), serveIn(t, peer, peerAddrs[family].pod, "peer")
		for name, b := range map[string]bpf.Backend{
			"pod":  {Addr: local.Addr(), Port: local.Port(), Flags: bpf.BackendLocalPod},
			"peer": {Addr: remote.Addr(), Port: remote.Port()},
		} {
			for _, checksums := range []uint32{0, 1} {
				ethtool(t, l.outside, "eth0", setTxChecksums, checksums)
				for kind, protocol := range map[string]bpf.Protocol{"tcp": bpf.ProtocolTCP, "udp": bpf.ProtocolUDP} {
					first += 4
					service := netip.AddrPortFrom(netip.MustParseAddr(a.node), uint16(30000+first))
					publish(t, l.datapath, bpf.Frontend{
						Addr: service.Addr(), Port: service.Port(), Protocol: protocol, Scope: bpf.ScopeExternal,
					}, first, b)
					want := fmt.Sprintf("%s from %s", name, service)
					for range 2 {
						if got := askFrom(t, l.outside, kind, service); got != want {
							t.Errorf("%s %s, device makes checksums: %d: got %q, expected %q", family, kind, checksums, got, want)
						}
					}
				}
			}
		}
	}
}
