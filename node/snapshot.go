// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

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
// one with a name of its own in the snapshot directory when path is empty.
func SaveSnapshot(ctx context.Context, cfg Config, path string) (string, snapshot.Manifest, error) {
	if path == "" {
		path = filepath.Join(cfg.SnapshotDir(), snapshot.Name(snapshot.OnDemand, time.Now()))
	}
	m, err := cfg.saveSnapshot(ctx, path)
	return path, m, err
}

func (c Config) saveSnapshot(ctx context.Context, path string) (snapshot.Manifest, error) {
	if _, err := os.Stat(c.etcd().Socket()); err != nil {
		return snapshot.Manifest{}, fmt.Errorf("etcd does not run here: start the server with `slipway up`")
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

// RestoreSnapshot makes the data of a server from a snapshot. The server must
// not run. It returns where the data from before are now.
func RestoreSnapshot(cfg Config, path string) ([]string, error) {
	if err := checkRole(cfg, server); err != nil {
		return nil, err
	}
	if _, err := snapshot.Read(path); err != nil {
		return nil, err
	}
	lock, err := lockData(cfg)
	var running *RunningError
	if errors.As(err, &running) {
		return nil, fmt.Errorf("the server runs (process %d): stop it with `slipway down` first", running.PID)
	}
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := checkDataVersion(cfg); err != nil {
		return nil, err
	}
	etcd := cfg.etcd()
	return snapshot.Restore(path, snapshot.Target{
		EtcdDir: etcd.Dir, KeysDir: cfg.data("pki"), Member: etcd.MemberName(), PeerURL: etcd.PeerURL(),
	})
}

// schedule makes snapshots by the clock.
type schedule struct {
	m    *member
	when cron.Schedule

	mu   sync.Mutex
	last error
}

func parseSchedule(text string) (cron.Schedule, error) {
	when, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("--snapshot-schedule %q: expected a time like \"0 */12 * * *\" or \"@every 6h\", or nothing: %v", text, err)
	}
	return when, nil
}

// startSnapshots makes snapshots as the configuration says.
func (m *member) startSnapshots() error {
	if m.cfg.SnapshotSchedule == "" {
		return nil
	}
	when, err := parseSchedule(m.cfg.SnapshotSchedule)
	if err != nil {
		return err
	}
	s := &schedule{m: m, when: when}
	m.sup.Start("snapshots", stageRest, s.run)
	m.addProbe(s.check)
	return nil
}

func (s *schedule) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(s.when.Next(time.Now()))):
		}
		err := s.once(ctx)
		if err != nil && ctx.Err() == nil {
			s.m.log.Error("scheduled snapshot", "err", err)
		}
		s.mu.Lock()
		s.last = err
		s.mu.Unlock()
	}
}

// once makes a snapshot and only then removes old ones.
func (s *schedule) once(ctx context.Context) error {
	path := filepath.Join(s.m.cfg.SnapshotDir(), snapshot.Name(snapshot.Scheduled, time.Now()))
	if _, err := s.m.cfg.saveSnapshot(ctx, path); err != nil {
		return err
	}
	return snapshot.Retain(s.m.cfg.SnapshotDir(), s.m.cfg.SnapshotRetention)
}

func (s *schedule) check(context.Context) Check {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil {
		return Check{Name: "snapshots", Says: fmt.Sprintf("the last one failed: %v", last), Do: "make room or mend what it names; try `slipway snapshot save`"}
	}
	all, err := snapshot.List(s.m.cfg.SnapshotDir())
	if err != nil {
		return Check{Name: "snapshots", Says: err.Error(), Do: "look at " + s.m.cfg.SnapshotDir()}
	}
	return Check{Name: "snapshots", OK: true, Says: fmt.Sprintf("%d, the next one at %s", len(all), s.when.Next(time.Now()).Format(time.DateTime))}
}
