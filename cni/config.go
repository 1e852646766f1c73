// SPDX-License-Identifier: Apache-2.0

// Package cni is the pod network of one node: it serves the verbs of the CNI
// specification 1.1 that slipway-cni forwards, gives each pod an address of
// each of the node's pod CIDRs and a veth pair, and tells the data path about
// it.
//
// It owns the pod interfaces ("slw…") and the gateway device of the node, the
// nftables table "slipway", the attachment records in its state directory and
// the CNI configuration file. It owns no global sysctl: the node must forward
// IPv4 and IPv6.
//
// A pod has addresses with prefix length /32 and /128, a default route through
// the node's address in its CIDR, and permanent neighbours on both sides of
// its veth pair, so there is neither ARP nor neighbour discovery. Packets
// that the BPF programs do not redirect are routed by the node's kernel.
//
// Pods do not depend on a running Server: one that was killed and started
// again adopts every pod that has a record and an interface, and removes the
// rest. Verbs on one attachment exclude each other, GC excludes all verbs;
// otherwise requests are served at once. New, Run and Ready may be used from
// any goroutine; only one Run, in any process, can have a state directory.
package cni

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/socket"
)

// DefaultGatewayDevice is the name of the device with the node's address in
// each pod CIDR.
const DefaultGatewayDevice = "slipway0"

// maxSocketPath is what fits into a unix socket address, in bytes.
const maxSocketPath = 107

// Config of a server.
type Config struct {
	// PodCIDRs are those of the node, one of each family at most, as in
	// Node.spec.podCIDRs.
	PodCIDRs []netip.Prefix
	// ClusterCIDRs are those of all pods of the cluster: packets to them
	// keep the pod's address. Empty means PodCIDRs.
	ClusterCIDRs []netip.Prefix
	// NodeAddrs are the addresses that pods know the node by, at most one of
	// each family: the node speaks to pods from them. Empty means from its
	// addresses in the pod CIDRs.
	NodeAddrs []netip.Addr
	// Socket is where slipway-cni finds the server; empty means
	// socket.DefaultPath.
	Socket string
	// StateDir keeps the attachments, such as /var/lib/slipway/cni.
	StateDir string
	// ConfDir gets the CNI configuration file once the server is ready; it
	// must exist. Empty means that none is written.
	ConfDir string
	// GatewayDevice is the name of the gateway device; empty means
	// DefaultGatewayDevice.
	GatewayDevice string
	// MTU of the pods, in bytes; 0 means that of the default route's device.
	MTU int
	// NoMasquerade leaves packets to the outside with the pod's address, and
	// removes rules from before.
	NoMasquerade bool
	// NodeNetNS is the path of the network namespace that is the node; empty
	// means that of the process.
	NodeNetNS string
	// Datapath is told about pods.
	Datapath Datapath
	// Registry gets the metrics; may be nil.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Datapath == nil || c.Log == nil {
		return errors.New("data path and log must be set")
	}
	for _, cidr := range c.ClusterCIDRs {
		if !cidr.IsValid() || cidr != cidr.Masked() {
			return fmt.Errorf("cluster cidr %s is not a network", cidr)
		}
	}
	if _, err := ipam.New(c.PodCIDRs, newRandom()); err != nil {
		return err
	}
	for _, cidr := range c.PodCIDRs {
		if !within(cidr, c.clusterCIDRs()) {
			return fmt.Errorf("pod cidr %s is not within the cluster's %v", cidr, c.ClusterCIDRs)
		}
	}
	if c.MTU != 0 && c.MTU < 1280 {
		return fmt.Errorf("mtu %d is less than the 1280 bytes that IPv6 needs", c.MTU)
	}
	if name := c.gatewayDevice(); len(name) > 15 || strings.ContainsAny(name, "/ :") {
		return fmt.Errorf("gateway device %q is not a device name", name)
	}
	paths := map[string]string{"socket": c.socket(), "state directory": c.StateDir}
	if c.ConfDir != "" {
		paths["configuration directory"] = c.ConfDir
	}
	for name, path := range paths {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return fmt.Errorf("%s %q must be an absolute path below /", name, path)
		}
	}
	if n := len(asidePath(c.socket())); n > maxSocketPath {
		return fmt.Errorf("socket %q is too long: its path would have %d of at most %d bytes", c.socket(), n, maxSocketPath)
	}
	return nil
}

func within(cidr netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool {
		return p.Bits() <= cidr.Bits() && p.Contains(cidr.Addr())
	})
}

func (c Config) socket() string {
	if c.Socket == "" {
		return socket.DefaultPath
	}
	return c.Socket
}

func (c Config) gatewayDevice() string {
	if c.GatewayDevice == "" {
		return DefaultGatewayDevice
	}
	return c.GatewayDevice
}

func (c Config) clusterCIDRs() []netip.Prefix {
	if len(c.ClusterCIDRs) == 0 {
		return c.PodCIDRs
	}
	return c.ClusterCIDRs
}
