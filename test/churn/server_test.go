// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
)

// firstPort is the first of the ports that all targets serve. Each Service has
// ports of its own among them, so that an answer tells whose backend it was.
const firstPort = 8000

// slow begins a line whose answer takes time, bye one that is the last.
const slow, bye = "slow", "bye"

// late is how long a slow answer takes.
const late = 400 * time.Millisecond

// serve starts servers on ports of all targets. They answer each line by TCP,
// and each datagram, with the line and their own address.
func (l *lab) serve(t *testing.T, ports int) {
	t.Helper()
	for _, target := range l.targets {
		roottest.In(t, target.ns, func() error {
			for _, addr := range target.addrs {
				for p := range ports {
					if err := serveAt(t, netip.AddrPortFrom(addr, uint16(firstPort+p))); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
}

func serveAt(t *testing.T, at netip.AddrPort) error {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	t.Cleanup(func() { listener.Close() })
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	t.Cleanup(func() { packets.Close() })
	go accept(listener, at.String())
	go echo(packets, at.String())
	return nil
}

func accept(listener *net.TCPListener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go answer(conn, name)
	}
}

// answer hangs up after a last line, else when the client does.
func answer(conn net.Conn, name string) {
	defer conn.Close()
	lines := bufio.NewReader(conn)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if strings.Contains(line, slow) {
			<-time.After(late)
		}
		if _, err := io.WriteString(conn, strings.TrimSuffix(line, "\n")+" "+name+"\n"); err != nil {
			return
		}
		if strings.Contains(line, bye) {
			return
		}
	}
}

func echo(packets *net.UDPConn, name string) {
	buf := make([]byte, 256)
	for {
		n, from, err := packets.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		line := string(buf[:n])
		reply := func() {
			_, _ = packets.WriteToUDPAddrPort([]byte(strings.TrimSuffix(line, "\n")+" "+name+"\n"), from)
		}
		if strings.Contains(line, slow) {
			time.AfterFunc(late, reply)
		} else {
			reply()
		}
	}
}
