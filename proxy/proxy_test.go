// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	clientfake "k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// machine is a fake data path whose uplinks refuse their programs. It may be
// read while a Proxy runs.
type machine struct {
	mu sync.Mutex
	*fake
}

func (m *machine) SetFrontend(k bpf.Frontend, r bpf.Range) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fake.SetFrontend(k, r)
}

func (m *machine) DeleteFrontend(k bpf.Frontend) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fake.DeleteFrontend(k)
}

func (m *machine) SetSources(set uint32, ranges []netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fake.SetSources(set, ranges)
}

func (m *machine) DeleteSources(set uint32, ranges []netip.Prefix) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fake.DeleteSources(set, ranges)
}

func (m *machine) has(k bpf.Frontend) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.frontends[k]
	return ok
}

func (m *machine) AttachUplink(int, []netip.Addr) error { return errors.New("no such hook") }
func (m *machine) SetNode([]netip.Addr) error           { return nil }
func (m *machine) DetachUplink(int) error               { return nil }
func (m *machine) Uplinks() ([]int, error)              { return nil, nil }

func (m *machine) CloseStale(func(bpf.Use) bool) (map[bpf.Protocol]int, error) { return nil, nil }
func (m *machine) ForgetStale(func(bpf.Use) bool) (int, error)                 { return 0, nil }

// start runs a Proxy on informers that it was made with, and returns what ends both.
func start(t testing.TB, p *Proxy, factory informers.SharedInformerFactory) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	factory.Start(ctx.Done())
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		factory.Shutdown()
	}
}

// TestRunFollowsServices runs a Proxy on a fake API, on a machine where no
// uplink takes a program: Services are served all the same.
func TestRunFollowsServices(t *testing.T) {
	client := clientfake.NewClientset(service(nil))
	factory := informers.NewSharedInformerFactory(client, 0)
	datapath := &machine{fake: newFake(100, 100)}
	registry := prometheus.NewRegistry()
	p, err := New(Config{
		NodeName: "n1", Informers: factory, Pods: factory.Core().V1().Pods(), Datapath: datapath,
		Registry: registry, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, p, factory)
	web := bpf.Frontend{Addr: frontend(5).Addr, Port: 80, Protocol: bpf.ProtocolTCP}
	wait := func(served bool) {
		t.Helper()
		roottest.Eventually(t, 10*time.Second, func() error {
			if datapath.has(web) != served || !p.Synced() {
				return fmt.Errorf("served: %v, expected %v", !served, served)
			}
			return nil
		})
	}
	wait(true)
	if err := client.CoreV1().Services("a").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(false)
	stop()
	hasKubeProxyNames(t, registry)
}

// hasKubeProxyNames looks for the metrics that dashboards for kube-proxy have.
func hasKubeProxyNames(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, f := range families {
		if name, ok := strings.CutPrefix(f.GetName(), "kubeproxy_sync_"); ok {
			got[name] = len(f.Metric)
		}
	}
	want := map[string]int{
		"proxy_rules_duration_seconds": 2, "full_proxy_rules_duration_seconds": 2, "partial_proxy_rules_duration_seconds": 2,
		"proxy_rules_last_queued_timestamp_seconds": 2, "proxy_rules_no_local_endpoints_total": 4,
		"proxy_rules_service_changes_total": 1, "proxy_rules_service_changes_pending": 1,
		"proxy_rules_endpoint_changes_total": 1, "proxy_rules_endpoint_changes_pending": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kube-proxy's metrics and how many label values (-want +got):\n%s", diff)
	}
}
