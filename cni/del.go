// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/types"

	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/cni/store"
)

// del is the verb DEL. It needs nothing from the pod's namespace, and is done
// when there is no such attachment.
func (n *network) del(ctx context.Context, r socket.Request) error {
	return n.remove(ctx, store.Key{ContainerID: r.ContainerID, IfName: r.IfName})
}

func (n *network) remove(ctx context.Context, key store.Key) error {
	release, err := n.lock(ctx, key)
	if err != nil {
		return err
	}
	defer release()
	a := n.find(key)
	if a == nil {
		return nil
	}
	return n.detach(a)
}

// gc is the verb GC: it removes the attachments of a network that the runtime
// does not list, and pod interfaces that belong to none. The caller holds
// gate for writing.
func (n *network) gc(ctx context.Context, conf types.PluginConf) error {
	valid := map[store.Key]bool{}
	for _, v := range conf.ValidAttachments {
		valid[store.Key{ContainerID: v.ContainerID, IfName: v.IfName}] = true
	}
	var failed []error
	for _, key := range n.keys() {
		if valid[key] || n.find(key).Network != conf.Name {
			continue
		}
		n.cfg.Log.Info("removing an attachment that the runtime does not know", "attachment", key)
		failed = append(failed, n.remove(ctx, key))
	}
	failed = append(failed, n.sweep())
	return errors.Join(failed...)
}
