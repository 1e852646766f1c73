// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/bench/sandbox"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for user space.
const ticksPerSecond = 100

// usage is what processes have used.
type usage struct {
	// Resident and Own are megabytes: all resident memory, and that which is
	// not pages of files.
	Resident, Own float64
	// CPU is seconds of processor time.
	CPU float64
}

func (u usage) add(v usage) usage {
	return usage{u.Resident + v.Resident, u.Own + v.Own, u.CPU + v.CPU}
}

// footprint is what an idle cluster costs; CPU is for one second.
type footprint struct {
	// Cluster is without, Runtime are containerd, its shims and the pods.
	Cluster, Runtime usage
	// Programs is Cluster by program.
	Programs map[string]usage
}

func (f footprint) String() string {
	text := fmt.Sprintf("%.0f MB + %.0f MB, CPU %.4f + %.4f", f.Cluster.Resident, f.Runtime.Resident, f.Cluster.CPU, f.Runtime.CPU)
	for _, name := range slices.Sorted(maps.Keys(f.Programs)) {
		u := f.Programs[name]
		text += fmt.Sprintf(" [%s %.0f MB, own %.0f MB, %.4f]", name, u.Resident, u.Own, u.CPU)
	}
	return text
}

// watchIdle leaves the cluster alone and measures what it uses in the time.
func watchIdle(ctx context.Context, idle time.Duration) (footprint, error) {
	if err := sandbox.Rest(ctx, min(settle, idle)); err != nil {
		return footprint{}, err
	}
	before, err := processes()
	if err != nil {
		return footprint{}, err
	}
	begin := time.Now()
	if err := sandbox.Rest(ctx, idle); err != nil {
		return footprint{}, err
	}
	after, err := processes()
	if err != nil {
		return footprint{}, err
	}
	return difference(before, after, time.Since(begin)), nil
}

// process is one of the sandbox.
type process struct {
	usage
	program string
	runtime bool
}

// difference adds up what the processes that are left have, and have used
// since before.
func difference(before, after map[int]process, took time.Duration) footprint {
	f := footprint{Programs: map[string]usage{}}
	for pid, p := range after {
		p.CPU = (p.CPU - before[pid].CPU) / took.Seconds()
		if p.runtime {
			f.Runtime = f.Runtime.add(p.usage)
			continue
		}
		f.Cluster = f.Cluster.add(p.usage)
		f.Programs[p.program] = f.Programs[p.program].add(p.usage)
	}
	return f
}

// processes lists all besides those of the benchmark.
func processes() (map[int]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		p, err := readProcess(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		all[pid] = p
	}
	return all, nil
}

func readProcess(dir string) (process, error) {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return process{}, err
	}
	command, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return process{}, err
	}
	ticks, err := cpuTicks(string(stat))
	if err != nil {
		return process{}, err
	}
	argv := strings.Split(strings.TrimRight(string(command), "\x00"), "\x00")
	return process{
		usage:   usage{Resident: megabytes(status, "VmRSS"), Own: megabytes(status, "RssAnon"), CPU: float64(ticks) / ticksPerSecond},
		program: filepath.Base(argv[0]), runtime: ofRuntime(argv),
	}, nil
}

// ofRuntime tells containerd, its shims and what runs in pods from the rest.
func ofRuntime(argv []string) bool {
	name := filepath.Base(argv[0])
	return strings.HasPrefix(name, "containerd") || name == "pause" || len(argv) > 1 && argv[1] == "containerd"
}

// cpuTicks sums user and system time, that of children that have ended too;
// see proc_pid_stat(5).
func cpuTicks(stat string) (int64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return 0, fmt.Errorf("unexpected format of stat: %q", stat)
	}
	var sum int64
	for _, field := range fields[11:15] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// megabytes finds a line of /proc/PID/status, 0 when there is none, as for
// processes that have ended.
func megabytes(status []byte, name string) float64 {
	for line := range bytes.Lines(status) {
		if text, ok := strings.CutPrefix(string(line), name+":"); ok {
			var kilobytes float64
			fmt.Sscan(text, &kilobytes)
			return kilobytes * 1024 / 1e6
		}
	}
	return 0
}
