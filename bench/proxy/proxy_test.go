// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
)

// TestMain turns the test binary into a process of the benchmark when it is
// asked to be one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-order" {
		var o order
		err := json.NewDecoder(os.Stdin).Decode(&o)
		if err == nil {
			err = obey(context.Background(), o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestRootLoads puts each load on a node without a proxy, straight to its pods,
// and watches a change of the server.
func TestRootLoads(t *testing.T) {
	roottest.Require(t)
	s := &side{name: direct}
	var err error
	if s.node, err = newNode(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	if s.server, err = startServer(s.node); err != nil {
		t.Fatal(err)
	}
	addrs := populate(shape{10, 2}).endpointAddrs()
	for _, kind := range loads {
		l := load{Kind: kind.kind, Clients: kind.clients, To: addrs, For: 20 * time.Millisecond}
		got, err := s.load(t.Context(), s.node.client, l)
		if err != nil || got.Rate <= 0 {
			t.Errorf("%s: %v (%v)", kind.name, got, err)
		}
	}
	// The crowd is reached beside the node.
	crowded := netip.AddrPortFrom(netip.MustParseAddr("10.131.7.9"), serverPort)
	if _, err := s.load(t.Context(), s.node.client, load{Kind: kept, To: []netip.AddrPort{crowded}, For: time.Millisecond}); err != nil {
		t.Errorf("endpoint of another node: %v", err)
	}
	for i, addr := range addrs[:2] {
		observer, err := s.spawn(s.node.client, order{Watch: []netip.AddrPort{addr}})
		if err != nil {
			t.Fatal(err)
		}
		var seen sighting
		if err := observer.result(t.Context(), &seen); err != nil || seen.Name != string(serverName(i)) || seen.At > monotonic() {
			t.Errorf("at %v answers %v (%v)", addr, seen, err)
		}
		observer.kill()
	}
}

func TestPopulation(t *testing.T) {
	for _, s := range []shape{{10, 2}, {1000, 2}, {10000, 10}, {60000, 2}} {
		p := populate(s)
		if len(p.targets) != min(s.Services, mostTargets) {
			t.Errorf("%v: %d targets", s, len(p.targets))
		}
		ips := p.clusterIPs()
		if first := netip.AddrPortFrom(clusterIP(p.targets[0]), servicePort); ips[0] != first {
			t.Errorf("%v: the first address is %v, expected %v", s, ips[0], first)
		}
		slices.SortFunc(ips, netip.AddrPort.Compare)
		if len(slices.Compact(ips)) != s.Services {
			t.Errorf("%v: addresses of Services are not different", s)
		}
		seen := map[netip.Addr]bool{}
		for number := range s.Services {
			if slices.Contains(p.targets, number) {
				continue
			}
			for _, addr := range p.endpoints(number) {
				if seen[addr] || !crowd.Contains(addr) {
					t.Fatalf("%v: endpoint %v of Service %d is not one of the crowd, or has two", s, addr, number)
				}
				seen[addr] = true
			}
		}
	}
}

func TestFrame(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.0.2.9:1024"), netip.MustParseAddrPort("192.0.2.1:30000")
	got := frame(src, dst, syn)
	if destination(got) != dst.Addr() || binary.BigEndian.Uint16(got[etherSize+ipSize+2:]) != dst.Port() {
		t.Errorf("% x does not go to %v", got, dst)
	}
	if sum := checksum(got[etherSize : etherSize+ipSize]); sum != 0 {
		t.Errorf("the checksum of the header is off by %x", sum)
	}
}

// example has ours and direct, with and without kube-proxy.
func example(sides ...string) results {
	r := results{
		Cold: map[string][]cost{}, Tables: []float64{60}, Changes: map[string][]float64{},
		Programs: []programCost{{"wire: " + forwardsAway, 70, 1000}, {"wire: not for a Service", 20, 0}},
	}
	for _, n := range []int{10, 30000} {
		one := sizeResult{n, map[string][]cost{}, map[string]map[string][]loaded{}}
		for _, l := range loads {
			one.Loads[l.name] = map[string][]loaded{}
			for i, side := range sides {
				one.Loads[l.name][side] = []loaded{{Rate: 1000 * float64(i+1), Median: 5, Tail: 9}}
			}
		}
		for _, side := range sides {
			one.Starts[side] = []cost{{0.9, 0.5, 70}}
		}
		r.Sizes = append(r.Sizes, one)
	}
	for _, side := range sides {
		r.Cold[side], r.Changes[side] = []cost{{0.9, 0.5, 70}}, []float64{1, 2, 3}
	}
	return r
}

func TestRows(t *testing.T) {
	p := plan{Cold: shape{10000, 10}, ColdRounds: 1}
	rows := example(ours, direct, iptables, nftables).rows(p)
	met := map[string]bool{}
	for _, row := range rows {
		if row.Met != nil {
			met[row.Metric+" | "+row.PeerName] = *row.Met
		}
	}
	for name, want := range map[string]bool{
		"short connections, 16 at a time, 30,000 Services | direct":                                false,
		"short connections, 16 at a time, share of direct, 30,000 Services | Slipway, 10 Services": true,
		"10,000 Services × 10 endpoints from cold: time | kube-proxy nftables":                     true,
		"change of an endpoint, 30,000 Services, 99th percentile | kube-proxy iptables":            true,
		"program wire: further packet to a pod of another node | ":                                 true,
		"short connections to a NodePort, 1 at a time, 10 Services | kube-proxy nftables":          false,
		"requests on a kept connection, median, 10 Services | direct":                              true,
	} {
		if got, has := met[name]; got != want || !has {
			t.Errorf("%s: met is %v (%v), expected %v", name, got, has, want)
		}
	}
}

func TestPlot(t *testing.T) {
	for _, sides := range [][]string{{ours, direct, iptables, nftables}, {ours}} {
		plot := example(sides...).plot()
		if got := strings.Count(plot, "<polyline"); got != len(sides) {
			t.Errorf("%d lines, expected %d", got, len(sides))
		}
		decoder := xml.NewDecoder(strings.NewReader(plot))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in\n%s", err, plot)
			}
		}
		for _, want := range []string{">30,000<", ">" + ours + "<"} {
			if !strings.Contains(plot, want) {
				t.Errorf("no %s in\n%s", want, plot)
			}
		}
	}
}

func TestLabelsAreApart(t *testing.T) {
	taken := []float64{100, 110, 130}
	if got := apart(105, taken); got != 147 {
		t.Errorf("label at %v, expected 147", got)
	}
	if got := apart(60, taken); got != 60 {
		t.Errorf("label at %v, expected 60", got)
	}
}

func TestRoundUp(t *testing.T) {
	for value, want := range map[float64]float64{0: 1, 9: 10, 101: 150, 14999: 15000, 22000: 25000, 80000: 100000} {
		if got := roundUp(value); got != want {
			t.Errorf("roundUp(%v) = %v, expected %v", value, got, want)
		}
	}
}

func TestParseBusy(t *testing.T) {
	got, err := parseBusy([]byte("cpu  100 20 30 4000 500 6 7 0 0 0\ncpu0 1 1 1 1 1 1 1 0 0 0\n"))
	if want := 1630 * time.Millisecond; err != nil || got != want {
		t.Errorf("%v (%v), expected %v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8\n", "cpu a b c d e f g h\n"} {
		if got, err := parseBusy([]byte(bad)); err == nil {
			t.Errorf("%q is %v, expected an error", bad, got)
		}
	}
}
