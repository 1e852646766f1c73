// SPDX-License-Identifier: Apache-2.0

// Package node runs a Slipway node: it prepares the machine, starts the
// bundled cluster and the data plane in their order, supervises them, tells
// their health, and takes everything down again. It is the only package
// besides cmd that sees all others. One node may run per data directory.
package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"slipway.dev/slipway/apiserver"
	"slipway.dev/slipway/proxy"
)

// Config is what a user may choose about a node.
type Config struct {
	// DataDir holds all that must survive a reboot.
	DataDir string
	// RunDir holds sockets and what a reboot may take.
	RunDir string
	// Kubeconfig is where the administrator's kubeconfig is written.
	Kubeconfig string
	// Executable is this program, from which containerd is started.
	Executable string
	// NodeName is the name of the Node object.
	NodeName string
	// NodeIPs are the node's addresses, at most one of each family, the
	// primary first.
	NodeIPs []netip.Addr
	// NodePortAddresses say on which of the node's addresses NodePorts are served:
	// ranges, "primary", "localhost" and "all".
	NodePortAddresses []string
	// Balancing and Forwarding are for connections from other hosts: how they find
	// their backend, and how they get there on another node.
	Balancing  proxy.Balancing
	Forwarding proxy.Forwarding
	// APIPort is the port of the API server.
	APIPort uint16
	// PodCIDRs and ServiceCIDRs are at most one of each family.
	PodCIDRs, ServiceCIDRs []netip.Prefix
	// ClusterDomain is the DNS suffix of the cluster.
	ClusterDomain string
	// HTTPPort and HTTPSPort are where the ingress listens on the node.
	HTTPPort, HTTPSPort uint16
	// Nodes is the number of nodes to make on this machine, itself included.
	Nodes int
	// NodesCIDRs are the ranges of the bridge between the nodes of this
	// machine, at most one of each family.
	NodesCIDRs []netip.Prefix
	// Etcd is an external etcd, shared with other servers; ClusterTokenFile
	// holds the secret by which these share their keys.
	Etcd             apiserver.ExternalEtcd
	ClusterTokenFile string
	// SnapshotSchedule says when snapshots are made, in the format of cron;
	// empty for never. SnapshotRetention is how many of these are kept.
	SnapshotSchedule  string
	SnapshotRetention int
	// AuditLog is a file for the API server's audit log, none when empty;
	// AuditPolicy selects what goes into it, or is empty for a default.
	AuditLog, AuditPolicy string
	// Verbose lets the Kubernetes components log what they do, not only what
	// goes wrong.
	Verbose bool
}

// Defaults returns the configuration of `slipway up` without any flag.
func Defaults() Config {
	return Config{
		DataDir:       "/var/lib/slipway",
		RunDir:        "/run/slipway",
		Kubeconfig:    "/etc/slipway/kubeconfig",
		APIPort:       6443,
		PodCIDRs:      []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48")},
		ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112")},
		ClusterDomain: "cluster.local",
		Balancing:     proxy.BalanceRandom,
		Forwarding:    proxy.ForwardSNAT,
		Nodes:         1,

		SnapshotSchedule:  "0 */12 * * *",
		SnapshotRetention: 5,

		NodesCIDRs: []netip.Prefix{netip.MustParsePrefix("172.29.0.0/24"), netip.MustParsePrefix("fd00:172:29::/64")},
		HTTPPort:   80,
		HTTPSPort:  443,
	}
}

// Complete fills in what depends on the machine: the node's name and its
// addresses.
func (c Config) Complete() (Config, error) {
	if c.Executable == "" {
		exe, err := os.Executable()
		if err != nil {
			return c, fmt.Errorf("find own executable: %w", err)
		}
		c.Executable = exe
	}
	c, err := c.absolute()
	if err != nil {
		return c, err
	}
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("find host name: %w", err)
		}
		c.NodeName = strings.ToLower(host)
	}
	c, err = c.completeNodes()
	if err != nil {
		return c, err
	}
	if len(c.NodeIPs) == 0 {
		ips, err := defaultAddresses()
		if err != nil {
			return c, err
		}
		c.NodeIPs = ips
	}
	return c, nil
}

// absolute makes the names of the user's files independent of the directory
// that the process is in.
func (c Config) absolute() (Config, error) {
	for _, file := range []*string{&c.AuditLog, &c.AuditPolicy, &c.Etcd.CAFile, &c.Etcd.CertFile, &c.Etcd.KeyFile, &c.ClusterTokenFile} {
		if *file == "" {
			continue
		}
		path, err := filepath.Abs(*file)
		if err != nil {
			return c, fmt.Errorf("find %s: %w", *file, err)
		}
		*file = path
	}
	return c, nil
}

const (
	// maxSocketPath is what fits into a unix socket address, in bytes.
	maxSocketPath = 107
	// longestSocket is the longest name of a socket below the run directory.
	longestSocket = "/containerd/containerd.sock.ttrpc"
)

