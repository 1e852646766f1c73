// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"slipway.dev/slipway/cni"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/roottest"
)

// wantCode fails the test unless the error has a CNI error code.
func wantCode(t *testing.T, err error, code uint) {
	t.Helper()
	var failed *types.Error
	if !errors.As(err, &failed) || failed.Code != code {
		t.Errorf("error %v, want CNI error code %d", err, code)
	}
}

func wantLeftovers(t *testing.T, l *lab, want map[string]int) {
	t.Helper()
	if diff := cmp.Diff(want, l.leftovers()); diff != "" {
		t.Errorf("what belongs to pods (-want +got):\n%s", diff)
	}
}

func TestRootAddResult(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	var got types100.Result
	if err := json.Unmarshal(p.result, &got); err != nil {
		t.Fatal(err)
	}
	type view struct {
		Version, IfName, Sandbox, HostName string
		MTU                                int
		Gateways, Routes                   []string
	}
	have := view{
		Version: got.CNIVersion, IfName: got.Interfaces[1].Name, Sandbox: got.Interfaces[1].Sandbox,
		HostName: got.Interfaces[0].Name, MTU: got.Interfaces[1].Mtu,
	}
	for _, ip := range got.IPs {
		have.Gateways = append(have.Gateways, ip.Gateway.String())
	}
	for _, r := range got.Routes {
		have.Routes = append(have.Routes, r.Dst.String())
	}
	want := view{
		Version: "1.1.0", IfName: "eth0", Sandbox: nsPath(p.ns), HostName: l.podInterfaces()[0], MTU: 1450,
		Gateways: []string{"10.244.1.1", "fd00:244:1::1"}, Routes: []string{"0.0.0.0/0", "::/0"},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	roottest.In(t, p.ns, func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil && link.Attrs().MTU != 1450 {
			t.Errorf("pod has MTU %d, want the uplink's 1450", link.Attrs().MTU)
		}
		return err
	})
}

func TestRootAddErrors(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.newPod("a")
	tests := []struct {
		name   string
		change func(*socket.Request)
		code   uint
	}{
		{"namespace does not exist", func(r *socket.Request) { r.NetNS = "/run/netns/none" }, types.ErrInvalidNetNS},
		{"not a namespace", func(r *socket.Request) { r.NetNS = "/etc/hostname" }, types.ErrInvalidNetNS},
		{"namespace of the node", func(r *socket.Request) { r.NetNS = nsPath(l.node) }, types.ErrInvalidNetNS},
		{"no namespace", func(r *socket.Request) { r.NetNS = "" }, types.ErrInvalidEnvironmentVariables},
		{"device exists", func(r *socket.Request) { r.IfName = "lo" }, types.ErrInternal},
		{"second plugin", func(r *socket.Request) {
			r.Config = l.config(map[string]any{"prevResult": map[string]any{"cniVersion": "1.1.0"}})
		}, types.ErrInvalidNetworkConfig},
		{"version", func(r *socket.Request) { r.Config = l.config(map[string]any{"cniVersion": "0.2.0"}) }, types.ErrIncompatibleCNIVersion},
		{"configuration", func(r *socket.Request) { r.Config = json.RawMessage(`[]`) }, types.ErrDecodingFailure},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := l.request(socket.Add, p)
			tt.change(&r)
			_, err := l.call(r)
			wantCode(t, err, tt.code)
			wantLeftovers(t, l, count(0))
		})
	}
}

func TestRootAddUndoesWhatItDid(t *testing.T) {
	l := newLab(t)
	l.start()
	for _, method := range []string{"AttachPod", "PutEndpoint"} {
		t.Run(method, func(t *testing.T) {
			p := l.newPod("a")
			l.datapath.inject(method, true)
			wantCode(t, l.add(p), types.ErrInternal)
			l.datapath.inject(method, false)
			wantLeftovers(t, l, count(0))
			if err := l.add(p); err != nil {
				t.Errorf("add without the fault: %v", err)
			}
			l.del(p)
		})
	}
	t.Run("undo fails too", func(t *testing.T) {
		p := l.newPod("a")
		l.datapath.inject("PutEndpoint", true)
		l.datapath.inject("DetachPod", true)
		wantCode(t, l.add(p), types.ErrInternal)
		_, err := l.call(l.request(socket.Del, p))
		wantCode(t, err, types.ErrInternal)
		l.datapath.inject("PutEndpoint", false)
		l.datapath.inject("DetachPod", false)
		l.del(p)
		wantLeftovers(t, l, count(0))
	})
}

