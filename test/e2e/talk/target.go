// SPDX-License-Identifier: Apache-2.0

// Package talk is what the application of the end-to-end tests speaks: a
// server that tells its name and whom it sees, and clients that ask it once
// or put a load on it. The protocol is one line for one line, over HTTP, TCP
// or UDP. It needs the standard library only, so that the application is
// small.
package talk

import (
	"fmt"
	"net/netip"
	"strings"
)

// Kind is how a client talks.
type Kind string

// Kinds of clients.
const (
	HTTP Kind = "http"
	TCP  Kind = "tcp"
	// UDP is a connected UDP socket.
	UDP Kind = "udp"
	// Datagram is a UDP socket that is not connected: each packet is
	// addressed by itself.
	Datagram Kind = "datagram"
)

// Target is a server and how to talk to it.
type Target struct {
	Kind Kind
	// Addr is "host:port"; the host may be a name.
	Addr string
}

// ParseTarget reads "KIND=ADDRESS".
func ParseTarget(text string) (Target, error) {
	kind, addr, found := strings.Cut(text, "=")
	t := Target{Kind(kind), addr}
	if _, known := openers[t.Kind]; !found || !known || addr == "" {
		return t, fmt.Errorf("target %q: expected http, tcp, udp or datagram, and host:port behind =", text)
	}
	return t, nil
}

func (t Target) String() string { return string(t.Kind) + "=" + t.Addr }

// Reply is what a server says.
type Reply struct {
	// Name is the server's.
	Name string
	// Peer is the client's address as the server sees it.
	Peer netip.AddrPort
	// From is the server's address as the client sees it.
	From netip.AddrPort
}

// line is the reply on the wire, without From.
func line(name string, peer netip.AddrPort) string {
	return name + " " + netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()).String() + "\n"
}

func parseLine(text string) (Reply, error) {
	name, peer, found := strings.Cut(strings.TrimSpace(text), " ")
	addr, err := netip.ParseAddrPort(peer)
	if !found || err != nil {
		return Reply{}, fmt.Errorf("reply %q: expected a name and an address", text)
	}
	return Reply{Name: name, Peer: addr}, nil
}
