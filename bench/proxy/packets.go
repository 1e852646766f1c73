// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packets makes packets of the node's neighbourhood.
type packets struct {
	// opener is the program that new connections go through.
	opener program
	port   uint16
	// answer is a reply of the first server pod, once there is one.
	answer []byte
}

const (
	// oneConnection is the port of a client that stays with its connection;
	// others begin at firstPort.
	oneConnection = 1024
	firstPort     = 1025
)

var (
	nodePort = netip.AddrPortFrom(nodeAddr, firstNodePort)
	awayPort = netip.AddrPortFrom(nodeAddr, awayNodePort)
)

// nextPort returns another port each time, until all were used.
func (p *packets) nextPort() uint16 {
	p.port = max(p.port+1, firstPort)
	return p.port
}

func (p *packets) first() ([]byte, error) {
	return frame(netip.AddrPortFrom(outsideAddr, p.nextPort()), nodePort, syn), nil
}

func (p *packets) further() ([]byte, error) {
	return frame(netip.AddrPortFrom(outsideAddr, oneConnection), nodePort, ack), nil
}

func (p *packets) firstAway() ([]byte, error) {
	return frame(netip.AddrPortFrom(outsideAddr, p.nextPort()), awayPort, syn), nil
}

func (p *packets) furtherAway() ([]byte, error) {
	return frame(netip.AddrPortFrom(outsideAddr, oneConnection), awayPort, ack), nil
}

func (p *packets) foreign() ([]byte, error) {
	return frame(netip.AddrPortFrom(outsideAddr, oneConnection), netip.AddrPortFrom(nodeAddr, 22), ack), nil
}

func (p *packets) between() ([]byte, error) {
	return frame(netip.AddrPortFrom(clientAddr, oneConnection), netip.AddrPortFrom(serverAddrs[0], serverPort), ack), nil
}

func (p *packets) leaving() ([]byte, error) {
	return frame(netip.AddrPortFrom(clientAddr, oneConnection), netip.AddrPortFrom(outsideAddr, serverPort), ack), nil
}

// reply opens connections until one leads to the first server pod.
func (p *packets) reply() ([]byte, error) {
	for try := 0; p.answer == nil; try++ {
		if try == 100 {
			return nil, errors.New("no connection to a NodePort leads to the first server pod")
		}
		client := netip.AddrPortFrom(outsideAddr, p.nextPort())
		out, _, err := runOnce(p.opener.Program, p.opener.ifindex, frame(client, nodePort, syn))
		if err != nil {
			return nil, err
		}
		if destination(out) == serverAddrs[0] {
			p.answer = frame(netip.AddrPortFrom(serverAddrs[0], serverPort), client, ack)
		}
	}
	return p.answer, nil
}

const (
	syn, ack  = 0x02, 0x10
	etherSize = 14
	ipSize    = 20
	frameSize = 64
)

// frame is a TCP packet of the least size of Ethernet. The checksum of TCP is
// missing: routers change it by the difference and do not look at it.
func frame(src, dst netip.AddrPort, flags byte) []byte {
	out := make([]byte, frameSize)
	out[0], out[6] = 2, 2
	binary.BigEndian.PutUint16(out[12:], unix.ETH_P_IP)
	ip := out[etherSize:]
	ip[0], ip[8], ip[9] = 0x45, 64, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(ip[2:], frameSize-etherSize)
	from, to := src.Addr().As4(), dst.Addr().As4()
	copy(ip[12:], from[:])
	copy(ip[16:], to[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipSize]))
	tcp := ip[ipSize:]
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	tcp[12], tcp[13] = 5<<4, flags
	return out
}

func destination(frame []byte) netip.Addr {
	return netip.AddrFrom4([4]byte(frame[etherSize+16:]))
}

// checksum is that of the Internet protocol.
func checksum(data []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