func TestRootAddAgain(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	first := string(p.result)
	if err := l.add(p); err != nil || string(p.result) != first {
		t.Errorf("same request: %v, result %s, want %s", err, p.result, first)
	}
	// Half-made: the pod's end has no address.
	inPod(t, p.ns, func(link netlink.Link) error { return netlink.LinkSetDown(link) })
	if err := l.add(p); err != nil {
		t.Fatalf("add after damage: %v", err)
	}
	ping(t, l.node, p.addrs[0])
	// The same container in another namespace.
	p.ns = roottest.NetNS(t)
	if err := l.add(p); err != nil {
		t.Fatalf("add in another namespace: %v", err)
	}
	ping(t, l.node, p.addrs[1])
	wantLeftovers(t, l, count(1))
}

func TestRootDel(t *testing.T) {
	l := newLab(t)
	l.start()
	a, b := l.addPod("a"), l.addPod("b")
	l.del(a)
	l.del(a)
	l.del(&pod{id: "never", ns: -1})
	wantLeftovers(t, l, count(1))
	connect(t, l.node, b.ns, b.addrs[0])
	next := l.addPod("c")
	if next.addrs[0] == a.addrs[0] || next.addrs[1] == a.addrs[1] {
		t.Errorf("new pod has %v, of the pod that was deleted just now", next.addrs)
	}
}

func TestRootDelWithVanishedNamespace(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	if err := p.ns.Close(); err != nil {
		t.Fatal(err)
	}
	roottest.Eventually(t, 10*time.Second, func() error {
		if left := l.podInterfaces(); len(left) > 0 {
			return fmt.Errorf("pod interfaces %v are still there", left)
		}
		return nil
	})
	l.del(&pod{id: p.id, ns: -1})
	wantLeftovers(t, l, count(0))
}

