// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

const (
	// keepTCP is for how long a connection without a packet is kept, as
	// kube-proxy has netfilter keep those that are established.
	keepTCP = 24 * time.Hour
	// keepUDP is netfilter's own for datagrams in both directions.
	keepUDP = 2 * time.Minute
	// displaceTries is how often a connection is displaced that has packets
	// all the time.
	displaceTries = 5
)

// From is the data path whose connections are handed over; *bpf.Handover is one.
type From interface {
	Frontends() (map[bpf.Frontend]bpf.Range, error)
	Conntrack() iter.Seq2[bpf.Conntrack, error]
	SetTakeover(bpf.Takeover) error
	Forget(bpf.Conntrack) error
	DetachUplinks() error
}

// Handed counts connections.
type Handed struct {
	// Over are those that netfilter translates now.
	Over int
	// Left are those that it could not take: it has another connection that
	// looks the same after translation. Most of these are over.
	Left int
}

// HandBack enters the connections from other hosts that the data path translates
// into netfilter's table, which translates them from then on, and takes the programs
// for new ones off. Rules of another proxy must be there before, or netfilter
// translates nothing.
func HandBack(from From) (Handed, error) {
	var h Handed
	frontends, err := from.Frontends()
	if err != nil {
		return h, err
	}
	// The other proxy gets new connections, and what is in netfilter's table
	// and not in ours any more is left to it.
	if err := from.SetTakeover(bpf.TakeoverUplinks | bpf.TakeoverPods | bpf.TakeoverNew); err != nil {
		return h, err
	}
	// Twice, for connections that were about to begin.
	for range 2 {
		h.Left = 0
		if err := h.all(from, frontends); err != nil {
			return h, err
		}
	}
	return h, from.DetachUplinks()
}

// all hands over all connections.
func (h *Handed) all(from From, frontends map[bpf.Frontend]bpf.Range) error {
	for entry, err := range from.Conntrack() {
		if err != nil {
			return err
		}
		c, ok := connectionOf(entry, frontends)
		if !ok {
			continue
		}
		switch err := c.displace(); {
		case errors.Is(err, unix.EEXIST):
			h.Left++
			continue
		case err != nil:
			return fmt.Errorf("hand connection from %s to %s over to netfilter: %w", c.src, c.dst, err)
		}
		if err := from.Forget(entry); err != nil {
			return err
		}
		h.Over++
	}
	return nil
}

// connection is one that is to be translated by netfilter.
type connection struct {
	protocol bpf.Protocol
	tuple
	to   netip.AddrPort // the new destination
	from netip.AddrPort // the new source; not valid when it stays
	keep time.Duration
}

// connectionOf returns the connection of an entry for requests that is still in
// use. The other entry, for replies, follows from it.
func connectionOf(e bpf.Conntrack, frontends map[bpf.Frontend]bpf.Range) (connection, bool) {
	c := connection{protocol: e.Protocol, tuple: tuple{e.Src, e.Dst}, to: e.To, from: e.From, keep: keepTCP}
	if e.Protocol == bpf.ProtocolUDP {
		c.keep = keepUDP
	}
	if e.Idle > c.keep || e.Rewrite == bpf.RewriteSource {
		return connection{}, false
	}
	if e.Rewrite == bpf.RewriteDestination {
		return c, true
	}
	// Of two ways that are rewritten alike, requests go to a frontend.
	_, request := frontends[bpf.Frontend{Addr: e.Dst.Addr(), Port: e.Dst.Port(), Protocol: e.Protocol, Scope: bpf.ScopeExternal}]
	return c, request
}

// displace has netfilter translate the connection, in place of what it tracks:
// sockets of the node get the connection's packets with their destination changed
// already. One that comes in between is tracked again.
func (c connection) displace() error {
	var err error
	for range displaceTries {
		if err = deleteFlow(c.protocol, tuple{c.src, c.to}); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err = insertFlow(c); !errors.Is(err, unix.EEXIST) {
			return err
		}
		// What is left of an earlier connection with the same ends.
		if err = deleteFlow(c.protocol, c.tuple); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return unix.EEXIST
}