// Validate reports everything that cannot work, one error a field.
func (c Config) Validate() error {
	var errs []error
	for flag, path := range map[string]string{"--data-dir": c.DataDir, "--run-dir": c.RunDir, "--kubeconfig": c.Kubeconfig} {
		if !filepath.IsAbs(path) {
			errs = append(errs, fmt.Errorf("%s %q: expected an absolute path", flag, path))
		}
	}
	if most := maxSocketPath - len(longestSocket); len(c.RunDir) > most {
		errs = append(errs, fmt.Errorf("--run-dir %q: %d bytes, expected at most %d: the paths of the sockets in it would be too long", c.RunDir, len(c.RunDir), most))
	}
	if problems := validation.IsDNS1123Subdomain(c.NodeName); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--node-name %q: %s", c.NodeName, problems[0]))
	}
	if problems := validation.IsDNS1123Subdomain(c.ClusterDomain); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--cluster-domain %q: %s", c.ClusterDomain, problems[0]))
	}
	if _, err := proxy.ParseNodePortAddresses(c.NodePortAddresses); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.validateAddresses()...)
	errs = append(errs, c.validateNodes()...)
	errs = append(errs, c.validateAudit(), c.validateSnapshots(), c.validateEtcd())
	for flag, port := range map[string]uint16{"--api-port": c.APIPort, "--ingress-http-port": c.HTTPPort, "--ingress-https-port": c.HTTPSPort} {
		if port == 0 {
			errs = append(errs, fmt.Errorf("%s 0: expected a port between 1 and 65535", flag))
		}
	}
	return errors.Join(errs...)
}

func (c Config) validateSnapshots() error {
	if c.SnapshotRetention < 1 {
		return fmt.Errorf("--snapshot-retention %d: expected 1 or more", c.SnapshotRetention)
	}
	if c.SnapshotSchedule == "" {
		return nil
	}
	_, err := parseSchedule(c.SnapshotSchedule)
	return err
}

// validateNodes checks the bridge only where it is used.
func (c Config) validateNodes() []error {
	if most := c.local().Most(); c.Nodes < 1 || c.Nodes > most {
		return []error{fmt.Errorf("--nodes %d: expected a number between 1 and %d", c.Nodes, most)}
	}
	if !c.hasLocalNodes() {
		return nil
	}
	var errs []error
	if len(c.nodesCIDRs()) == 0 {
		errs = append(errs, fmt.Errorf("--nodes-cidr %v: no range of a family that --pod-cidr %v has", c.NodesCIDRs, c.PodCIDRs))
	}
	for _, nodes := range c.NodesCIDRs {
		for flag, cidrs := range map[string][]netip.Prefix{"--pod-cidr": c.PodCIDRs, "--service-cidr": c.ServiceCIDRs} {
			for _, cidr := range cidrs {
				if nodes.Overlaps(cidr) {
					errs = append(errs, fmt.Errorf("--nodes-cidr %s overlaps %s %s: choose ranges that do not", nodes, flag, cidr))
				}
			}
		}
	}
	return errs
}

func (c Config) validateAddresses() []error {
	var errs []error
	if len(c.NodeIPs) == 0 || len(c.NodeIPs) > 2 {
		errs = append(errs, fmt.Errorf("--node-ip: %d addresses given, expected one, or one of each family", len(c.NodeIPs)))
	} else if len(c.NodeIPs) == 2 && c.NodeIPs[0].Is4() == c.NodeIPs[1].Is4() {
		errs = append(errs, fmt.Errorf("--node-ip %v: expected one address of each family", c.NodeIPs))
	}
	for flag, cidrs := range map[string][]netip.Prefix{"--pod-cidr": c.PodCIDRs, "--service-cidr": c.ServiceCIDRs} {
		if len(cidrs) == 0 || len(cidrs) > 2 {
			errs = append(errs, fmt.Errorf("%s: %d ranges given, expected one, or one of each family", flag, len(cidrs)))
		} else if len(cidrs) == 2 && cidrs[0].Addr().Is4() == cidrs[1].Addr().Is4() {
			errs = append(errs, fmt.Errorf("%s %v: expected one range of each family", flag, cidrs))
		}
	}
	for _, pod := range c.PodCIDRs {
		for _, svc := range c.ServiceCIDRs {
			if pod.Overlaps(svc) {
				errs = append(errs, fmt.Errorf("--pod-cidr %s overlaps --service-cidr %s: choose ranges that do not", pod, svc))
			}
		}
		for _, ip := range c.NodeIPs {
			if pod.Contains(ip) {
				errs = append(errs, fmt.Errorf("--pod-cidr %s contains the node's address %s: choose another range", pod, ip))
			}
		}
	}
	return errs
}
