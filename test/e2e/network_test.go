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
		if a.Error != "" || len(a.Names) != 1 || a.Names[name] == 0 {
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

func testPodToHost(t *testing.T, c *cluster) {
	web, echo := freePort(t), freePort(t)
	for _, ip := range c.nodeIPs {
		serveOnHost(t, netip.AddrPortFrom(ip, web), netip.AddrPortFrom(ip, echo))
	}
	answers := c.ask(t, "client", 3, targets(c.nodeIPs, web, echo)...)
	wantName(t, answers, "host")
	wantPeers(t, answers, c.podIPs(t, "client"))
}

// serveOnHost serves on one address: a UDP server on all of them would have
// to see to it itself that it answers from the one that was asked.
func serveOnHost(t *testing.T, web, echo netip.AddrPort) {
	t.Helper()
	server, err := talk.Listen("host", web.String(), echo.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
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
