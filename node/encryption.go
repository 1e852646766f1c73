// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/apiserver/encryption"
)

// encryptionFile is the EncryptionConfiguration of the API server, with the
// key that Secrets are encrypted with in etcd.
const encryptionFile = "encryption.json"

// ensureEncryption makes the key when there is none. What is stored without
// encryption can still be read, and is encrypted when it is written again.
func ensureEncryption(dir string) error {
	return encryption.Ensure(filepath.Join(dir, encryptionFile))
}

// RotateKey encrypts the Secrets of the cluster of this server, which must run,
// with a new key.
func RotateKey(ctx context.Context, cfg Config, steps *Steps) error {
	if _, err := os.Stat(cfg.etcdRecord()); err == nil {
		return errors.New("several servers read the key: change it by hand, see docs/backup.md")
	}
	if _, running := Holder(cfg); !running {
		return errors.New("the server does not run here: start it with `slipway up`")
	}
	lock, err := os.Open(cfg.data("pki"))
	if err != nil {
		return fmt.Errorf("open directory of keys: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w; another rotation is under way", lock.Name(), err)
	}
	client, err := AdminClient(cfg)
	if err != nil {
		return err
	}
	servers, err := listServers(ctx, client)
	if err != nil {
		return err
	}
	if len(servers) > 1 {
		return fmt.Errorf("there are %d API servers (%s), each with a file of its own: change the keys by hand, as docs/backup.md says", len(servers), strings.Join(servers, ", "))
	}
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{cfg.etcd().Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		return fmt.Errorf("client of etcd: %w", err)
	}
	defer etcd.Close()
	return encryption.Rotate(ctx, encryption.Cluster{
		File: cfg.certificates().Path(encryptionFile), API: encryption.Client{Interface: client}, Etcd: etcd,
		Timeout: encryption.RequestTimeout, Step: func(done string) { steps.Note("%s", done) },
	})
}

// checkEncryption tells which key is in use.
func (m *member) checkEncryption(context.Context) Check {
	const name = "secrets"
	keys, err := encryption.Keys(m.cfg.certificates().Path(encryptionFile))
	switch {
	case errors.Is(err, encryption.ErrChanged):
		return Check{Name: name, OK: true, Says: "stored as " + m.cfg.certificates().Path(encryptionFile) + " says, which was changed by hand"}
	case err != nil:
		return Check{Name: name, Says: err.Error(), Do: "put the file back from a snapshot: without it Secrets cannot be read after a restart"}
	case len(keys) > 1:
		return Check{Name: name, OK: true, Says: fmt.Sprintf("encrypted with %s, some with %s until `slipway secrets rotate-key` has ended", keys[0], strings.Join(keys[1:], ", "))}
	}
	return Check{Name: name, OK: true, Says: "encrypted with " + keys[0]}
}
