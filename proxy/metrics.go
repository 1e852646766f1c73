// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/bpf"
)

// metrics are those by our own names, and kube-proxy's.
type metrics struct {
	kubeProxy            *kubeProxy
	duration             prometheus.Histogram
	errors               prometheus.Counter
	slotsUsed, slotsRoom prometheus.Gauge
	closed               *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, p *Proxy) (*metrics, error) {
	buckets := prometheus.ExponentialBuckets(0.0001, 4, 10)
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "slipway_proxy_sync_duration_seconds", Help: "Time to compile and write all Services.", Buckets: buckets,
		}),
		kubeProxy: newKubeProxy(),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "slipway_proxy_sync_errors_total", Help: "Writes of Services that failed in part.",
		}),
		slotsUsed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "slipway_proxy_slots_used", Help: "Slots of the data path that hold a backend.",
		}),
		slotsRoom: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "slipway_proxy_slots_capacity", Help: "Slots that the data path has.",
		}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_proxy_stale_sockets_closed_total", Help: "Sockets that were closed because their backend is gone.",
		}, []string{"protocol"}),
	}
	for _, protocol := range []bpf.Protocol{bpf.ProtocolTCP, bpf.ProtocolUDP} {
		m.closed.WithLabelValues(protocol.String())
	}
	if registry == nil {
		return m, nil
	}
	frontends := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "slipway_proxy_frontends", Help: "Frontends that are served.",
	}, func() float64 { n, _ := p.Stats(); return float64(n) })
	backends := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "slipway_proxy_backends", Help: "Backends that are in use.",
	}, func() float64 { _, n := p.Stats(); return float64(n) })
	all := []prometheus.Collector{m.duration, m.errors, m.slotsUsed, m.slotsRoom, m.closed, frontends, backends}
	for _, c := range slices.Concat(all, m.kubeProxy.collectors(), p.health.Collectors()) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(took time.Duration, w *writer, err error) {
	m.duration.Observe(took.Seconds())
	m.slotsUsed.Set(float64(w.slots.used))
	m.slotsRoom.Set(float64(w.slots.capacity))
	if err != nil {
		m.errors.Inc()
	}
}

func (m *metrics) socketsClosed(protocol bpf.Protocol, n int) {
	m.closed.WithLabelValues(protocol.String()).Add(float64(n))
}
