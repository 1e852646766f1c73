// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"

	"golang.org/x/sync/errgroup"

	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/node/token"
)

// JoinConfig is what a user may choose about a node that joins a cluster.
type JoinConfig struct {
	Config
	// Server is the address of a server of the cluster. It may be left out,
	// as the token, by a node that has joined already.
	Server string
	// Token is the right to join.
	Token string
}

// membership is all that a node needs to start as a part of its cluster.
type membership struct {
	joined
	// authority and token are only set the first time.
	authority []byte
	token     token.Token
}

// resolve finds the cluster: on disk, or by asking the server. It changes
// nothing. The configuration it returns holds the cluster's ranges.
func (c JoinConfig) resolve(ctx context.Context) (Config, *membership, error) {
	if err := checkRole(c.Config, worker); err != nil {
		return c.Config, nil, err
	}
	have, err := readJoined(c.Config)
	if err != nil {
		return c.Config, nil, err
	}
	m := &membership{}
	if have != nil {
		m.joined, err = *have, c.checkSame(have)
	} else {
		m, err = c.firstTime(ctx)
	}
	if err != nil {
		return c.Config, nil, err
	}
	cfg := c.Config
	cfg.PodCIDRs, cfg.ServiceCIDRs, cfg.ClusterDomain = m.Cluster.PodCIDRs, m.Cluster.ServiceCIDRs, m.Cluster.Domain
	return cfg, m, cfg.Validate()
}

// checkSame refuses a token of another cluster than the one joined.
func (c JoinConfig) checkSame(have *joined) error {
	if c.Token == "" {
		return nil
	}
	t, err := token.Parse(c.Token)
	if err != nil {
		return err
	}
	if t.CAHash != have.CAHash {
		return fmt.Errorf("%s belongs to a node of another cluster (authority %s, the token is for %s): join this one after `slipway down --purge`", c.DataDir, have.CAHash, t.CAHash)
	}
	return nil
}

func (c JoinConfig) firstTime(ctx context.Context) (*membership, error) {
	if c.Server == "" || c.Token == "" {
		return nil, errors.New("this machine has not joined a cluster yet: give the server's address and --token, as printed by `slipway token create` there")
	}
	server, err := parseServer(c.Server)
	if err != nil {
		return nil, err
	}
	t, err := token.Parse(c.Token)
	if err != nil {
		return nil, err
	}
	found, err := discover(ctx, server, t, c.NodeName)
	if err != nil {
		return nil, err
	}
	return &membership{
		joined:    joined{Servers: []string{server}, CAHash: t.CAHash, Cluster: found.info},
		authority: found.authority, token: t,
	}, nil
}

// CheckJoin finds out whether Join can start a node with this configuration,
// as CheckStart does for a server, and asks the server. It changes nothing.
func CheckJoin(ctx context.Context, cfg JoinConfig, steps *Steps) error {
	var full Config
	if holder, running := Holder(cfg.Config); running {
		return &RunningError{DataDir: cfg.DataDir, Identity: holder}
	}
	err := steps.Do("cluster found", func() error {
		var err error
		full, _, err = cfg.resolve(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return checkStart(full, steps, worker)
}

// Join runs a node of an existing cluster on this machine: kubelet, container
// runtime and data plane, until ctx ends or a part of it fails, as Up does.
func Join(ctx context.Context, cfg JoinConfig, steps *Steps, log *slog.Logger) error {
	full, in, err := cfg.resolve(ctx)
	if err != nil {
		return err
	}
	m := newMember(full, steps, log)
	m.joined = &in.joined
	return m.run(ctx, func(ctx context.Context) error { return m.startWorker(ctx, in) })
}

func (m *member) startWorker(ctx context.Context, in *membership) error {
	if in.authority != nil {
		if err := m.saveMembership(in); err != nil {
			return err
		}
	}
	api, err := m.startBalancer()
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.startRuntime(gctx) })
	group.Go(func() error { return m.obtainIdentity(gctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	client, err := m.newClient("agent.kubeconfig", "slipway-agent")
	if err != nil {
		return err
	}
	m.sup.Start("list of servers", stageRest, func(ctx context.Context) error {
		return m.followServers(ctx, client, api)
	})
	return m.startData(ctx)
}

// saveMembership writes what makes the node a part of its cluster. The file by
// which it is known to have joined comes last.
func (m *member) saveMembership(in *membership) error {
	if err := atomicfile.Write(m.cfg.data("pki", "ca.crt"), in.authority, 0o644); err != nil {
		return err
	}
	if err := m.writeBootstrap(in); err != nil {
		return err
	}
	return in.joined.write(m.cfg)
}

// localAPI is the address of the API for the components of this node.
func (c Config) localAPI() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.APIPort)))
}

// forgetBootstrap removes the token once the node has an identity.
func (m *member) forgetBootstrap() error {
	if err := os.Remove(m.cfg.bootstrapFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove token: %w", err)
	}
	return nil
}
