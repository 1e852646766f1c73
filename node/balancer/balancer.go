// SPDX-License-Identifier: Apache-2.0

// Package balancer gives the components of a node one address for the API,
// whatever servers there are: it listens on loopback and passes connections
// on to a server that answers. It looks at no byte of them, so that TLS is
// between the component and the server. When a server does not answer any
// more, its connections are closed and the components connect again, to
// another one. A Balancer is safe for concurrent use.
package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// dialTimeout is how long one server may take to accept.
	dialTimeout = 2 * time.Second
	// checkEvery is the time between two checks of a server in use.
	checkEvery = 2 * time.Second
	// allowed is the number of failed checks after which the connections of
	// a server are closed.
	allowed = 2
)

// Balancer passes connections on.
type Balancer struct {
	listener net.Listener
	log      *slog.Logger

	mu      sync.Mutex
	servers []string
	conns   map[string]map[net.Conn]struct{}
	failed  map[string]int
}

// Listen returns a Balancer on the address, a host and a port. Connections are
// answered once Run is called.
func Listen(address string, servers []string, log *slog.Logger) (*Balancer, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for clients of the API: %w", err)
	}
	return &Balancer{
		listener: listener, log: log, servers: slices.Clone(servers),
		conns: map[string]map[net.Conn]struct{}{}, failed: map[string]int{},
	}, nil
}

// Addr is the address that it listens on.
func (b *Balancer) Addr() net.Addr { return b.listener.Addr() }

// SetServers replaces the list of servers, the preferred first. An empty list
// is ignored: it would cut the node off for good. Connections to a server that
// is not in it go on until that server fails.
func (b *Balancer) SetServers(servers []string) {
	if len(servers) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.servers = slices.Clone(servers)
}

// Servers returns the list of servers.
func (b *Balancer) Servers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.servers)
}

// Run passes connections on until ctx ends.
func (b *Balancer) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { b.listener.Close() })
	defer stop()
	go b.checkServers(ctx)
	for {
		conn, err := b.listener.Accept()
		if ctx.Err() != nil {
			b.closeAll()
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept client of the API: %w", err)
		}
		go b.serve(ctx, conn)
	}
}

// serve passes one connection on until either side ends it.
func (b *Balancer) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	server, conn, err := b.dial(ctx)
	if err != nil {
		b.log.Warn("no API server answers", "err", err)
		return
	}
	defer conn.Close()
	b.add(server, conn)
	defer b.remove(server, conn)
	done := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, ok := to.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
		done <- struct{}{}
	}
	go pass(conn, client)
	go pass(client, conn)
	<-done
	// What the other side still has to say has a moment.
	select {
	case <-done:
	case <-time.After(dialTimeout):
	case <-ctx.Done():
	}
}

// dial connects to the first server that answers.
func (b *Balancer) dial(ctx context.Context) (string, net.Conn, error) {
	var errs []error
	for _, server := range b.inOrder() {
		conn, err := connect(ctx, server)
		if err == nil {
			return server, conn, nil
		}
		b.mu.Lock()
		b.failed[server]++
		b.mu.Unlock()
		errs = append(errs, err)
	}
	return "", nil, errors.Join(errs...)
}

func connect(ctx context.Context, server string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, "tcp", server)
}

// inOrder returns the servers, those that failed lately behind the others.
func (b *Balancer) inOrder() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	servers := slices.Clone(b.servers)
	slices.SortStableFunc(servers, func(x, y string) int {
		return min(b.failed[x], 1) - min(b.failed[y], 1)
	})
	return servers
}

func (b *Balancer) add(server string, conn net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failed, server)
	if b.conns[server] == nil {
		b.conns[server] = map[net.Conn]struct{}{}
	}
	b.conns[server][conn] = struct{}{}
}

func (b *Balancer) remove(server string, conn net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns[server], conn)
	if len(b.conns[server]) == 0 {
		delete(b.conns, server)
	}
}

func (b *Balancer) closeAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for server := range b.conns {
		b.closeConns(server)
	}
}

// closeConns closes all connections to a server; b.mu is held.
func (b *Balancer) closeConns(server string) {
	for conn := range b.conns[server] {
		conn.Close()
	}
}
