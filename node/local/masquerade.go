// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func natTable() *nftables.Table {
	return &nftables.Table{Name: Bridge, Family: nftables.TableFamilyINet}
}

// letOut gives packets of nodes that leave the cluster the address of the
// machine, in the words of nft(8) for one family, in a table of its own:
//
//	oifname "lo" return
//	ip daddr <range of nodes or pods> return
//	ip saddr <range of nodes> masquerade
func letOut(nodes, pods []netip.Prefix) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("let nodes out: %w", err)
	}
	table := natTable()
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	chain := conn.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	add := func(exprs ...expr.Any) {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	}
	stay := &expr.Verdict{Kind: expr.VerdictReturn}
	add(&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: padded("lo")}, stay)
	for _, cidr := range slices.Concat(nodes, pods) {
		add(append(inRange(cidr, destination), stay)...)
	}
	for _, cidr := range nodes {
		add(append(inRange(cidr, source), &expr.Masq{})...)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("let nodes out: %w", err)
	}
	return nil
}

// end is one of the addresses of a packet.
type end int

const (
	source end = iota
	destination
)

// inRange matches packets with an address in the range.
func inRange(cidr netip.Prefix, which end) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if cidr.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 8
	}
	addr := cidr.Masked().Addr().AsSlice()
	if which == destination {
		offset += uint32(len(addr))
	}
	mask := make([]byte, len(addr))
	for i := range cidr.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(addr)), Mask: mask, Xor: make([]byte, len(addr))},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: addr},
	}
}

// padded is an interface name as the kernel compares it.
func padded(name string) []byte {
	out := make([]byte, unix.IFNAMSIZ)
	copy(out, binaryutil.PutString(name))
	return out
}

// keepIn removes the table, if there is one.
func keepIn() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("remove rules of local nodes: %w", err)
	}
	conn.DelTable(natTable())
	if err := conn.Flush(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove rules of local nodes: %w", err)
	}
	return nil
}
