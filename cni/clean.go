// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"errors"
	"fmt"
	"os"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/firewall"
	"slipway.dev/slipway/cni/masquerade"
)

// CleanConfig says what Clean removes. Its fields are those of Config.
type CleanConfig struct {
	Socket        string
	StateDir      string
	ConfDir       string
	GatewayDevice string
	NodeNetNS     string
	// Purge removes the state directory too.
	Purge bool
}

// Clean takes the pod network off a node where no server runs any more: the
// CNI configuration, the socket, all pod interfaces with their routes, the
// gateway device, the masquerade rules and those in the host's firewall. Pods that still run lose their
// network. What the data path keeps is not touched. It does as much as it can
// and can be called again.
func Clean(cfg CleanConfig) error {
	names := Config{Socket: cfg.Socket, GatewayDevice: cfg.GatewayDevice}
	if _, err := os.Stat(cfg.StateDir); err == nil {
		lock, err := lockState(cfg.StateDir)
		if err != nil {
			return fmt.Errorf("clean cni: %w", err)
		}
		defer lock.Close()
	}
	failed := []error{
		removeConf(cfg.ConfDir), removeSocket(names.socket()), cleanHost(cfg.NodeNetNS, names.gatewayDevice()),
		firewall.Remove(cfg.NodeNetNS),
	}
	if cfg.Purge {
		failed = append(failed, os.RemoveAll(cfg.StateDir))
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("clean cni: %w", err)
	}
	return nil
}

// RemoveMasquerade removes the masquerade rules from a network namespace, or
// from that of the process if the path is empty.
func RemoveMasquerade(netNS string) error {
	host, err := device.OpenHost(netNS)
	if err != nil {
		return err
	}
	defer host.Close()
	return masquerade.Remove(host.FD())
}

func cleanHost(netNS, gateway string) error {
	host, err := device.OpenHost(netNS)
	if err != nil {
		return err
	}
	defer host.Close()
	return errors.Join(host.Clean(gateway), masquerade.Remove(host.FD()))
}

func removeSocket(path string) error {
	for _, p := range []string{path, asidePath(path)} {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
