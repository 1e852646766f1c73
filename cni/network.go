// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/masquerade"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/cni/store"
	"slipway.dev/slipway/internal/keylock"
)

// network is the pod network of the node while a server runs.
type network struct {
	cfg       Config
	host      *device.Host
	store     *store.Store
	addresses *ipam.Allocator
	locks     *keylock.Locks[store.Key]
	// gate is held for reading by verbs on one attachment, and for writing
	// by GC.
	gate sync.RWMutex

	mu          sync.Mutex
	attachments map[store.Key]*attachment
	mtu         int
	// sick is why the node cannot take pods now, nil if it can.
	sick error
}

// attachment is a pod that exists, or is being made or removed by the holder
// of its lock.
type attachment struct {
	store.Record
	// ifindex is that of the pod interface, 0 before there is one.
	ifindex int
	// netns is the cookie of the pod's namespace, 0 when it is not known.
	netns uint64
}

func (a *attachment) pod() device.Pod {
	return device.Pod{
		HostName: a.HostName, PodName: a.IfName,
		HostMAC: a.HostMAC.Hardware(), PodMAC: a.PodMAC.Hardware(),
		Addrs: a.Addrs, Gateways: a.Gateways, MTU: a.MTU,
	}
}

func (a *attachment) endpoint() bpf.Endpoint {
	return bpf.Endpoint{Addrs: a.Addrs, Ifindex: a.ifindex, PodMAC: a.PodMAC.Hardware(), HostMAC: a.HostMAC.Hardware(), NetNS: a.netns}
}

func newRandom() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// lock waits until no other request works on an attachment.
func (n *network) lock(ctx context.Context, key store.Key) (release func(), err error) {
	release, err = n.locks.Take(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("wait for another request on %s: %w", key, err)
	}
	return release, nil
}

// newNetwork makes a network without attachments.
func newNetwork(cfg Config, host *device.Host) (*network, error) {
	files, err := store.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	addresses, err := ipam.New(cfg.PodCIDRs, newRandom())
	if err != nil {
		return nil, err
	}
	return &network{
		cfg: cfg, host: host, store: files, addresses: addresses,
		locks: keylock.New[store.Key](), attachments: map[store.Key]*attachment{},
	}, nil
}

// maintain makes what all pods share: gateway device and masquerade rules. It
// changes nothing that is right already, and remembers whether it worked.
func (n *network) maintain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maintainTimeout)
	defer cancel()
	err := n.setShared(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sick = err
	return err
}

func (n *network) setShared(ctx context.Context) error {
	gateway := device.Gateway{Name: n.cfg.gatewayDevice(), Addrs: n.gateways(), CIDRs: n.cfg.PodCIDRs}
	if err := n.host.SetGateway(ctx, gateway); err != nil {
		return err
	}
	if err := n.setMasquerade(); err != nil {
		return err
	}
	mtu := n.cfg.MTU
	if mtu == 0 {
		var err error
		if mtu, err = n.host.UplinkMTU(); err != nil {
			return err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mtu = mtu
	return nil
}

func (n *network) setMasquerade() error {
	if n.cfg.NoMasquerade {
		return masquerade.Remove(n.host.FD())
	}
	return masquerade.Set(n.host.FD(), masquerade.Config{PodCIDRs: n.cfg.PodCIDRs, ClusterCIDRs: n.cfg.clusterCIDRs()})
}

func (n *network) gateways() []netip.Addr {
	var addrs []netip.Addr
	for _, cidr := range n.cfg.PodCIDRs {
		addrs = append(addrs, ipam.Gateway(cidr))
	}
	return addrs
}

func (n *network) find(key store.Key) *attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.attachments[key]
}

func (n *network) keys() []store.Key {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.attachments))
}

// plan makes an attachment for a request, with addresses and a name of its
// own. Only detach takes it back.
func (n *network) plan(r socket.Request, networkName string) (*attachment, error) {
	addrs, err := n.addresses.Allocate()
	if err != nil {
		return nil, err
	}
	key := store.Key{ContainerID: r.ContainerID, IfName: r.IfName}
	a := &attachment{Record: store.Record{
		Key: key, Network: networkName, NetNS: r.NetNS,
		HostMAC: mac(key, "host"), PodMAC: mac(key, "pod"),
		Addrs: addrs, Gateways: n.gateways(),
	}}
	a.Namespace, a.Pod, a.PodUID = podOf(r.Args)

	n.mu.Lock()
	defer n.mu.Unlock()
	a.MTU = n.mtu
	a.HostName = n.hostName(key)
	n.attachments[key] = a
	return a, nil
}

// hostName returns a name for the pod interface that no other attachment has.
// The caller holds mu.
func (n *network) hostName(key store.Key) string {
	taken := map[string]bool{}
	for _, a := range n.attachments {
		taken[a.HostName] = true
	}
	salted := key
	for {
		name := device.Prefix + salted.Digest()[:8]
		if !taken[name] {
			return name
		}
		salted.ContainerID += "'"
	}
}

// mac derives the Ethernet address of an end from the key, so that it is
// known before there is a device. It is unicast and locally administered.
func mac(key store.Key, end string) store.MAC {
	key.IfName += "/" + end
	digest, _ := hex.DecodeString(key.Digest())
	var m store.MAC
	copy(m[:], digest)
	m[0] = m[0]&^1 | 2
	return m
}

// detach undoes an attachment, whole or half-made. When it fails the
// attachment stays known, so that it can be tried again.
func (n *network) detach(a *attachment) error {
	if a.ifindex != 0 {
		if err := n.forget(a.ifindex); err != nil {
			return fmt.Errorf("detach %s: %w", a.Key, err)
		}
	}
	if err := n.host.Delete(a.HostName); err != nil {
		return fmt.Errorf("detach %s: %w", a.Key, err)
	}
	if err := n.store.Delete(a.Key); err != nil {
		return fmt.Errorf("detach %s: %w", a.Key, err)
	}
	n.addresses.Release(a.Addrs)
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.attachments, a.Key)
	return nil
}

// forget makes the data path forget a pod interface.
func (n *network) forget(ifindex int) error {
	return errors.Join(n.cfg.Datapath.DeleteEndpoint(ifindex), n.cfg.Datapath.DetachPod(ifindex))
}
