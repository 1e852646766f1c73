// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
)

// defaultBytes is the size of a volume that is asked for without one.
const defaultBytes = 1 << 30

// tokenPrefix marks a ListVolumes token; after it comes the last id given.
const tokenPrefix = "after:"

// controller is the Controller service without locks.
type controller struct {
	csi.UnimplementedControllerServer
	nodeName string
	pool     backend.Pool
}

func (c *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_GET_CAPACITY,
		csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return response, nil
}

func (c *controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	spec, err := specOf(r)
	if err != nil {
		return nil, err
	}
	if !c.reachable(r.GetAccessibilityRequirements()) {
		return nil, status.Errorf(codes.ResourceExhausted, "volume must be accessible from other nodes than %s", c.nodeName)
	}
	v, err := c.pool.Create(ctx, spec)
	if err != nil {
		return nil, toStatus(err)
	}
	return &csi.CreateVolumeResponse{Volume: c.describe(v)}, nil
}

// specOf reads a CreateVolume request.
func specOf(r *csi.CreateVolumeRequest) (backend.Spec, error) {
	switch {
	case r.GetName() == "":
		return backend.Spec{}, status.Error(codes.InvalidArgument, "name is missing")
	case r.GetVolumeContentSource() != nil:
		return backend.Spec{}, status.Error(codes.InvalidArgument, "volumes with initial content are not supported")
	case len(r.GetMutableParameters()) > 0:
		return backend.Spec{}, status.Error(codes.InvalidArgument, "mutable parameters are not supported")
	}
	for key := range r.GetParameters() {
		return backend.Spec{}, status.Errorf(codes.InvalidArgument, "unknown parameter %q", key)
	}
	fsType, err := checkCapabilities(r.GetVolumeCapabilities())
	if err != nil {
		return backend.Spec{}, err
	}
	bytes, limit := r.GetCapacityRange().GetRequiredBytes(), r.GetCapacityRange().GetLimitBytes()
	if bytes < 0 || limit < 0 || limit != 0 && limit < bytes {
		return backend.Spec{}, status.Errorf(codes.InvalidArgument, "capacity range: required %d bytes, limit %d bytes", bytes, limit)
	}
	if bytes == 0 {
		bytes = defaultBytes
		if limit != 0 {
			bytes = min(bytes, limit)
		}
	}
	return backend.Spec{ID: backend.IDFor(r.GetName()), Name: r.GetName(), Bytes: bytes, LimitBytes: limit, FSType: fsType}, nil
}

func (c *controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.GetVolumeId() == "" {
		return nil, status.Error(codes.InvalidArgument, "volume id is missing")
	}
	handle, err := backend.ParseHandle(r.GetVolumeId())
	if err != nil {
		// Never one of ours, so it is as good as deleted.
		return &csi.DeleteVolumeResponse{}, nil
	}
	if handle.Node != c.nodeName {
		return nil, status.Errorf(codes.FailedPrecondition, "volume lives on node %s, this is %s", handle.Node, c.nodeName)
	}
	if err := c.pool.Delete(ctx, handle.ID); err != nil {
		return nil, toStatus(err)
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *controller) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	id, err := localID(r.GetVolumeId(), c.nodeName)
	if err != nil {
		return nil, err
	}
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "volume capabilities are missing")
	}
	v, err := c.pool.Get(id)
	if err != nil {
		return nil, toStatus(err)
	}
	fsType, err := checkCapabilities(r.GetVolumeCapabilities())
	if err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: status.Convert(err).Message()}, nil
	}
	if !fitsFSType(r.GetVolumeCapabilities(), v.FSType) {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: "file system is " + v.FSType + ", not " + fsType}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeContext:      r.GetVolumeContext(),
			VolumeCapabilities: r.GetVolumeCapabilities(),
			Parameters:         r.GetParameters(),
		},
	}, nil
}

func (c *controller) GetCapacity(_ context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	if t := r.GetAccessibleTopology(); t != nil && !c.isHere(t) {
		return &csi.GetCapacityResponse{}, nil
	}
	if len(r.GetVolumeCapabilities()) > 0 {
		if _, err := checkCapabilities(r.GetVolumeCapabilities()); err != nil {
			return &csi.GetCapacityResponse{}, nil
		}
	}
	capacity, err := c.pool.Capacity()
	if err != nil {
		return nil, toStatus(err)
	}
	return &csi.GetCapacityResponse{AvailableCapacity: capacity.Available}, nil
}

// ListVolumes gives volumes ordered by id. The token is the last id given,
// so that volumes that come and go between pages do no harm.
func (c *controller) ListVolumes(_ context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	if r.GetMaxEntries() < 0 {
		return nil, status.Errorf(codes.InvalidArgument, "max entries is %d", r.GetMaxEntries())
	}
	after, err := parseToken(r.GetStartingToken())
	if err != nil {
		return nil, status.Errorf(codes.Aborted, "starting token: %v", err)
	}
	volumes, err := c.pool.List()
	if err != nil {
		return nil, toStatus(err)
	}
	response := &csi.ListVolumesResponse{}
	var last backend.ID
	for _, v := range volumes {
		if v.ID <= after {
			continue
		}
		if n := int(r.GetMaxEntries()); n > 0 && len(response.Entries) == n {
			response.NextToken = tokenPrefix + string(last)
			break
		}
		response.Entries = append(response.Entries, &csi.ListVolumesResponse_Entry{Volume: c.describe(v)})
		last = v.ID
	}
	return response, nil
}

func parseToken(token string) (backend.ID, error) {
	if token == "" {
		return "", nil
	}
	id, found := strings.CutPrefix(token, tokenPrefix)
	if !found {
		return "", errors.New("not one of ours")
	}
	return backend.ParseID(id)
}

func (c *controller) describe(v backend.Volume) *csi.Volume {
	return &csi.Volume{
		VolumeId:           backend.Handle{ID: v.ID, Node: c.nodeName}.String(),
		CapacityBytes:      v.Bytes,
		AccessibleTopology: []*csi.Topology{{Segments: map[string]string{TopologyKey: c.nodeName}}},
	}
}

// reachable says whether a volume on this node meets the requirement.
func (c *controller) reachable(r *csi.TopologyRequirement) bool {
	if len(r.GetRequisite()) == 0 {
		return true
	}
	for _, t := range r.GetRequisite() {
		if c.isHere(t) {
			return true
		}
	}
	return false
}

func (c *controller) isHere(t *csi.Topology) bool {
	name, named := t.GetSegments()[TopologyKey]
	return !named || name == c.nodeName
}
