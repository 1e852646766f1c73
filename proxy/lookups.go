// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"cmp"
	"net/netip"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy/maglev"
)

// lookupSlots are the ids in the slots of the table of some backends.
func lookupSlots(backends []bpf.Backend, ids []uint32) []uint32 {
	addrs := make([]netip.AddrPort, len(backends))
	for i, b := range backends {
		addrs[i] = netip.AddrPortFrom(b.Addr, b.Port)
	}
	out := make([]uint32, 0, maglev.Size)
	for _, i := range maglev.Table(addrs) {
		out = append(out, ids[i])
	}
	return out
}

// compareBackends orders backends as targets have them.
func compareBackends(a, b bpf.Backend) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Flags, b.Flags))
}
