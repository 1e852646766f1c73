// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/cni"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/roottest"
)

// Addresses of the uplink between the node and the outside.
var (
	nodeAddrs    = addrs("192.0.2.1", "2001:db8::1")
	outsideAddrs = addrs("192.0.2.2", "2001:db8::2")
)

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// lab is a node with an uplink to the outside, both network namespaces.
type lab struct {
	t             testing.TB
	node, outside netns.NsHandle
	datapath      *fakeDatapath
	cfg           cni.Config
	server        *cni.Server
	cancel        context.CancelFunc
	ended         chan error
}

// newLab makes a node; start runs the server on it.
func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: t, node: roottest.NetNS(t), outside: roottest.NetNS(t), datapath: newFakeDatapath()}
	dir, conf := t.TempDir(), t.TempDir()
	l.cfg = cni.Config{
		PodCIDRs:     prefixes("10.244.1.0/24", "fd00:244:1::/64"),
		ClusterCIDRs: prefixes("10.244.0.0/16", "fd00:244::/32"),
		Socket:       filepath.Join(dir, "cni.sock"), StateDir: filepath.Join(dir, "state"), ConfDir: conf,
		NodeNetNS: nsPath(l.node), Datapath: l.datapath,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	l.connectUplink()
	t.Cleanup(l.stop)
	return l
}

// testWriter logs to a test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	if _, quiet := w.t.(*testing.B); !quiet {
		w.t.Logf("%s", line)
	}
	return len(line), nil
}

// nsPath is a path of a namespace that other processes can open too.
func nsPath(ns netns.NsHandle) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(ns)) }

func (l *lab) connectUplink() {
	l.t.Helper()
	roottest.In(l.t, l.node, func() error {
		veth := netlink.NewVeth(netlink.NewLinkAttrs())
		veth.Name, veth.PeerName, veth.PeerNamespace, veth.MTU = "uplink", "uplink", netlink.NsFd(l.outside), 1450
		return errors.Join(
			netlink.LinkAdd(veth), setUp("uplink"),
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0),
		)
	})
	// Without a route back, the outside can only answer the node itself.
	roottest.In(l.t, l.outside, func() error { return setUp("uplink") })
	for ns, addrs := range map[netns.NsHandle][]netip.Addr{l.node: nodeAddrs, l.outside: outsideAddrs} {
		roottest.WaitRunning(l.t, ns, "uplink")
		for _, addr := range addrs {
			roottest.AddAddrs(l.t, ns, "uplink", onUplink(addr))
		}
	}
	roottest.In(l.t, l.node, func() error { return routeBy("uplink", outsideAddrs) })
}

// onUplink is an address with the length of its network.
func onUplink(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(addr, 24)
	}
	return netip.PrefixFrom(addr, 64)
}

// setUp brings up a device of the thread's namespace, and loopback.
func setUp(name string) error {
	for _, each := range []string{"lo", name} {
		link, err := netlink.LinkByName(each)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// routeBy gives the thread's namespace default routes over a device.
func routeBy(name string, gateways []netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	var failed []error
	for _, gateway := range gateways {
		dst := &net.IPNet{IP: make(net.IP, gateway.BitLen()/8), Mask: net.CIDRMask(0, gateway.BitLen())}
		failed = append(failed, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: gateway.AsSlice()}))
	}
	return errors.Join(failed...)
}

// start runs a server until stop or the end of the test.
func (l *lab) start() {
	l.t.Helper()
	l.run()
	roottest.Eventually(l.t, 10*time.Second, func() error {
		select {
		case err := <-l.ended:
			l.cancel()
			l.cancel = nil
			l.t.Fatalf("server ended: %v", err)
		default:
		}
		if err := l.server.Ready(); errors.Is(err, cni.ErrNotReady) {
			return err
		}
		return nil
	})
}

func (l *lab) run() {
	l.t.Helper()
	l.cfg.Registry = prometheus.NewRegistry()
	server, err := cni.New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.server, l.cancel, l.ended = server, cancel, make(chan error, 1)
	go func() { l.ended <- server.Run(ctx) }()
}

