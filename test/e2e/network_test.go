// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"slipway.dev/slipway/test/e2e/talk"
)

func testPodNetwork(t *testing.T, c *cluster) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"pod to pod", testPodToPod},
		{"host to pod", testHostToPod},
		{"pod to host", testPodToHost},
		{"pod to outside", testPodToOutside},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// wantName fails the test unless all answers came from one server.
func wantName(t testing.TB, all []talk.Answers, name string) {
	t.Helper()
	for _, a := range all {
		if a.Error != "" || len(a.Names) != 1 || a.Names[name] == 0 || !fromAsked(a) {
			t.Errorf("expected answers of %s: %s", name, describe(a))
		}
	}
}

func testPodToPod(t *testing.T, c *cluster) {
	server := c.pods(t, "echo")[0]
	ips := c.podIPs(t, server)
	if len(ips) != 2 || ips[0].Is4() == ips[1].Is4() {
		t.Fatalf("pod %s has addresses %v, expected one of each family", server, ips)
	}
	answers := c.ask(t, "client", 3, targets(ips, 8080, 9000)...)
	wantName(t, answers, server)
	wantPeers(t, answers, c.podIPs(t, "client"))
}

func testHostToPod(t *testing.T, c *cluster) {
	wantName(t, talk.Ask(targets(c.podIPs(t, "client"), 8080, 9000), 3), "client")
}

// testPodToHost speaks to a server that listens on all addresses: it must be
// the one that was asked that answers, for UDP too.
func testPodToHost(t *testing.T, c *cluster) {
	web, echo := netip.AddrPortFrom(netip.IPv6Unspecified(), freePort(t)), netip.AddrPortFrom(netip.IPv6Unspecified(), freePort(t))
	server, err := talk.Listen("host", web.String(), echo.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	answers := c.ask(t, "client", 3, targets(c.nodeIPs, web.Port(), echo.Port())...)
	wantName(t, answers, "host")
	wantPeers(t, answers, c.podIPs(t, "client"))
}

func freePort(t testing.TB) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// testPodToOutside finds that hosts outside see the node, never a pod.
func testPodToOutside(t *testing.T, c *cluster) {
	o := newOutside(t, c)
	o.serve(t)
	answers := c.ask(t, "client", 3, targets(outsideWire, 8080, 9000)...)
	wantName(t, answers, "outside")
	wantPeers(t, answers, nodeWire)
}
