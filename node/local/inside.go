// SPDX-License-Identifier: Apache-2.0

package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"slipway.dev/slipway/node/host"
)

// Main is the first process of a node. It runs in the node's namespaces,
// brings them into shape, starts `slipway join` and starts it again whenever
// it ends, until it is told to stop. It returns only with an error.
func Main(arg string) error {
	var s spec
	if err := json.Unmarshal([]byte(arg), &s); err != nil {
		return fmt.Errorf("read what the node is: %w", err)
	}
	if !s.Inside {
		return s.enter()
	}
	// The parent closes its end when the network is there.
	network := os.NewFile(networkFD, "network")
	if _, err := io.Copy(io.Discard, network); err != nil {
		return fmt.Errorf("wait for the network: %w", err)
	}
	network.Close()
	if err := s.configure(s.Node); err != nil {
		return err
	}
	return s.supervise()
}

// enter gives this process the node's cgroups, mounts and host name, and
// starts it again from the beginning: a cgroup namespace belongs to a thread,
// and only the thread that executes a program passes it on.
func (s spec) enter() error {
	runtime.LockOSThread()
	if err := host.EnterCgroup(cgroupOf(s.Name)); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("make cgroup namespace: %w", err)
	}
	if err := s.mountAll(); err != nil {
		return err
	}
	if err := host.LeaveRootCgroup(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	s.Inside = true
	arg, err := json.Marshal(s)
	if err != nil {
		return err
	}
	for _, fd := range []int{networkFD, reportFD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep file %d open: %w", fd, err)
		}
	}
	return unix.Exec(s.Executable, []string{s.Executable, Command, string(arg)}, os.Environ())
}

// supervise is what an init program does: it keeps the node's one service
// running and reaps whatever else ends.
func (s spec) supervise() error {
	const first, last = 500 * time.Millisecond, 30 * time.Second
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	wait := first
	for args := s.firstArgs(); ; args = s.laterArgs() {
		begin := time.Now()
		stopped, err := s.runOnce(args, stop)
		if err != nil || stopped {
			return err
		}
		if time.Since(begin) > last {
			wait = first
		}
		select {
		case <-stop:
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, last)
	}
}

func (s spec) firstArgs() []string {
	return append(append(s.laterArgs(), "--report-fd="+strconv.Itoa(reportFD)), s.Join...)
}

func (s spec) laterArgs() []string {
	args := s.Service
	if len(args) == 0 {
		args = []string{"join"}
	}
	args = append(slices.Clone(args),
		"--data-dir="+s.NodeDataDir, "--run-dir="+s.NodeRunDir, "--kubeconfig="+s.Kubeconfig,
		"--node-name="+s.Name,
	)
	for _, addr := range s.Address(s.Number) {
		args = append(args, "--node-ip="+addr.Addr().String())
	}
	return append(args, s.Flags...)
}

// runOnce runs the service until it ends, or until a signal says so; that one
// is passed on.
func (s spec) runOnce(args []string, stop <-chan os.Signal) (stopped bool, err error) {
	files := []*os.File{nil, os.Stdout, os.Stderr, nil, os.NewFile(reportFD, "report")}
	service, err := os.StartProcess(s.Executable, append([]string{s.Executable}, args...), &os.ProcAttr{Dir: "/", Files: files})
	if err != nil {
		return false, fmt.Errorf("start the node: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- reapUntil(service.Pid) }()
	// Only the first run reports.
	if files[4] != nil {
		files[4].Close()
	}
	select {
	case err := <-ended:
		return false, err
	case <-stop:
		_ = service.Signal(unix.SIGTERM)
		<-ended
		return true, nil
	}
}

// reapUntil waits for all children, until the given one has ended.
func reapUntil(pid int) error {
	for {
		got, err := unix.Wait4(-1, nil, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for processes: %w", err)
		case got == pid:
			return nil
		}
	}
}
