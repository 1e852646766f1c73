// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes of netfilter's connections that package nl does not name, and bits of
// their status; linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_common.h.
const (
	ctaNATSource      = 6
	ctaNATDestination = 13
	ctaStatusMask     = 26

	ipsSeenReply = 1 << 1
	ipsAssured   = 1 << 2
	ipsConfirmed = 1 << 3
	ipsDstNAT    = 1 << 5
)

// tuple is one way of a connection.
type tuple struct{ src, dst netip.AddrPort }

func (t tuple) turned() tuple { return tuple{t.dst, t.src} }

// translated calls fn with the replies of each connection of which netfilter
// translates the destination, until fn returns false. The kernel leaves out all
// other connections.
func translated(fn func(reply tuple) bool) error {
	req := nl.NewNetlinkRequest(ctMessage(nl.IPCTNL_MSG_CT_GET), unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(nl.CTA_STATUS, be32(ipsDstNAT)))
	req.AddData(nl.NewRtAttr(ctaStatusMask, be32(ipsDstNAT)))
	var bad error
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		reply, err := parseReply(msg)
		if err != nil {
			bad = err
			return false
		}
		return fn(reply)
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return fmt.Errorf("list the connections that netfilter translates: %w", err)
	}
	return nil
}

func ctMessage(command int) int { return unix.NFNL_SUBSYS_CTNETLINK<<8 | command }

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func parseReply(msg []byte) (tuple, error) {
	if len(msg) < nl.SizeofNfgenmsg {
		return tuple{}, fmt.Errorf("message of %d bytes is too short", len(msg))
	}
	all, err := attributes(msg[nl.SizeofNfgenmsg:])
	if err != nil {
		return tuple{}, err
	}
	reply, err := attributes(all[nl.CTA_TUPLE_REPLY])
	if err != nil {
		return tuple{}, err
	}
	addrs, err := attributes(reply[nl.CTA_TUPLE_IP])
	if err != nil {
		return tuple{}, err
	}
	ports, err := attributes(reply[nl.CTA_TUPLE_PROTO])
	if err != nil {
		return tuple{}, err
	}
	return tuple{
		src: end(addrs, nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC, ports[nl.CTA_PROTO_SRC_PORT]),
		dst: end(addrs, nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST, ports[nl.CTA_PROTO_DST_PORT]),
	}, nil
}

// end is the zero value for what has no address of either family.
func end(addrs map[uint16][]byte, v4, v6 uint16, port []byte) netip.AddrPort {
	addr, ok := netip.AddrFromSlice(addrs[v4])
	if !ok {
		addr, _ = netip.AddrFromSlice(addrs[v6])
	}
	if len(port) != 2 {
		port = []byte{0, 0}
	}
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port))
}

// attributes returns the attributes in b by their types.
func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, fmt.Errorf("parse attributes of a connection: %w", err)
	}
	out := make(map[uint16][]byte, len(list))
	for _, a := range list {
		out[a.Attr.Type&nl.NLA_TYPE_MASK] = a.Value
	}
	return out, nil
}
