// SPDX-License-Identifier: Apache-2.0

// Package report is what the benchmarks share to tell their results: rows of
// medians with their goals, what they were measured on, and both as JSON, as
// a table for a terminal and as a page of the documentation. It measures
// nothing itself and keeps no state.
package report

import (
	"math"
	"slices"
	"strings"
)

// Better tells which of two values wins.
type Better string

// A time or a size is better when it is less, a rate when it is more.
const (
	Less Better = "less"
	More Better = "more"
)

// Series is what was measured for one metric, one value a round.
type Series struct {
	Metric string
	Unit   string
	Better Better
	// Ours and Peer are the values; a metric may have no peer.
	Ours, Peer []float64
	PeerName   string
	Goals      []Goal
}

// Row is one metric of a benchmark, with medians.
type Row struct {
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Ours   float64 `json:"ours"`
	// Peer is nil when the metric has none.
	Peer     *float64 `json:"peer"`
	PeerName string   `json:"peer_name"`
	// Ratio is ours through peer's, nil unless both are above 0.
	Ratio *float64 `json:"ratio"`
	// Goal is empty and Met nil when the metric has none.
	Goal string `json:"goal"`
	Met  *bool  `json:"met"`

	Better Better `json:"better"`
	// OursRuns and PeerRuns are what the medians are of.
	OursRuns []float64 `json:"ours_runs"`
	PeerRuns []float64 `json:"peer_runs,omitempty"`
}

// Row condenses the series. It panics without a value of ours, which is a
// mistake of the benchmark.
func (s Series) Row() Row {
	r := Row{
		Metric: s.Metric, Unit: s.Unit, Better: s.Better, PeerName: s.PeerName,
		Ours: Median(s.Ours), OursRuns: s.Ours, PeerRuns: s.Peer,
	}
	if len(s.Peer) > 0 {
		peer := Median(s.Peer)
		r.Peer = &peer
		if peer > 0 && r.Ours > 0 {
			ratio := r.Ours / peer
			r.Ratio = &ratio
		}
	}
	if len(s.Goals) == 0 {
		return r
	}
	met, texts := true, make([]string, len(s.Goals))
	for i, g := range s.Goals {
		texts[i] = g.text
		met = met && g.met(r)
	}
	r.Goal, r.Met = strings.Join(texts, ", "), &met
	return r
}

// Loses tells whether the peer is better.
func (r Row) Loses() bool {
	if r.Peer == nil {
		return false
	}
	if r.Better == More {
		return r.Ours < *r.Peer
	}
	return r.Ours > *r.Peer
}

// Median is the middle value, or the mean of the two in the middle. It panics
// when there is none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Percentile is the smallest value that at least this share of all, between 0
// and 1, does not exceed. It panics when there is no value.
func Percentile(values []float64, share float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
