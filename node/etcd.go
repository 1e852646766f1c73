// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"slipway.dev/slipway/apiserver"
	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/node/pki"
)

// minToken is the length of the shortest cluster token, in bytes.
const minToken = 16

// etcdRecord says which etcd cluster a server's data directory belongs to.
type etcdRecord struct {
	ClusterID string `json:"clusterID"`
}

func (c Config) etcdRecord() string { return c.data("external-etcd.json") }

func (c Config) validateEtcd() error {
	if err := c.Etcd.Validate(); err != nil {
		return err
	}
	if c.Etcd.Used() && c.ClusterTokenFile == "" {
		return errors.New("--etcd-endpoints needs --cluster-token-file: a file with the same secret on all servers of the cluster")
	}
	if !c.Etcd.Used() && c.ClusterTokenFile != "" {
		return errors.New("--cluster-token-file is used with --etcd-endpoints only")
	}
	return nil
}

// checkEtcd refuses to change from one etcd to another on the same data: the
// objects would stay behind.
func (c Config) checkEtcd() error {
	_, err := os.Stat(c.etcdRecord())
	if external := err == nil; external && !c.Etcd.Used() {
		return fmt.Errorf("%s belongs to a server on an external etcd: give --etcd-endpoints as before", c.DataDir)
	}
	if _, err := os.Stat(c.data("etcd")); err == nil && c.Etcd.Used() {
		return fmt.Errorf("%s holds a cluster with an etcd of its own: start it without --etcd-endpoints, or start over after `slipway down --purge`", c.DataDir)
	}
	return nil
}

// joinEtcd makes sure that the external etcd can be used and is the one of
// this server, and gets the keys that all servers share.
func (c Config) joinEtcd(ctx context.Context) error {
	token, err := c.clusterToken()
	if err != nil {
		return err
	}
	client, err := c.Etcd.Dial()
	if err != nil {
		return err
	}
	defer client.Close()
	id, err := client.ClusterID(ctx)
	if err != nil {
		return err
	}
	if err := c.checkRecord(id); err != nil {
		return err
	}
	names := append([]string{}, pki.SharedFiles...)
	err = pki.Share(ctx, client, token, c.data("pki"), append(names, encryptionFile), c.makeKeys)
	if errors.Is(err, pki.ErrToken) {
		return fmt.Errorf("--cluster-token-file %s: %w", c.ClusterTokenFile, err)
	}
	if err != nil {
		return err
	}
	record, err := json.Marshal(etcdRecord{ClusterID: id})
	if err != nil {
		return err
	}
	return atomicfile.Write(c.etcdRecord(), record, 0o600)
}

// makeKeys makes what servers share.
func (c Config) makeKeys(dir string) error {
	for _, name := range []string{"ca", "front-proxy-ca"} {
		if _, err := pki.LoadAuthority(dir, name); err != nil {
			return err
		}
	}
	if err := pki.EnsureKey(dir, "service-account"); err != nil {
		return err
	}
	return ensureEncryption(dir)
}

func (c Config) checkRecord(id string) error {
	data, err := os.ReadFile(c.etcdRecord())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var have etcdRecord
	if err == nil {
		err = json.Unmarshal(data, &have)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.etcdRecord(), err)
	}
	if have.ClusterID != id {
		return fmt.Errorf("etcd at %s is cluster %s, but %s belongs to cluster %s: give the endpoints of that one", c.Etcd.Endpoints[0], id, c.DataDir, have.ClusterID)
	}
	return nil
}

func (c Config) clusterToken() ([]byte, error) {
	data, err := os.ReadFile(c.ClusterTokenFile)
	if err != nil {
		return nil, fmt.Errorf("--cluster-token-file: %w", err)
	}
	token := bytes.TrimSpace(data)
	if len(token) < minToken {
		return nil, fmt.Errorf("--cluster-token-file %s: %d characters, expected %d or more; make one with `openssl rand -hex 32`", c.ClusterTokenFile, len(token), minToken)
	}
	return token, nil
}

// storage is how the API server reaches etcd.
func (c Config) storage() apiserver.ExternalEtcd {
	if c.Etcd.Used() {
		return c.Etcd
	}
	return apiserver.ExternalEtcd{Endpoints: []string{c.etcd().Endpoint()}}
}
