// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/filesystem"
	"slipway.dev/slipway/csi/mount"
)

// defaultFSType is made when the request names none.
const defaultFSType = filesystem.Ext4

// checkCapabilities returns the one file system that all capabilities ask
// for, or InvalidArgument when we cannot serve one of them.
func checkCapabilities(all []*csi.VolumeCapability) (string, error) {
	if len(all) == 0 {
		return "", status.Error(codes.InvalidArgument, "volume capabilities are missing")
	}
	fsType := ""
	for _, c := range all {
		if err := checkCapability(c); err != nil {
			return "", err
		}
		asked := c.GetMount().GetFsType()
		if asked != "" && fsType != "" && asked != fsType {
			return "", status.Errorf(codes.InvalidArgument, "both %s and %s asked for", fsType, asked)
		}
		if asked != "" {
			fsType = asked
		}
	}
	if fsType == "" {
		fsType = defaultFSType
	}
	return fsType, nil
}

func checkCapability(c *csi.VolumeCapability) error {
	switch {
	case c == nil:
		return status.Error(codes.InvalidArgument, "volume capability is missing")
	case c.GetBlock() != nil:
		return status.Error(codes.InvalidArgument, "raw block volumes are not supported")
	case c.GetMount() == nil:
		return status.Error(codes.InvalidArgument, "volume capability has no access type")
	case c.GetMount().GetFsType() != "" && !filesystem.Known(c.GetMount().GetFsType()):
		return status.Errorf(codes.InvalidArgument, "file system %q is not supported", c.GetMount().GetFsType())
	}
	if err := mount.CheckOptions(c.GetMount().GetMountFlags()); err != nil {
		return status.Errorf(codes.InvalidArgument, "mount flags: %v", err)
	}
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
		return nil
	default:
		return status.Errorf(codes.InvalidArgument, "access mode %s is not supported: a volume lives on one node", mode)
	}
}

// fitsFSType says whether a volume with this file system can be mounted as
// asked.
func fitsFSType(all []*csi.VolumeCapability, fsType string) bool {
	return !slices.ContainsFunc(all, func(c *csi.VolumeCapability) bool {
		asked := c.GetMount().GetFsType()
		return asked != "" && asked != fsType
	})
}
