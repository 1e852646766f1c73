// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/node"
)

// reportFlag names the file descriptor that a node in the background reports
// its progress on.
const reportFlag = "report-fd"

// startFlags are the ways in which a node can be started.
type startFlags struct {
	detach   bool
	reportFD int
}

func (f *startFlags) register(flags *pflag.FlagSet) {
	flags.BoolVarP(&f.detach, "detach", "d", false, "run in the background and return when the node is Ready")
	flags.IntVar(&f.reportFD, reportFlag, 0, "file descriptor to report progress on")
	_ = flags.MarkHidden(reportFlag)
}

// starter is a node that can be started.
type starter struct {
	cfg   node.Config
	check func(context.Context, *node.Steps) error
	run   func(context.Context, *node.Steps, *slog.Logger) error
	// next tells what to do when it is Ready.
	next func(io.Writer, node.Config)
}

func (f *startFlags) start(cmd *cobra.Command, s starter) error {
	switch {
	case f.reportFD > 0:
		return s.reporting(cmd.Context(), os.NewFile(uintptr(f.reportFD), "report"))
	case f.detach:
		return s.detached(cmd)
	default:
		return s.foreground(cmd)
	}
}

// foreground runs the node until the user stops it.
func (s starter) foreground(cmd *cobra.Command) error {
	out := cmd.OutOrStdout()
	print := node.PrintTo(out)
	steps := node.NewSteps(func(p node.Progress) {
		print(p)
		if p.Ready {
			s.printReady(out, p)
			fmt.Fprintf(out, "\nRunning in the foreground, logging to %s. Ctrl-C stops this process; pods go on\nuntil `slipway down`.\n", s.cfg.LogFile())
		}
	})
	if err := s.check(cmd.Context(), steps); err != nil {
		return alreadyUp(cmd, err)
	}
	log, err := openLog(s.cfg)
	if err != nil {
		return err
	}
	defer log.Close()
	return alreadyUp(cmd, s.run(cmd.Context(), steps, log.logger))
}

// alreadyUp turns the error of a second `up` into what it is for the user:
// the cluster is up.
func alreadyUp(cmd *cobra.Command, err error) error {
	var running *node.RunningError
	if !errors.As(err, &running) {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "slipway is up already, as process %d; see `slipway status`\n", running.PID)
	return nil
}

// reporting is the process in the background; the one that the user sees has
// checked that it can start.
func (s starter) reporting(ctx context.Context, report *os.File) error {
	// Paths are absolute by now; the user's directory is not to be held.
	if err := os.Chdir("/"); err != nil {
		return err
	}
	steps := node.NewSteps(node.EncodeTo(report))
	log, err := openLog(s.cfg)
	if err == nil {
		defer log.Close()
		err = s.run(ctx, steps, log.logger)
	}
	if err != nil {
		steps.Show(node.Progress{Error: err.Error()})
	}
	return err
}

// detached starts the process in the background, shows its steps, and
// returns when the node is Ready or the start has failed.
func (s starter) detached(cmd *cobra.Command) error {
	if err := s.check(cmd.Context(), node.NewSteps(node.PrintTo(cmd.OutOrStdout()))); err != nil {
		return alreadyUp(cmd, err)
	}
	if err := os.MkdirAll(filepath.Dir(s.cfg.LogFile()), 0o711); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	crash, err := os.OpenFile(s.cfg.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer crash.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make progress pipe: %w", err)
	}
	defer reader.Close()
	child := exec.Command(s.cfg.Executable, append([]string{cmd.Name(), fmt.Sprintf("--%s=3", reportFlag)}, sameArgs(cmd)...)...)
	child.Stdout, child.Stderr = crash, crash
	child.ExtraFiles = []*os.File{writer}
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nothing that our parent has left open, a lock of a script for example,
	// goes to a process that outlives it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files: %w", err)
	}
	err = child.Start()
	writer.Close()
	if err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	return s.follow(cmd.OutOrStdout(), child, reader)
}

// sameArgs passes on the arguments and flags that the user gave.
func sameArgs(cmd *cobra.Command) []string {
	args := cmd.Flags().Args()
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name != "detach" {
			args = append(args, "--"+f.Name+"="+flagText(f.Value))
		}
	})
	return args
}

// flagText is a value as it can be given again.
func flagText(value pflag.Value) string {
	if list, ok := value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return value.String()
}

// follow shows what the process in the background reports.
func (s starter) follow(out io.Writer, child *exec.Cmd, reports io.Reader) error {
	print := node.PrintTo(out)
	lines := bufio.NewScanner(reports)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var p node.Progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("read progress: %w", err)
		}
		print(p)
		switch {
		case p.Error != "":
			_ = child.Wait()
			return errors.New(p.Error)
		case p.Ready:
			s.printReady(out, p)
			return nil
		}
	}
	err := child.Wait()
	return fmt.Errorf("the process in the background ended before the node was Ready (%v), see %s", err, s.cfg.LogFile())
}

func (s starter) printReady(out io.Writer, p node.Progress) {
	fmt.Fprintf(out, "\nNode %s is Ready after %.1f s.\n\n", s.cfg.NodeName, p.Took.Seconds())
	s.next(out, s.cfg)
}
