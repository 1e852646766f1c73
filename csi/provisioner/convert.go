// SPDX-License-Identifier: Apache-2.0

package provisioner

import (
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"slipway.dev/slipway/csi/server"
)

const (
	// Parameters with this prefix are for the provisioner, not the driver.
	reservedPrefix = "csi.storage.k8s.io/"
	fsTypeKey      = reservedPrefix + "fstype"

	defaultFSType = "ext4"
)

// requestFor turns a claim and its class into a CreateVolume request. What
// can never be served is InvalidArgument, which the control loop retries
// slowly.
func requestFor(options controller.ProvisionOptions, nodeName string) (*csi.CreateVolumeRequest, error) {
	spec := options.PVC.Spec
	switch {
	case spec.Selector != nil:
		return nil, status.Error(codes.InvalidArgument, "claim Selector is not supported")
	case spec.DataSource != nil || spec.DataSourceRef != nil:
		return nil, status.Error(codes.InvalidArgument, "claim data source is not supported")
	case spec.VolumeMode != nil && *spec.VolumeMode != v1.PersistentVolumeFilesystem:
		return nil, status.Errorf(codes.InvalidArgument, "volume mode %s is not supported", *spec.VolumeMode)
	}
	fsType, parameters, err := splitParameters(options.StorageClass.Parameters)
	if err != nil {
		return nil, err
	}
	capabilities, err := capabilitiesOf(spec.AccessModes, &csi.VolumeCapability_MountVolume{
		FsType: fsType, MountFlags: options.StorageClass.MountOptions,
	})
	if err != nil {
		return nil, err
	}
	size := spec.Resources.Requests[v1.ResourceStorage]
	return &csi.CreateVolumeRequest{
		Name:               options.PVName,
		CapacityRange:      &csi.CapacityRange{RequiredBytes: size.Value()},
		VolumeCapabilities: capabilities,
		Parameters:         parameters,
		AccessibilityRequirements: &csi.TopologyRequirement{
			Requisite: []*csi.Topology{{Segments: map[string]string{server.TopologyKey: nodeName}}},
		},
	}, nil
}

// splitParameters takes out what is for the provisioner. Secrets and other
// reserved keys have no meaning for this driver and are refused.
func splitParameters(all map[string]string) (fsType string, parameters map[string]string, err error) {
	fsType = defaultFSType
	parameters = map[string]string{}
	for key, value := range all {
		switch {
		case strings.EqualFold(key, fsTypeKey):
			fsType = strings.ToLower(value)
		case strings.HasPrefix(key, reservedPrefix):
			return "", nil, status.Errorf(codes.InvalidArgument, "StorageClass parameter %q is not supported", key)
		default:
			parameters[key] = value
		}
	}
	return fsType, parameters, nil
}

// capabilitiesOf gives one capability for each access mode of the claim.
// ReadWriteOnce lets several pods of the node write, ReadWriteOncePod one.
func capabilitiesOf(modes []v1.PersistentVolumeAccessMode, m *csi.VolumeCapability_MountVolume) ([]*csi.VolumeCapability, error) {
	var all []*csi.VolumeCapability
	for _, mode := range modes {
		access := csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER
		switch mode {
		case v1.ReadWriteOnce:
		case v1.ReadWriteOncePod:
			access = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
		default:
			return nil, status.Errorf(codes.InvalidArgument, "access mode %s is not supported: a volume lives on one node", mode)
		}
		all = append(all, &csi.VolumeCapability{
			AccessType: &csi.VolumeCapability_Mount{Mount: m},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: access},
		})
	}
	if len(all) == 0 {
		return nil, status.Error(codes.InvalidArgument, "claim has no access mode")
	}
	return all, nil
}

// persistentVolume describes the volume for the API, bound to its node.
func persistentVolume(options controller.ProvisionOptions, v *csi.Volume, fsType string) *v1.PersistentVolume {
	filesystem := v1.PersistentVolumeFilesystem
	reclaim := v1.PersistentVolumeReclaimDelete
	if options.StorageClass.ReclaimPolicy != nil {
		reclaim = *options.StorageClass.ReclaimPolicy
	}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: v1.PersistentVolumeSpec{
			AccessModes:                   options.PVC.Spec.AccessModes,
			MountOptions:                  options.StorageClass.MountOptions,
			Capacity:                      v1.ResourceList{v1.ResourceStorage: *resource.NewQuantity(v.GetCapacityBytes(), resource.BinarySI)},
			PersistentVolumeReclaimPolicy: reclaim,
			VolumeMode:                    &filesystem,
			NodeAffinity:                  affinity(v.GetAccessibleTopology()),
			PersistentVolumeSource: v1.PersistentVolumeSource{CSI: &v1.CSIPersistentVolumeSource{
				Driver:           server.DriverName,
				VolumeHandle:     v.GetVolumeId(),
				FSType:           fsType,
				VolumeAttributes: v.GetVolumeContext(),
			}},
		},
	}
}

// affinity binds to any of the topologies.
func affinity(topologies []*csi.Topology) *v1.VolumeNodeAffinity {
	var terms []v1.NodeSelectorTerm
	for _, t := range topologies {
		var term v1.NodeSelectorTerm
		for _, key := range slices.Sorted(maps.Keys(t.GetSegments())) {
			term.MatchExpressions = append(term.MatchExpressions, v1.NodeSelectorRequirement{
				Key: key, Operator: v1.NodeSelectorOpIn, Values: []string{t.GetSegments()[key]},
			})
		}
		terms = append(terms, term)
	}
	return &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{NodeSelectorTerms: terms}}
}

// stateAfter says what an error of CreateVolume means for the claim: where
// space lacks the scheduler shall choose again; after a timeout the volume
// may be there; all else is final for this attempt.
func stateAfter(err error) controller.ProvisioningState {
	switch status.Code(err) {
	case codes.ResourceExhausted:
		return controller.ProvisioningReschedule
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.Aborted:
		return controller.ProvisioningInBackground
	}
	return controller.ProvisioningFinished
}

func isInUse(err error) bool { return status.Code(err) == codes.FailedPrecondition }
