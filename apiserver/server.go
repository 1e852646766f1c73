// SPDX-License-Identifier: Apache-2.0

// Package apiserver runs the Kubernetes API server on an embedded etcd, in
// this process. It is an assembly of upstream packages: what it adds is the
// choice of options. Start etcd first with [StartEtcd], then [Server.Run].
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig/controller"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
)

// Config is what the API server needs to know about its cluster.
type Config struct {
	// Etcd is where objects are kept; for the embedded etcd its endpoint is
	// that of [EtcdConfig.Endpoint].
	Etcd ExternalEtcd
	// Embedded waits for the embedded etcd, which is then used without a
	// connection; nil for an external one.
	Embedded func(context.Context) (*Etcd, error)
	// Address is the node's own address, the one that is advertised.
	Address netip.Addr
	// Port is where the API is served, on all addresses.
	Port uint16
	// ServiceCIDRs are the ranges of Service addresses, the primary first.
	ServiceCIDRs []netip.Prefix
	// EncryptionConfig is a file that says how Secrets are encrypted in etcd.
	EncryptionConfig string
	// AuditLog is a file that receives all requests that AuditPolicy selects;
	// there is none when it is empty.
	AuditLog, AuditPolicy string
	// PKI returns the path of a file in the certificate directory.
	PKI func(name string) string
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case len(c.Etcd.Endpoints) == 0:
		return errors.New("api server: no etcd endpoint given")
	case !c.Address.IsValid():
		return errors.New("api server: no node address given")
	case c.Port == 0:
		return errors.New("api server: port 0 is not allowed")
	case len(c.ServiceCIDRs) == 0 || len(c.ServiceCIDRs) > 2:
		return fmt.Errorf("api server: %d service CIDRs given, expected one, or one of each family", len(c.ServiceCIDRs))
	case c.PKI == nil:
		return errors.New("api server: no certificates given")
	}
	return nil
}

// reloadInterval is how often the API server looks whether EncryptionConfig has
// changed; upstream's minute makes a change of the key a matter of minutes.
const reloadInterval = 5 * time.Second

// Run serves the API until ctx ends or the server fails.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	controller.EncryptionConfigFileChangePollDuration = reloadInterval
	opts := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range opts.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	if err := flags.Parse(cfg.args()); err != nil {
		return fmt.Errorf("api server options: %w", err)
	}
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("api server features: %w", err)
	}
	completed, err := opts.Complete(ctx)
	if err != nil {
		return fmt.Errorf("complete api server options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return fmt.Errorf("api server options: %w", utilerrors.NewAggregate(errs))
	}
	if completed.InformerName, err = cache.NewInformerName("kube-apiserver"); err != nil {
		return fmt.Errorf("name api server informers: %w", err)
	}
	defer completed.InformerName.Release()
	conf, err := app.NewConfig(completed)
	if err != nil {
		return fmt.Errorf("configure api server: %w", err)
	}
	if cfg.Embedded != nil {
		etcd, err := cfg.Embedded(ctx)
		if err != nil {
			return fmt.Errorf("wait for etcd: %w", err)
		}
		useInProcess(ctx, conf, etcd)
	}
	return serve(ctx, conf)
}

// serve does what upstream's app.Run does with a configuration, but for the
// OpenAPI documents and the first objects of a cluster.
func serve(ctx context.Context, conf *app.Config) error {
	generic := conf.KubeAPIs.ControlPlane.Generic
	generic.SkipOpenAPIInstallation = true
	disableSlowHooks(generic)
	narrowDefinitions(conf)
	completed, err := conf.Complete()
	if err != nil {
		return fmt.Errorf("complete api server: %w", err)
	}
	chain, err := app.CreateServerChain(completed)
	if err != nil {
		return fmt.Errorf("create api server: %w", err)
	}
	if err := installDocuments(chain, generic); err != nil {
		return err
	}
	if err := addQuickHooks(chain.GenericAPIServer); err != nil {
		return fmt.Errorf("create api server: %w", err)
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("prepare api server: %w", err)
	}
	// All APIs are installed; who builds documents later gets them anew.
	generic.OpenAPIV3Config.Definitions = nil
	return prepared.Run(ctx)
}

// args are the upstream flags; each is documented at
// https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/
func (c Config) args() []string {
	cidrs := make([]string, len(c.ServiceCIDRs))
	for i, p := range c.ServiceCIDRs {
		cidrs[i] = p.String()
	}
	bind := "0.0.0.0"
	if hasIPv6() {
		bind = "::"
	}
	args := c.auditArgs()
	if c.Embedded != nil {
		// Calls in this process have no streams of ranges.
		args = append(args, "--feature-gates=EtcdRangeStream=false")
	}
	return append(args,
		"--etcd-servers="+strings.Join(c.Etcd.Endpoints, ","),
		"--etcd-cafile="+c.Etcd.CAFile,
		"--etcd-certfile="+c.Etcd.CertFile,
		"--etcd-keyfile="+c.Etcd.KeyFile,
		"--bind-address="+bind,
		fmt.Sprintf("--secure-port=%d", c.Port),
		"--advertise-address="+c.Address.String(),
		"--service-cluster-ip-range="+strings.Join(cidrs, ","),
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--tls-cert-file="+c.PKI("apiserver-chain.crt"),
		"--tls-private-key-file="+c.PKI("apiserver.key"),
		"--client-ca-file="+c.PKI("ca.crt"),
		"--kubelet-certificate-authority="+c.PKI("ca.crt"),
		"--kubelet-client-certificate="+c.PKI("apiserver-kubelet-client.crt"),
		"--kubelet-client-key="+c.PKI("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname,ExternalIP",
		"--requestheader-client-ca-file="+c.PKI("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file="+c.PKI("front-proxy-client.crt"),
		"--proxy-client-key-file="+c.PKI("front-proxy-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+c.PKI("service-account.pub"),
		"--service-account-signing-key-file="+c.PKI("service-account.key"),
		"--encryption-provider-config="+c.EncryptionConfig,
		"--encryption-provider-config-automatic-reload=true",
		"--profiling=false",
	)
}

// auditArgs keep ten files of 100 MB for thirty days.
func (c Config) auditArgs() []string {
	if c.AuditLog == "" {
		return nil
	}
	return []string{
		"--audit-log-path=" + c.AuditLog, "--audit-policy-file=" + c.AuditPolicy,
		"--audit-log-maxage=30", "--audit-log-maxbackup=10", "--audit-log-maxsize=100",
	}
}

// WaitReady polls /readyz until the API server says ok or ctx ends. The error
// then holds what the server said last.
func WaitReady(ctx context.Context, port uint16, caFile string) error {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("wait for api server: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: 2 * time.Second, Transport: transport}
	url := fmt.Sprintf("https://127.0.0.1:%d/readyz", port)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		last := readyz(ctx, client, url)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("api server not ready: %w", last)
		case <-tick.C:
		}
	}
}

func readyz(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// hasIPv6 tells whether this kernel can serve both families on one socket.
func hasIPv6() bool {
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}
