// SPDX-License-Identifier: Apache-2.0

// Package process names, watches and stops processes that are not our
// children. A process is identified by its pid and start time, so that a pid
// that was used again is never taken for the old process.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Identity names one process for as long as the machine is up.
type Identity struct {
	PID int `json:"pid"`
	// Start is the time of its start, in clock ticks since boot.
	Start uint64 `json:"start"`
	// Boot is the id of the boot it belongs to.
	Boot string `json:"boot"`
}

// Identify returns the identity of a process that runs now.
func Identify(pid int) (Identity, error) {
	stat, err := readStat(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	boot, err := bootID()
	if err != nil {
		return Identity{}, fmt.Errorf("identify process %d: %w", pid, err)
	}
	return Identity{PID: pid, Start: stat.start, Boot: boot}, nil
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// Alive tells whether the process still runs and is no zombie. State and start
// time are read at once: between two reads a parent could reap it.
func (id Identity) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	stat, err := readStat(id.PID)
	if err != nil || stat.ended() || stat.start != id.Start {
		return false
	}
	boot, err := bootID()
	return err == nil && boot == id.Boot
}

// Handle watches a process.
type Handle struct{ done chan struct{} }

// Done is closed when the process has ended.
func (h Handle) Done() <-chan struct{} { return h.done }

// Open returns a handle on the process, or an error when it has ended.
func Open(id Identity) (Handle, error) {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return Handle{}, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	if !id.Alive() {
		unix.Close(fd)
		return Handle{}, fmt.Errorf("open process %d: %w", id.PID, unix.ESRCH)
	}
	h := Handle{done: make(chan struct{})}
	go func() {
		defer close(h.done)
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, -1)
			if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
				return
			}
		}
	}()
	return h, nil
}

// Stop asks the process to end, kills it when it has not done so in time, and
// returns once it is gone.
func Stop(id Identity, timeout time.Duration) error {
	return end(id, timeout, unix.SIGTERM, unix.SIGKILL)
}

// Kill kills the process at once and returns when it is gone.
func Kill(id Identity, timeout time.Duration) error { return end(id, timeout, unix.SIGKILL) }

// end sends one signal after the other, each with time to take effect.
func end(id Identity, timeout time.Duration, signals ...unix.Signal) error {
	h, err := Open(id)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, signal := range signals {
		if err := unix.Kill(id.PID, signal); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", id.PID, err)
		}
		select {
		case <-h.Done():
			return nil
		case <-time.After(timeout):
		}
	}
	return fmt.Errorf("end process %d: it is still there after %v", id.PID, timeout)
}

// stat is what we need of /proc/PID/stat; see proc_pid_stat(5).
type stat struct {
	state string
	// start is the time of the start, in clock ticks since boot.
	start uint64
}

// ended tells whether the process is a zombie or dead.
func (s stat) ended() bool { return s.state == "Z" || s.state == "X" }

// readStat counts the fields after the command, which may itself hold spaces
// and brackets.
func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("unexpected format of /proc/%d/stat", pid)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return stat{state: fields[0], start: start}, err
}
