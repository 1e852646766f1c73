// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// memberName is the name of the only member of the embedded etcd.
const memberName = "slipway"

// closeTimeout is how long a clean stop of etcd may take.
const closeTimeout = 500 * time.Millisecond

// EtcdConfig says where the embedded etcd keeps its data and its sockets.
type EtcdConfig struct {
	// Dir holds the write-ahead log and the database.
	Dir string
	// SocketDir holds the unix sockets, mode 0700. etcd opens no TCP port.
	SocketDir string
	// LogFile receives etcd's own log.
	LogFile string
}

// Endpoint is the client URL of the embedded etcd.
func (c EtcdConfig) Endpoint() string { return "unix://" + c.Socket() }

// Socket is the path of the client socket of the embedded etcd.
func (c EtcdConfig) Socket() string { return filepath.Join(c.SocketDir, "client.sock") }

// MemberName and PeerURL are those of the only member.
func (c EtcdConfig) MemberName() string { return memberName }
func (c EtcdConfig) PeerURL() string    { return "unix://" + filepath.Join(c.SocketDir, "peer.sock") }

// Etcd is a running embedded etcd.
type Etcd struct{ server *embed.Etcd }

// StartEtcd starts etcd and returns once it takes writes, or when ctx ends.
func StartEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	for _, dir := range []string{cfg.Dir, cfg.SocketDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("make directory for etcd: %w", err)
		}
	}
	// A socket left by a process that was killed would refuse the bind.
	for _, name := range []string{"client.sock", "peer.sock"} {
		if err := os.Remove(filepath.Join(cfg.SocketDir, name)); err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("remove stale etcd socket: %w", err)
		}
	}
	server, err := start(cfg)
	if err != nil {
		return nil, fmt.Errorf("start etcd on %s: %w; read %s, put back a copy of the directory, or start over with `slipway down --purge`", cfg.Dir, err, cfg.LogFile)
	}
	select {
	case <-server.Server.ReadyNotify():
		return &Etcd{server: server}, nil
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("start etcd on %s: %w", cfg.Dir, err)
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("start etcd on %s: %w", cfg.Dir, context.Cause(ctx))
	}
}

// start turns the panic that etcd answers a damaged database with into an
// error.
func start(cfg EtcdConfig) (server *embed.Etcd, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return embed.StartEtcd(cfg.embed())
}

// Run blocks until etcd fails or ctx ends; then it stops etcd. A clean stop
// waits for clients to hang up; what the log holds is safe either way, so it
// is given up after closeTimeout.
func (e *Etcd) Run(ctx context.Context) error {
	defer e.closeSoon()
	select {
	case err := <-e.server.Err():
		return fmt.Errorf("etcd: %w", err)
	case <-e.server.Server.StopNotify():
		return fmt.Errorf("etcd stopped by itself")
	case <-ctx.Done():
		return nil
	}
}

func (e *Etcd) closeSoon() {
	closed := make(chan struct{})
	go func() {
		e.server.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

func (c EtcdConfig) embed() *embed.Config {
	socket := func(name string) []url.URL {
		return []url.URL{{Scheme: "unix", Path: filepath.Join(c.SocketDir, name)}}
	}
	cfg := embed.NewConfig()
	cfg.Name = memberName
	cfg.Dir = c.Dir
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = socket("client.sock"), socket("client.sock")
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = socket("peer.sock"), socket("peer.sock")
	cfg.InitialCluster = cfg.InitialClusterFromName(memberName)
	// A single member has nobody to wait for, but waits for up to one election
	// timeout before it takes the lead; and each tick is work.
	cfg.TickMs, cfg.ElectionMs = 50, 250
	cfg.InitialElectionTickAdvance = true
	cfg.SnapshotCount = 10000
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = "periodic", "10m"
	cfg.QuotaBackendBytes = 8 << 30
	cfg.EnableGRPCGateway = false
	cfg.LogOutputs = []string{c.LogFile}
	cfg.LogLevel = "warn"
	return cfg
}
