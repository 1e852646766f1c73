// SPDX-License-Identifier: Apache-2.0

// Package dns serves the cluster's DNS in this process: CoreDNS with the
// kubernetes plugin, on the addresses it is given. It follows the Kubernetes
// DNS specification, version 1.1.0. One server may run per process.
package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"text/template"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"
	"k8s.io/klog/v2"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
)

// Config says what is served, and where.
type Config struct {
	// Addresses are listened on, UDP and TCP, port 53.
	Addresses []netip.Addr
	// Domain is the suffix of the cluster, as cluster.local.
	Domain string
	// Kubeconfig is used to watch Services and EndpointSlices.
	Kubeconfig string
	// ResolvConf names the servers that other names are forwarded to. When
	// it has none, other names get SERVFAIL.
	ResolvConf string
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case len(c.Addresses) == 0:
		return errors.New("dns: no address to listen on given")
	case c.Domain == "":
		return errors.New("dns: no cluster domain given")
	case c.Kubeconfig == "":
		return errors.New("dns: no kubeconfig given")
	}
	return nil
}

var corefile = template.Must(template.New("Corefile").Parse(`.:53 {
    bind{{range .Addresses}} {{.}}{{end}}
    errors
    kubernetes {{.Domain}} in-addr.arpa ip6.arpa {
        kubeconfig {{.Kubeconfig}}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
{{- if .Forward}}
    forward . {{.ResolvConf}} {
        max_concurrent 1000
    }
{{- end}}
    cache 30
    loadbalance
}
`))

// Corefile returns the configuration that CoreDNS is started with.
func (c Config) Corefile() ([]byte, error) {
	var out bytes.Buffer
	err := corefile.Execute(&out, struct {
		Config
		Forward bool
	}{c, hasServers(c.ResolvConf)})
	if err != nil {
		return nil, fmt.Errorf("render Corefile: %w", err)
	}
	return out.Bytes(), nil
}

// hasServers tells whether a resolv.conf names any server.
func hasServers(path string) bool {
	conf, err := dns.ClientConfigFromFile(path)
	return err == nil && len(conf.Servers) > 0
}

// Server is a running DNS server.
type Server struct{ instance *caddy.Instance }

// Start listens and returns; names of the cluster are answered as soon as
// the informers have synced, which CoreDNS waits for at most five seconds.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	text, err := cfg.Corefile()
	if err != nil {
		return nil, err
	}
	// The kubernetes plugin makes itself the logger of all of this process.
	defer klog.SetLogger(klog.Background())
	caddy.Quiet, dnsserver.Quiet = true, true
	instance, err := caddy.Start(caddy.CaddyfileInput{
		Contents: text, Filepath: "Corefile", ServerTypeName: "dns",
	})
	if err != nil {
		return nil, fmt.Errorf("start dns server: %w", err)
	}
	return &Server{instance: instance}, nil
}

// Run blocks until ctx ends, then stops the server.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	for _, err := range s.instance.ShutdownCallbacks() {
		return fmt.Errorf("stop dns server: %w", err)
	}
	if err := s.instance.Stop(); err != nil {
		return fmt.Errorf("stop dns server: %w", err)
	}
	return nil
}
