// SPDX-License-Identifier: Apache-2.0

// Command footprint measures what a running node costs when nothing happens:
// the size of its programs, the resident memory of its processes and the
// processor time they use. It writes bench/out/footprint.json.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"slipway.dev/slipway/node"
)

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for user space.
const ticksPerSecond = 100

// row is one measured value.
type row struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Ours   float64 `json:"ours"`
}

func main() {
	idle := flag.Duration("idle", 5*time.Minute, "how long to watch the idle node")
	bin := flag.String("bin", "bin", "directory of the programs")
	out := flag.String("out", "bench/out/footprint.json", "where the result goes")
	flag.Parse()
	if err := run(*idle, *bin, *out); err != nil {
		fmt.Fprintln(os.Stderr, "footprint:", err)
		os.Exit(1)
	}
}

func run(idle time.Duration, bin, out string) error {
	cfg := node.Defaults()
	holder, running := node.Holder(cfg)
	if !running {
		return fmt.Errorf("no node runs on %s; start one with `make up`", cfg.DataDir)
	}
	rows, err := sizes(bin)
	if err != nil {
		return err
	}
	watched := []process{{name: "slipway", pid: holder.PID}, {name: "containerd", pid: node.ContainerdPid(cfg)}}
	more, err := watch(watched, idle)
	if err != nil {
		return err
	}
	rows = append(rows, more...)
	for _, r := range rows {
		fmt.Printf("%-34s %10.2f %s\n", r.Metric, r.Ours, r.Unit)
	}
	data, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}

func sizes(dir string) ([]row, error) {
	var rows []row
	for _, name := range []string{"slipway", "slipway-agent", "slipway-cni"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", name, err)
		}
		rows = append(rows, row{"size of " + name, "MB", float64(info.Size()) / 1e6})
	}
	return rows, nil
}

// process is one that is watched, with its processor time at the start.
type process struct {
	name   string
	pid    int
	before int64
}

// watch measures processes over the same time: the processor time that each
// uses, and its resident memory at the end.
func watch(list []process, idle time.Duration) ([]row, error) {
	for i := range list {
		ticks, err := cpuTicks(list[i].pid)
		if err != nil {
			return nil, err
		}
		list[i].before = ticks
	}
	time.Sleep(idle)
	var rows []row
	for _, p := range list {
		after, err := cpuTicks(p.pid)
		if err != nil {
			return nil, err
		}
		resident, err := residentMB(p.pid)
		if err != nil {
			return nil, err
		}
		share := float64(after-p.before) / ticksPerSecond / idle.Seconds() * 100
		rows = append(rows,
			row{"resident memory of " + p.name, "MB", resident},
			row{"idle CPU of " + p.name, "% of a core", share})
	}
	return rows, nil
}

// cpuTicks reads user and system time from proc_pid_stat(5).
func cpuTicks(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(fields[12], 10, 64)
	return user + system, err
}

func residentMB(pid int) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("resident memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.Fields(text)[0], 64)
			return kb * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("resident memory: no VmRSS in the status of process %d", pid)
}
