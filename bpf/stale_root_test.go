// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// holder is a process with one connected socket.
type holder struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// hold is what a holder does: it connects and says so, then reports the error
// that its socket gets, or talks to the server when it is told to.
func hold(fd int, kind string, to unix.Sockaddr) (string, error) {
	if kind == "udp-unconnected" {
		return await(fd, to)
	}
	if err := unix.Connect(fd, to); err != nil {
		return "", err
	}
	if _, err := os.Stdout.WriteString("connected\n"); err != nil {
		return "", err
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: 0, Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 10_000); n == 0 || err != nil {
		return "no event", err
	}
	if fds[0].Revents == 0 {
		return request(fd)
	}
	_, err := unix.Read(fd, make([]byte, 64))
	return "readable", err
}

// await sends a datagram, says so, and tells who answers it.
func await(fd int, to unix.Sockaddr) (string, error) {
	if err := unix.Sendto(fd, []byte("who"), 0, to); err != nil {
		return "", err
	}
	if _, err := os.Stdout.WriteString("connected\n"); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	return fmt.Sprintf("%s from %s", buf[:n], text(from)), err
}

// holds starts a holder in a cgroup and a network namespace.
func holds(t *testing.T, ns netns.NsHandle, cgroup, kind string, to netip.AddrPort) *holder {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "holder", cgroup, kind, to.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	roottest.In(t, ns, cmd.Start)
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	h := &holder{in, bufio.NewReader(out)}
	if got := h.says(t); got != "connected" {
		t.Fatalf("holder of %s to %s: %s", kind, to, got)
	}
	return h
}

func (h *holder) says(t *testing.T) string {
	t.Helper()
	line, err := h.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// asks lets the holder talk to its server.
func (h *holder) asks(t *testing.T) string {
	t.Helper()
	if _, err := h.in.Write([]byte("go")); err != nil {
		t.Fatal(err)
	}
	return h.says(t)
}

// slotsOf are those that sockets with a peer have.
func slotsOf(t testing.TB, pins string) *ebpf.Map {
	t.Helper()
	slots, err := ebpf.LoadPinnedMap(filepath.Join(pins, "maps", "peers"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slots.Close() })
	return slots
}

// takeSlots gives all slots to sockets that there are not, so that others are kept in
// the map reverses.
func takeSlots(t testing.TB, pins string) {
	t.Helper()
	slots := slotsOf(t, pins)
	// Of struct peer the cookie is first.
	taken := [64]byte{0: 1, 7: 1 << 7}
	for i := range slots.MaxEntries() {
		if err := slots.Put(i, taken); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRootStaleSockets closes the sockets in another network namespace that
// came to a backend by one Service. Those of another Service to the same
// backend, and those that connected straight to it, go on.
func TestRootStaleSockets(t *testing.T) {
	t.Run("in slots", func(t *testing.T) { staleSockets(t, bpffs(t)) })
	t.Run("slots taken", func(t *testing.T) {
		pins := bpffs(t)
		openDatapath(t, pins)
		takeSlots(t, pins)
		staleSockets(t, pins)
	})
}

func staleSockets(t *testing.T, pins string) {
	group := cgroup(t)
	d := openDatapath(t, pins)
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	ns := roottest.NetNS(t)
	within(t, ns, func() error { return up("lo") })
	for i, tt := range kinds {
		if strings.Contains(tt.kind, "unconnected") {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			var server netip.AddrPort
			within(t, ns, func() error { server = serve(t, tt.backend, "one"); return nil })
			backend := bpf.Backend{Addr: server.Addr(), Port: server.Port()}
			ours := netip.AddrPortFrom(netip.MustParseAddr(tt.service), 80)
			other := netip.AddrPortFrom(ours.Addr(), 81)
			publish(t, d, bpf.Frontend{Addr: ours.Addr(), Port: 80, Protocol: tt.protocol}, uint32(10*i), backend)
			publish(t, d, bpf.Frontend{Addr: ours.Addr(), Port: 81, Protocol: tt.protocol}, uint32(10*i+5), backend)
			byOurs := holds(t, ns, group, tt.kind, ours)
			stay := map[netip.AddrPort]*holder{}
			for _, to := range []netip.AddrPort{other, server} {
				stay[to] = holds(t, ns, group, tt.kind, to)
			}
			use := bpf.Use{Service: ours, Backend: server, Protocol: tt.protocol}
			closed, err := d.CloseStale(func(u bpf.Use) bool { return u == use })
			if diff := cmp.Diff(map[bpf.Protocol]int{tt.protocol: 1}, closed); diff != "" || err != nil {
				t.Errorf("closed %s (%+v)", diff, err)
			}
			if got := byOurs.says(t); got != "error: "+unix.ECONNABORTED.Error() {
				t.Errorf("by the Service: %q, expected that the connection is aborted", got)
			}
			for to, h := range stay {
				if got, want := h.asks(t), "one from "+to.String(); got != want {
					t.Errorf("got %q, expected %q", got, want)
				}
			}
			// What has been closed is not searched for again.
			if closed, err := d.CloseStale(func(u bpf.Use) bool { return u == use }); closed != nil || err != nil {
				t.Errorf("again: %v (%v)", closed, err)
			}
		})
	}
}

// An answer that is late still comes from the Service, when its backend has gone
// meanwhile: sockets that are not connected are never closed.
func TestRootStaleDatagrams(t *testing.T) {
	group := cgroup(t)
	d := openDatapath(t, bpffs(t))
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	ns := roottest.NetNS(t)
	within(t, ns, func() error { return up("lo") })
	for i, tt := range kinds {
		if !strings.Contains(tt.kind, "unconnected") {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			var server net.PacketConn
			within(t, ns, func() (err error) {
				server, err = net.ListenPacket("udp", net.JoinHostPort(tt.backend, "0"))
				return err
			})
			defer server.Close()
			backend := netip.MustParseAddrPort(server.LocalAddr().String())
			service := netip.AddrPortFrom(netip.MustParseAddr(tt.service), 80)
			publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: tt.protocol}, uint32(10*i),
				bpf.Backend{Addr: backend.Addr(), Port: backend.Port()})
			client := holds(t, ns, group, tt.kind, service)
			if closed, err := d.CloseStale(func(bpf.Use) bool { return true }); len(closed) > 0 || err != nil {
				t.Errorf("closed %v (%v)", closed, err)
			}
			_, from, err := server.ReadFrom(make([]byte, 64))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := server.WriteTo([]byte("late"), from); err != nil {
				t.Fatal(err)
			}
			if got, want := client.says(t), "late from "+service.String(); got != want {
				t.Errorf("got %q, expected %q", got, want)
			}
		})
	}
}

