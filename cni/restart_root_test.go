// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/roottest"
)

func TestRootRestartAdoptsPods(t *testing.T) {
	l := newLab(t)
	l.start()
	a, b := l.addPod("a"), l.addPod("b")
	client, server := open(t, a.ns, b.ns, b.addrs[1])
	defer client.Close()
	defer server.Close()
	echo(t, client, server)

	l.stop()
	echo(t, client, server)
	// The new process has a data path that knows nothing yet.
	*l.datapath = *newFakeDatapath()
	l.start()
	echo(t, client, server)
	wantLeftovers(t, l, count(2))
	for _, p := range []*pod{a, b} {
		if _, err := l.call(l.request(socket.Check, p)); err != nil {
			t.Errorf("check %s after restart: %v", p.id, err)
		}
	}
	c := l.addPod("c")
	connect(t, a.ns, c.ns, c.addrs[0])
	for _, other := range []*pod{a, b} {
		if c.addrs[0] == other.addrs[0] || c.addrs[1] == other.addrs[1] {
			t.Errorf("new pod has %v, which belong to %s", c.addrs, other.id)
		}
	}
	l.del(a)
	wantLeftovers(t, l, count(2))
}

// TestRootPodsAreKnownByNamespace has the data path told in which namespace a pod
// is, also by a process that has not made it.
func TestRootPodsAreKnownByNamespace(t *testing.T) {
	l := newLab(t)
	l.start()
	a := l.addPod("a")
	var want uint64
	roottest.In(t, a.ns, func() (err error) {
		want, err = bpf.NetNSCookie()
		return err
	})
	check := func(when string) {
		t.Helper()
		endpoints, err := l.datapath.Endpoints()
		if err != nil || len(endpoints) != 1 || endpoints[0].NetNS != want || want == 0 {
			t.Errorf("%s: endpoints %+v (%v), expected the namespace %d", when, endpoints, err, want)
		}
	}
	check("after ADD")
	l.stop()
	*l.datapath = *newFakeDatapath()
	l.start()
	check("after a restart")
}

// TestRootStartRemovesLeftovers starts a server after everything that a
// crash, a reboot or a broken disk can leave.
func TestRootStartRemovesLeftovers(t *testing.T) {
	l := newLab(t)
	l.start()
	kept, rebooted, unknown, corrupt := l.addPod("kept"), l.addPod("rebooted"), l.addPod("unknown"), l.addPod("corrupt")
	l.stop()
	// Its namespace went, as in a reboot.
	inPod(t, rebooted.ns, netlink.LinkDel)
	record := func(p *pod) string {
		matches, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range matches {
			data, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(data), `"containerID": "`+p.id+`"`) {
				return path
			}
		}
		t.Fatalf("no record of %s", p.id)
		return ""
	}
	// Nobody was told about it, or its record went away.
	if err := os.Remove(record(unknown)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(record(corrupt), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.datapath.PutEndpoint(bpf.Endpoint{Ifindex: 9999, Addrs: addrs("10.244.1.77")}); err != nil {
		t.Fatal(err)
	}
	l.start()
	wantLeftovers(t, l, count(1))
	connect(t, l.node, kept.ns, kept.addrs[0])
	aside, err := filepath.Glob(filepath.Join(l.cfg.StateDir, "*.corrupt"))
	if err != nil || len(aside) != 1 {
		t.Errorf("files set aside: %v, %v", aside, err)
	}
	// The runtime makes them again.
	for _, p := range []*pod{rebooted, unknown, corrupt} {
		if err := l.add(p); err != nil {
			t.Errorf("add %s again: %v", p.id, err)
		}
	}
}

func TestRootStartFailsWithoutDatapath(t *testing.T) {
	l := newLab(t)
	l.start()
	p := l.addPod("a")
	l.stop()
	l.datapath.inject("AttachPod", true)
	l.run()
	err := <-l.ended
	l.cancel = nil
	if !errors.Is(err, errInjected) {
		t.Errorf("run: %v, want %v", err, errInjected)
	}
	// A pod does not lose its network because of that.
	connect(t, l.node, p.ns, p.addrs[0])
	l.datapath.inject("AttachPod", false)
	l.start()
	wantLeftovers(t, l, count(1))
}

func TestRootPodCIDRsChange(t *testing.T) {
	l := newLab(t)
	l.start()
	old := l.addPod("old")
	l.stop()
	l.cfg.PodCIDRs, l.cfg.ClusterCIDRs = prefixes("10.250.3.0/24", "fd00:250::/64"), prefixes("10.244.0.0/16", "10.250.0.0/16", "fd00:244::/32", "fd00:250::/64")
	l.start()
	fresh := l.addPod("fresh")
	for i, addr := range fresh.addrs {
		if !l.cfg.PodCIDRs[i].Contains(addr) {
			t.Errorf("new pod has %s, not of %s", addr, l.cfg.PodCIDRs[i])
		}
		connect(t, old.ns, fresh.ns, addr)
		connect(t, fresh.ns, old.ns, old.addrs[i])
		connect(t, l.node, old.ns, old.addrs[i])
	}
	roottest.In(t, l.node, func() error {
		link, err := netlink.LinkByName(cni.DefaultGatewayDevice)
		if err != nil {
			return err
		}
		list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		var got []string
		for _, addr := range list {
			got = append(got, addr.IPNet.String())
		}
		if diff := cmp.Diff([]string{"10.250.3.1/32", "fd00:250::1/128"}, got); diff != "" {
			t.Errorf("gateway addresses (-want +got):\n%s", diff)
		}
		return err
	})
	l.del(old)
	l.del(fresh)
	wantLeftovers(t, l, count(0))
}

// rules returns handle and comment of each of our nftables rules.
func (l *lab) rules() map[uint64]string {
	l.t.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(int(l.node)))
	if err != nil {
		l.t.Fatal(err)
	}
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		l.t.Fatal(err)
	}
	found := map[uint64]string{}
	for _, chain := range chains {
		rules, err := conn.GetRules(chain.Table, chain)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, r := range rules {
			found[r.Handle], _ = userdata.GetString(r.UserData, userdata.TypeComment)
		}
	}
	return found
}

