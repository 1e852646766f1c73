// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
)

// Attributes of a new address and port, and of the state of TCP, that package nl
// does not name; linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_tcp.h.
const (
	ctaNATv4First    = 1
	ctaNATv4Last     = 2
	ctaNATProto      = 3
	ctaNATv6First    = 4
	ctaNATv6Last     = 5
	ctaNATPortFirst  = 1
	ctaNATPortLast   = 2
	ctaTCPFlags      = 4
	ctaTCPFlagsReply = 5

	// tcpLiberal has packets pass whose sequence numbers netfilter has not
	// seen begin.
	tcpLiberal = 0x08
)

// insertFlow enters a connection into netfilter's table; one that is there already
// is unix.EEXIST.
func insertFlow(c connection) error {
	req := flowRequest(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE|unix.NLM_F_EXCL, c.protocol, c.tuple)
	req.AddData(tupleAttr(nl.CTA_TUPLE_REPLY, c.protocol, c.turned()))
	req.AddData(nl.NewRtAttr(nl.CTA_STATUS, be32(ipsSeenReply|ipsAssured|ipsConfirmed)))
	req.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, be32(uint32(c.keep.Seconds()))))
	req.AddData(newEnd(ctaNATDestination, c.to))
	if c.from.IsValid() {
		req.AddData(newEnd(ctaNATSource, c.from))
	}
	if c.protocol == bpf.ProtocolTCP {
		tcp := nested(nl.CTA_PROTOINFO)
		info := tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP|int(nl.NLA_F_NESTED), nil)
		info.AddRtAttr(nl.CTA_PROTOINFO_TCP_STATE, []byte{nl.TCP_CONNTRACK_ESTABLISHED})
		info.AddRtAttr(ctaTCPFlags, []byte{tcpLiberal, tcpLiberal})
		info.AddRtAttr(ctaTCPFlagsReply, []byte{tcpLiberal, tcpLiberal})
		req.AddData(tcp)
	}
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// deleteFlow makes netfilter forget a connection; one that is not there is
// unix.ENOENT.
func deleteFlow(protocol bpf.Protocol, t tuple) error {
	_, err := flowRequest(nl.IPCTNL_MSG_CT_DELETE, 0, protocol, t).Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

func flowRequest(command, flags int, protocol bpf.Protocol, t tuple) *nl.NetlinkRequest {
	family := uint8(unix.AF_INET6)
	if t.src.Addr().Is4() {
		family = unix.AF_INET
	}
	req := nl.NewNetlinkRequest(ctMessage(command), flags|unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	req.AddData(tupleAttr(nl.CTA_TUPLE_ORIG, protocol, t))
	return req
}

func nested(attr int) *nl.RtAttr { return nl.NewRtAttr(attr|int(nl.NLA_F_NESTED), nil) }

func tupleAttr(attr int, protocol bpf.Protocol, t tuple) *nl.RtAttr {
	src, dst := nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST
	if t.src.Addr().Is4() {
		src, dst = nl.CTA_IP_V4_SRC, nl.CTA_IP_V4_DST
	}
	out := nested(attr)
	ip := out.AddRtAttr(nl.CTA_TUPLE_IP|int(nl.NLA_F_NESTED), nil)
	ip.AddRtAttr(src, t.src.Addr().AsSlice())
	ip.AddRtAttr(dst, t.dst.Addr().AsSlice())
	proto := out.AddRtAttr(nl.CTA_TUPLE_PROTO|int(nl.NLA_F_NESTED), nil)
	proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(protocol)})
	proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, be16(t.src.Port()))
	proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, be16(t.dst.Port()))
	return out
}

// newEnd is an end after translation: a range of one address and one port.
func newEnd(attr int, at netip.AddrPort) *nl.RtAttr {
	first, last := ctaNATv6First, ctaNATv6Last
	if at.Addr().Is4() {
		first, last = ctaNATv4First, ctaNATv4Last
	}
	out := nested(attr)
	out.AddRtAttr(first, at.Addr().AsSlice())
	out.AddRtAttr(last, at.Addr().AsSlice())
	ports := out.AddRtAttr(ctaNATProto|int(nl.NLA_F_NESTED), nil)
	ports.AddRtAttr(ctaNATPortFirst, be16(at.Port()))
	ports.AddRtAttr(ctaNATPortLast, be16(at.Port()))
	return out
}
