// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"strings"

	"slipway.dev/slipway/node/local"
)

// LocalNode is a further node of the cluster on this machine.
type LocalNode struct {
	local.Node
	// PID is its first process, 0 when it does not run.
	PID int
	// Addresses are its addresses on the bridge.
	Addresses []string
	// Socket is that of its container runtime, as seen from this machine;
	// empty when it does not run.
	Socket string
}

// LocalNodes lists the further nodes on this machine.
func LocalNodes(cfg Config) ([]LocalNode, error) {
	known, err := local.Known(cfg.local())
	if err != nil {
		return nil, err
	}
	all := make([]LocalNode, len(known))
	for i, n := range known {
		all[i] = LocalNode{Node: n}
		for _, p := range cfg.local().Address(n.Number) {
			all[i].Addresses = append(all[i].Addresses, p.Addr().String())
		}
		if id, runs := local.Process(cfg.local(), n); runs {
			all[i].PID = id.PID
			all[i].Socket = fmt.Sprintf("/proc/%d/root%s", id.PID, cfg.ContainerdSocket())
		}
	}
	return all, nil
}

// StartLocalNode starts a node that does not run, and waits until it is Ready.
func StartLocalNode(ctx context.Context, cfg Config, name string, steps *Steps) error {
	n, err := findLocal(cfg, name)
	if err != nil {
		return err
	}
	if id, runs := local.Process(cfg.local(), n); runs {
		return fmt.Errorf("node %s runs already, below process %d", name, id.PID)
	}
	client, err := AdminClient(cfg)
	if err != nil {
		return err
	}
	if err := local.MakeNetwork(cfg.local()); err != nil {
		return err
	}
	return startLocalNode(ctx, cfg, client, n, steps)
}

// StopLocalNode stops a node as if its machine were turned off: its pods end,
// its data stays.
func StopLocalNode(cfg Config, name string) error {
	n, err := findLocal(cfg, name)
	if err != nil {
		return err
	}
	return local.Stop(cfg.local(), n)
}

func findLocal(cfg Config, name string) (local.Node, error) {
	known, err := local.Known(cfg.local())
	if err != nil {
		return local.Node{}, err
	}
	names := make([]string, len(known))
	for i, n := range known {
		if names[i] = n.Name; n.Name == name {
			return n, nil
		}
	}
	if len(names) == 0 {
		return local.Node{}, fmt.Errorf("no node %q: this machine has no further nodes; make some with `slipway up --nodes 3`", name)
	}
	return local.Node{}, fmt.Errorf("no node %q: expected one of %s", name, strings.Join(names, ", "))
}
