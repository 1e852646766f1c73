// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"fmt"
	"slices"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/cni/store"
)

// reconcile brings records, pod interfaces and the data path together after a
// start. Pods with a record and an interface go on; a record without an
// interface is of a pod that is gone, and an interface without a record is of
// one that nobody was told about: both are removed.
func (n *network) reconcile() error {
	records, corrupt, err := n.store.Load()
	if err != nil {
		return err
	}
	for _, reason := range corrupt {
		n.cfg.Log.Error("attachment record is corrupt, its pod loses its network", "err", reason)
	}
	pods, err := n.host.Pods()
	if err != nil {
		return err
	}
	for _, record := range records {
		ifindex, ok := pods[record.HostName]
		if !ok {
			n.cfg.Log.Info("removing the record of a pod that is gone", "attachment", record.Key)
			if err := n.store.Delete(record.Key); err != nil {
				return err
			}
			continue
		}
		if err := n.adopt(&attachment{Record: record, ifindex: ifindex}); err != nil {
			return err
		}
	}
	return n.sweep()
}

// adopt takes over a pod that an earlier run has made.
func (n *network) adopt(a *attachment) error {
	if err := n.addresses.Reserve(a.Addrs); err != nil {
		n.cfg.Log.Error("two pods have one address, removing one", "attachment", a.Key, "err", err)
		return n.store.Delete(a.Key) // sweep removes the rest.
	}
	if !n.ours(a) {
		n.cfg.Log.Warn("pod keeps addresses outside of the node's pod cidrs", "attachment", a.Key, "addresses", a.Addrs)
	}
	a.netns = n.cookie(a)
	n.mu.Lock()
	n.attachments[a.Key] = a
	n.mu.Unlock()
	if err := n.connect(a); err != nil {
		if n.exists(a) {
			return fmt.Errorf("adopt %s: %w", a.Key, err)
		}
		n.cfg.Log.Info("pod went away while it was adopted", "attachment", a.Key)
		return n.detach(a)
	}
	return nil
}

// cookie is that of a pod's namespace, or 0: without it the pod is a client by its
// namespace, not by its address, wherever Services know their clients.
func (n *network) cookie(a *attachment) uint64 {
	ns, err := n.host.OpenPod(a.NetNS)
	if err == nil {
		defer ns.Close()
		var cookie uint64
		if cookie, err = ns.Cookie(); err == nil {
			return cookie
		}
	}
	n.cfg.Log.Warn("network namespace of a pod cannot be opened", "attachment", a.Key, "err", err)
	return 0
}

// ours tells whether all addresses are of the node's pod CIDRs.
func (n *network) ours(a *attachment) bool {
	for _, addr := range a.Addrs {
		inside := false
		for _, cidr := range n.cfg.PodCIDRs {
			inside = inside || cidr.Contains(addr)
		}
		if !inside {
			return false
		}
	}
	return true
}

func (n *network) exists(a *attachment) bool {
	pods, err := n.host.Pods()
	return err != nil || pods[a.HostName] == a.ifindex
}

// sweep removes pod interfaces and endpoints that belong to no attachment. No
// verb may run meanwhile.
func (n *network) sweep() error {
	known := map[int]store.Key{}
	for _, key := range n.keys() {
		known[n.find(key).ifindex] = key
	}
	pods, err := n.host.Pods()
	if err != nil {
		return err
	}
	for name, ifindex := range pods {
		if _, ok := known[ifindex]; ok {
			continue
		}
		n.cfg.Log.Info("removing a pod interface without a record", "device", name)
		if err := n.forget(ifindex); err != nil {
			return err
		}
		if err := n.host.Delete(name); err != nil {
			return err
		}
	}
	endpoints, err := n.cfg.Datapath.Endpoints()
	if err != nil {
		return err
	}
	stale := slices.DeleteFunc(endpoints, func(e bpf.Endpoint) bool {
		_, ok := known[e.Ifindex]
		return ok
	})
	for _, e := range stale {
		if err := n.forget(e.Ifindex); err != nil {
			return err
		}
	}
	return nil
}
