// SPDX-License-Identifier: Apache-2.0

package local

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/internal/atomicfile"
	"slipway.dev/slipway/internal/process"
	"slipway.dev/slipway/node/host"
)

// Command is the hidden command of this program that [Main] serves.
const Command = "local-node"

// spec is what the first process of a node is told, as its only argument.
type spec struct {
	Config
	Node
	// Join are the arguments of `slipway join` the first time.
	Join []string `json:"join"`
	// Inside is set once the process has its own cgroup namespace.
	Inside bool `json:"inside"`
}

// Files of the first process beside the usual three.
const (
	networkFD = 3 // End of file says that the network is there.
	reportFD  = 4 // Where `slipway join` reports its progress.
)

// Start starts a node that does not run, with arguments for `slipway join`.
// It returns a stream of the progress that join reports, which the caller
// closes. The node goes on when this process ends.
func Start(c Config, n Node, join []string) (io.ReadCloser, error) {
	if err := c.save(n); err != nil {
		return nil, err
	}
	if err := makeCgroup(n.Name); err != nil {
		return nil, err
	}
	// The node itself could not give them back: it ends with its namespaces.
	if err := host.HoldSettings(c.Dir); err != nil {
		return nil, err
	}
	reports, reportTo, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start local node %s: %w", n.Name, err)
	}
	defer reportTo.Close()
	if err := c.launch(n, join, reportTo); err != nil {
		reports.Close()
		return nil, fmt.Errorf("start local node %s: %w", n.Name, err)
	}
	return reports, nil
}

// launch starts the first process, records it, and gives it its network.
func (c Config) launch(n Node, join []string, reportTo *os.File) error {
	ready, closeToGo, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	defer closeToGo.Close()
	cmd, err := c.command(n, join, ready, reportTo)
	if err != nil {
		return err
	}
	err = cmd.Start()
	cmd.Stdout.(*os.File).Close()
	if err != nil {
		return err
	}
	// Reap it when it ends before we do.
	go cmd.Wait()
	id, err := process.Identify(cmd.Process.Pid)
	if err == nil {
		err = c.remember(n, id)
	}
	if err == nil {
		err = c.connectProcess(n, cmd.Process.Pid)
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	return err
}

// connectProcess connects the network namespace of a process.
func (c Config) connectProcess(n Node, pid int) error {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("open network namespace of process %d: %w", pid, err)
	}
	defer ns.Close()
	return c.connect(n, ns)
}

func (c Config) command(n Node, join []string, ready, reportTo *os.File) (*exec.Cmd, error) {
	arg, err := json.Marshal(spec{Config: c, Node: n, Join: join})
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(filepath.Join(c.nodeDir(n.Name), "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close inherited files: %w", err)
	}
	cmd := exec.Command(c.Executable, Command, string(arg))
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{ready, reportTo}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	return cmd, nil
}

func (c Config) remember(n Node, id process.Identity) error {
	data, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return atomicfile.Write(c.record(n.Name), data, 0o600)
}
