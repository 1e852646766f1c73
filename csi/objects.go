// SPDX-License-Identifier: Apache-2.0

package csi

import (
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StorageClassName is the name of the class that a cluster gets.
const StorageClassName = "slipway"

// defaultClass marks the class for claims that name none.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// CSIDriverObject tells Kubernetes what the driver needs: nothing is
// attached by the control plane, and kubelet applies fsGroup.
func CSIDriverObject() *storagev1.CSIDriver {
	no := false
	fsGroup := storagev1.FileFSGroupPolicy
	return &storagev1.CSIDriver{
		TypeMeta:   metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "CSIDriver"},
		ObjectMeta: metav1.ObjectMeta{Name: DriverName},
		Spec: storagev1.CSIDriverSpec{
			AttachRequired:       &no,
			PodInfoOnMount:       &no,
			StorageCapacity:      &no,
			RequiresRepublish:    &no,
			SELinuxMount:         &no,
			FSGroupPolicy:        &fsGroup,
			VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
		},
	}
}

// StorageClassObject is the default class: volumes are made on the node the
// pod was scheduled to and go with their claim.
func StorageClassObject() *storagev1.StorageClass {
	reclaim := v1.PersistentVolumeReclaimDelete
	binding := storagev1.VolumeBindingWaitForFirstConsumer
	return &storagev1.StorageClass{
		TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"},
		ObjectMeta: metav1.ObjectMeta{
			Name:        StorageClassName,
			Annotations: map[string]string{defaultClass: "true"},
		},
		Provisioner:       DriverName,
		ReclaimPolicy:     &reclaim,
		VolumeBindingMode: &binding,
	}
}
