// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"text/template"
)

// Config says where the daemon keeps what it owns.
type Config struct {
	// Executable is the slipway binary that the daemon is started from.
	Executable string
	// Root holds images, snapshots and metadata; it survives reboots.
	Root string
	// State holds sockets and running containers; it is lost at reboot.
	State string
	// BinDir holds the shim and the CNI executable.
	BinDir string
	// CNIConfDir is watched for the CNI configuration.
	CNIConfDir string
	// SandboxImage is the image of the pod sandbox.
	SandboxImage string
	// LogFile receives the daemon's log.
	LogFile string
	// RestrictOOMScore is set where the process may not lower OOM scores.
	RestrictOOMScore bool
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	for name, value := range map[string]string{
		"executable": c.Executable, "root": c.Root, "state": c.State, "bin directory": c.BinDir,
		"CNI configuration directory": c.CNIConfDir, "sandbox image": c.SandboxImage, "log file": c.LogFile,
	} {
		if value == "" {
			return errors.New("containerd: no " + name + " given")
		}
	}
	return nil
}

// Socket is the path of the daemon's gRPC and CRI socket.
func (c Config) Socket() string { return filepath.Join(c.State, "containerd.sock") }

func (c Config) configFile() string { return filepath.Join(c.State, "config.toml") }

// daemonConfig is containerd's configuration, version 3; see
// https://github.com/containerd/containerd/blob/main/docs/cri/config.md
var daemonConfig = template.Must(template.New("containerd").Parse(`version = 3
root = {{printf "%q" .Root}}
state = {{printf "%q" .State}}
oom_score = 0

[grpc]
  address = {{printf "%q" .Socket}}

[ttrpc]
  address = {{printf "%q" .TTRPC}}

[plugins.'io.containerd.nri.v1.nri']
  disable = true

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = {{printf "%q" .SandboxImage}}
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '/etc/containerd/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = {{.RestrictOOMScore}}
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      runtime_path = {{printf "%q" .Shim}}
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = {{printf "%q" .RuncRoot}}
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = [{{printf "%q" .BinDir}}]
    conf_dir = {{printf "%q" .CNIConfDir}}
    use_internal_loopback = true
`))

// render returns the daemon's configuration file.
func (c Config) render() ([]byte, error) {
	var out bytes.Buffer
	err := daemonConfig.Execute(&out, struct {
		Config
		TTRPC, Shim, RuncRoot string
	}{c, c.Socket() + ".ttrpc", filepath.Join(c.BinDir, "containerd-shim-runc-v2"), filepath.Join(c.State, "runc")})
	if err != nil {
		return nil, fmt.Errorf("render containerd configuration: %w", err)
	}
	return out.Bytes(), nil
}