func TestRootMasqueradeRulesAreReconciled(t *testing.T) {
	l := newLab(t)
	l.start()
	first := l.rules()
	if len(first) != 4 {
		t.Errorf("rules %v, want 4", first)
	}
	l.restart()
	if diff := cmp.Diff(first, l.rules()); diff != "" {
		t.Errorf("restart changed rules (-want +got):\n%s", diff)
	}
	l.stop()
	conn, err := nftables.New(nftables.WithNetNSFd(int(l.node)))
	if err != nil {
		t.Fatal(err)
	}
	conn.FlushTable(&nftables.Table{Name: "slipway", Family: nftables.TableFamilyINet})
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	l.start()
	if got := l.rules(); len(got) != 4 {
		t.Errorf("rules after somebody flushed them: %v, want 4", got)
	}
	if err := cni.RemoveMasquerade(l.cfg.NodeNetNS); err != nil {
		t.Fatal(err)
	}
	if got := l.rules(); len(got) != 0 {
		t.Errorf("rules after removal: %v", got)
	}
}

func TestRootClean(t *testing.T) {
	l := newLab(t)
	before := l.hostState()
	l.start()
	l.addPod("a")
	clean := cni.CleanConfig{
		Socket: l.cfg.Socket, StateDir: l.cfg.StateDir, ConfDir: l.cfg.ConfDir, NodeNetNS: l.cfg.NodeNetNS,
	}
	if err := cni.Clean(clean); err == nil {
		t.Error("clean succeeded while a server runs")
	}
	l.stop()
	for _, purge := range []bool{false, true, true} {
		clean.Purge = purge
		if err := cni.Clean(clean); err != nil {
			t.Fatalf("clean with purge %v: %v", purge, err)
		}
		if _, err := os.Stat(l.cfg.StateDir); os.IsNotExist(err) != purge {
			t.Errorf("state directory with purge %v: %v", purge, err)
		}
	}
	if diff := cmp.Diff(before, l.hostState()); diff != "" {
		t.Errorf("node after clean (-before +after):\n%s", diff)
	}
	if got := l.rules(); len(got) != 0 {
		t.Errorf("rules %v are left", got)
	}
	left, err := os.ReadDir(l.cfg.ConfDir)
	if err != nil || len(left) != 0 {
		t.Errorf("configuration directory has %v, %v", left, err)
	}
	l.start()
	l.addPod("b")
}

// hostState is the devices and routes of the node.
func (l *lab) hostState() []string {
	l.t.Helper()
	var state []string
	roottest.In(l.t, l.node, func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			state = append(state, link.Attrs().Name)
		}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, 0)
		for _, r := range routes {
			if r.Dst == nil || !r.Dst.IP.IsLinkLocalUnicast() && !r.Dst.IP.IsMulticast() {
				state = append(state, r.String())
			}
		}
		return err
	})
	return state
}

func TestRootMetrics(t *testing.T) {
	l := newLab(t)
	l.start()
	l.addPod("a")
	wantCode(t, l.add(&pod{id: "b", ns: l.node}), types.ErrInvalidNetNS)
	got := l.gather()
	want := map[string]float64{
		"slipway_cni_operations_total{code=0,verb=ADD}":    1,
		"slipway_cni_operations_total{code=8,verb=ADD}":    1,
		"slipway_cni_operation_duration_seconds{verb=ADD}": 2,
		"slipway_cni_addresses_used{family=ipv4}":          1,
		"slipway_cni_addresses_used{family=ipv6}":          1,
		"slipway_cni_addresses_capacity{family=ipv4}":      253,
		"slipway_cni_addresses_capacity{family=ipv6}":      65534,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// gather returns each metric: the value, or of a histogram the count.
func (l *lab) gather() map[string]float64 {
	l.t.Helper()
	families, err := l.cfg.Registry.(*prometheus.Registry).Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, label := range m.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			name := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}
