// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
)

func mountCapability(mode csi.VolumeCapability_AccessMode_Mode, fsType string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType, MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

func blockCapability() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}

const singleNodeWriter = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER

func topology(node string) *csi.Topology {
	return &csi.Topology{Segments: map[string]string{TopologyKey: node}}
}

func TestCreateVolumeCodes(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		below  error
		want   codes.Code
	}{
		"good":              {func(*csi.CreateVolumeRequest) {}, nil, codes.OK},
		"no name":           {func(r *csi.CreateVolumeRequest) { r.Name = "" }, nil, codes.InvalidArgument},
		"unknown parameter": {func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{"x": "y"} }, nil, codes.InvalidArgument},
		"block": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{blockCapability()}
		}, nil, codes.InvalidArgument},
		"many nodes": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		}, nil, codes.InvalidArgument},
		"two file systems": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = append(r.VolumeCapabilities, mountCapability(singleNodeWriter, "xfs"))
		}, nil, codes.InvalidArgument},
		"discard": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{mountCapability(singleNodeWriter, "", "discard")}
		}, nil, codes.InvalidArgument},
		"limit below required": {func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = 1 }, nil, codes.InvalidArgument},
		"negative size":        {func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 }, nil, codes.InvalidArgument},
		"other node": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{topology("node-b")}}
		}, nil, codes.ResourceExhausted},
		"one of two nodes": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{topology("node-b"), topology("node-a")}}
		}, nil, codes.OK},
		"from a snapshot": {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }, nil, codes.InvalidArgument},
		"no space":        {nil, fmt.Errorf("create: %w", &backend.NoSpaceError{Needed: 2, Available: 1}), codes.ResourceExhausted},
		"exists":          {nil, backend.ErrExists, codes.AlreadyExists},
		"size":            {nil, backend.ErrSize, codes.OutOfRange},
		"disk":            {nil, errInjected, codes.Internal},
		"timeout":         {nil, context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.backend.fail["create"] = test.below
			r := &csi.CreateVolumeRequest{
				Name: "pvc-2", CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20},
				VolumeCapabilities: []*csi.VolumeCapability{mountCapability(singleNodeWriter, "ext4")},
			}
			if test.change != nil {
				test.change(r)
			}
			response, err := f.Controller().CreateVolume(t.Context(), r)
			if status.Code(err) != test.want || (err == nil) != (response != nil) {
				t.Errorf("got %v, %v; want %s", response, err, test.want)
			}
		})
	}
}

func TestDeleteVolumeCodes(t *testing.T) {
	for handle, want := range map[string]codes.Code{
		"":             codes.InvalidArgument,
		"nonsense":     codes.OK,
		"../x@node-a":  codes.OK,
		"pvc-1@node-b": codes.FailedPrecondition,
		"pvc-9@node-a": codes.OK,
		"pvc-1@node-a": codes.OK,
	} {
		f := newFixture(t)
		_, err := f.Controller().DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: handle})
		if status.Code(err) != want {
			t.Errorf("%q: got %v, want %s", handle, err, want)
		}
		if gone := f.backend.volumes["pvc-1"].ID == ""; gone != (handle == "pvc-1@node-a") {
			t.Errorf("%q: volume gone: %v", handle, gone)
		}
	}
}

func TestListVolumesPages(t *testing.T) {
	f := newFixture(t)
	for _, id := range []backend.ID{"pvc-2", "pvc-3", "pvc-4"} {
		f.backend.volumes[id] = backend.Volume{ID: id}
	}
	var got []string
	token := ""
	for page := 0; page == 0 || token != ""; page++ {
		r, err := f.Controller().ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 2, StartingToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries {
			got = append(got, e.Volume.VolumeId)
		}
		// The volume that the token names goes away between the pages.
		delete(f.backend.volumes, "pvc-2")
		token = r.NextToken
	}
	if diff := cmp.Diff([]string{"pvc-1@node-a", "pvc-2@node-a", "pvc-3@node-a", "pvc-4@node-a"}, got); diff != "" {
		t.Errorf("volumes (-want +got):\n%s", diff)
	}
	_, err := f.Controller().ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: "x"})
	if status.Code(err) != codes.Aborted {
		t.Errorf("bad token gives %v", err)
	}
}

func TestGetCapacity(t *testing.T) {
	for node, want := range map[string]int64{"node-a": 60, "node-b": 0} {
		r, err := newFixture(t).Controller().GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: topology(node)})
		if err != nil || r.AvailableCapacity != want {
			t.Errorf("%s: got %v, %v, want %d", node, r, err, want)
		}
	}
}
