// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"slipway.dev/slipway/internal/roottest"
)

func testAnnouncer(t *testing.T) *Announcer {
	return &Announcer{cfg: AnnouncerConfig{NodeName: "one", Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, greet: map[netip.Addr]int{}}
}

func within(t *testing.T, check func() error) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, check)
}

// Who cannot renew its own Lease knows nothing; who stops renewing is dead.
func TestAlive(t *testing.T) {
	now := time.Now()
	a := newAlive(nil, "one", nil)
	if nodes, known := a.nodes(now); known {
		t.Errorf("without a Lease: %v", nodes)
	}
	a.renewed = now
	a.seen["two"], a.seen["three"] = now, now.Add(-deadAfter-time.Second)
	if nodes, known := a.nodes(now); !known || len(nodes) != 2 || nodes[0] != "one" || nodes[1] != "two" {
		t.Errorf("alive are %v, %v", nodes, known)
	}
	if nodes, known := a.nodes(now.Add(deadAfter + time.Second)); known {
		t.Errorf("after the API was away: %v", nodes)
	}
}
