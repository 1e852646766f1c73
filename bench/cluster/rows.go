// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"path/filepath"
	"strings"

	"slipway.dev/slipway/bench/report"
	"slipway.dev/slipway/internal/version"
)

// peerName is the column of the table.
const peerName = "upstream"

// metrics are the rows, in their order.
var metrics = []struct {
	name, unit string
	better     report.Better
	value      func(result) float64
	goals      []report.Goal
}{
	{"first start: API ready", "s", report.Less, func(r result) float64 { return r.First.API }, []report.Goal{report.AtMost(1.5)}},
	{"first start: node Ready", "s", report.Less, func(r result) float64 { return r.First.Node }, []report.Goal{report.AtMost(4)}},
	{"first start: pod Running", "s", report.Less, func(r result) float64 { return r.First.Pod }, []report.Goal{report.AtMost(6)}},
	{"restart: API ready", "s", report.Less, func(r result) float64 { return r.Restart.API }, nil},
	{"restart: node Ready", "s", report.Less, func(r result) float64 { return r.Restart.Node }, nil},
	{"restart: new pod Running", "s", report.Less, func(r result) float64 { return r.Restart.Pod }, nil},
	{"resident memory", "MB", report.Less, func(r result) float64 { return r.Idle.Cluster.Resident },
		[]report.Goal{report.AtMost(250), report.RatioAtMost(0.5)}},
	{"resident memory, the peer's without kube-proxy", "MB", report.Less,
		func(r result) float64 { return r.Idle.Cluster.Resident - r.Idle.Programs["kube-proxy"].Resident }, nil},
	{"resident memory, without pages of files", "MB", report.Less, func(r result) float64 { return r.Idle.Cluster.Own }, nil},
	{"resident memory, with containerd and shims", "MB", report.Less,
		func(r result) float64 { return r.Idle.Cluster.Resident + r.Idle.Runtime.Resident }, nil},
	{"idle CPU", "s/s", report.Less, func(r result) float64 { return r.Idle.Cluster.CPU }, []report.Goal{report.AtMost(0.02)}},
	{"idle CPU, with containerd and shims", "s/s", report.Less,
		func(r result) float64 { return r.Idle.Cluster.CPU + r.Idle.Runtime.CPU }, nil},
	{"objects created, 16 clients", "1/s", report.More, func(r result) float64 { return r.Load.Creates }, nil},
	{"watch event after the create's answer, median", "ms", report.Less, func(r result) float64 { return r.Load.Answered.Median }, nil},
	{"watch event after the create's answer, 99th percentile", "ms", report.Less, func(r result) float64 { return r.Load.Answered.Tail }, nil},
	{"watch event after the create's request, median", "ms", report.Less, func(r result) float64 { return r.Load.Sent.Median }, nil},
	{"watch event after the create's request, 99th percentile", "ms", report.Less, func(r result) float64 { return r.Load.Sent.Tail }, nil},
}

func (all results) rows() []report.Row {
	rows := make([]report.Row, len(metrics))
	for i, m := range metrics {
		s := report.Series{Metric: m.name, Unit: m.unit, Better: m.better, PeerName: peerName, Goals: m.goals}
		for _, r := range all.ours {
			s.Ours = append(s.Ours, m.value(r))
		}
		for _, r := range all.peer {
			s.Peer = append(s.Peer, m.value(r))
		}
		rows[i] = s.Row()
	}
	return rows
}

// versions asks the programs for theirs.
func versions(cfg config) []report.Version {
	return []report.Version{
		{Name: "Slipway", Version: firstWord(filepath.Join(cfg.bin, "slipway"), "version")},
		{Name: "Kubernetes", Version: version.Kubernetes},
		{Name: "etcd", Version: firstWord(filepath.Join(cfg.peers, "etcd"), "--version")},
		{Name: "runc", Version: firstWord("runc", "--version")},
	}
}

// firstWord runs a program and takes the last word of its first line.
func firstWord(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return "unknown"
	}
	return words[len(words)-1]
}