// taken tells whether a slot is a socket's.
func taken(t *testing.T, pins string) bool {
	t.Helper()
	slots := slotsOf(t, pins)
	for i := range slots.MaxEntries() {
		var value [64]byte
		if err := slots.Lookup(i, &value); err != nil {
			t.Fatal(err)
		}
		if [8]byte(value[:8]) != [8]byte{} {
			return true
		}
	}
	return false
}

// TestRootSockForgets looks for what sockets leave behind that are closed.
func TestRootSockForgets(t *testing.T) {
	t.Run("in slots", func(t *testing.T) {
		pins := bpffs(t)
		sockForgets(t, pins)
		if taken(t, pins) {
			t.Error("a slot is taken")
		}
	})
	t.Run("slots taken", func(t *testing.T) {
		pins := bpffs(t)
		openDatapath(t, pins)
		takeSlots(t, pins)
		sockForgets(t, pins)
	})
}

// TestRootMultipathTakesNoSlot connects by a socket that the kernel makes for another
// one, and of whose end no program is told.
func TestRootMultipathTakesNoSlot(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/mptcp"); err != nil {
		t.Skip("the kernel has no multipath TCP")
	}
	group, pins := cgroup(t), bpffs(t)
	d := openDatapath(t, pins)
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	server := serve(t, "127.0.0.1", "one")
	service := netip.MustParseAddrPort("10.96.0.9:80")
	publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: bpf.ProtocolTCP}, 0, bpf.Backend{Addr: server.Addr(), Port: server.Port()})
	if got := ask(t, group, "mptcp", service); !strings.HasPrefix(got, "one from ") {
		t.Errorf("got %q, expected an answer of the server", got)
	}
	if taken(t, pins) {
		t.Error("a slot is taken")
	}
}

// sockForgets has a socket of each kind talk to a Service. Then none may be in the
// map reverses.
func sockForgets(t *testing.T, pins string) {
	group := cgroup(t)
	d := openDatapath(t, pins)
	if err := d.AttachSock(group); err != nil {
		t.Fatal(err)
	}
	reverses, err := ebpf.LoadPinnedMap(filepath.Join(pins, "maps", "reverses"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reverses.Close()
	for i, tt := range kinds {
		if strings.Contains(tt.kind, "unconnected") {
			continue
		}
		server := serve(t, tt.backend, "one")
		service := netip.AddrPortFrom(netip.MustParseAddr(tt.service), 80)
		publish(t, d, bpf.Frontend{Addr: service.Addr(), Port: 80, Protocol: tt.protocol}, uint32(10*i),
			bpf.Backend{Addr: server.Addr(), Port: server.Port()})
		if got, want := ask(t, group, tt.kind, service), "one from "+service.String(); got != want {
			t.Errorf("%s: got %q, expected %q", tt.name, got, want)
		}
		var key, value [32]byte
		if reverses.Iterate().Next(&key, &value) {
			t.Errorf("%s: left %x", tt.name, key)
		}
	}
}
