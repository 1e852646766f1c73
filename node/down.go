// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/node/containerd"
	"slipway.dev/slipway/node/host"
	"slipway.dev/slipway/node/local"
)

// killTimeout is how long killed processes may take to disappear.
const killTimeout = 20 * time.Second

// DownOptions says how much Down removes.
type DownOptions struct {
	// Purge removes the data too.
	Purge bool
}

// Down stops the node and its pods and removes everything that it made on
// this machine; the data stays unless the options say otherwise. It works
// the same after a crash, and on what an earlier Down has left.
func Down(ctx context.Context, cfg Config, opts DownOptions, steps *Steps) error {
	if err := RequireRoot("down"); err != nil {
		return err
	}
	if err := steps.Do("slipway stopped", func() error { return stopProcess(cfg) }); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return takeDown(cfg, opts, steps)
}

// takeDown removes all that a node has made, after its process has ended. It
// goes on after an error: the more is gone, the better.
func takeDown(cfg Config, opts DownOptions, steps *Steps) error {
	errs := []error{
		local.Clean(cfg.local(), opts.Purge),
		steps.Do("pods and containerd stopped", func() error { return stopPods(cfg) }),
		steps.Do("volumes unmounted", func() error { return removeVolumes(cfg, opts) }),
		steps.Do("pod network and BPF programs removed", func() error { return removeNetwork(cfg, opts) }),
		steps.Do("mounts, cgroups and kernel settings restored", func() error { return restoreHost(cfg) }),
	}
	if opts.Purge {
		errs = append(errs, steps.Do("data deleted", func() error { return purge(cfg) }))
	}
	return errors.Join(errs...)
}

func stopProcess(cfg Config) error {
	id, running := Holder(cfg)
	if !running {
		return nil
	}
	if id.PID == 0 {
		return fmt.Errorf("a process holds %s but cannot be identified; stop it by hand", cfg.lockFile())
	}
	if err := process.Stop(id, stopAll); err != nil {
		return fmt.Errorf("stop slipway: %w", err)
	}
	return nil
}

// stopPods kills containerd first, so that nobody starts containers again,
// then the shims, then all that runs in the pods' cgroup.
func stopPods(cfg Config) error {
	daemon := cfg.containerd()
	errs := []error{containerd.Stop(daemon)}
	errs = append(errs, containerd.KillLeftovers(daemon, killTimeout))
	errs = append(errs, host.RemoveCgroup(cgroupName, killTimeout))
	return errors.Join(errs...)
}

// clearOrphans ends containers that nobody can reach any more, because the
// runtime's state is gone while its processes are not.
func clearOrphans(cfg Config) error {
	daemon := cfg.containerd()
	return errors.Join(
		containerd.KillLeftovers(daemon, killTimeout),
		host.RemoveCgroup(cgroupName, killTimeout),
		host.UnmountBelow(daemon.State),
		host.MakeCgroup(cgroupName),
	)
}

func restoreHost(cfg Config) error {
	errs := []error{
		host.UnmountBelow(cfg.RunDir, cfg.DataDir), removePodLogs(), host.RemoveDeadSockets(devicePlugins),
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		journal, err := host.OpenJournal(cfg.journal())
		if err == nil {
			err = journal.Revert()
		}
		errs = append(errs, err)
	}
	errs = append(errs, removeTree(cfg.RunDir))
	return errors.Join(errs...)
}

// Where kubelets keep the logs of pods, links to them, and the socket for
// device plugins, whatever their root directory is; and where container runtimes
// keep what CNI plugins have answered.
const (
	cniResults    = "/var/lib/cni/results"
	devicePlugins = "/var/lib/kubelet/device-plugins"
	podLogs       = "/var/log/pods"
	containerLogs = "/var/log/containers"
)

// removePodLogs removes the logs of pods, also where the directory is not ours
// to remove. A kubelet takes all directories in it that are named after a pod
// for its own, and clears away those of pods that it does not know.
func removePodLogs() error {
	pods, err := filepath.Glob(filepath.Join(podLogs, "*_*_*"))
	errs := []error{err}
	for _, dir := range pods {
		errs = append(errs, os.RemoveAll(dir))
	}
	links, err := filepath.Glob(filepath.Join(containerLogs, "*.log"))
	errs = append(errs, err)
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(to, podLogs+"/") {
			continue
		}
		if _, err := os.Stat(to); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, os.Remove(link))
		}
	}
	return errors.Join(errs...)
}

// purge deletes the node's directories, after all mounts below them are gone.
func purge(cfg Config) error {
	errs := []error{removeTree(cfg.DataDir)}
	if err := os.Remove(cfg.Kubeconfig); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	// Only if nothing of the user's is in it.
	_ = os.Remove(filepath.Dir(cfg.Kubeconfig))
	return errors.Join(errs...)
}

// removeTree removes a directory. One that something is mounted on is emptied
// and stays.
func removeTree(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if left, listErr := os.ReadDir(dir); listErr == nil && len(left) == 0 {
		return nil
	}
	return err
}
