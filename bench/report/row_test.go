// SPDX-License-Identifier: Apache-2.0

package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func pointer[T any](v T) *T { return &v }

func TestRow(t *testing.T) {
	for _, test := range []struct {
		name   string
		series Series
		want   Row
		loses  bool
	}{
		{
			name: "all goals met",
			series: Series{
				Metric: "memory", Unit: "MB", Better: Less, PeerName: "them",
				Ours: []float64{3, 1, 2}, Peer: []float64{4, 8}, Goals: []Goal{AtMost(2), RatioAtMost(0.5)},
			},
			want: Row{
				Metric: "memory", Unit: "MB", Better: Less, PeerName: "them",
				Ours: 2, Peer: pointer(6.0), Ratio: pointer(1.0 / 3), Goal: "≤ 2, ≤ 0.5 × peer", Met: pointer(true),
				OursRuns: []float64{3, 1, 2}, PeerRuns: []float64{4, 8},
			},
		},
		{
			name: "one goal missed",
			series: Series{
				Better: Less, Ours: []float64{5}, Peer: []float64{4}, Goals: []Goal{AtMost(9), RatioAtMost(1)},
			},
			want: Row{
				Better: Less, Ours: 5, Peer: pointer(4.0), Ratio: pointer(1.25), Goal: "≤ 9, ≤ 1 × peer", Met: pointer(false),
				OursRuns: []float64{5}, PeerRuns: []float64{4},
			},
			loses: true,
		},
		{
			name:   "a rate",
			series: Series{Better: More, Ours: []float64{5}, Peer: []float64{4}, Goals: []Goal{AtLeast(5), RatioAtLeast(1.5)}},
			want: Row{
				Better: More, Ours: 5, Peer: pointer(4.0), Ratio: pointer(1.25), Goal: "≥ 5, ≥ 1.5 × peer", Met: pointer(false),
				OursRuns: []float64{5}, PeerRuns: []float64{4},
			},
		},
		{
			name:   "no peer",
			series: Series{Better: Less, Ours: []float64{5}, Goals: []Goal{RatioAtMost(9)}},
			want:   Row{Better: Less, Ours: 5, OursRuns: []float64{5}, Goal: "≤ 9 × peer", Met: pointer(false)},
		},
		{
			name:   "no ratio of what is not above zero",
			series: Series{Better: Less, Ours: []float64{-1}, Peer: []float64{0}},
			want:   Row{Better: Less, Ours: -1, Peer: pointer(0.0), OursRuns: []float64{-1}, PeerRuns: []float64{0}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.series.Row()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Loses() != test.loses {
				t.Errorf("Loses() = %v", got.Loses())
			}
		})
	}
}

func TestLosesRate(t *testing.T) {
	row := Series{Better: More, Ours: []float64{3}, Peer: []float64{4}}.Row()
	if !row.Loses() {
		t.Error("the lower rate does not lose")
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, test := range []struct {
		values []float64
		share  float64
		want   float64
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]float64{7}, 0.99, 7},
		{[]float64{1, 2, 3}, 0.5, 2},
	} {
		if got := Percentile(test.values, test.share); got != test.want {
			t.Errorf("Percentile(%d values, %v) = %v, want %v", len(test.values), test.share, got, test.want)
		}
	}
}
