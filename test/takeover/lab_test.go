// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

// place is a pod, or another host, with its addresses by family.
type place struct {
	name   string
	ns     netns.NsHandle
	v4, v6 string
	// link is the node's end of its wire, mac and hostMAC the addresses of
	// both ends.
	link, mac, hostMAC string
}

// lab is a node with pods and another host, all of them network namespaces. The
// other host is also another node, with a pod far.
type lab struct {
	node                  netns.NsHandle
	outside               *place
	first, second, client *place
}

const (
	nodeV4, nodeV6 = "192.0.2.1", "2001:db8::1"
	farV4, farV6   = "10.244.1.5", "fd00:244:1::5"

	// Each Service has a port of its own, so that the replies to a client's port
	// that is used again soon never look like those of another Service.
	podPort   = 8080
	localPort = 8081
	hostPort  = 8083
)

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{node: roottest.NetNS(t)}
	for i, p := range []**place{&l.outside, &l.first, &l.second, &l.client} {
		*p = &place{
			name: []string{"outside", "first", "second", "client"}[i], ns: roottest.NetNS(t),
			v4: fmt.Sprintf("10.244.0.%d", i+4), v6: fmt.Sprintf("fd00:244::%d", i+4),
			link: fmt.Sprintf("slwpod%d", i), mac: fmt.Sprintf("02:00:00:00:01:0%d", i), hostMAC: fmt.Sprintf("02:00:00:00:00:0%d", i),
		}
	}
	l.outside.v4, l.outside.v6, l.outside.link = "192.0.2.2", "2001:db8::2", "up0"
	l.wireNode(t)
	for _, p := range []*place{l.first, l.second, l.client} {
		p.wirePod(t)
	}
	ip(t, l.outside.ns, `
link set lo up
link set eth0 up
address add 192.0.2.2/24 dev eth0
address add 2001:db8::2/64 dev eth0 nodad
address add `+farV4+`/32 dev lo
address add `+farV6+`/128 dev lo nodad
route add 10.244.0.0/24 via 192.0.2.1
route add fd00:244::/64 via 2001:db8::1`)
	l.await(t)
	l.serve(t)
	return l
}

// await waits until all wires and addresses can be used.
func (l *lab) await(t *testing.T) {
	t.Helper()
	wait := func(ns netns.NsHandle, device string, addrs ...string) {
		roottest.WaitRunning(t, ns, device)
		for _, addr := range addrs {
			roottest.WaitLocal(t, ns, netip.MustParseAddr(addr))
		}
	}
	wait(l.node, "up0", nodeV4, nodeV6)
	wait(l.outside.ns, "eth0", l.outside.v4, l.outside.v6, farV4, farV6)
	for _, p := range []*place{l.first, l.second, l.client} {
		wait(l.node, p.link)
		wait(p.ns, "eth0", p.v4, p.v6)
	}
}

func (l *lab) wireNode(t *testing.T) {
	t.Helper()
	script := "link set lo up\n"
	for _, p := range []*place{l.outside, l.first, l.second, l.client} {
		script += fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns /proc/%d/fd/%d\nlink set %[1]s up\n",
			p.link, p.hostMAC, p.mac, os.Getpid(), int(p.ns))
	}
	script += `address add 192.0.2.1/24 dev up0
address add 2001:db8::1/64 dev up0 nodad
route add default via 192.0.2.2
route add default via 2001:db8::2
`
	for _, p := range []*place{l.first, l.second, l.client} {
		script += fmt.Sprintf("route add %s dev %s\nroute add %s dev %[2]s\nneigh add %[1]s lladdr %[4]s dev %[2]s nud permanent\nneigh add %[3]s lladdr %[4]s dev %[2]s nud permanent\n",
			p.v4, p.link, p.v6, p.mac)
	}
	ip(t, l.node, script)
	roottest.In(t, l.node, func() error {
		for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			if err := os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *place) wirePod(t *testing.T) {
	t.Helper()
	ip(t, p.ns, fmt.Sprintf(`
link set lo up
link set eth0 up
address add %s/32 dev eth0
address add %s/128 dev eth0 nodad
neigh add 169.254.1.1 lladdr %s dev eth0 nud permanent
neigh add fe80::1 lladdr %[3]s dev eth0 nud permanent
route add default via 169.254.1.1 dev eth0 onlink
route add default via fe80::1 dev eth0`, p.v4, p.v6, p.hostMAC))
}

// ip runs the lines of a script by ip(8).
func ip(t *testing.T, ns netns.NsHandle, script string) {
	t.Helper()
	// IPv6 addresses tell their family to the commands that must know.
	run(t, ns, script, "ip", "-batch", "-")
}

// run runs a program in a namespace.
func run(t *testing.T, ns netns.NsHandle, input string, argv ...string) string {
	t.Helper()
	var out []byte
	roottest.In(t, ns, func() error {
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.Stdin = strings.NewReader(input)
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return nil
	})
	return string(out)
}

// serve starts a backend in each pod, on the other node and on the node itself.
func (l *lab) serve(t *testing.T) {
	t.Helper()
	for _, at := range []struct {
		ns     netns.NsHandle
		name   string
		v4, v6 string
		port   int
	}{
		{l.first.ns, "first", l.first.v4, l.first.v6, podPort},
		{l.second.ns, "second", l.second.v4, l.second.v6, podPort},
		{l.first.ns, "first", l.first.v4, l.first.v6, localPort},
		{l.second.ns, "second", l.second.v4, l.second.v6, localPort},
		{l.outside.ns, "far", farV4, farV6, podPort},
		{l.node, "host", nodeV4, nodeV6, hostPort},
	} {
		for _, host := range []string{at.v4, at.v6} {
			roottest.In(t, at.ns, func() error { return listen(t, at.name, net.JoinHostPort(host, fmt.Sprint(at.port))) })
		}
	}
}

// listen answers each line, by TCP and UDP, with its name and the line.
func listen(t *testing.T, name, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					fmt.Fprintf(conn, "%s %s\n", name, lines.Text())
				}
			}()
		}
	}()
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	t.Cleanup(func() { packets.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			n, from, err := packets.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = packets.WriteTo([]byte(name+" "+string(buf[:n])), from)
		}
	}()
	return nil
}

// hand is a worker process.
type hand struct {
	in  io.Writer
	out *bufio.Reader
}

// startWorker starts one in a cgroup, or in that of the test.
func startWorker(t *testing.T, ns netns.NsHandle, cgroup *os.File, targets []target) *hand {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "worker")
	cmd.Stderr = os.Stderr
	if cgroup != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(cgroup.Fd())}
	}
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
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	h := &hand{in, bufio.NewReader(out)}
	if err := json.NewEncoder(in).Encode(targets); err != nil {
		t.Fatal(err)
	}
	return h
}

// told gives a command and returns the answer.
func (h *hand) told(t *testing.T, command string) string {
	t.Helper()
	if _, err := io.WriteString(h.in, command+"\n"); err != nil {
		t.Fatal(err)
	}
	line, err := h.out.ReadString('\n')
	if err != nil {
		t.Fatalf("worker, told to %s: %v", command, err)
	}
	return strings.TrimSpace(line)
}

// TestMain turns the test binary into a worker or our agent when it is asked to be
// one.
func TestMain(m *testing.M) {
	part := map[string]func() error{"worker": work, "agent": agent}[os.Args[len(os.Args)-1]]
	if part == nil {
		os.Exit(m.Run())
	}
	if err := part(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
