// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/cni/store"
)

// add is the verb ADD. Asked again for a pod that is as it should be, it
// answers the same; anything else that is left of an earlier attempt is
// removed first.
func (n *network) add(ctx context.Context, r socket.Request, conf types.PluginConf) (*types100.Result, error) {
	if conf.RawPrevResult != nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "slipway-cni must be the first plugin of a network", "")
	}
	key := store.Key{ContainerID: r.ContainerID, IfName: r.IfName}
	release, err := n.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer release()
	ns, err := n.host.OpenPod(r.NetNS)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if have := n.find(key); have != nil {
		if have.NetNS == r.NetNS && n.checkAttachment(have, ns) == nil {
			return result(have), nil
		}
		if err := n.detach(have); err != nil {
			return nil, err
		}
	}
	a, err := n.plan(r, conf.Name)
	if err != nil {
		return nil, err
	}
	if err := n.attach(ctx, a, ns); err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s: %w", key, err), n.detach(a))
	}
	return result(a), nil
}

// attach makes a planned attachment. The record comes first, and the pod can
// send only after the data path knows it.
func (n *network) attach(ctx context.Context, a *attachment, ns *device.Namespace) error {
	if err := n.store.Save(a.Record); err != nil {
		return err
	}
	var err error
	if a.netns, err = ns.Cookie(); err != nil {
		return err
	}
	if a.ifindex, err = n.host.Create(ns, a.pod()); err != nil {
		return err
	}
	if err := n.connect(a); err != nil {
		return err
	}
	if err := ns.Configure(ctx, a.pod()); err != nil {
		return err
	}
	return n.host.WaitRunning(ctx, a.ifindex)
}

// connect does the node's part for a pod interface that exists. It changes
// nothing that is right already. The program comes last: a pod that is adopted
// talks already, and its addresses must be known to it.
func (n *network) connect(a *attachment) error {
	if err := n.cfg.Datapath.PutEndpoint(a.endpoint()); err != nil {
		return err
	}
	if err := n.cfg.Datapath.AttachPod(a.ifindex); err != nil {
		return err
	}
	return n.host.Connect(a.ifindex, a.pod())
}

// podOf returns what CNI_ARGS tells about the pod; each may be empty.
func podOf(args string) (namespace, name, uid string) {
	for pair := range strings.SplitSeq(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			namespace = value
		case "K8S_POD_NAME":
			name = value
		case "K8S_POD_UID":
			uid = value
		}
	}
	return namespace, name, uid
}

// result is what ADD answers, CNI specification section 5.
func result(a *attachment) *types100.Result {
	r := &types100.Result{
		CNIVersion: types100.ImplementedSpecVersion,
		Interfaces: []*types100.Interface{
			{Name: a.HostName, Mac: a.HostMAC.Hardware().String(), Mtu: a.MTU},
			{Name: a.IfName, Mac: a.PodMAC.Hardware().String(), Mtu: a.MTU, Sandbox: a.NetNS},
		},
	}
	for i, addr := range a.Addrs {
		gateway := net.IP(a.Gateways[i].AsSlice())
		r.IPs = append(r.IPs, &types100.IPConfig{
			Interface: types100.Int(1), Address: ipNet(netip.PrefixFrom(addr, addr.BitLen())), Gateway: gateway,
		})
		everywhere := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		if addr.Is4() {
			everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		r.Routes = append(r.Routes, &types.Route{Dst: ipNet(everywhere), GW: gateway})
	}
	return r
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
