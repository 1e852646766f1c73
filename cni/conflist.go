// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"slipway.dev/slipway/cni/socket"
	"slipway.dev/slipway/internal/atomicfile"
)

const (
	// NetworkName is the name in the CNI configuration.
	NetworkName = "slipway"
	// confName sorts before what others usually install.
	confName   = "10-slipway.conflist"
	pluginType = "slipway-cni"
)

type confList struct {
	CNIVersion string       `json:"cniVersion"`
	Name       string       `json:"name"`
	Plugins    []confPlugin `json:"plugins"`
}

type confPlugin struct {
	Type   string `json:"type"`
	Socket string `json:"socket"`
}

// writeConf writes the configuration that makes runtimes use us. It stays when
// the server ends: ADD then says "try again later", and pods go on.
func writeConf(cfg Config) error {
	if cfg.ConfDir == "" {
		return nil
	}
	versions := socket.Versions()
	data, err := json.MarshalIndent(confList{
		CNIVersion: versions[len(versions)-1],
		Name:       NetworkName,
		Plugins:    []confPlugin{{Type: pluginType, Socket: cfg.socket()}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write cni configuration: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(cfg.ConfDir, confName), append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write cni configuration: %w", err)
	}
	return nil
}

func removeConf(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.Remove(filepath.Join(dir, confName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove cni configuration: %w", err)
	}
	return nil
}
