// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"slipway.dev/slipway/internal/atomicfile"
)

// joined is what a node that has joined a cluster keeps about it, so that it
// starts again without token and without any one of its servers.
type joined struct {
	// Servers are the addresses of the API servers known last.
	Servers []string `json:"servers"`
	// CAHash is the hash of the cluster's authority.
	CAHash  string      `json:"caHash"`
	Cluster clusterInfo `json:"cluster"`
}

func (c Config) joinedFile() string { return c.data("joined.json") }

// readJoined returns nil when this node has not joined a cluster.
func readJoined(cfg Config) (*joined, error) {
	data, err := os.ReadFile(cfg.joinedFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is known of the cluster: %w", err)
	}
	var j joined
	if err := json.Unmarshal(data, &j); err != nil || len(j.Servers) == 0 {
		return nil, fmt.Errorf("%s is damaged (%v); join again after `slipway down --purge`", cfg.joinedFile(), err)
	}
	return &j, nil
}

func (j *joined) write(cfg Config) error {
	data, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return atomicfile.Write(cfg.joinedFile(), data, 0o600)
}

// role is what a node is in its cluster, for as long as it has its data.
type role int

const (
	server role = iota
	worker
)

// checkRole refuses to start a server on the data of a node that has joined,
// and the other way round.
func checkRole(cfg Config, r role) error {
	j, err := readJoined(cfg)
	if err != nil {
		return err
	}
	if r == server && j != nil {
		return fmt.Errorf("%s belongs to a node that has joined the cluster at %s: start it with `slipway join`, or make it a cluster of its own after `slipway down --purge`", cfg.DataDir, j.Servers[0])
	}
	if r == server {
		return cfg.checkEtcd()
	}
	if _, err := os.Stat(cfg.data("pki", "ca.key")); err == nil {
		return fmt.Errorf("%s belongs to a server: start it with `slipway up`, or join another cluster after `slipway down --purge`", cfg.DataDir)
	}
	return nil
}
