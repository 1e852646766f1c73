// SPDX-License-Identifier: Apache-2.0

package masquerade

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// rules returns the rules of the chain. In the words of nft(8):
//
//	ip daddr <cluster cidr> return comment "slipway: between pods"
//	ip saddr <pod cidr> masquerade fully-random comment "slipway: pods to the outside"
//
// Packets to the node itself are not routed out and never reach the chain.
func rules(table *nftables.Table, chain *nftables.Chain, cfg Config) []*nftables.Rule {
	var all []*nftables.Rule
	add := func(text string, exprs []expr.Any) {
		all = append(all, &nftables.Rule{
			Table: table, Chain: chain, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, text),
		})
	}
	for _, cidr := range cfg.ClusterCIDRs {
		add("slipway: between pods", append(matchAddr(destination, cidr), &expr.Verdict{Kind: expr.VerdictReturn}))
	}
	for _, cidr := range cfg.PodCIDRs {
		add("slipway: pods to the outside", append(matchAddr(source, cidr), &expr.Masq{FullyRandom: true}))
	}
	return all
}

// field is an address in the network header.
type field int

const (
	source field = iota
	destination
)

// offset returns where the field is in the header of a family, in bytes.
func (f field) offset(is4 bool) uint32 {
	offset, size := uint32(8), uint32(16)
	if is4 {
		offset, size = 12, 4
	}
	if f == destination {
		offset += size
	}
	return offset
}

// matchAddr matches packets with an address in a CIDR.
func matchAddr(f field, cidr netip.Prefix) []expr.Any {
	proto := byte(unix.NFPROTO_IPV6)
	if cidr.Addr().Is4() {
		proto = unix.NFPROTO_IPV4
	}
	size := uint32(cidr.Addr().BitLen() / 8)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{
			OperationType: expr.PayloadLoad, Base: expr.PayloadBaseNetworkHeader,
			Offset: f.offset(cidr.Addr().Is4()), Len: size, DestRegister: 1,
		},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: size,
			Mask: net.CIDRMask(cidr.Bits(), cidr.Addr().BitLen()), Xor: make([]byte, size),
		},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: cidr.Masked().Addr().AsSlice()},
	}
}
