// SPDX-License-Identifier: Apache-2.0

// Package trim makes a program cheap once it has started: it gives back the memory
// that only the start has needed, and lets timers be late, so that fewer wake-ups
// serve them. It owns the settings of the garbage collector and the timer slack of the
// threads.
package trim

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startGC is the garbage collector's target while a program starts: what is made then
// mostly stays, and collecting it again and again costs a third of the time.
const startGC = 400

// times after the start at which memory goes back to the machine: at once, when what
// waits for the start is through, and when the caches have filled.
var times = []time.Duration{0, 3 * time.Second, 20 * time.Second, 2 * time.Minute}

// Start is for a program that calls Run later, and has a start that is to be quick.
func Start() { debug.SetGCPercent(startGC) }

// Run is to be called when the program is ready. It returns when ctx ends.
func Run(ctx context.Context, log *slog.Logger) {
	begin := time.Now()
	pace := keepPace()
	for _, after := range times {
		select {
		case <-ctx.Done():
			return
		case <-time.After(after - time.Since(begin)):
		}
		debug.FreeOSMemory()
		pace.rest()
		if err := dropProgramPages(); err != nil {
			log.Info("pages of the program stay in memory", "err", err)
		}
		if err := relaxTimers(); err != nil {
			log.Info("timers stay exact", "err", err)
		}
	}
	<-ctx.Done()
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
