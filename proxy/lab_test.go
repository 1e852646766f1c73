// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"k8s.io/client-go/informers"
	clientfake "k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// TestMain turns the test binary into a client when it is asked to be one.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "client" {
		if err := client(os.Args[2], os.Args[3]); err != nil {
			fmt.Println("error:", err)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// client connects, sends each line that it is given, and prints each answer,
// until its socket has an error.
func client(network, address string) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	fmt.Println("connected")
	go func() { _, _ = io.Copy(conn, os.Stdin) }()
	buf := make([]byte, 64)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return errors.Unwrap(errors.Unwrap(err))
		}
		fmt.Print(string(buf[:n]))
	}
}

// peer is a client process.
type peer struct {
	in  io.Writer
	out *bufio.Reader
}

func (p peer) says(t *testing.T, want string) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if got := strings.TrimSpace(line); err != nil || got != want {
		t.Errorf("the client says %q (%v), expected %q", got, err, want)
	}
}

// goesOn checks that the connection still works.
func (p peer) goesOn(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.in, "hello\n"); err != nil {
		t.Fatal(err)
	}
	p.says(t, "hello")
}

func (p peer) isClosed(t *testing.T) {
	t.Helper()
	p.says(t, "error: "+syscall.ECONNABORTED.Error())
}

// site is a pod's network namespace with two backends, and a cgroup whose
// sockets are translated.
type site struct {
	ns       netns.NsHandle
	cgroup   *os.File
	datapath *watched
}

// watched is a data path that tells by what sockets were judged last, and
// leaves the uplinks of this machine alone.
type watched struct {
	*bpf.Datapath
	last atomic.Pointer[func(bpf.Use) bool]
}

func (w *watched) AttachUplink(int, []netip.Addr) error { return nil }
func (w *watched) SetNode([]netip.Addr) error           { return nil }
func (w *watched) DetachUplink(int) error               { return nil }
func (w *watched) Uplinks() ([]int, error)              { return nil, nil }

func (w *watched) CloseStale(stale func(bpf.Use) bool) (map[bpf.Protocol]int, error) {
	defer w.last.Store(&stale)
	return w.Datapath.CloseStale(stale)
}

// judged waits until sockets of a use have been judged so.
func (w *watched) judged(t *testing.T, use bpf.Use, want bool) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, func() error {
		if last := w.last.Load(); last == nil || (*last)(use) != want {
			return fmt.Errorf("%v: stale is not %v", use, want)
		}
		return nil
	})
}

func newSite(t *testing.T, addrs ...string) *site {
	t.Helper()
	group, err := os.Open(roottest.Cgroup(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { group.Close() })
	d, err := bpf.Open(bpf.Config{PinDir: roottest.BPFFS(t) + "/slipway", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.AttachSock(group.Name()); err != nil {
		t.Fatal(err)
	}
	s := &site{ns: roottest.NetNS(t), cgroup: group, datapath: &watched{Datapath: d}}
	roottest.In(t, s.ns, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	for _, addr := range addrs {
		roottest.AddAddrs(t, s.ns, "lo", netip.MustParsePrefix(addr+"/32"))
		s.serve(t, net.JoinHostPort(addr, "8080"))
	}
	return s
}

// serve sends back what comes, by TCP and UDP.
func (s *site) serve(t *testing.T, address string) {
	t.Helper()
	roottest.In(t, s.ns, func() error {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		go accept(listener)
		packets, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { packets.Close() })
		go echo(packets)
		return nil
	})
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func echo(packets net.PacketConn) {
	buf := make([]byte, 64)
	for {
		n, from, err := packets.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = packets.WriteTo(buf[:n], from)
	}
}

// connect starts a client in the namespace.
func (s *site) connect(t *testing.T, network, address string) peer {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "client", network, address)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(s.cgroup.Fd())}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	roottest.In(t, s.ns, cmd.Start)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p := peer{in, bufio.NewReader(out)}
	p.says(t, "connected")
	return p
}

// runs starts a Proxy on a fake API, and returns what ends it.
func (s *site) runs(t *testing.T, api *clientfake.Clientset) (stop func()) {
	t.Helper()
	factory := informers.NewSharedInformerFactory(api, 0)
	p, err := New(Config{
		NodeName: "n1", Informers: factory, Pods: factory.Core().V1().Pods(), Datapath: s.datapath,
		Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, p, factory)
}
