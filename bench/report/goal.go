// SPDX-License-Identifier: Apache-2.0

package report

import "fmt"

// Goal is what a row is to reach.
type Goal struct {
	text string
	met  func(Row) bool
}

// AtMost is met when our median is not above the value.
func AtMost(value float64) Goal {
	return Goal{"≤ " + number(value), func(r Row) bool { return r.Ours <= value }}
}

// AtLeast is met when our median is not below the value.
func AtLeast(value float64) Goal {
	return Goal{"≥ " + number(value), func(r Row) bool { return r.Ours >= value }}
}

// RatioAtMost is met when ours is at most this many times the peer's. It is
// not met without a peer.
func RatioAtMost(value float64) Goal {
	return Goal{fmt.Sprintf("≤ %s × peer", number(value)), func(r Row) bool { return r.Ratio != nil && *r.Ratio <= value }}
}

// RatioAtLeast is met when ours is at least this many times the peer's. It is
// not met without a peer.
func RatioAtLeast(value float64) Goal {
	return Goal{fmt.Sprintf("≥ %s × peer", number(value)), func(r Row) bool { return r.Ratio != nil && *r.Ratio >= value }}
}
