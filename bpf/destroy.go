// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The requests about sockets, of linux/sock_diag.h, and the layout of their messages,
// of linux/inet_diag.h.
const (
	sockDestroy = 21
	// diagRequestLen is that of struct inet_diag_req_v2: eight bytes and the id.
	diagRequestLen = 56
	// In a request and an answer: where a socket's id begins.
	diagRequestID = 8
	diagAnswerID  = 4
	diagIDLen     = 48
)

// destroyer closes sockets by netlink, where the kernel has no bpf_sock_destroy. It
// lists the sockets of a namespace and asks for the end of each.
type destroyer struct{}

func (destroyer) close(found *findings) (map[Protocol]int, error) {
	closed := map[Protocol]int{}
	err := inEachNetNS(func(cookie uint64) error {
		var errs []error
		for _, protocol := range []Protocol{ProtocolTCP, ProtocolUDP} {
			if !found.places[place{cookie, protocol}] {
				continue
			}
			for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
				n, err := destroy(found, protocol, family)
				closed[protocol] += n
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
	return closed, err
}

// destroy closes the sockets of one kind in the calling thread's network namespace.
func destroy(found *findings, protocol Protocol, family uint8) (int, error) {
	request := diagRequest(protocol, family, nil)
	// All states but those without a peer, and without a socket; UDP sockets that
	// are connected are established.
	binary.NativeEndian.PutUint32(request[4:], ^uint32(1<<unix.BPF_TCP_TIME_WAIT|1<<unix.BPF_TCP_CLOSE|1<<unix.BPF_TCP_LISTEN|1<<unix.BPF_TCP_NEW_SYN_RECV))
	list := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	list.AddRawData(request)
	answers, err := list.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return 0, fmt.Errorf("list %s sockets: %w", protocol, err)
	}
	n := 0
	for _, answer := range answers {
		if len(answer) < diagAnswerID+diagIDLen {
			continue
		}
		id := answer[diagAnswerID : diagAnswerID+diagIDLen]
		if !found.owners[ownerOf(protocol, answer[0], id)] {
			continue
		}
		end := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
		end.AddRawData(diagRequest(protocol, answer[0], id))
		_, err := end.Execute(unix.NETLINK_INET_DIAG, 0)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, unix.ENOENT): // closed meanwhile
			return n, fmt.Errorf("close %s socket: %w", protocol, err)
		}
	}
	return n, nil
}

// diagRequest is a struct inet_diag_req_v2, about all sockets if id is nil.
func diagRequest(protocol Protocol, family uint8, id []byte) []byte {
	request := make([]byte, diagRequestLen)
	request[0], request[1] = family, uint8(protocol)
	copy(request[diagRequestID:], id)
	return request
}

// ownerOf reads a struct inet_diag_sockid: ports, addresses, device and cookie.
func ownerOf(protocol Protocol, family uint8, id []byte) owner {
	addr := netip.AddrFrom16([16]byte(id[20:36])).Unmap()
	if family == unix.AF_INET {
		addr = netip.AddrFrom4([4]byte(id[20:24]))
	}
	// The cookie comes as two words, the lower one first.
	low, high := binary.NativeEndian.Uint32(id[40:]), binary.NativeEndian.Uint32(id[44:])
	return owner{
		cookie:  uint64(high)<<32 | uint64(low),
		backend: netip.AddrPortFrom(addr, binary.BigEndian.Uint16(id[2:])), protocol: protocol,
	}
}
