// SPDX-License-Identifier: Apache-2.0

package talk

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// patience is how long one request may take.
const patience = 5 * time.Second

// Client talks to one server on one connection. It is not safe for concurrent
// use.
type Client interface {
	// Ask sends a request and returns the reply.
	Ask() (Reply, error)
	Close() error
}

var openers = map[Kind]func(addr string) (Client, error){
	HTTP: openHTTP, TCP: openStream, UDP: openPacket, Datagram: openDatagram,
}

// Open connects to the target.
func Open(t Target) (Client, error) {
	open := openers[t.Kind]
	if open == nil {
		return nil, fmt.Errorf("unknown kind %q", t.Kind)
	}
	return open(t.Addr)
}

// streamClient is a TCP connection.
type streamClient struct {
	net.Conn
	lines *bufio.Reader
}

func openStream(addr string) (Client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &streamClient{Conn: conn, lines: bufio.NewReader(conn)}, nil
}

func (c *streamClient) Ask() (Reply, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return Reply{}, err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return Reply{}, err
	}
	text, err := c.lines.ReadString('\n')
	if err != nil {
		return Reply{}, err
	}
	return withFrom(text, c.RemoteAddr())
}

// packetClient is a connected UDP socket.
type packetClient struct{ net.Conn }

func openPacket(addr string) (Client, error) {
	conn, err := net.DialTimeout("udp", addr, patience)
	if err != nil {
		return nil, err
	}
	return packetClient{conn}, nil
}

func (c packetClient) Ask() (Reply, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return Reply{}, err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return Reply{}, err
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		return Reply{}, err
	}
	return withFrom(string(buf[:n]), c.RemoteAddr())
}

// datagramClient is a UDP socket that is not connected.
type datagramClient struct {
	*net.UDPConn
	to *net.UDPAddr
}

func openDatagram(addr string) (Client, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	return datagramClient{conn, to}, nil
}

func (c datagramClient) Ask() (Reply, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return Reply{}, err
	}
	if _, err := c.WriteTo([]byte("hello\n"), c.to); err != nil {
		return Reply{}, err
	}
	buf := make([]byte, 512)
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		return Reply{}, err
	}
	return withFrom(string(buf[:n]), from)
}

// httpClient keeps one connection as long as the server does.
type httpClient struct {
	http.Client
	url  string
	from net.Addr
}

func openHTTP(addr string) (Client, error) {
	c := &httpClient{url: "http://" + addr + "/"}
	dialer := net.Dialer{Timeout: patience}
	c.Client = http.Client{Timeout: patience, Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if c.from != nil {
				return nil, fmt.Errorf("the server has closed a connection that was to be kept")
			}
			conn, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				c.from = conn.RemoteAddr()
			}
			return conn, err
		},
	}}
	return c, nil
}

func (c *httpClient) Ask() (Reply, error) {
	resp, err := c.Get(c.url)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Reply{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return Reply{}, fmt.Errorf("status %s", resp.Status)
	}
	return withFrom(string(body), c.from)
}

func (c *httpClient) Close() error {
	c.CloseIdleConnections()
	return nil
}

// withFrom reads a reply that came from an address.
func withFrom(text string, from net.Addr) (Reply, error) {
	reply, err := parseLine(text)
	if err != nil {
		return reply, err
	}
	addr, err := netip.ParseAddrPort(from.String())
	reply.From = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	return reply, err
}
