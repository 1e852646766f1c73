// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Find returns all processes whose command line match accepts.
func Find(match func(argv []string) bool) ([]Identity, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Identity
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err != nil || len(line) == 0 || !match(strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")) {
			continue
		}
		// A process that has ended meanwhile is of no interest.
		if id, err := Identify(pid); err == nil && id.Alive() {
			found = append(found, id)
		}
	}
	return found, nil
}

// Kill kills the process at once and returns when it is gone.
func Kill(id Identity, timeout time.Duration) error {
	h, err := Open(id)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Kill(id.PID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", id.PID, err)
	}
	select {
	case <-h.Done():
		return nil
	case <-time.After(timeout):
		return fmt.Errorf("kill process %d: it is still there after %v", id.PID, timeout)
	}
}
