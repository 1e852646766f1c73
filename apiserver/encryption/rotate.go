// SPDX-License-Identifier: Apache-2.0

package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
)

const (
	// secretsPrefix is where etcd has the Secrets, by namespace and name.
	secretsPrefix = "/registry/secrets/"
	// storedPrefix, and the name of the key, are what an encrypted value
	// begins with.
	storedPrefix = "k8s:enc:secretbox:v1:"
	// pageSize is how many Secrets are read at once.
	pageSize = 200
	// maxRounds is how often Secrets are written before it is taken for
	// granted that somebody else writes them with another key.
	maxRounds    = 10
	pollInterval = time.Second
)

// RequestTimeout is how long the API server works on a request at most, and
// with that how long it may still write with the keys from before.
const RequestTimeout = time.Minute

// API is what is asked of the API server.
type API interface {
	// Metrics are its own, in text.
	Metrics(context.Context) ([]byte, error)
	// Touch lets it write a Secret as it is.
	Touch(ctx context.Context, namespace, name string) error
}

// Cluster is where keys are changed.
type Cluster struct {
	// File has the keys.
	File string
	// API is the only API server that reads the file, Etcd its storage.
	API  API
	Etcd clientv3.KV
	// Timeout is how long a request may take; [RequestTimeout] but in tests.
	Timeout time.Duration
	// Step is told what is done.
	Step func(string)
}

// Rotate makes a new key, encrypts all Secrets with it, and then forgets those
// from before. It can end at any point, killed or by an error: each Secret can
// be read then, and the next call goes on instead of making another key. An old
// key is forgotten only after etcd was seen to have nothing of it.
func Rotate(ctx context.Context, in Cluster) error {
	keys, err := read(in.File)
	if err == nil && len(keys) == 1 {
		keys, err = prepend(in.File, keys)
	}
	if err != nil {
		return err
	}
	writer := keys[0].Name
	if err := in.load(ctx, keys); err != nil {
		return err
	}
	in.Step("the API server writes with " + writer)
	loaded := time.Now()
	if err := in.rewrite(ctx, writer); err != nil {
		return err
	}
	in.Step("Secrets are encrypted with " + writer)
	// A request from before the new key may not have written yet.
	if err := wait(ctx, time.Until(loaded.Add(in.Timeout))); err != nil {
		return err
	}
	if err := in.rewrite(ctx, writer); err != nil {
		return err
	}
	if err := in.load(ctx, keys[:1]); err != nil {
		return err
	}
	in.Step("other keys are forgotten")
	return nil
}

// load writes the file and waits until the API server works with it.
func (c Cluster) load(ctx context.Context, keys []apiserverv1.Key) error {
	hash, err := write(c.File, keys)
	if err != nil {
		return err
	}
	for {
		metrics, err := c.API.Metrics(ctx)
		if err == nil && hasLoaded(metrics, hash) {
			return nil
		}
		if waitErr := wait(ctx, pollInterval); waitErr != nil {
			return fmt.Errorf("wait until the API server has read %s: %w", c.File, errors.Join(waitErr, err))
		}
	}
}

func hasLoaded(metrics []byte, hash string) bool {
	for line := range bytes.Lines(metrics) {
		if bytes.HasPrefix(line, []byte("apiserver_encryption_config_controller_last_config_info{")) &&
			bytes.Contains(line, []byte(`,hash="`+hash+`"`)) {
			return true
		}
	}
	return false
}

// rewrite writes all Secrets that are not encrypted with this key, until there
// are none.
func (c Cluster) rewrite(ctx context.Context, key string) error {
	for range maxRounds {
		stale, err := c.stale(ctx, key)
		if err != nil || len(stale) == 0 {
			return err
		}
		for _, path := range stale {
			namespace, name, found := strings.Cut(strings.TrimPrefix(path, secretsPrefix), "/")
			if !found {
				return fmt.Errorf("etcd has %s, which is not the path of a Secret", path)
			}
			if err := c.API.Touch(ctx, namespace, name); err != nil {
				return fmt.Errorf("encrypt Secret %s/%s anew: %w; mend or delete it, then try again: old keys are kept until then", namespace, name, err)
			}
		}
	}
	return fmt.Errorf("there are Secrets that %s has not encrypted after %d rounds: does another API server write to this etcd?", key, maxRounds)
}

// stale lists what etcd has below secretsPrefix that this key has not written.
func (c Cluster) stale(ctx context.Context, key string) ([]string, error) {
	var stale []string
	want := []byte(storedPrefix + key + ":")
	from, end := secretsPrefix, clientv3.GetPrefixRangeEnd(secretsPrefix)
	for {
		page, err := c.Etcd.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageSize))
		if err != nil {
			return nil, fmt.Errorf("read Secrets from etcd: %w", err)
		}
		for _, kv := range page.Kvs {
			if !bytes.HasPrefix(kv.Value, want) {
				stale = append(stale, string(kv.Key))
			}
		}
		if !page.More {
			return stale, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
