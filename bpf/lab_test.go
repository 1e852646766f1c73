// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// bpffs returns a pin directory of the test's own.
func bpffs(t testing.TB) string {
	t.Helper()
	return filepath.Join(roottest.BPFFS(t), "slipway")
}

func openDatapath(t testing.TB, pins string) *bpf.Datapath {
	t.Helper()
	d, err := bpf.Open(bpf.Config{PinDir: pins, Without: without(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// withoutEnv names features that the data path is not to use, in the environment of
// a test binary.
const withoutEnv = "SLIPWAY_TEST_WITHOUT"

func without() []bpf.Feature {
	var out []bpf.Feature
	for name := range strings.FieldsSeq(os.Getenv(withoutEnv)) {
		out = append(out, bpf.Feature(name))
	}
	return out
}

// cgroup makes a cgroup of the test's own below the root of cgroup v2.
func cgroup(t testing.TB) string {
	t.Helper()
	return roottest.Cgroup(t)
}

// serve answers every request, TCP and UDP, with a name.
func serve(t testing.TB, host, name string) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn, name)
		}
	}()
	addr := netip.MustParseAddrPort(listener.Addr().String())
	packets, err := net.ListenPacket("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := packets.WriteTo([]byte(name), from); err != nil {
				return
			}
		}
	}()
	return addr
}

// answer waits for the client to ask, and hangs up when it has.
func answer(conn net.Conn, name string) {
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 64)); err == nil {
		fmt.Fprint(conn, name)
		_, _ = conn.Read(make([]byte, 64))
	}
}

// TestMain turns the test binary into a client when it is asked to be one.
func TestMain(m *testing.M) {
	talks := map[string]func(int, string, unix.Sockaddr) (string, error){"client": exchange, "holder": hold, "dialer": dial, "connecter": connects, "opener": opens}
	if talk := talks[os.Args[min(1, len(os.Args)-1)]]; talk != nil && len(os.Args) == 5 {
		answer, err := client(os.Args[2], os.Args[3], netip.MustParseAddrPort(os.Args[4]), talk)
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "grower" {
		fmt.Fprintln(os.Stderr, grow(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// ask runs a client process in the cgroup. Kinds are "tcp", "mptcp", "udp" and
// "udp-unconnected", each with "-mapped" for an IPv6 socket and an IPv4
// address. It returns "NAME from PEER", with the peer as the socket sees it.
func ask(t testing.TB, cgroup, kind string, to netip.AddrPort) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "client", cgroup, kind, to.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func client(dir, kind string, to netip.AddrPort, talk func(int, string, unix.Sockaddr) (string, error)) (string, error) {
	if dir != "" {
		procs := filepath.Join(dir, "cgroup.procs")
		if err := os.WriteFile(procs, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return "", err
		}
	}
	kind, mapped := strings.CutSuffix(kind, "-mapped")
	family, typ, protocol := unix.AF_INET, unix.SOCK_STREAM, 0
	if mapped || to.Addr().Is6() {
		family = unix.AF_INET6
	}
	switch {
	case kind == "mptcp":
		protocol = unix.IPPROTO_MPTCP
	case kind != "tcp":
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, typ, protocol)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	timeout := unix.NsecToTimeval(int64(3 * time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return "", err
	}
	return talk(fd, kind, sockaddr(family, to))
}

func exchange(fd int, kind string, to unix.Sockaddr) (string, error) {
	buf := make([]byte, 64)
	if kind == "udp-unconnected" {
		if err := unix.Sendto(fd, []byte("who"), 0, to); err != nil {
			return "", err
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s from %s", buf[:n], text(from)), nil
	}
	if err := unix.Connect(fd, to); err != nil {
		return "", err
	}
	if kind == "udp-connect" {
		return "connected", nil
	}
	return request(fd)
}

// request asks who is there over a connected socket.
func request(fd int) (string, error) {
	buf := make([]byte, 64)
	// Before the server hangs up: then the socket has no peer any more.
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return "", err
	}
	if _, err := unix.Write(fd, []byte("who")); err != nil {
		return "", err
	}
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s from %s", buf[:n], text(peer)), nil
}

func sockaddr(family int, to netip.AddrPort) unix.Sockaddr {
	if family == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

func text(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)).String()
	}
	return "unknown"
}

// publish makes a frontend with the given backends, in slots of its own.
func publish(t testing.TB, d *bpf.Datapath, f bpf.Frontend, first uint32, backends ...bpf.Backend) {
	t.Helper()
	var ids []uint32
	for i, b := range backends {
		id := first + uint32(i) + 1
		if err := d.SetBackend(id, b); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := d.SetSlots(first, ids); err != nil {
		t.Fatal(err)
	}
	if err := d.SetFrontend(f, bpf.Range{First: first, Count: uint32(len(ids)), Generation: 1}); err != nil {
		t.Fatal(err)
	}
}
