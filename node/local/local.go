// SPDX-License-Identifier: Apache-2.0

// Package local makes further nodes of a cluster out of namespaces of this
// machine: each has its own mounts, network, processes, cgroups and host name,
// its own directories, and one link to a bridge that all nodes share. What
// runs in one is the same program, with the same paths, as on a machine that
// joins; killing its first process is like pulling the plug of a machine.
//
// A node's first process is started by [Start] and outlives its parent; a
// record in the run directory lets a later process find it. Different nodes
// may be started and stopped at once, one node not.
package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/node/host"
)

// stopTimeout is how long a node may take to stop before it is killed.
const stopTimeout = 20 * time.Second

// Config says where local nodes are kept.
type Config struct {
	// Dir holds a directory for each node; it survives reboots.
	Dir string
	// RunDir holds a record for each node that runs.
	RunDir string
	// Executable is this program.
	Executable string
	// NodeDataDir, NodeRunDir and Kubeconfig are what the nodes see at these
	// paths instead of what is there on the machine.
	NodeDataDir, NodeRunDir, Kubeconfig string
	// Service is what a node runs, a command of this program and its
	// arguments; "join" when it is empty.
	Service []string
	// CIDRs are the ranges of the bridge, at most one of each family.
	CIDRs []netip.Prefix
	// PodCIDRs are those of the cluster.
	PodCIDRs []netip.Prefix
	// Flags are more arguments of the service, which all nodes have.
	Flags []string
}

// Node is one local node.
type Node struct {
	// Name is that of the Node object.
	Name string `json:"name"`
	// Number is its place on the bridge; the machine itself is number 1.
	Number int `json:"number"`
}

// First is the number of the first node that is not the machine itself.
const First = 2

// Name returns the name of a node of the machine with the given name.
func Name(machine string, number int) string { return machine + "-" + strconv.Itoa(number) }

// Address returns the addresses of a node on the bridge, one for each range.
func (c Config) Address(number int) []netip.Prefix {
	var out []netip.Prefix
	for _, cidr := range c.CIDRs {
		addr := cidr.Masked().Addr()
		for range number {
			addr = addr.Next()
		}
		out = append(out, netip.PrefixFrom(addr, cidr.Bits()))
	}
	return out
}

// Most is how many nodes, the machine included, the ranges have room for.
func (c Config) Most() int {
	most := 254
	for _, cidr := range c.CIDRs {
		if bits := cidr.Addr().BitLen() - cidr.Bits(); bits < 8 {
			most = min(most, 1<<bits-2)
		}
	}
	return most
}

func (c Config) nodeDir(name string) string { return filepath.Join(c.Dir, name) }
func (c Config) record(name string) string  { return filepath.Join(c.RunDir, name+".json") }

// Known lists the nodes that have data, in the order of their numbers.
func Known(c Config) ([]Node, error) {
	entries, err := os.ReadDir(c.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list local nodes: %w", err)
	}
	var nodes []Node
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(c.Dir, e.Name(), "node.json"))
		if errors.Is(err, os.ErrNotExist) {
			continue // Its making was interrupted.
		}
		var n Node
		if err == nil {
			err = json.Unmarshal(data, &n)
		}
		if err != nil {
			return nil, fmt.Errorf("read local node %s: %w", e.Name(), err)
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b Node) int { return a.Number - b.Number })
	return nodes, nil
}

// Joined tells whether the node has an identity in the cluster already.
func Joined(c Config, n Node) bool {
	_, err := os.Stat(filepath.Join(c.nodeDir(n.Name), "data", "joined.json"))
	return err == nil
}

// Process returns the first process of a node, and whether it runs.
func Process(c Config, n Node) (process.Identity, bool) {
	var id process.Identity
	data, err := os.ReadFile(c.record(n.Name))
	if err != nil || json.Unmarshal(data, &id) != nil {
		return id, false
	}
	return id, id.Alive()
}

// Stop stops a node: its pods and all its processes end. Its data stays.
func Stop(c Config, n Node) error {
	id, alive := Process(c, n)
	if alive {
		if err := process.Stop(id, stopTimeout); err != nil {
			return fmt.Errorf("stop local node %s: %w", n.Name, err)
		}
	}
	if err := errors.Join(removeCgroup(n.Name), disconnect(n)); err != nil {
		return fmt.Errorf("stop local node %s: %w", n.Name, err)
	}
	if err := os.Remove(c.record(n.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stop local node %s: %w", n.Name, err)
	}
	return nil
}

// Clean stops all nodes, removes their bridge and gives back the machine's
// settings; with purge their data goes too. It does nothing where no network was
// made from this directory.
func Clean(c Config, purge bool) error {
	if _, err := os.Stat(c.Dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	nodes, err := Known(c)
	errs := []error{err}
	for _, n := range nodes {
		errs = append(errs, Stop(c, n))
	}
	errs = append(errs, removeNetwork(), removeCgroup(""), host.ReleaseSettings(c.Dir))
	if purge && errors.Join(errs...) == nil {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// save writes what makes a directory a node.
func (c Config) save(n Node) error {
	for _, dir := range []string{c.RunDir, filepath.Join(c.nodeDir(n.Name), "data")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make directory of local node: %w", err)
		}
	}
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(c.nodeDir(n.Name), "node.json"), data, 0o644)
}
