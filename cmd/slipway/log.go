// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"path/filepath"

	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/klog/v2"

	"slipway.dev/slipway/node"
)

// nodeLog is the log of a node: one file, rotated, that our own components,
// Kubernetes' and the standard library's logger all write to.
type nodeLog struct {
	logger *slog.Logger
	io.Closer
}

// openLog opens the node's log. Kubernetes' components log warnings and errors
// only, unless the user wants to see all they do.
func openLog(cfg node.Config) (*nodeLog, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.LogFile()), 0o711); err != nil {
		return nil, fmt.Errorf("make log directory: %w", err)
	}
	file := &lumberjack.Logger{Filename: cfg.LogFile(), MaxSize: 20, MaxBackups: 3}
	logger := slog.New(slog.NewTextHandler(file, nil))
	level := slog.LevelWarn
	if cfg.Verbose {
		level = slog.LevelInfo
	}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(file, &slog.HandlerOptions{Level: level})))
	stdlog.SetFlags(0)
	stdlog.SetOutput(slog.NewLogLogger(logger.Handler(), slog.LevelInfo).Writer())
	return &nodeLog{logger: logger, Closer: file}, nil
}
