// SPDX-License-Identifier: Apache-2.0

package provisioner

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func TestRequestFor(t *testing.T) {
	block := v1.PersistentVolumeBlock
	for name, test := range map[string]struct {
		change func(*v1.PersistentVolumeClaim, *storagev1.StorageClass)
		want   codes.Code
	}{
		"good":  {func(*v1.PersistentVolumeClaim, *storagev1.StorageClass) {}, codes.OK},
		"block": {func(c *v1.PersistentVolumeClaim, _ *storagev1.StorageClass) { c.Spec.VolumeMode = &block }, codes.InvalidArgument},
		"selector": {func(c *v1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.Selector = &metav1.LabelSelector{}
		}, codes.InvalidArgument},
		"snapshot": {func(c *v1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.DataSource = &v1.TypedLocalObjectReference{}
		}, codes.InvalidArgument},
		"many nodes": {func(c *v1.PersistentVolumeClaim, _ *storagev1.StorageClass) {
			c.Spec.AccessModes = []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce, v1.ReadWriteMany}
		}, codes.InvalidArgument},
		"no access mode": {func(c *v1.PersistentVolumeClaim, _ *storagev1.StorageClass) { c.Spec.AccessModes = nil }, codes.InvalidArgument},
		"secret": {func(_ *v1.PersistentVolumeClaim, c *storagev1.StorageClass) {
			c.Parameters["csi.storage.k8s.io/provisioner-secret-name"] = "x"
		}, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			c, class := claim("node-a"), class()
			test.change(c, class)
			_, err := requestFor(controller.ProvisionOptions{PVC: c, StorageClass: class, PVName: "pvc-1"}, "node-a")
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestCapabilitiesOf(t *testing.T) {
	all, err := capabilitiesOf([]v1.PersistentVolumeAccessMode{v1.ReadWriteOncePod, v1.ReadWriteOnce}, &csi.VolumeCapability_MountVolume{FsType: "ext4"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []csi.VolumeCapability_AccessMode_Mode{
		csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER,
	} {
		if got := all[i].GetAccessMode().GetMode(); got != want {
			t.Errorf("mode %d is %s, want %s", i, got, want)
		}
	}
}

func TestStateAfter(t *testing.T) {
	for code, want := range map[codes.Code]controller.ProvisioningState{
		codes.ResourceExhausted: controller.ProvisioningReschedule,
		codes.DeadlineExceeded:  controller.ProvisioningInBackground,
		codes.Aborted:           controller.ProvisioningInBackground,
		codes.InvalidArgument:   controller.ProvisioningFinished,
		codes.Internal:          controller.ProvisioningFinished,
	} {
		if got := stateAfter(status.Error(code, "")); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
}
