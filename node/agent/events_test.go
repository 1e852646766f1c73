// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientfake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"slipway.dev/slipway/internal/roottest"
)

// TestNodeWarns makes an event that `kubectl describe node` finds.
func TestNodeWarns(t *testing.T) {
	a := &Agent{cfg: Config{NodeName: "n1", Client: clientfake.NewClientset()}, events: record.NewBroadcaster()}
	a.sendEvents()
	t.Cleanup(a.events.Shutdown)
	a.nodeWarns("slipway-bpf")("TableNearlyFull", "slots is 95 % full (95 of 100)")
	roottest.Eventually(t, 10*time.Second, func() error {
		all, err := a.cfg.Client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(all.Items) != 1 {
			return fmt.Errorf("%d events, %w", len(all.Items), err)
		}
		e := all.Items[0]
		if o := e.InvolvedObject; o.Kind != "Node" || o.Name != "n1" || o.UID != "n1" || e.Type != corev1.EventTypeWarning || e.Source.Component != "slipway-bpf" {
			return fmt.Errorf("got %+v", e)
		}
		return nil
	})
}