func TestRootGC(t *testing.T) {
	l := newLab(t)
	l.start()
	a, b := l.addPod("a"), l.addPod("b")
	r := l.request(socket.GC, &pod{ns: -1})
	// Other networks are none of its business.
	r.Config = l.config(map[string]any{"name": "other"})
	if _, err := l.call(r); err != nil {
		t.Fatal(err)
	}
	wantLeftovers(t, l, count(2))
	r.Config = l.config(map[string]any{"cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: b.id, IfName: "eth0"}}})
	if _, err := l.call(r); err != nil {
		t.Fatal(err)
	}
	wantLeftovers(t, l, count(1))
	connect(t, l.node, b.ns, b.addrs[0])
	_, err := l.call(l.request(socket.Check, a))
	wantCode(t, err, types.ErrUnknownContainer)
}

// inPod runs fn inside a namespace with its eth0.
func inPod(t *testing.T, ns netns.NsHandle, fn func(netlink.Link) error) {
	t.Helper()
	roottest.In(t, ns, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return fn(link)
	})
}

// delRoutes deletes the routes of a device to a destination.
func delRoutes(link netlink.Link, family int, dst string) error {
	routes, err := netlink.RouteList(link, family)
	for _, r := range routes {
		if r.Dst.String() == dst {
			return netlink.RouteDel(&r)
		}
	}
	return errors.Join(err, fmt.Errorf("no route to %s in %v", dst, routes))
}

func TestRootCheck(t *testing.T) {
	l := newLab(t)
	l.start()
	inNode := func(p *pod, fn func(netlink.Link) error) {
		roottest.In(t, l.node, func() error {
			link, err := netlink.LinkByName(l.podInterfaces()[0])
			if err != nil {
				return err
			}
			return fn(link)
		})
	}
	tests := []struct {
		name   string
		damage func(*testing.T, *pod)
		want   string
	}{
		{"nothing", func(*testing.T, *pod) {}, ""},
		{"default route", func(t *testing.T, p *pod) {
			inPod(t, p.ns, func(link netlink.Link) error { return delRoutes(link, netlink.FAMILY_V4, "0.0.0.0/0") })
		}, "route to 0.0.0.0/0 is missing"},
		{"IPv6 default route", func(t *testing.T, p *pod) {
			inPod(t, p.ns, func(link netlink.Link) error { return delRoutes(link, netlink.FAMILY_V6, "::/0") })
		}, "route to ::/0 is missing"},
		{"address", func(t *testing.T, p *pod) {
			inPod(t, p.ns, func(link netlink.Link) error {
				return netlink.AddrDel(link, &netlink.Addr{IPNet: hostNet(p.addrs[1])})
			})
		}, "is missing"},
		{"neighbour", func(t *testing.T, p *pod) {
			inPod(t, p.ns, func(link netlink.Link) error {
				return netlink.NeighDel(&netlink.Neigh{LinkIndex: link.Attrs().Index, IP: addrs("10.244.1.1")[0].AsSlice()})
			})
		}, "neighbour 10.244.1.1 is missing"},
		{"device", func(t *testing.T, p *pod) { inPod(t, p.ns, netlink.LinkDel) }, "slw"},
		{"node's route", func(_ *testing.T, p *pod) {
			inNode(p, func(link netlink.Link) error {
				return delRoutes(link, netlink.FAMILY_V4, p.addrs[0].String()+"/32")
			})
		}, "/32 is missing"},
		{"node's end is down", func(_ *testing.T, p *pod) { inNode(p, netlink.LinkSetDown) }, "is down"},
		{"endpoint", func(_ *testing.T, p *pod) {
			inNode(p, func(link netlink.Link) error { return l.datapath.DeleteEndpoint(link.Attrs().Index) })
		}, "data path has no endpoint"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := l.addPod("a")
			defer l.del(p)
			tt.damage(t, p)
			r := l.request(socket.Check, p)
			r.Config = l.config(map[string]any{"prevResult": p.result})
			_, err := l.call(r)
			if tt.want == "" {
				if err != nil {
					t.Errorf("check: %v", err)
				}
				return
			}
			wantCode(t, err, 100)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
	t.Run("earlier result", func(t *testing.T) {
		p, other := l.addPod("a"), l.addPod("b")
		r := l.request(socket.Check, p)
		r.Config = l.config(map[string]any{"prevResult": other.result})
		_, err := l.call(r)
		wantCode(t, err, 100)
	})
}

func TestRootStatus(t *testing.T) {
	l := newLab(t)
	l.cfg.PodCIDRs, l.cfg.ClusterCIDRs = prefixes("10.244.1.0/30", "fd00:244:1::/64"), nil
	status := l.request(socket.Status, &pod{ns: -1})
	if _, err := l.call(status); !errors.Is(err, socket.ErrAbsent) {
		t.Errorf("before start: error %v, want %v", err, socket.ErrAbsent)
	}
	if _, err := os.Stat(l.cfg.ConfDir + "/10-slipway.conflist"); !os.IsNotExist(err) {
		t.Errorf("configuration exists before the server is ready: %v", err)
	}
	l.start()
	if _, err := l.call(status); err != nil {
		t.Errorf("status: %v", err)
	}
	p := l.addPod("a")
	_, err := l.call(status)
	wantCode(t, err, types.ErrPluginNotAvailable)
	wantCode(t, l.server.Ready(), types.ErrPluginNotAvailable)
	wantCode(t, l.add(l.newPod("b")), types.ErrTryAgainLater)
	l.del(p)
	if _, err := l.call(status); err != nil {
		t.Errorf("status with a free address: %v", err)
	}
}

func TestRootManyPodsAtOnce(t *testing.T) {
	l := newLab(t)
	l.start()
	pods := make([]*pod, 60)
	for i := range pods {
		pods[i] = l.newPod(fmt.Sprintf("pod-%d", i))
	}
	each := func(do func(*pod) error) {
		t.Helper()
		var group sync.WaitGroup
		for _, p := range pods {
			group.Go(func() {
				if err := do(p); err != nil {
					t.Errorf("%s: %v", p.id, err)
				}
			})
		}
		group.Wait()
	}
	start := time.Now()
	each(l.add)
	t.Logf("%d pods in %v", len(pods), time.Since(start))
	wantLeftovers(t, l, count(len(pods)))
	var used []string
	for _, p := range pods {
		used = append(used, p.addrs[0].String(), p.addrs[1].String())
	}
	slices.Sort(used)
	if n := len(slices.Compact(used)); n != 2*len(pods) {
		t.Errorf("%d different addresses for %d pods", n, len(pods))
	}
	connect(t, pods[0].ns, pods[59].ns, pods[59].addrs[0])
	each(func(p *pod) error {
		_, err := l.call(l.request(socket.Del, p))
		return err
	})
	wantLeftovers(t, l, count(0))
}

func TestRootOneServerAtATime(t *testing.T) {
	l := newLab(t)
	l.start()
	second, err := cni.New(cni.Config{
		PodCIDRs: l.cfg.PodCIDRs, Socket: l.cfg.Socket, StateDir: l.cfg.StateDir, NodeNetNS: l.cfg.NodeNetNS,
		Datapath: l.cfg.Datapath, Log: l.cfg.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another server is running") {
		t.Errorf("second server: %v", err)
	}
	l.addPod("a")
}
