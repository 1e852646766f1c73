// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// self is this program again, with an order. Orders are long: they go through
// a pipe.
func self(o order) (*exec.Cmd, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe", "-order")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), os.Stderr
	if o.Agent == nil {
		// Or signals of the Go runtime interrupt a connect that has a time limit.
		cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	}
	return cmd, nil
}

// process is one that tells its results line by line.
type process struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startProcess(in namespace, cmd *exec.Cmd) (*process, error) {
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := in.start(cmd); err != nil {
		return nil, err
	}
	return &process{cmd, bufio.NewReader(pipe)}, nil
}

// startServer starts the server of a node and waits until it listens.
func startServer(n *node) (*process, error) {
	cmd, err := self(order{Serve: len(n.servers)})
	if err != nil {
		return nil, err
	}
	for _, ns := range n.servers {
		file, err := ns.file()
		if err != nil {
			return nil, err
		}
		defer file.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, file)
	}
	p, err := startProcess(n.self, cmd)
	if err != nil {
		return nil, err
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != "serving\n" {
		p.kill()
		return nil, fmt.Errorf("start server: it says %q (%w)", line, err)
	}
	return p, nil
}

// result reads the next line; the process is killed when ctx ends first.
func (p *process) result(ctx context.Context, into any) error {
	defer context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() })()
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the process has ended")
		}
		return errors.Join(err, context.Cause(ctx))
	}
	return json.Unmarshal(line, into)
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// ticksPerSecond is USER_HZ, which Linux fixes at 100 for user space.
const ticksPerSecond = 100

// used returns the seconds of processor time of a process, with those of
// programs that it has run, and its resident memory in megabytes.
func used(pid int) (cpu, resident float64, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 15 {
		return 0, 0, fmt.Errorf("unexpected format of stat: %q", stat)
	}
	for _, field := range fields[11:15] {
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, err
		}
		cpu += n / ticksPerSecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	_, after, _ := strings.Cut(string(status), "\nVmRSS:")
	var kilobytes float64
	if _, err := fmt.Sscan(after, &kilobytes); err != nil {
		return 0, 0, fmt.Errorf("no VmRSS in the status of process %d: %w", pid, err)
	}
	return cpu, kilobytes * 1024 / 1e6, nil
}

// tail is an error with the last lines of a log.
func tail(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil // There is none yet.
	}
	const last = 15
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Errorf("%s ends with:\n%s", path, strings.Join(lines[max(0, len(lines)-last):], "\n"))
}
