// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
)

// NodePublishVolume makes the staged volume appear at the target path.
func (n *node) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := checkPath("target path", r.GetTargetPath()); err != nil {
		return nil, err
	}
	if err := checkCapability(r.GetVolumeCapability()); err != nil {
		return nil, err
	}
	id, err := localID(r.GetVolumeId(), n.nodeName)
	if err != nil {
		return nil, err
	}
	if r.GetStagingTargetPath() == "" {
		return nil, status.Error(codes.FailedPrecondition, "staging target path is missing")
	}
	if _, err := n.backend.Get(id); err != nil {
		return nil, toStatus(err)
	}
	mode := r.GetVolumeCapability().GetAccessMode().GetMode()
	if err := n.publish(publication{
		id: id, staging: r.GetStagingTargetPath(), target: r.GetTargetPath(),
		readOnly:     r.GetReadonly() || mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		singleWriter: mode == csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
	}); err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// publication is one target of a staged volume.
type publication struct {
	id           backend.ID
	staging      string
	target       string
	readOnly     bool
	singleWriter bool
}

func (n *node) publish(p publication) error {
	devices, err := n.backend.Attached(p.id)
	if err != nil {
		return err
	}
	staged, err := n.at(p.staging, devices)
	if err != nil {
		return err
	}
	if staged == nil {
		return status.Errorf(codes.FailedPrecondition, "volume %s is not staged at %s", p.id, p.staging)
	}
	have, err := n.at(p.target, devices)
	if err != nil {
		return err
	}
	if have != nil {
		// We may have died between the two steps of a read-only bind.
		if p.readOnly && !have.ReadOnly {
			return n.mounts.MakeReadOnly(p.target)
		}
		return nil
	}
	if p.singleWriter {
		if err := n.checkSingle(staged.Path, devices); err != nil {
			return err
		}
	}
	if err := n.bind(p); err != nil {
		return fmt.Errorf("publish volume %s: %w", p.id, err)
	}
	n.log.Info("volume published", "volume", p.id, "path", p.target, "readOnly", p.readOnly)
	return nil
}

// checkSingle fails when the volume is mounted anywhere but on its staging
// path. Parts of it, as kubelet binds them for subPath, do not count.
func (n *node) checkSingle(staging string, devices []uint64) error {
	entries, err := n.mounts.Of(devices...)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Path != staging && e.Root == "/" {
			return status.Errorf(codes.FailedPrecondition, "volume has a single writer and is published at %s", e.Path)
		}
	}
	return nil
}

// bind makes the target and binds the volume to it, or leaves nothing.
func (n *node) bind(p publication) error {
	if err := os.MkdirAll(p.target, 0o750); err != nil {
		return err
	}
	if err := n.mounts.Bind(p.staging, p.target); err != nil {
		return errors.Join(err, removeTarget(p.target))
	}
	if !p.readOnly {
		return nil
	}
	if err := n.mounts.MakeReadOnly(p.target); err != nil {
		return errors.Join(err, n.mounts.Unmount(p.target), removeTarget(p.target))
	}
	return nil
}

// NodeUnpublishVolume unmounts the target path and removes it. It also works
// for volumes that are gone.
func (n *node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id is missing")
	}
	target := r.GetTargetPath()
	if err := checkPath("target path", target); err != nil {
		return nil, err
	}
	if err := n.unmountAll(target); err != nil {
		return nil, toStatus(err)
	}
	if err := removeTarget(target); err != nil {
		return nil, toStatus(err)
	}
	n.log.Info("volume unpublished", "volume", r.GetVolumeId(), "path", target)
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// removeTarget removes the empty directory; it never removes what is inside.
func removeTarget(target string) error {
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove target: %w", err)
	}
	return nil
}

// usageOf reads what df reads.
func usageOf(path string) ([]*csi.VolumeUsage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return []*csi.VolumeUsage{
		{
			Unit:      csi.VolumeUsage_BYTES,
			Total:     int64(st.Blocks) * st.Bsize,
			Available: int64(st.Bavail) * st.Bsize,
			Used:      int64(st.Blocks-st.Bfree) * st.Bsize,
		},
		{
			Unit:      csi.VolumeUsage_INODES,
			Total:     int64(st.Files),
			Available: int64(st.Ffree),
			Used:      int64(st.Files - st.Ffree),
		},
	}, nil
}
