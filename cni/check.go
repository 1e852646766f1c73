// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/cni/store"
)

// codeDamaged is the error code of CHECK for a pod that is not as ADD made
// it. Codes from 100 on are free for plugins, CNI specification section 5.
const codeDamaged = 100

// check is the verb CHECK.
func (n *network) check(ctx context.Context, r socket.Request, conf types.PluginConf) error {
	key := store.Key{ContainerID: r.ContainerID, IfName: r.IfName}
	release, err := n.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	a := n.find(key)
	if a == nil {
		return types.NewError(types.ErrUnknownContainer, fmt.Sprintf("no attachment %s", key), "")
	}
	ns, err := n.host.OpenPod(r.NetNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = checkPrevious(a, conf)
	if err == nil {
		err = n.checkAttachment(a, ns)
	}
	if err != nil {
		return types.NewError(codeDamaged, fmt.Sprintf("attachment %s is damaged", key), err.Error())
	}
	return nil
}

// checkAttachment returns how a pod differs from what ADD has made.
func (n *network) checkAttachment(a *attachment, ns *device.Namespace) error {
	if err := n.host.Check(a.ifindex, a.pod()); err != nil {
		return err
	}
	if err := ns.Check(a.pod()); err != nil {
		return err
	}
	endpoints, err := n.cfg.Datapath.Endpoints()
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if e.Ifindex == a.ifindex && sameAddrs(e.Addrs, a.Addrs) {
			return nil
		}
	}
	return fmt.Errorf("data path has no endpoint for %s", a.HostName)
}

func sameAddrs(a, b []netip.Addr) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, netip.Addr.Compare)
	slices.SortFunc(b, netip.Addr.Compare)
	return slices.Equal(a, b)
}

// checkPrevious compares an attachment with the result of ADD that the
// runtime remembers.
func checkPrevious(a *attachment, conf types.PluginConf) error {
	if err := version.ParsePrevResult(&conf); err != nil {
		return err
	}
	if conf.PrevResult == nil {
		return nil
	}
	previous, err := types100.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return err
	}
	for _, ip := range previous.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		if !slices.Contains(a.Addrs, addr.Unmap()) {
			return fmt.Errorf("address %s of the earlier result belongs to another attachment", addr)
		}
	}
	return nil
}

// status is the verb STATUS: an error says why ADD would fail.
func (n *network) status() error {
	n.mu.Lock()
	sick := n.sick
	n.mu.Unlock()
	if sick != nil {
		return types.NewError(types.ErrPluginNotAvailable, "pod network is not ready", sick.Error())
	}
	for _, u := range n.addresses.Usage() {
		if u.Used >= u.Capacity {
			return types.NewError(types.ErrPluginNotAvailable, ipam.ErrExhausted.Error(), fmt.Sprintf("all %d addresses of %s are in use", u.Capacity, u.CIDR))
		}
	}
	return nil
}
