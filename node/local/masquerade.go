// SPDX-License-Identifier: Apache-2.0

package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func natTable() *nftables.Table {
	return &nftables.Table{Name: bridgeName, Family: nftables.TableFamilyINet}
}

// letOut gives packets of nodes that leave through another interface than the
// bridge the address of the machine, in the words of nft(8):
//
//	ip saddr <range> oifname != "slipway-nodes" masquerade
//
// in a table of its own. Packets to pods of the machine keep their address:
// they do not come through postrouting with a source of the bridge's range
// unless the node itself is the client, and then any address will do.
func letOut(cidrs []netip.Prefix) error {
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
	for _, cidr := range cidrs {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(fromRange(cidr), leaving()...)})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("let nodes out: %w", err)
	}
	return nil
}

// fromRange matches packets with a source in the range.
func fromRange(cidr netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if cidr.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 8
	}
	addr := cidr.Masked().Addr().AsSlice()
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

// leaving matches packets that do not leave through the bridge, and
// masquerades them.
func leaving() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: padded(bridgeName)},
		&expr.Masq{},
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
