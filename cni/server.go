// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/cni/device"
)

// maintainEvery is how often what all pods share is looked after.
const maintainEvery = 30 * time.Second

// maintainTimeout bounds how long the kernel may take to make it work.
const maintainTimeout = 10 * time.Second

// ErrNotReady says that the server does not serve yet, or not any more.
var ErrNotReady = errors.New("pod network is not served")

// Server is the pod network of a node.
type Server struct {
	cfg     Config
	metrics *metrics
	// serving is the network while the socket is served.
	serving atomic.Pointer[network]
}

// New makes a server; it changes nothing yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure cni server: %w", err)
	}
	s := &Server{cfg: cfg}
	var err error
	if s.metrics, err = newMetrics(cfg.Registry, s.usage); err != nil {
		return nil, fmt.Errorf("configure cni server: %w", err)
	}
	return s, nil
}

// Run adopts the pods of an earlier run, makes what pods share, and serves
// until the context ends or a part fails. Requests that have begun are
// finished. All pods keep working afterwards. It can be called again.
func (s *Server) Run(ctx context.Context) error {
	if err := s.run(ctx); err != nil {
		return fmt.Errorf("run cni server: %w", err)
	}
	return nil
}

func (s *Server) run(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.StateDir, 0o700); err != nil {
		return err
	}
	lock, err := lockState(s.cfg.StateDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	host, err := device.OpenHost(s.cfg.NodeNetNS)
	if err != nil {
		return err
	}
	defer host.Close()
	host.Sources = s.cfg.NodeAddrs
	n, err := newNetwork(s.cfg, host)
	if err != nil {
		return err
	}
	if err := n.maintain(ctx); err != nil {
		return err
	}
	if err := n.reconcile(); err != nil {
		return err
	}
	return s.serve(ctx, n)
}

// serve serves the socket, and tells runtimes and Ready once it does.
func (s *Server) serve(ctx context.Context, n *network) error {
	listener, err := listen(s.cfg.socket())
	if err != nil {
		return err
	}
	if err := writeConf(s.cfg); err != nil {
		return errors.Join(err, listener.Close())
	}
	s.serving.Store(n)
	defer s.serving.Store(nil)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	maintained := make(chan struct{})
	go func() {
		defer close(maintained)
		s.maintain(ctx, n)
	}()
	s.cfg.Log.Info("pod network is served", "socket", s.cfg.socket(), "cidrs", s.cfg.PodCIDRs, "pods", len(n.keys()))
	err = s.accept(ctx, listener, n)
	cancel()
	<-maintained
	return err
}

func (s *Server) maintain(ctx context.Context, n *network) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := n.maintain(ctx); err != nil {
			s.cfg.Log.Warn("pod network is not ready", "err", err)
		}
	}
}

// Ready returns nil while pods can be added, and otherwise why not; it wraps
// ErrNotReady when the socket is not served at all.
func (s *Server) Ready() error {
	n := s.serving.Load()
	if n == nil {
		return ErrNotReady
	}
	return n.status()
}

// lockState makes sure that no other process works on the directory. The lock
// goes with the process, however that ends.
func lockState(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock state directory %s: another server is running: %w", dir, err)
	}
	return f, nil
}
