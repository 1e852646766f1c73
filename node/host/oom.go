// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"

	"golang.org/x/sys/unix"
)

// daemonScore is the OOM score of node daemons, as the kubelet's default.
const daemonScore = -999

// MayLowerOOMScore tells whether this process may lower OOM scores: inside a
// container or a sandbox CAP_SYS_RESOURCE is often missing.
func MayLowerOOMScore() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// OOMScore is the score that a node daemon takes: the usual one, or that of
// this process where it may not be lowered.
func OOMScore() int32 {
	if MayLowerOOMScore() {
		return daemonScore
	}
	data, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return 0
	}
	var score int32
	for _, c := range data {
		if c >= '0' && c <= '9' {
			score = score*10 + int32(c-'0')
		}
	}
	return score
}
