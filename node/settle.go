// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// startGC is the garbage collector's target while the node starts: what is
	// made then mostly stays, and collecting it again and again costs a third of
	// the time.
	startGC = 400
	// steadyGC trades a little processor time of a node that runs for memory.
	steadyGC = 50
)

// settleAfter are the times after the start at which memory goes back to the
// machine: when the node is Ready, and when the caches have filled.
var settleAfter = []time.Duration{0, 20 * time.Second, 2 * time.Minute}

// settle gives back what only the start has needed, and lets timers be late.
func (m *member) settle(ctx context.Context) error {
	begin := time.Now()
	debug.SetGCPercent(steadyGC)
	for _, after := range settleAfter {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(after - time.Since(begin)):
		}
		debug.FreeOSMemory()
		if err := dropProgramPages(); err != nil {
			m.log.Info("pages of the program stay in memory", "err", err)
		}
		if err := relaxTimers(); err != nil {
			m.log.Info("timers stay exact", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}

// dropProgramPages takes the pages of the program file out of this process. They
// are clean and stay in the page cache as long as there is room; what is used
// again is mapped again. Most of them are code and tables that only the start
// of the components uses.
func dropProgramPages() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	file, err := os.Open("/proc/self/maps")
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var from, to uintptr
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil {
			return fmt.Errorf("read own mappings: %w", err)
		}
		// What is writable holds data of this process.
		if !strings.HasSuffix(lines.Text(), " "+program) || strings.Contains(mode, "w") {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("drop pages of %s: %w", program, errno)
		}
	}
	return lines.Err()
}
