// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"slipway.dev/slipway/bench/sandbox"
)

const (
	// idleTime is for how long the machine has to do nothing before a side is
	// measured, idleShare how much of a processor is nothing.
	idleTime  = 200 * time.Millisecond
	idleShare = 0.1
	// idleLimit is how long that is waited for; something else may keep the
	// machine busy.
	idleLimit = 10 * time.Second
)

// alone halts the programs of all nodes but one, and waits until that one has
// done what it has to: kube-proxy goes through all its rules every 30 s and after
// each change, which must not take processor time from another side.
func alone(ctx context.Context, sides []*side, n *node) error {
	var errs []error
	for _, s := range sides {
		signal := syscall.SIGSTOP
		if s.node == n {
			signal = syscall.SIGCONT
		}
		errs = append(errs, s.program.Process.Signal(signal))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("let one side run alone: %w", err)
	}
	return awaitIdle(ctx)
}

func awaitIdle(ctx context.Context) error {
	deadline := time.Now().Add(idleLimit)
	before, err := busyTime()
	for err == nil && time.Now().Before(deadline) {
		if err = sandbox.Rest(ctx, idleTime); err != nil {
			break
		}
		var now time.Duration
		if now, err = busyTime(); err == nil && (now-before).Seconds() <= idleShare*idleTime.Seconds() {
			return nil
		}
		before = now
	}
	return err
}

// busyTime is how long all processors of the machine have worked.
func busyTime() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(stat)
}

// parseBusy adds up the first line of /proc/stat, see proc_stat(5): user, nice,
// system, idle, iowait, irq, softirq.
func parseBusy(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) < 8 || string(fields[0]) != "cpu" {
		return 0, fmt.Errorf("unexpected format of /proc/stat: %q", line)
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected format of /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / ticksPerSecond), nil
}
