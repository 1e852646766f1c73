// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs a part of a benchmark as on a machine of its own: in
// new mount, network, process, cgroup, UTS and IPC namespaces, with an empty
// /var/lib, /var/log, /tmp and /run and one network interface. What runs there is
// killed, and all that it made is gone, when the part ends. The host sees
// nothing of it but load; kernel settings that have no namespace are put back.
//
// A program that uses it calls [Enter] first of all. One goroutine at a time
// may call [Run].
package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"slipway.dev/slipway/node/host"
)

// Config describes a sandbox.
type Config struct {
	// Dir is an empty directory on a real disk: what is written to /var and
	// /tmp goes there.
	Dir string
	// Mounts maps names to directories that are seen at /run/bench/NAME,
	// wherever they are outside.
	Mounts map[string]string
	// Log receives what the part prints to standard error.
	Log io.Writer
}

// Programs is where the directories of Config.Mounts are seen.
const Programs = "/run/bench"

// cgroupTimeout is how long processes that were killed may take to die.
const cgroupTimeout = 20 * time.Second

// stageVariable tells a process of a sandbox what it is; see Enter.
const stageVariable = "SLIPWAY_BENCH_SANDBOX"

// resultFile is the descriptor that a part writes its result to.
const resultFile = 3

// stage is what one process hands to the next.
type stage struct {
	// Init is set for the first process of the sandbox.
	Init   bool
	Cgroup string
	Dir    string
	Mounts map[string]string
}

// Run runs this program again with the arguments, in a sandbox, and decodes
// what it gives to [Finish] into result.
func Run(ctx context.Context, cfg Config, result any, args ...string) error {
	settings := readSettings()
	cgroup := fmt.Sprintf("slipway-bench-%d", os.Getpid())
	if err := host.MakeCgroup(cgroup); err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	out, err := start(ctx, cfg, stage{Init: true, Cgroup: cgroup, Dir: cfg.Dir, Mounts: cfg.Mounts}, args)
	err = errors.Join(err, host.RemoveCgroup(cgroup, cgroupTimeout), settings.restore())
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	if err := json.Unmarshal(out, result); err != nil {
		return fmt.Errorf("sandbox: result: %w", err)
	}
	return nil
}

// Finish hands the result of a part to the caller of Run.
func Finish(result any) error {
	return json.NewEncoder(os.NewFile(resultFile, "result")).Encode(result)
}

// start runs the first process of a sandbox to its end.
func start(ctx context.Context, cfg Config, s stage, args []string) ([]byte, error) {
	for _, dir := range []string{varLib, varLog, tmp} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o755); err != nil {
			return nil, err
		}
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), s.variable())
	cmd.Stdout, cmd.Stderr = cfg.Log, cfg.Log
	cmd.ExtraFiles = []*os.File{writer}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		// All in the sandbox dies with us; not by the terminal's signals,
		// which it would get as well.
		Setsid: true, Pdeathsig: syscall.SIGKILL,
	}
	// The signal is sent when the thread ends, not the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		writer.Close()
		return nil, err
	}
	writer.Close()
	var out bytes.Buffer
	_, copyErr := io.Copy(&out, reader)
	if err := cmd.Wait(); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return out.Bytes(), copyErr
}

func (s stage) variable() string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return stageVariable + "=" + string(data)
}
