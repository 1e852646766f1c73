// SPDX-License-Identifier: Apache-2.0

package trim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// timerSlack is by how much a timer may be late. The components of a node wait for
// hundreds of timers a second, most of which only look whether there is anything to
// do: with this, one wake-up serves many. What comes
// from the network or a disk is not made to wait.
const timerSlack = 5 * time.Millisecond

// relaxTimers lets timers of this process be late. Threads that are made later
// take it over from those that make them. Left out is the thread by which the Go
// runtime finds out that a system call takes long, so that others may run
// meanwhile.
func relaxTimers() error {
	threads, err := ownThreads()
	if err != nil {
		return err
	}
	slack := []byte(strconv.FormatInt(timerSlack.Nanoseconds(), 10))
	monitor := firstAfter(os.Getpid(), threads)
	for _, id := range threads {
		if id == monitor {
			continue
		}
		path := filepath.Join("/proc", strconv.Itoa(id), "timerslack_ns")
		if err := os.WriteFile(path, slack, 0); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("let timers be late: %w", err)
		}
	}
	return nil
}

// ownThreads lists the threads of this process by their ids.
func ownThreads() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, fmt.Errorf("list own threads: %w", err)
	}
	var ids []int
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("list own threads: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// firstAfter is the thread that a process made first, which in a Go program is
// the runtime's monitor: ids are given out in order, and begin anew at the
// smallest. It is 0 when there is none.
func firstAfter(process int, threads []int) int {
	others := slices.DeleteFunc(slices.Sorted(slices.Values(threads)), func(id int) bool { return id == process })
	if len(others) == 0 {
		return 0
	}
	next, _ := slices.BinarySearch(others, process)
	return others[next%len(others)]
}
