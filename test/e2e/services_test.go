// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// replicas of the servers in base.yaml, and how many requests are sure to
// reach each of them.
const (
	replicas = 3
	enough   = 40
)

// targets are all ways to talk to servers at addresses.
func targets(addrs []netip.Addr, httpPort, echoPort uint16) []talk.Target {
	var out []talk.Target
	for _, addr := range addrs {
		web, echo := netip.AddrPortFrom(addr, httpPort).String(), netip.AddrPortFrom(addr, echoPort).String()
		out = append(out, talk.Target{Kind: talk.HTTP, Addr: web}, talk.Target{Kind: talk.TCP, Addr: echo},
			talk.Target{Kind: talk.UDP, Addr: echo}, talk.Target{Kind: talk.Datagram, Addr: echo})
	}
	return out
}

// fromAll returns an error unless the answers came from every replica,
// without an error, and from the address that was asked.
func fromAll(all []talk.Answers) error {
	var errs []error
	for _, a := range all {
		if a.Error != "" || len(a.Names) != replicas || !fromAsked(a) {
			errs = append(errs, fmt.Errorf("expected answers of %d replicas: %s", replicas, describe(a)))
		}
	}
	return errors.Join(errs...)
}

// fromAsked tells whether the client saw all answers come from where it had
// sent its questions.
func fromAsked(a talk.Answers) bool {
	_, addr, _ := strings.Cut(a.Target, "=")
	asked, err := netip.ParseAddrPort(addr)
	return err == nil && slices.Equal(a.Froms, []netip.AddrPort{asked})
}

func wantAll(t testing.TB, all []talk.Answers) {
	t.Helper()
	if err := fromAll(all); err != nil {
		t.Error(err)
	}
}

// wantPeers fails the test unless servers saw the client as one of these.
func wantPeers(t testing.TB, all []talk.Answers, allowed []netip.Addr) {
	t.Helper()
	for _, a := range all {
		for _, peer := range a.Peers {
			if !slices.Contains(allowed, peer) {
				t.Errorf("%s: the server saw %v, expected one of %v", a.Target, peer, allowed)
			}
		}
	}
}

func testServices(t *testing.T, c *cluster) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"ClusterIP from a pod", testClusterIPFromPod},
		{"ClusterIP from the host", testClusterIPFromHost},
		{"own Service", testOwnService},
		{"NodePort on the node", testNodePortOnNode},
		{"NodePort from another host", testNodePortFromOutside},
		{"names", testNames},
		{"API from a pod", testAPIFromPod},
		{"session affinity", testSessionAffinity},
		{"host port", testHostPort},
		{"endpoints change", testEndpointsChange},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

func (c *cluster) serviceIPs(t testing.TB, name string) []netip.Addr {
	t.Helper()
	ips := c.addresses(t, "service/"+name, "{.spec.clusterIPs[*]}")
	if len(ips) != 2 || ips[0].Is4() == ips[1].Is4() {
		t.Fatalf("Service %s has addresses %v, expected one of each family", name, ips)
	}
	return ips
}

func testClusterIPFromPod(t *testing.T, c *cluster) {
	answers := c.ask(t, "client", enough, targets(c.serviceIPs(t, "echo"), 80, 9000)...)
	wantAll(t, answers)
	wantPeers(t, answers, c.podIPs(t, "client"))
}

func testClusterIPFromHost(t *testing.T, c *cluster) {
	wantAll(t, talk.Ask(targets(c.serviceIPs(t, "echo"), 80, 9000), enough))
}

// testOwnService has a server reach its own Service, itself included.
func testOwnService(t *testing.T, c *cluster) {
	wantAll(t, c.ask(t, c.pods(t, "echo")[0], enough, targets(c.serviceIPs(t, "echo"), 80, 9000)...))
}

func testNodePortOnNode(t *testing.T, c *cluster) {
	wantAll(t, talk.Ask(targets(c.nodeIPs, 30080, 30090), enough))
	wantAll(t, c.ask(t, "client", enough, targets(c.nodeIPs, 30080, 30090)...))
}

// testNodePortFromOutside has packets to the node's ports arrive on a wire.
func testNodePortFromOutside(t *testing.T, c *cluster) {
	o := newOutside(t, c)
	hidden := o.hide(t, c.nodeIPs)
	// The data path takes a moment to know a new uplink.
	within(t, 10*time.Second, func() error {
		for _, a := range o.ask(t, 1, targets(hidden, 30080, 30090)...) {
			if a.Error != "" {
				return fmt.Errorf("%s", describe(a))
			}
		}
		return nil
	})
	wantAll(t, o.ask(t, enough, targets(hidden, 30080, 30090)...))
}

