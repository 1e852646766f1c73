// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/node/local"
	"slipway.dev/slipway/node/token"
)

// localTokenLife is for how long a local node may use the token it is given.
const localTokenLife = 10 * time.Minute

func (c Config) local() local.Config {
	return local.Config{
		Dir: c.data("nodes"), RunDir: c.run("nodes"), Executable: c.Executable,
		NodeDataDir: c.DataDir, NodeRunDir: c.RunDir, Kubeconfig: c.Kubeconfig,
		CIDRs: c.nodesCIDRs(), PodCIDRs: c.PodCIDRs, Flags: c.proxyFlags(),
	}
}

// proxyFlags have the local nodes serve Services as the machine itself does.
func (c Config) proxyFlags() []string {
	flags := []string{"--external-load-balancing=" + string(c.Balancing), "--external-forwarding=" + string(c.Forwarding)}
	for _, text := range c.NodePortAddresses {
		flags = append(flags, "--nodeport-addresses="+text)
	}
	return flags
}

// nodesCIDRs are the ranges of the bridge in the families that pods have.
func (c Config) nodesCIDRs() []netip.Prefix {
	var out []netip.Prefix
	for _, cidr := range c.NodesCIDRs {
		for _, pods := range c.PodCIDRs {
			if pods.Addr().Is4() == cidr.Addr().Is4() {
				out = append(out, cidr)
			}
		}
	}
	return out
}

// hasLocalNodes tells whether this machine has, or shall have, more nodes than
// itself.
func (c Config) hasLocalNodes() bool { return c.Nodes > 1 }

// bridges are the devices that lead to further nodes of this machine.
func (c Config) bridges() []string {
	if !c.hasLocalNodes() {
		return nil
	}
	return []string{local.Bridge}
}

// completeNodes raises the number of nodes to those that have data, and puts
// the machine's own node on the bridge.
func (c Config) completeNodes() (Config, error) {
	known, err := local.Known(c.local())
	if err != nil {
		return c, err
	}
	if len(known) > 0 {
		c.Nodes = max(c.Nodes, known[len(known)-1].Number)
	}
	if c.hasLocalNodes() && len(c.NodeIPs) == 0 {
		for _, prefix := range c.local().Address(1) {
			c.NodeIPs = append(c.NodeIPs, prefix.Addr())
		}
	}
	return c, nil
}

// startLocal starts the other nodes of this machine, those that do not run.
func (m *member) startLocal(ctx context.Context, client kubernetes.Interface) error {
	if !m.cfg.hasLocalNodes() {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	for number := local.First; number <= m.cfg.Nodes; number++ {
		n := local.Node{Name: local.Name(m.cfg.NodeName, number), Number: number}
		m.addProbe(m.checkLocal(n))
		if _, runs := local.Process(m.cfg.local(), n); runs {
			m.steps.Show(Progress{Step: "node " + n.Name + " adopted"})
			continue
		}
		group.Go(func() error { return startLocalNode(ctx, m.cfg, client, n, m.steps) })
	}
	return group.Wait()
}

// startLocalNode starts one node and waits until it is Ready.
func startLocalNode(ctx context.Context, cfg Config, client kubernetes.Interface, n local.Node, steps *Steps) error {
	begin := time.Now()
	args, err := joinArgs(ctx, cfg, client, n)
	if err != nil {
		return err
	}
	reports, err := local.Start(cfg.local(), n, args)
	if err != nil {
		return err
	}
	defer reports.Close()
	if err := awaitReady(ctx, reports); err != nil {
		return fmt.Errorf("node %s: %w; see %s", n.Name, err, cfg.data("nodes", n.Name))
	}
	steps.Show(Progress{Step: "node " + n.Name + " Ready", Took: time.Since(begin)})
	return nil
}

// joinArgs has the server and a token for a node that has not joined yet.
func joinArgs(ctx context.Context, cfg Config, client kubernetes.Interface, n local.Node) ([]string, error) {
	var args []string
	if cfg.Verbose {
		args = append(args, "--verbose")
	}
	if local.Joined(cfg.local(), n) {
		return args, nil
	}
	authority, err := readAuthority(cfg)
	if err != nil {
		return nil, err
	}
	t, err := token.New(authority)
	if err != nil {
		return nil, err
	}
	opts := token.Options{TTL: localTokenLife, Description: "local node " + n.Name}
	err = insist(ctx, func(ctx context.Context) error { return token.Create(ctx, client, t, opts) })
	// An attempt that seemed to fail may have made it.
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, err
	}
	server := net.JoinHostPort(cfg.NodeIPs[0].String(), strconv.Itoa(int(cfg.APIPort)))
	return append(args, "--token="+t.String(), server), nil
}

// awaitReady reads progress until the node is Ready or has failed.
func awaitReady(ctx context.Context, reports io.ReadCloser) error {
	stop := context.AfterFunc(ctx, func() { reports.Close() })
	defer stop()
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p Progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("read progress: %w", err)
		}
		if p.Error != "" {
			return errors.New(p.Error)
		}
		if p.Ready {
			return nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("it ended before it was Ready")
}

func (m *member) checkLocal(n local.Node) probe {
	return func(context.Context) Check {
		id, runs := local.Process(m.cfg.local(), n)
		if !runs {
			return Check{Name: "local node", Says: n.Name + " does not run", Do: "slipway nodes start " + n.Name}
		}
		return Check{Name: "local node", OK: true, Says: fmt.Sprintf("%s runs below process %d", n.Name, id.PID)}
	}
}
