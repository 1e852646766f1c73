// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/internal/keylock"
)

// lockedController lets one call for one volume in at a time.
type lockedController struct {
	*controller
	locks *keylock.Locks[string]
}

func (c *lockedController) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	// The id derives from the name, so this is the same lock that the
	// volume's other calls take.
	return locked(ctx, c.locks, string(backend.IDFor(r.GetName())), r, c.controller.CreateVolume)
}

func (c *lockedController) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return locked(ctx, c.locks, keyOf(r.GetVolumeId()), r, c.controller.DeleteVolume)
}

// lockedNode lets one call for one volume in at a time.
type lockedNode struct {
	*node
	locks *keylock.Locks[string]
}

func (n *lockedNode) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	return locked(ctx, n.locks, keyOf(r.GetVolumeId()), r, n.node.NodeStageVolume)
}

func (n *lockedNode) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	return locked(ctx, n.locks, keyOf(r.GetVolumeId()), r, n.node.NodeUnstageVolume)
}

func (n *lockedNode) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	return locked(ctx, n.locks, keyOf(r.GetVolumeId()), r, n.node.NodePublishVolume)
}

func (n *lockedNode) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	return locked(ctx, n.locks, keyOf(r.GetVolumeId()), r, n.node.NodeUnpublishVolume)
}

// locked runs the call while it holds the key's lock. Aborted means that the
// context ended first.
func locked[Request, Response any](ctx context.Context, l *keylock.Locks[string], key string, r Request, call func(context.Context, Request) (Response, error)) (Response, error) {
	release, err := l.Take(ctx, key)
	if err != nil {
		var none Response
		return none, status.Errorf(codes.Aborted, "another operation on volume %s is pending", key)
	}
	defer release()
	return call(ctx, r)
}

// keyOf is the lock of a handle: its id, or itself when it is malformed.
func keyOf(handle string) string {
	if h, err := backend.ParseHandle(handle); err == nil {
		return string(h.ID)
	}
	return handle
}
