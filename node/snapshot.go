// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	versionutil "k8s.io/apimachinery/pkg/util/version"

	"slipway.dev/slipway/apiserver"
	"slipway.dev/slipway/apiserver/snapshot"
	"slipway.dev/slipway/internal/version"
)

// snapshotTimeout bounds the making of one snapshot.
const snapshotTimeout = 10 * time.Minute

// SnapshotDir is where snapshots are kept.
func (c Config) SnapshotDir() string { return c.data("snapshots") }

func (c Config) etcd() apiserver.EtcdConfig {
	return apiserver.EtcdConfig{Dir: c.data("etcd"), SocketDir: c.run("etcd"), LogFile: c.data("log", "etcd.log")}
}

// keyFiles are those that a cluster cannot be brought back without.
func (c Config) keyFiles() []string {
	var paths []string
	for _, name := range []string{
		"ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "service-account.key", "service-account.pub", encryptionFile,
	} {
		paths = append(paths, c.certificates().Path(name))
	}
	return paths
}

// SaveSnapshot saves the cluster of this server, which must run, to a file; to
// one with a name of its own when path is a directory or ends in a slash, or is
// empty, which means the snapshot directory.
func SaveSnapshot(ctx context.Context, cfg Config, path string) (string, snapshot.Manifest, error) {
	if path == "" {
		path = cfg.SnapshotDir() + "/"
	}
	if info, err := os.Stat(path); strings.HasSuffix(path, "/") || err == nil && info.IsDir() {
		path = filepath.Join(path, snapshot.Name(snapshot.OnDemand, time.Now()))
	}
	m, err := cfg.saveSnapshot(ctx, path)
	return path, m, err
}

// requireOwnEtcd refuses a server whose etcd is somebody else's.
func (c Config) requireOwnEtcd() error {
	if _, err := os.Stat(c.etcdRecord()); err == nil {
		return errors.New("this server uses an external etcd: save and restore it with its own tools, as docs/ha.md says")
	}
	return nil
}

func (c Config) saveSnapshot(ctx context.Context, path string) (snapshot.Manifest, error) {
	if err := c.requireOwnEtcd(); err != nil {
		return snapshot.Manifest{}, err
	}
	if _, running := Holder(c); !running {
		return snapshot.Manifest{}, errors.New("etcd does not run here: start the server with `slipway up`")
	}
	if _, err := os.Stat(c.etcd().Socket()); err != nil {
		return snapshot.Manifest{}, errors.New("etcd does not run here: run this on a server that is up")
	}
	full, err := c.Complete()
	if err != nil {
		return snapshot.Manifest{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotTimeout)
	defer cancel()
	return snapshot.Save(ctx, snapshot.Source{
		Endpoint: c.etcd().Endpoint(), Keys: c.keyFiles(),
		Manifest: snapshot.Manifest{Slipway: version.Version, Kubernetes: version.Kubernetes, Node: full.NodeName},
	}, path)
}

// RestoreOptions say what a restore may do.
type RestoreOptions struct {
	// Force allows that there is a cluster already; it is kept beside.
	Force bool
}

// RestoreSnapshot makes the data of a server from a snapshot. The server must
// not run. It returns where the data from before are now.
func RestoreSnapshot(cfg Config, path string, opts RestoreOptions) ([]string, error) {
	if err := errors.Join(checkRole(cfg, server), cfg.requireOwnEtcd()); err != nil {
		return nil, err
	}
	m, err := snapshot.Read(path)
	if err != nil {
		return nil, err
	}
	if err := checkSnapshot(m); err != nil {
		return nil, fmt.Errorf("restore snapshot %s: %w", path, err)
	}
	if holder, running := Holder(cfg); running {
		return nil, fmt.Errorf("restore snapshot %s: the server runs (process %d): stop it with `slipway down` first", path, holder.PID)
	}
	lock, err := lockData(cfg)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := checkDataVersion(cfg); err != nil {
		return nil, err
	}
	to := cfg.restoreTarget()
	to.Force = opts.Force
	return snapshot.Restore(path, to)
}

func (c Config) restoreTarget() snapshot.Target {
	etcd := c.etcd()
	return snapshot.Target{EtcdDir: etcd.Dir, KeysDir: c.data("pki"), Member: etcd.MemberName(), PeerURL: etcd.PeerURL()}
}

// finishRestore goes on with a restore that was killed half-way.
func (c Config) finishRestore() error {
	_, err := snapshot.Finish(c.restoreTarget())
	return err
}

// checkSnapshot refuses what a newer Kubernetes has written: this one may not
// know all of it.
func checkSnapshot(m snapshot.Manifest) error {
	theirs, err := versionutil.ParseSemantic(m.Kubernetes)
	if err != nil {
		return fmt.Errorf("its Kubernetes version: %w", err)
	}
	ours, err := versionutil.ParseSemantic(version.Kubernetes)
	if err != nil {
		return err
	}
	if theirs.Major() > ours.Major() || theirs.Major() == ours.Major() && theirs.Minor() > ours.Minor() {
		return fmt.Errorf("it is of Kubernetes %s, written by slipway %s; this program has %s and may not know all that is in it: use that release or a newer one",
			m.Kubernetes, m.Slipway, version.Kubernetes)
	}
	return nil
}
