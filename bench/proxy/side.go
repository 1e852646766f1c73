// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"slipway.dev/slipway/bench/sandbox"
	"slipway.dev/slipway/node/host"
)

// The sides. The direct one has no program of its own: it is our node, and goes
// to the server pods' addresses from outside the cgroup that is translated.
const (
	ours     = "Slipway"
	iptables = "kube-proxy iptables"
	nftables = "kube-proxy nftables"
	direct   = "direct"
)

const (
	// pins and logDir are in the sandbox.
	pins   = "/sys/fs/bpf/slipway"
	logDir = "/var/log/bench"
	// stopTimeout is how long a program may take to stop before it is killed.
	stopTimeout = 30 * time.Second
	// settle is how long a side is left alone before its memory is read.
	settle = 5 * time.Second
)

// errTooLong says that a side has not programmed everything in its time.
var errTooLong = errors.New("not all Services answer in time")

// side is a node on which one of the proxies runs.
type side struct {
	name string
	node *node
	// cgroup is where the client pod's processes are, on our side.
	cgroup  *os.File
	program *exec.Cmd
	server  *process
	stopAPI func() error
}

// cost is what it took a side to program everything from cold.
type cost struct {
	// Took and CPU are seconds, Resident is megabytes.
	Took, CPU, Resident float64
}

func (c cost) String() string {
	return fmt.Sprintf("programmed in %.2f s, CPU %.2f s, %.0f MB", c.Took, c.CPU, c.Resident)
}

// start builds a node, starts the proxy and waits until all Services are
// reachable, for as long as the limit.
func start(ctx context.Context, name string, c *cluster, limit time.Duration) (*side, cost, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errTooLong)
	defer cancel()
	s := &side{name: name}
	took, err := s.bringUp(ctx, c)
	if err != nil {
		return nil, cost{}, errors.Join(fmt.Errorf("start %s: %w", name, err), s.stop(), tail(s.logFile()))
	}
	return s, took, nil
}

func (s *side) bringUp(ctx context.Context, c *cluster) (cost, error) {
	var err error
	if s.node, err = newNode(); err != nil {
		return cost{}, err
	}
	if s.name == ours {
		if s.cgroup, err = makeCgroup(); err != nil {
			return cost{}, err
		}
	}
	if s.stopAPI, err = c.serve(s.node); err != nil {
		return cost{}, err
	}
	if s.server, err = startServer(s.node); err != nil {
		return cost{}, err
	}
	observer, err := s.spawn(s.node.client, order{Await: c.clusterIPs()})
	if err != nil {
		return cost{}, err
	}
	defer observer.kill()
	begin := monotonic()
	if err := s.startProgram(c); err != nil {
		return cost{}, err
	}
	var seen sighting
	if err := observer.result(ctx, &seen); err != nil {
		return cost{}, fmt.Errorf("wait for all Services: %w", err)
	}
	out := cost{Took: float64(seen.At-begin) / 1e9}
	if err := sandbox.Rest(ctx, settle); err != nil {
		return out, err
	}
	out.CPU, out.Resident, err = used(s.program.Process.Pid)
	return out, err
}

// makeCgroup makes the cgroup for processes of pods.
func makeCgroup() (*os.File, error) {
	root, err := host.Unified()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "pods")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return os.Open(dir)
}

func (s *side) logFile() string { return filepath.Join(logDir, s.name+".log") }

// startProgram starts the proxy in the node's namespace.
func (s *side) startProgram(c *cluster) error {
	var err error
	if s.name == ours {
		cfg := agentConfig{Kubeconfig: c.kubeconfig, Pins: pins, Cgroup: s.cgroup.Name(), Pods: s.node.pods}
		s.program, err = self(order{Agent: &cfg})
	} else {
		s.program, err = kubeProxy(s.name, c.kubeconfig)
	}
	if err != nil {
		return err
	}
	log, err := os.Create(s.logFile())
	if err != nil {
		return err
	}
	defer log.Close()
	s.program.Stdout, s.program.Stderr = log, log
	if err := s.node.self.start(s.program); err != nil {
		s.program = nil
		return err
	}
	return nil
}

// stop stops what runs, and lets go of the node.
func (s *side) stop() error {
	var errs []error
	if s.program != nil {
		_ = s.program.Process.Signal(syscall.SIGTERM)
		_ = s.program.Process.Signal(syscall.SIGCONT) // It may be halted.
		limit := time.AfterFunc(stopTimeout, func() { _ = s.program.Process.Kill() })
		_ = s.program.Wait() // Why it has ended is in its log.
		limit.Stop()
	}
	if s.server != nil {
		s.server.kill()
	}
	if s.stopAPI != nil {
		errs = append(errs, s.stopAPI())
	}
	if s.name == ours {
		errs = append(errs, removeDatapath())
	}
	if s.cgroup != nil {
		errs = append(errs, s.cgroup.Close(), os.Remove(s.cgroup.Name()))
	}
	if s.node != nil {
		s.node.close()
	}
	return errors.Join(errs...)
}

// load has a client process put load on addresses, from a pod or from the
// other host.
func (s *side) load(ctx context.Context, from namespace, l load) (loaded, error) {
	var out loaded
	client, err := s.spawn(from, order{Load: &l})
	if err != nil {
		return out, err
	}
	defer client.kill()
	return out, client.result(ctx, &out)
}

// spawn starts a process of a pod or of the other host.
func (s *side) spawn(in namespace, o order) (*process, error) {
	cmd, err := self(o)
	if err != nil {
		return nil, err
	}
	if s.cgroup != nil && in == s.node.client {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(s.cgroup.Fd())}
	}
	return startProcess(in, cmd)
}

// order is what a process of the benchmark is to do; exactly one field is set.
type order struct {
	Agent *agentConfig     `json:",omitempty"`
	Load  *load            `json:",omitempty"`
	Await []netip.AddrPort `json:",omitempty"`
	Watch []netip.AddrPort `json:",omitempty"`
	// Serve is the number of namespaces to serve in.
	Serve int `json:",omitempty"`
}

// obey does it.
func obey(ctx context.Context, o order) error {
	switch {
	case o.Agent != nil:
		return runAgent(ctx, *o.Agent)
	case o.Load != nil:
		out, err := put(*o.Load)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(out)
	case o.Await != nil:
		return awaitAll(o.Await)
	case o.Watch != nil:
		return watchOne(o.Watch)
	}
	return serve(o.Serve)
}
