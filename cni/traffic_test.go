// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"slipway.dev/slipway/internal/roottest"
)

const trafficTimeout = 10 * time.Second

// connect opens a TCP connection between namespaces, moves some bytes both
// ways, and returns who the server saw.
func connect(t testing.TB, from, to netns.NsHandle, addr netip.Addr) netip.Addr {
	t.Helper()
	client, server := open(t, from, to, addr)
	defer client.Close()
	defer server.Close()
	echo(t, client, server)
	return server.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// open returns both ends of a TCP connection.
func open(t testing.TB, from, to netns.NsHandle, addr netip.Addr) (client, server net.Conn) {
	t.Helper()
	var listener *net.TCPListener
	roottest.In(t, to, func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	defer listener.Close()
	roottest.In(t, from, func() (err error) {
		client, err = (&net.Dialer{Timeout: trafficTimeout}).Dial("tcp", listener.Addr().String())
		return err
	})
	if err := listener.SetDeadline(time.Now().Add(trafficTimeout)); err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		client.Close()
		t.Fatal(err)
	}
	return client, server
}

// echo moves more than one packet each way.
func echo(t testing.TB, a, b net.Conn) {
	t.Helper()
	message := bytes.Repeat([]byte("slipway "), 2000)
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		failed := make(chan error, 1)
		go func() {
			_, err := pair[0].Write(message)
			failed <- err
		}()
		got := make([]byte, len(message))
		if err := pair[1].SetReadDeadline(time.Now().Add(trafficTimeout)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pair[1], got); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; err != nil || !bytes.Equal(got, message) {
			t.Fatalf("message changed on its way, or %v", err)
		}
	}
}

// ping sends an ICMP echo request and waits for the reply.
func ping(t testing.TB, from netns.NsHandle, addr netip.Addr) {
	t.Helper()
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if addr.Is6() {
		network, request, reply = "ip6:58", 128, 129
	}
	packet := []byte{request, 0, 0, 0, 0x51, 0x1b, 0, 1, 'p', 'i', 'n', 'g'}
	if addr.Is4() { // The kernel does it for ICMPv6.
		binary.BigEndian.PutUint16(packet[2:], checksum(packet))
	}
	roottest.In(t, from, func() error {
		conn, err := net.Dial(network, addr.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(trafficTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(packet); err != nil {
			return err
		}
		answer := make([]byte, 1500)
		for {
			n, _, err := conn.(*net.IPConn).ReadFrom(answer) // Read would keep the IPv4 header.
			if err != nil {
				return fmt.Errorf("ping %s: %w", addr, err)
			}
			if n >= len(packet) && answer[0] == reply && bytes.Equal(answer[4:n], packet[4:]) {
				return nil
			}
		}
	})
}

// checksum is that of RFC 1071.
func checksum(packet []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(packet); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	return ^uint16(sum + sum>>16)
}
