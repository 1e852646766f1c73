// SPDX-License-Identifier: Apache-2.0

package provisioner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/csi/server"
	"slipway.dev/slipway/internal/roottest"
)

const pvName = "pvc-00000000-0000-0000-0000-000000000001"

// fakeController remembers volumes; err is what it answers when set.
type fakeController struct {
	csi.UnimplementedControllerServer
	mu      sync.Mutex
	err     error
	volumes map[string]*csi.CreateVolumeRequest
}

func (c *fakeController) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	id := r.Name + "@node-a"
	c.volumes[id] = r
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: id, CapacityBytes: r.CapacityRange.RequiredBytes,
		AccessibleTopology: r.AccessibilityRequirements.Requisite,
	}}, nil
}

func (c *fakeController) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	delete(c.volumes, r.VolumeId)
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *fakeController) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.volumes)
}

func class() *storagev1.StorageClass {
	late, policy := storagev1.VolumeBindingWaitForFirstConsumer, v1.PersistentVolumeReclaimDelete
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "slipway", UID: "class"}, Provisioner: server.DriverName,
		VolumeBindingMode: &late, ReclaimPolicy: &policy,
		Parameters: map[string]string{"csi.storage.k8s.io/fstype": "xfs"}, MountOptions: []string{"noatime"},
	}
}

// claim is one that the scheduler gave to the node.
func claim(node string) *v1.PersistentVolumeClaim {
	name := "slipway"
	return &v1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: "data", Namespace: "default", UID: "00000000-0000-0000-0000-000000000001",
			Annotations: map[string]string{
				selectedNode: node,
				"volume.kubernetes.io/storage-provisioner": server.DriverName,
			},
		},
		Spec: v1.PersistentVolumeClaimSpec{
			StorageClassName: &name, AccessModes: []v1.PersistentVolumeAccessMode{v1.ReadWriteOnce},
			Resources: v1.VolumeResourceRequirements{Requests: v1.ResourceList{v1.ResourceStorage: resource.MustParse("1Gi")}},
		},
	}
}

// start runs a provisioner of node-a until the test ends.
func start(t *testing.T, client *fake.Clientset, c *fakeController) {
	t.Helper()
	c.volumes = map[string]*csi.CreateVolumeRequest{}
	p, err := New(Config{NodeName: "node-a", Client: client, Controller: c, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestLifeOfAClaim(t *testing.T) {
	client, c := fake.NewClientset(class(), claim("node-a")), &fakeController{}
	start(t, client, c)
	var pv *v1.PersistentVolume
	roottest.Eventually(t, 10*time.Second, func() (err error) {
		pv, err = client.CoreV1().PersistentVolumes().Get(t.Context(), pvName, metav1.GetOptions{})
		return err
	})
	source := pv.Spec.CSI
	if source.Driver != server.DriverName || source.VolumeHandle != pvName+"@node-a" || source.FSType != "xfs" {
		t.Errorf("source: %+v", source)
	}
	term := pv.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0]
	if term.Key != server.TopologyKey || term.Values[0] != "node-a" {
		t.Errorf("affinity: %+v", term)
	}
	if size := pv.Spec.Capacity[v1.ResourceStorage]; size.String() != "1Gi" || pv.Spec.ClaimRef.Name != "data" ||
		pv.Spec.StorageClassName != "slipway" || pv.Spec.MountOptions[0] != "noatime" {
		t.Errorf("spec: %+v", pv.Spec)
	}
	wantEvent(t, client, "Provisioning", "External provisioner is provisioning volume for claim")

	pv.Status.Phase = v1.VolumeReleased
	if _, err := client.CoreV1().PersistentVolumes().UpdateStatus(t.Context(), pv, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	roottest.Eventually(t, 10*time.Second, func() error {
		_, err := client.CoreV1().PersistentVolumes().Get(t.Context(), pvName, metav1.GetOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("volume is not gone: %v", err)
		}
		return nil
	})
	if c.count() != 0 {
		t.Error("the volume's storage is still there")
	}
}

func TestNoSpaceGoesBackToTheScheduler(t *testing.T) {
	client := fake.NewClientset(class(), claim("node-a"))
	start(t, client, &fakeController{err: status.Error(codes.ResourceExhausted, "2 bytes needed, 1 bytes available")})
	roottest.Eventually(t, 10*time.Second, func() error {
		claim, err := client.CoreV1().PersistentVolumeClaims("default").Get(t.Context(), "data", metav1.GetOptions{})
		if err == nil && claim.Annotations[selectedNode] != "" {
			err = errors.New("claim still has its node")
		}
		return err
	})
	wantEvent(t, client, "ProvisioningFailed", "2 bytes needed, 1 bytes available")
}

func TestOtherNodesAreLeftAlone(t *testing.T) {
	p := &Provisioner{config: Config{NodeName: "node-a"}}
	for node, want := range map[string]bool{"node-a": true, "node-b": false, "": false} {
		if got := p.ShouldProvision(t.Context(), claim(node)); got != want {
			t.Errorf("claim for %q: %v, want %v", node, got, want)
		}
	}
	for handle, want := range map[string]bool{"x@node-a": true, "x@node-b": false, "x": false} {
		pv := &v1.PersistentVolume{Spec: v1.PersistentVolumeSpec{PersistentVolumeSource: v1.PersistentVolumeSource{
			CSI: &v1.CSIPersistentVolumeSource{Driver: server.DriverName, VolumeHandle: handle},
		}}}
		if got := p.ShouldDelete(t.Context(), pv); got != want {
			t.Errorf("volume %q: %v, want %v", handle, got, want)
		}
	}
	if p.ShouldDelete(t.Context(), &v1.PersistentVolume{}) {
		t.Error("volume of no driver must be left alone")
	}
}

// wantEvent waits for an event on the claim.
func wantEvent(t *testing.T, client *fake.Clientset, reason, message string) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, func() error {
		events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Reason == reason && strings.Contains(e.Message, message) {
				return nil
			}
		}
		return fmt.Errorf("no event %s with %q in %d", reason, message, len(events.Items))
	})
}
