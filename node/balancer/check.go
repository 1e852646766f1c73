// SPDX-License-Identifier: Apache-2.0

package balancer

import (
	"context"
	"sync"
	"time"
)

// checkServers connects to each server now and then. A machine that is gone
// says nothing on its connections; TCP alone would wait for minutes.
func (b *Balancer) checkServers(ctx context.Context) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var checks sync.WaitGroup
		for _, server := range b.toCheck() {
			checks.Go(func() { b.check(ctx, server) })
		}
		checks.Wait()
	}
}

// toCheck lists the servers that have connections or have failed. One server
// alone is not checked: there is nothing else to connect to.
func (b *Balancer) toCheck() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.servers) == 1 && b.conns[b.servers[0]] != nil && len(b.conns) == 1 {
		return nil
	}
	var servers []string
	for server := range b.conns {
		servers = append(servers, server)
	}
	for server := range b.failed {
		if b.conns[server] == nil {
			servers = append(servers, server)
		}
	}
	return servers
}

func (b *Balancer) check(ctx context.Context, server string) {
	conn, err := connect(ctx, server)
	if err == nil {
		conn.Close()
	}
	if ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		delete(b.failed, server)
		return
	}
	b.failed[server]++
	if b.failed[server] >= allowed && len(b.conns[server]) > 0 {
		b.log.Warn("API server does not answer, connections closed", "server", server, "err", err)
		b.closeConns(server)
	}
}