// stop ends the server, if one runs.
func (l *lab) stop() {
	if l.cancel == nil {
		return
	}
	l.cancel()
	l.cancel = nil
	if err := <-l.ended; err != nil {
		l.t.Errorf("server ended: %v", err)
	}
}

func (l *lab) restart() {
	l.t.Helper()
	l.stop()
	l.start()
}

// pod is a container with an interface eth0.
type pod struct {
	id string
	ns netns.NsHandle
	// addrs are those that ADD has answered, IPv4 first.
	addrs []netip.Addr
	// result is the answer of ADD as it came.
	result json.RawMessage
}

func (l *lab) newPod(id string) *pod { return &pod{id: id, ns: roottest.NetNS(l.t)} }

func (l *lab) request(verb socket.Verb, p *pod) socket.Request {
	r := socket.Request{Verb: verb, ContainerID: p.id, IfName: "eth0", Args: "IgnoreUnknown=1;K8S_POD_NAME=" + p.id, Config: l.config(nil)}
	if p.ns > 0 {
		r.NetNS = nsPath(p.ns)
	}
	return r
}

// config is the network configuration as a runtime passes it, with more
// fields.
func (l *lab) config(more map[string]any) json.RawMessage {
	fields := map[string]any{"cniVersion": "1.1.0", "name": cni.NetworkName, "type": "slipway-cni", "socket": l.cfg.Socket}
	for name, value := range more {
		fields[name] = value
	}
	data, err := json.Marshal(fields)
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// call asks the server; the error is that of the transport or of the answer.
func (l *lab) call(r socket.Request) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	response, err := socket.Call(ctx, l.cfg.Socket, time.Second, r)
	if err != nil {
		return nil, err
	}
	if response.Error != nil {
		return nil, response.Error
	}
	return response.Result, nil
}

// add makes a pod's network, or returns why not.
func (l *lab) add(p *pod) error {
	data, err := l.call(l.request(socket.Add, p))
	if err != nil {
		return err
	}
	var result types100.Result
	if err := json.Unmarshal(data, &result); err != nil {
		return err
	}
	p.result, p.addrs = data, nil
	for _, ip := range result.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		p.addrs = append(p.addrs, addr.Unmap())
	}
	return nil
}

// addPod makes a pod and its network.
func (l *lab) addPod(id string) *pod {
	l.t.Helper()
	p := l.newPod(id)
	if err := l.add(p); err != nil {
		l.t.Fatalf("add %s: %v", id, err)
	}
	if len(p.addrs) != 2 {
		l.t.Fatalf("add %s: addresses %v", id, p.addrs)
	}
	return p
}

func (l *lab) del(p *pod) {
	l.t.Helper()
	if _, err := l.call(l.request(socket.Del, p)); err != nil {
		l.t.Fatalf("del %s: %v", p.id, err)
	}
}

// leftovers describes what belongs to pods: pod interfaces, records, and what
// the data path knows.
func (l *lab) leftovers() map[string]int {
	l.t.Helper()
	records, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "*.json"))
	if err != nil {
		l.t.Fatal(err)
	}
	counts := l.datapath.counts()
	return map[string]int{
		"interfaces": len(l.podInterfaces()), "records": len(records), "attached": counts[0], "endpoints": counts[1],
	}
}

// count is what leftovers returns for a number of pods.
func count(pods int) map[string]int {
	return map[string]int{"interfaces": pods, "records": pods, "attached": pods, "endpoints": pods}
}

func (l *lab) podInterfaces() []string {
	l.t.Helper()
	var names []string
	roottest.In(l.t, l.node, func() error {
		links, err := netlink.LinkList()
		for errors.Is(err, netlink.ErrDumpInterrupted) {
			links, err = netlink.LinkList()
		}
		for _, link := range links {
			if len(link.Attrs().Name) == 11 && link.Attrs().Name[:3] == "slw" {
				names = append(names, link.Attrs().Name)
			}
		}
		return err
	})
	return names
}
