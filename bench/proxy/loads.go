// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"slipway.dev/slipway/bench/report"
)

// loads are what is put on each side.
var loads = []struct {
	name    string
	kind    string
	clients int
	// outside: from another host to a NodePort, not from a pod to a ClusterIP.
	outside bool
}{
	{name: shortOne, kind: short, clients: 1},
	{name: shortMany, kind: short, clients: 16},
	{name: keptOne, kind: kept},
	{name: streamOne, kind: stream},
	{name: outsideOne, kind: short, clients: 1, outside: true},
	{name: outsideMany, kind: short, clients: 16, outside: true},
}

const (
	shortOne    = "short connections, 1 at a time"
	shortMany   = "short connections, 16 at a time"
	keptOne     = "requests on a kept connection"
	streamOne   = "stream"
	outsideOne  = "short connections to a NodePort, 1 at a time"
	outsideMany = "short connections to a NodePort, 16 at a time"
)

func (l loaded) String() string {
	if l.Median > 0 {
		return fmt.Sprintf("%.0f/s, %.1f µs, tail %.1f µs", l.Rate, l.Median, l.Tail)
	}
	return fmt.Sprintf("%.0f/s", l.Rate)
}

// metric is what the table has of a load.
type metric struct {
	load, name, unit string
	better           report.Better
	value            func(loaded) float64
	// goals are those against each peer.
	goals map[string][]report.Goal
}

var metrics = []metric{
	{shortOne, shortOne, "1/s", report.More, rate, shortGoals},
	{shortMany, shortMany, "1/s", report.More, rate, shortGoals},
	{keptOne, keptOne + ", median", "µs", report.Less, func(l loaded) float64 { return l.Median },
		map[string][]report.Goal{direct: {report.RatioAtMost(1.02)}}},
	{keptOne, keptOne + ", 99th percentile", "µs", report.Less, func(l loaded) float64 { return l.Tail }, nil},
	{streamOne, streamOne, "GB/s", report.More, func(l loaded) float64 { return l.Rate / 1e9 },
		map[string][]report.Goal{direct: {report.RatioAtLeast(0.98)}}},
	{outsideOne, outsideOne, "1/s", report.More, rate, outsideGoals},
	{outsideMany, outsideMany, "1/s", report.More, rate, outsideGoals},
}

var (
	shortGoals = map[string][]report.Goal{
		direct: {report.RatioAtLeast(0.98)}, iptables: {report.RatioAtLeast(1.1)}, nftables: {report.RatioAtLeast(1.1)},
	}
	outsideGoals = map[string][]report.Goal{nftables: {report.RatioAtLeast(1.3)}}
)

func rate(l loaded) float64 { return l.Rate }

// of are the values of a metric on one side.
func (m metric) of(s sizeResult, side string) []float64 {
	var out []float64
	for _, l := range s.Loads[m.load][side] {
		out = append(out, m.value(l))
	}
	return out
}
