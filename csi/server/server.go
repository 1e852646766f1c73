// SPDX-License-Identifier: Apache-2.0

// Package server implements the services of the Container Storage Interface
// (https://github.com/container-storage-interface/spec) on a backend:
// Identity, Controller and Node. It owns the translation between the
// protocol's words and the backend's, mounts, and gRPC codes; it stores
// nothing. What is mounted is read from the kernel each time.
//
// The services are written without locks. New puts each behind a wrapper
// that lets one call for one volume run at a time; calls for different
// volumes run in parallel. A call that waits for its turn until its deadline
// ends with Aborted.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"slipway.dev/slipway/csi/backend"
	"slipway.dev/slipway/csi/mount"
	"slipway.dev/slipway/internal/keylock"
)

const (
	// DriverName is the name of the driver in CSIDriver and StorageClass.
	DriverName = "csi.slipway.dev"
	// TopologyKey is the topology segment whose value is the node's name.
	TopologyKey = "topology.csi.slipway.dev/node"
)

// maxLabelValue is how long a node's name may be: kubelet makes it the value
// of the label TopologyKey.
const maxLabelValue = 63

// Mounter is what the node service needs of the mount table; see
// mount.Table.
type Mounter interface {
	Mount(device, target, fsType string, options []string) error
	Bind(source, target string) error
	MakeReadOnly(target string) error
	Unmount(target string) error
	At(path string) ([]mount.Entry, error)
	Of(devices ...uint64) ([]mount.Entry, error)
}

// Config of the services.
type Config struct {
	NodeName string
	// Version is what GetPluginInfo reports.
	Version string
	Backend backend.Backend
	Mounts  Mounter
	// Check repairs the file system on a device before it is mounted.
	Check func(ctx context.Context, device, fsType string) error
	Log   *slog.Logger
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	if _, err := backend.ParseHandle(backend.Handle{ID: "x", Node: c.NodeName}.String()); err != nil {
		return fmt.Errorf("node name %q is not the name of a node", c.NodeName)
	}
	if len(c.NodeName) > maxLabelValue {
		return fmt.Errorf("node name %q is longer than the %d bytes of a label value", c.NodeName, maxLabelValue)
	}
	if c.Backend == nil || c.Mounts == nil || c.Check == nil || c.Log == nil {
		return errors.New("backend, mounts, check and log must be set")
	}
	return nil
}

// Server holds the three services.
type Server struct {
	identity   *identity
	controller *lockedController
	node       *lockedNode
}

// New returns the services.
func New(config Config) (*Server, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("configure csi services: %w", err)
	}
	locks := keylock.New[string]()
	return &Server{
		identity: &identity{version: config.Version, pool: config.Backend},
		controller: &lockedController{
			controller: &controller{nodeName: config.NodeName, pool: config.Backend},
			locks:      locks,
		},
		node: &lockedNode{
			node: &node{
				nodeName: config.NodeName, backend: config.Backend,
				mounts: config.Mounts, check: config.Check, log: config.Log,
			},
			locks: locks,
		},
	}, nil
}

// Register adds the services to a gRPC server.
func (s *Server) Register(registrar grpc.ServiceRegistrar) {
	csi.RegisterIdentityServer(registrar, s.identity)
	csi.RegisterControllerServer(registrar, s.controller)
	csi.RegisterNodeServer(registrar, s.node)
}

// Controller is the controller service, for callers in this process.
func (s *Server) Controller() csi.ControllerServer { return s.controller }

// Node is the node service, for callers in this process.
func (s *Server) Node() csi.NodeServer { return s.node }
