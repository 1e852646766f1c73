// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"maps"
	"net/netip"
	"slices"
)

// Answers is what came of asking a target some times.
type Answers struct {
	Target string
	// Names counts the replies of each server.
	Names map[string]int
	// Peers are the client's addresses that servers have seen, Froms the
	// servers' addresses that the client has seen.
	Peers []netip.Addr
	Froms []netip.AddrPort
	// Error is the first error.
	Error string `json:",omitempty"`
}

// Ask asks each target n times, each time on a new connection, and stops with
// a target at its first error.
func Ask(targets []Target, n int) []Answers {
	var all []Answers
	for _, t := range targets {
		all = append(all, askOne(t, n))
	}
	return all
}

func askOne(t Target, n int) Answers {
	names, peers, froms := map[string]int{}, map[netip.Addr]bool{}, map[netip.AddrPort]bool{}
	var failed string
	for range n {
		reply, err := once(t)
		if err != nil {
			failed = err.Error()
			break
		}
		names[reply.Name]++
		peers[reply.Peer.Addr()] = true
		froms[reply.From] = true
	}
	return Answers{
		Target: t.String(), Names: names, Error: failed,
		Peers: slices.SortedFunc(maps.Keys(peers), netip.Addr.Compare),
		Froms: slices.SortedFunc(maps.Keys(froms), netip.AddrPort.Compare),
	}
}

func once(t Target) (Reply, error) {
	client, err := Open(t)
	if err != nil {
		return Reply{}, err
	}
	defer client.Close()
	return client.Ask()
}
