// SPDX-License-Identifier: Apache-2.0

// Package provisioner makes PersistentVolumes for claims, as the
// external-provisioner sidecar does in its distributed mode: one on each
// node, each serving the claims that the scheduler gave to its node and
// removing the volumes that live there. So there is no leader and no remote
// call; the Controller service is called in the process.
//
// Claims reach a node through the annotation of the scheduler, so classes
// must bind with WaitForFirstConsumer; claims of classes that bind
// immediately stay pending.
//
// The control loop, its queues, events and finalizers are those of
// sig-storage-lib-external-provisioner; this package is what it calls.
package provisioner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/server"
)

const (
	// selectedNode is how the scheduler says on which node a claim's first
	// user will run.
	selectedNode = "volume.kubernetes.io/selected-node"

	// callTimeout bounds one call of the Controller service.
	callTimeout = 2 * time.Minute

	workers      = 4
	retryMin     = time.Second
	retryMax     = 5 * time.Minute
	neverGiveUp  = 0
	storeRetries = 5 * time.Second
)

// Config of a provisioner.
type Config struct {
	NodeName   string
	Client     kubernetes.Interface
	Controller csi.ControllerServer
	Log        *slog.Logger
}

// Provisioner provisions for one node.
type Provisioner struct {
	config Config
}

var (
	_ controller.Provisioner   = (*Provisioner)(nil)
	_ controller.Qualifier     = (*Provisioner)(nil)
	_ controller.DeletionGuard = (*Provisioner)(nil)
)

// New returns a provisioner.
func New(config Config) (*Provisioner, error) {
	if config.NodeName == "" || config.Client == nil || config.Controller == nil || config.Log == nil {
		return nil, errors.New("configure provisioner: node name, client, controller and log must be set")
	}
	return &Provisioner{config: config}, nil
}

// Run serves claims until the context ends. It can be called again.
func (p *Provisioner) Run(ctx context.Context) error {
	ctx = klog.NewContext(ctx, logr.FromSlogHandler(p.config.Log.Handler()))
	loop := controller.NewProvisionController(ctx, p.config.Client, server.DriverName, p,
		controller.LeaderElection(false),
		controller.AddFinalizer(true),
		controller.Threadiness(workers),
		controller.FailedProvisionThreshold(neverGiveUp),
		controller.FailedDeleteThreshold(neverGiveUp),
		controller.RateLimiter(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryMin, retryMax)),
		controller.CreateProvisionedPVLimiter(workqueue.NewTypedItemExponentialFailureRateLimiter[string](storeRetries, retryMax)),
	)
	loop.Run(ctx)
	if ctx.Err() == nil {
		return errors.New("run provisioner: control loop ended")
	}
	return nil
}

// ShouldProvision is true for claims that were given to this node.
func (p *Provisioner) ShouldProvision(_ context.Context, claim *v1.PersistentVolumeClaim) bool {
	return claim.Annotations[selectedNode] == p.config.NodeName
}

// ShouldDelete is true for volumes that live on this node.
func (p *Provisioner) ShouldDelete(_ context.Context, volume *v1.PersistentVolume) bool {
	if volume.Spec.CSI == nil || volume.Spec.CSI.Driver != server.DriverName {
		return false
	}
	handle, err := backend.ParseHandle(volume.Spec.CSI.VolumeHandle)
	return err == nil && handle.Node == p.config.NodeName
}

// Provision makes the volume of a claim.
func (p *Provisioner) Provision(ctx context.Context, options controller.ProvisionOptions) (*v1.PersistentVolume, controller.ProvisioningState, error) {
	request, err := requestFor(options, p.config.NodeName)
	if err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := p.config.Controller.CreateVolume(ctx, request)
	if err != nil {
		return nil, stateAfter(err), fmt.Errorf("failed to provision volume with StorageClass %q: %w", options.StorageClass.Name, err)
	}
	return persistentVolume(options, response.GetVolume(), request.GetVolumeCapabilities()[0].GetMount().GetFsType()), controller.ProvisioningFinished, nil
}

// Delete removes the volume of a released PersistentVolume.
func (p *Provisioner) Delete(ctx context.Context, volume *v1.PersistentVolume) error {
	if !p.ShouldDelete(ctx, volume) {
		return &controller.IgnoredError{Reason: "volume lives on another node"}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := p.config.Controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: volume.Spec.CSI.VolumeHandle})
	if isInUse(err) {
		return &controller.VolumeInUseError{Reason: err.Error()}
	}
	return err
}
