// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ExternalEtcd is an etcd cluster that somebody else runs.
type ExternalEtcd struct {
	// Endpoints are client URLs, "https://HOST:PORT". Without any, etcd is
	// embedded.
	Endpoints []string
	// CAFile verifies the members, system authorities when it is empty.
	// CertFile and KeyFile are the client's.
	CAFile, CertFile, KeyFile string
}

// Used tells whether there is an external etcd.
func (e ExternalEtcd) Used() bool { return len(e.Endpoints) > 0 }

// Validate reports everything that cannot work, one error a flag.
func (e ExternalEtcd) Validate() error {
	if !e.Used() {
		if e.CAFile+e.CertFile+e.KeyFile != "" {
			return errors.New("--etcd-cafile, --etcd-certfile and --etcd-keyfile need --etcd-endpoints")
		}
		return nil
	}
	var errs []error
	for _, endpoint := range e.Endpoints {
		if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" || u.Port() == "" || u.Path != "" {
			errs = append(errs, fmt.Errorf("--etcd-endpoints %q: expected https://HOST:PORT", endpoint))
		}
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		errs = append(errs, errors.New("--etcd-certfile and --etcd-keyfile: expected both or none"))
	}
	return errors.Join(errs...)
}

func (e ExternalEtcd) tls() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.CAFile != "" {
		data, err := os.ReadFile(e.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cafile: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("--etcd-cafile %s: no certificate in it", e.CAFile)
		}
	}
	if e.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(e.CertFile, e.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("--etcd-certfile %s, --etcd-keyfile %s: %w", e.CertFile, e.KeyFile, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

const (
	// etcdTimeout is how long one member may take to answer.
	etcdTimeout = 3 * time.Second
	// bootstrapKey is where servers of one cluster find each other's keys.
	bootstrapKey = "/slipway/bootstrap"
)

// EtcdClient is a connection to an external etcd.
type EtcdClient struct {
	client *clientv3.Client
	etcd   ExternalEtcd
}

// Dial returns a connection. It does not wait for any member.
func (e ExternalEtcd) Dial() (*EtcdClient, error) {
	cfg, err := e.tls()
	if err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: e.Endpoints, TLS: cfg, DialTimeout: etcdTimeout, Logger: zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd: %w", err)
	}
	return &EtcdClient{client: client, etcd: e}, nil
}

// Close ends the connection.
func (c *EtcdClient) Close() error { return c.client.Close() }

// ClusterID returns the id of the etcd cluster, as hexadecimal digits, when it
// can be used: a member answers, the release is known to work, and it takes
// writes.
func (c *EtcdClient) ClusterID(ctx context.Context) (string, error) {
	var errs []error
	for _, endpoint := range c.etcd.Endpoints {
		status, err := c.status(ctx, endpoint)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
			continue
		}
		if !supported(status.Version) {
			return "", fmt.Errorf("etcd at %s is release %s: 3.5 or newer is needed", endpoint, status.Version)
		}
		if err := c.checkAlarms(ctx); err != nil {
			return "", err
		}
		return strconv.FormatUint(status.Header.ClusterId, 16), nil
	}
	return "", fmt.Errorf("etcd does not answer: %s", oneLine(errs))
}

// status asks one member over a connection of its own: over the common one,
// the error would not say what is wrong.
func (c *EtcdClient) status(ctx context.Context, endpoint string) (*clientv3.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	if err := reach(ctx, endpoint, c.etcd); err != nil {
		return nil, err
	}
	return c.client.Status(ctx, endpoint)
}

// reach connects as a client does, to have the reason when that fails.
func reach(ctx context.Context, endpoint string, etcd ExternalEtcd) error {
	cfg, err := etcd.tls()
	if err != nil {
		return err
	}
	dialer := tls.Dialer{Config: cfg}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(endpoint, "https://"))
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *EtcdClient) checkAlarms(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, etcdTimeout)
	defer cancel()
	alarms, err := c.client.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("ask etcd for alarms: %w", err)
	}
	for _, alarm := range alarms.Alarms {
		if alarm.Alarm == etcdserverpb.AlarmType_NOSPACE {
			return fmt.Errorf("etcd member %x is full and takes no writes: compact and defragment it, then `etcdctl alarm disarm`", alarm.MemberID)
		}
	}
	return nil
}

// supported tells whether the API server works with a release of etcd.
func supported(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 3 || (major == 3 && minor >= 5)
}

func oneLine(errs []error) string {
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Get returns the cluster's keys, nil when there are none yet.
func (c *EtcdClient) Get(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*etcdTimeout)
	defer cancel()
	found, err := c.client.Get(ctx, bootstrapKey)
	if err != nil || len(found.Kvs) == 0 {
		return nil, err
	}
	return found.Kvs[0].Value, nil
}

// Create stores the cluster's keys unless there are some already.
func (c *EtcdClient) Create(ctx context.Context, data []byte) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*etcdTimeout)
	defer cancel()
	done, err := c.client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(bootstrapKey), "=", 0)).
		Then(clientv3.OpPut(bootstrapKey, string(data))).Commit()
	if err != nil {
		return false, err
	}
	return done.Succeeded, nil
}
