// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"slipway.dev/slipway/cni/socket"
)

// BenchmarkRootAdd measures ADD as the agent serves it, over the socket, with
// the state directory on a real disk, while the node has as many pods as
// there were iterations before, up to 100.
func BenchmarkRootAdd(b *testing.B) {
	l := newLab(b)
	l.start()
	var took []time.Duration
	var pods []*pod
	for i := range b.N {
		b.StopTimer()
		if len(pods) == 100 {
			if _, err := l.call(l.request(socket.Del, pods[0])); err != nil {
				b.Fatal(err)
			}
			if err := pods[0].ns.Close(); err != nil {
				b.Fatal(err)
			}
			pods[0].ns = -1
			pods = pods[1:]
		}
		p := l.newPod(fmt.Sprintf("pod-%d", i))
		b.StartTimer()
		start := time.Now()
		if err := l.add(p); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		pods = append(pods, p)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}
