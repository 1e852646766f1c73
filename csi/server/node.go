// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/mount"
)

// maxStacked is how many mounts on one path are taken off at most.
const maxStacked = 16

// node is the Node service without locks.
type node struct {
	csi.UnimplementedNodeServer
	nodeName string
	backend  backend.Backend
	mounts   Mounter
	check    func(ctx context.Context, device, fsType string) error
	log      *slog.Logger
}

func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{
		NodeId:             n.nodeName,
		AccessibleTopology: &csi.Topology{Segments: map[string]string{TopologyKey: n.nodeName}},
	}, nil
}

func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return response, nil
}

// NodeStageVolume attaches the volume and mounts it on the staging path.
// Between the two the device is held open; if we die there, it detaches.
func (n *node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	staging := r.GetStagingTargetPath()
	if err := checkPath("staging target path", staging); err != nil {
		return nil, err
	}
	if err := checkCapability(r.GetVolumeCapability()); err != nil {
		return nil, err
	}
	id, err := localID(r.GetVolumeId(), n.nodeName)
	if err != nil {
		return nil, err
	}
	v, err := n.backend.Get(id)
	if err != nil {
		return nil, toStatus(err)
	}
	if !fitsFSType([]*csi.VolumeCapability{r.GetVolumeCapability()}, v.FSType) {
		return nil, status.Errorf(codes.InvalidArgument, "volume %s has file system %s", id, v.FSType)
	}
	if err := n.stage(ctx, v, staging, r.GetVolumeCapability().GetMount().GetMountFlags()); err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

func (n *node) stage(ctx context.Context, v backend.Volume, staging string, options []string) error {
	devices, err := n.backend.Attached(v.ID)
	if err != nil {
		return err
	}
	have, err := n.at(staging, devices)
	if err != nil || have != nil {
		return err
	}
	if err := os.MkdirAll(staging, 0o750); err != nil {
		return fmt.Errorf("stage volume %s: %w", v.ID, err)
	}
	device, err := n.backend.Attach(ctx, v.ID)
	if err != nil {
		return err
	}
	defer device.Close()
	if device.Fresh {
		if err := n.check(ctx, device.Path, v.FSType); err != nil {
			return fmt.Errorf("stage volume %s: %w", v.ID, err)
		}
	}
	if err := n.mounts.Mount(device.Path, staging, v.FSType, options); err != nil {
		return fmt.Errorf("stage volume %s: %w", v.ID, err)
	}
	n.log.Info("volume staged", "volume", v.ID, "device", device.Path, "path", staging)
	return nil
}

// NodeUnstageVolume unmounts the staging path; the device detaches with the
// last mount. It also works for volumes that are gone.
func (n *node) NodeUnstageVolume(_ context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id is missing")
	}
	if err := checkPath("staging target path", r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	if err := n.unmountAll(r.GetStagingTargetPath()); err != nil {
		return nil, toStatus(err)
	}
	n.log.Info("volume unstaged", "volume", r.GetVolumeId(), "path", r.GetStagingTargetPath())
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodeGetVolumeStats reports bytes and inodes of a published volume.
func (n *node) NodeGetVolumeStats(_ context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if r.GetVolumePath() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume path is missing")
	}
	id, err := localID(r.GetVolumeId(), n.nodeName)
	if err != nil {
		return nil, err
	}
	if _, err := n.backend.Get(id); err != nil {
		return nil, toStatus(err)
	}
	devices, err := n.backend.Attached(id)
	if err != nil {
		return nil, toStatus(err)
	}
	entries, err := n.mounts.At(r.GetVolumePath())
	if err != nil {
		return nil, toStatus(err)
	}
	if len(entries) == 0 || !slices.Contains(devices, entries[len(entries)-1].Device) {
		return nil, status.Errorf(codes.NotFound, "volume %s is not mounted at %s", id, r.GetVolumePath())
	}
	usage, err := usageOf(r.GetVolumePath())
	if err != nil {
		return nil, toStatus(err)
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: usage}, nil
}

// at returns the mount of one of the devices at path, nil when nothing is
// mounted there, and FailedPrecondition when something else is.
func (n *node) at(path string, devices []uint64) (*mount.Entry, error) {
	entries, err := n.mounts.At(path)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	top := entries[len(entries)-1]
	if !slices.Contains(devices, top.Device) {
		return nil, status.Errorf(codes.FailedPrecondition, "another file system is mounted at %s", path)
	}
	return &top, nil
}

// unmountAll takes off every mount at path, the topmost first.
func (n *node) unmountAll(path string) error {
	for range maxStacked {
		entries, err := n.mounts.At(path)
		if err != nil || len(entries) == 0 {
			return err
		}
		if err := n.mounts.Unmount(path); err != nil {
			return err
		}
	}
	return fmt.Errorf("unmount %s: still mounted after %d times", path, maxStacked)
}

func checkPath(what, path string) error {
	if path == "" {
		return status.Errorf(codes.InvalidArgument, "%s is missing", what)
	}
	if !filepath.IsAbs(path) {
		return status.Errorf(codes.InvalidArgument, "%s %q is not absolute", what, path)
	}
	return nil
}
