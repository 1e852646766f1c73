// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"strings"

	"slipway.dev/slipway/bench/report"
)

// peers are the columns of the tables, in their order.
var peers = []string{direct, iptables, nftables}

func (r results) rows(p plan) []report.Row {
	var out []report.Row
	for _, m := range metrics {
		for _, s := range r.Sizes {
			out = append(out, m.rows(s)...)
		}
	}
	out = append(out, r.slopes()...)
	for _, s := range r.Sizes {
		out = append(out, coldRows(sizeShape(s.Services), s.Starts)...)
	}
	if p.ColdRounds > 0 {
		out = append(out, coldRows(p.Cold, r.Cold)...)
		out = append(out, report.Series{Metric: "memory of BPF maps and programs", Unit: "MB", Better: report.Less, Ours: r.Tables}.Row())
	}
	out = append(out, r.changeRows()...)
	for _, c := range r.Programs {
		out = append(out, c.rows()...)
	}
	return out
}

// rows has one for each peer that was measured.
func (m metric) rows(s sizeResult) []report.Row {
	var out []report.Row
	for _, peer := range peers {
		values := m.of(s, peer)
		if len(values) == 0 {
			continue
		}
		out = append(out, report.Series{
			Metric: fmt.Sprintf("%s, %s", m.name, services(s.Services)), Unit: m.unit, Better: m.better,
			Ours: m.of(s, ours), Peer: values, PeerName: peer, Goals: m.goals[peer],
		}.Row())
	}
	return out
}

// services writes a number of them with its thousands apart.
func services(n int) string {
	text := strconv.Itoa(n)
	if n >= 1000 {
		text = fmt.Sprintf("%d,%03d", n/1000, n%1000)
	}
	return text + " Services"
}

// slopes compare the greatest number of Services with the least, each as a share
// of direct connections at that time: the machine is not as fast all the time.
func (r results) slopes() []report.Row {
	if len(r.Sizes) < 2 {
		return nil
	}
	least, most := r.Sizes[0], r.Sizes[len(r.Sizes)-1]
	var out []report.Row
	for _, m := range metrics[:2] {
		out = append(out, report.Series{
			Metric: fmt.Sprintf("%s, share of direct, %s", m.name, services(most.Services)), Unit: "1", Better: report.More,
			Ours: m.shares(most), Peer: m.shares(least), PeerName: "Slipway, " + services(least.Services),
			Goals: []report.Goal{report.RatioAtLeast(0.97)},
		}.Row())
	}
	return out
}

func (m metric) shares(s sizeResult) []float64 {
	out, limit := m.of(s, ours), m.of(s, direct)
	for i := range out {
		out[i] /= limit[i]
	}
	return out
}

// coldRows are those of what was programmed from cold, with what is aimed at
// when there are 10,000 Services.
func coldRows(s shape, took map[string][]cost) []report.Row {
	what := fmt.Sprintf("%s × %d endpoints from cold: ", services(s.Services), s.Endpoints)
	goal := func(most float64) []report.Goal {
		if s.Services != 10000 {
			return nil
		}
		return []report.Goal{report.AtMost(most)}
	}
	var out []report.Row
	for _, m := range []struct {
		name, unit string
		value      func(cost) float64
		goals      []report.Goal
	}{
		{"time", "s", func(c cost) float64 { return c.Took }, goal(1)},
		{"resident memory", "MB", func(c cost) float64 { return c.Resident }, goal(80)},
		{"processor time", "s", func(c cost) float64 { return c.CPU }, nil},
	} {
		for _, peer := range peers[1:] {
			if len(took[peer]) == 0 {
				continue
			}
			one := report.Series{Metric: what + m.name, Unit: m.unit, Better: report.Less, PeerName: peer, Goals: m.goals}
			for _, c := range took[ours] {
				one.Ours = append(one.Ours, m.value(c))
			}
			for _, c := range took[peer] {
				one.Peer = append(one.Peer, m.value(c))
			}
			out = append(out, one.Row())
		}
	}
	return out
}

// changeRows are percentiles over all changes.
func (r results) changeRows() []report.Row {
	if len(r.Changes[ours]) == 0 {
		return nil
	}
	what := "change of an endpoint, " + services(r.Sizes[len(r.Sizes)-1].Services)
	var out []report.Row
	for _, peer := range peers[1:] {
		if len(r.Changes[peer]) == 0 {
			continue
		}
		for _, m := range []struct {
			name  string
			share float64
			goals []report.Goal
		}{{"median", 0.5, nil}, {"99th percentile", 0.99, []report.Goal{report.AtMost(5)}}} {
			out = append(out, report.Series{
				Metric: what + ", " + m.name, Unit: "ms", Better: report.Less, PeerName: peer, Goals: m.goals,
				Ours: []float64{report.Percentile(r.Changes[ours], m.share)}, Peer: []float64{report.Percentile(r.Changes[peer], m.share)},
			}.Row())
		}
	}
	return out
}

func (c programCost) rows() []report.Row {
	cost := report.Series{Metric: "program " + c.Name, Unit: "ns", Better: report.Less, Ours: []float64{c.Nanoseconds}}
	if c.Name == "wire: "+forwardsAway {
		cost.Goals = []report.Goal{report.AtMost(80)}
	}
	name, _, _ := strings.Cut(c.Name, ":")
	if c.Instructions == 0 {
		return []report.Row{cost.Row()}
	}
	verified := report.Series{
		Metric: "program " + name + ": instructions that the verifier went through", Unit: "1", Better: report.Less,
		Ours: []float64{float64(c.Instructions)},
	}
	return []report.Row{cost.Row(), verified.Row()}
}