func testNames(t *testing.T, c *cluster) {
	for _, name := range []string{"echo", "echo.e2e", "echo.e2e.svc.cluster.local."} {
		wantLookup(t, c, name, c.serviceIPs(t, "echo"))
	}
	var all []netip.Addr
	for _, pod := range c.pods(t, "echo") {
		all = append(all, c.podIPs(t, pod)...)
	}
	wantLookup(t, c, "echo-headless.e2e.svc.cluster.local.", all)
	if out, err := c.exec(t, "client", "lookup", "ip", "no-such-name.e2e.svc.cluster.local."); err == nil {
		t.Errorf("a name that does not exist has addresses: %s", out)
	}
	a := c.ask(t, "client", enough, talk.Target{Kind: talk.TCP, Addr: "echo:9000"})[0]
	if a.Error != "" || len(a.Names) != replicas {
		t.Errorf("by name: %s", describe(a))
	}
}

func wantLookup(t *testing.T, c *cluster, name string, want []netip.Addr) {
	t.Helper()
	within(t, 30*time.Second, func() error {
		out, err := c.exec(t, "client", "lookup", "ip", name)
		if err != nil {
			return err
		}
		var got []netip.Addr
		for line := range strings.Lines(out) {
			addr, err := netip.ParseAddr(strings.TrimSpace(line))
			if err != nil {
				return err
			}
			got = append(got, addr)
		}
		slices.SortFunc(got, netip.Addr.Compare)
		want = slices.SortedFunc(slices.Values(want), netip.Addr.Compare)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%s is %v, expected %v", name, got, want)
		}
		return nil
	})
}

// testAPIFromPod asks for what only an authenticated client may see.
func testAPIFromPod(t *testing.T, c *cluster) {
	out := c.mustExec(t, "client", "api", "/api")
	if !strings.HasPrefix(out, "200 ") || !strings.Contains(out, "APIVersions") {
		t.Errorf("the API says %s", out)
	}
}

// testSessionAffinity has a Service whose clients keep their backend, then
// one whose do not any more.
func testSessionAffinity(t *testing.T, c *cluster) {
	c.kubectl(t, "apply", "-f", "testdata/sticky.yaml")
	defer c.kubectl(t, "delete", "-f", "testdata/sticky.yaml")
	names := func(n int) func() error {
		return func() error {
			all := slices.Concat(
				c.ask(t, "client", enough, targets(c.serviceIPs(t, "sticky"), 80, 9000)...), talk.Ask(targets(c.nodeIPs, 30085, 30095), enough))
			for _, a := range all {
				if a.Error != "" || len(a.Names) != n || !fromAsked(a) {
					return fmt.Errorf("expected answers of %d: %s", n, describe(a))
				}
			}
			return nil
		}
	}
	within(t, 30*time.Second, names(1))
	c.kubectl(t, "patch", "service", "sticky", "-p", `{"spec":{"sessionAffinity":"None"}}`)
	within(t, 30*time.Second, names(replicas))
}

// testHostPort has a pod that asks for ports of the node.
func testHostPort(t *testing.T, c *cluster) {
	c.kubectl(t, "apply", "-f", "testdata/hostport.yaml")
	defer c.kubectl(t, "delete", "-f", "testdata/hostport.yaml")
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/hostport", "--timeout=60s")
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	within(t, 30*time.Second, func() error {
		for _, a := range talk.Ask(targets(slices.Concat(c.nodeIPs, loopback), 31080, 31090), 1) {
			if a.Error != "" {
				return errors.New(describe(a))
			}
		}
		return nil
	})
	wantName(t, c.ask(t, "client", 3, targets(c.nodeIPs, 31080, 31090)...), "hostport")
}

// testEndpointsChange scales a Service down to nothing and up again.
func testEndpointsChange(t *testing.T, c *cluster) {
	ips := c.serviceIPs(t, "echo")
	c.kubectl(t, "scale", "deployment/echo", "--replicas=0")
	// Datagrams of the node itself are refused where they leave it, which they
	// only do when its gateway is there. Pods have one that always is.
	fromNode := slices.DeleteFunc(targets(ips, 80, 9000), func(to talk.Target) bool {
		return to.Kind == talk.UDP || to.Kind == talk.Datagram
	})
	within(t, 30*time.Second, func() error {
		for _, a := range slices.Concat(talk.Ask(fromNode, 1), c.ask(t, "client", 1, targets(ips, 80, 9000)...)) {
			if !strings.Contains(a.Error, "connection refused") {
				return fmt.Errorf("without endpoints, expected a refused connection: %s", describe(a))
			}
		}
		return nil
	})
	c.kubectl(t, "scale", "deployment/echo", fmt.Sprintf("--replicas=%d", replicas))
	c.waitBase(t)
	within(t, 30*time.Second, func() error { return fromAll(talk.Ask(targets(ips, 80, 9000), enough)) })
}
