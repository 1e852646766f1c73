// SPDX-License-Identifier: Apache-2.0

// Package csi is the storage driver csi.slipway.dev of one node, whole: the
// CSI services on a socket that any kubelet can use, the registration with
// that kubelet, and the provisioner that makes PersistentVolumes for claims
// whose pods were scheduled to the node. There is no sidecar.
//
// It owns <Root> (the volumes) and, below the kubelet's directory, the two
// sockets and the mounts of its volumes. It owns no mount and no device in
// memory: those are read from the kernel, so a driver that was killed and
// started again goes on where it was, and pods keep their volumes meanwhile.
//
// The sockets stay when Run ends, so that a restart does not look to kubelet
// like a driver that was removed; Clean removes them.
//
// New, Run and Volumes may be used from any goroutine; only one Run, in any
// process, can have a Root at a time.
package csi

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"slipway.dev/slipway/csi/server"
)

// DriverName is the name of the driver in CSIDriver, CSINode and
// StorageClass objects.
const DriverName = server.DriverName

// TopologyKey is the node label with the node's name that volumes are bound to.
const TopologyKey = server.TopologyKey

// maxSocketPath is what fits into a unix socket address.
const maxSocketPath = 107

// Config of a driver.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	// Root holds the volumes; absolute, such as /var/lib/slipway/volumes.
	Root string
	// KubeletRoot is the kubelet's --root-dir, such as /var/lib/kubelet.
	KubeletRoot string
	// Version is reported to kubelet; may be empty.
	Version string
	// ReserveBytes stay free in the file system that holds Root. 0 means a
	// twentieth of it, at most 1 GiB; a negative number means none.
	ReserveBytes int64
	// Client reaches the API server for the provisioner. Without it the
	// driver only serves the sockets.
	Client kubernetes.Interface
	// Registry gets the metrics; may be nil.
	Registry prometheus.Registerer
	Log      *slog.Logger
}

// Validate returns what is wrong with the configuration.
func (c Config) Validate() error {
	for name, path := range map[string]string{"root": c.Root, "kubelet root": c.KubeletRoot} {
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return fmt.Errorf("%s %q must be an absolute path below /", name, path)
		}
	}
	if c.NodeName == "" || c.Log == nil {
		return errors.New("node name and log must be set")
	}
	for _, socket := range []string{pluginSocket(c.KubeletRoot), registrationSocket(c.KubeletRoot)} {
		if n := len(asidePath(socket)); n > maxSocketPath {
			return fmt.Errorf("kubelet root %q is too long: a socket path would have %d of at most %d bytes", c.KubeletRoot, n, maxSocketPath)
		}
	}
	return nil
}

func pluginSocket(kubeletRoot string) string {
	return filepath.Join(kubeletRoot, "plugins", DriverName, "csi.sock")
}

func registrationSocket(kubeletRoot string) string {
	return filepath.Join(kubeletRoot, "plugins_registry", DriverName+"-reg.sock")
}
