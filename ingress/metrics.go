// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration prometheus.Histogram
	routes   prometheus.Gauge
	reloads  prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_ingress_requests_total", Help: "Requests by status code.",
		}, []string{"code"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "slipway_ingress_request_duration_seconds", Help: "Time from the request to the end of its response.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}),
		routes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "slipway_ingress_routes", Help: "Hosts in the route table.",
		}),
		reloads: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "slipway_ingress_reloads_total", Help: "Route tables that were put in place.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.routes, m.reloads} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(code int, took time.Duration) {
	m.requests.WithLabelValues(strconv.Itoa(code)).Inc()
	m.duration.Observe(took.Seconds())
}

func (m *metrics) reloaded(t *Table) {
	m.reloads.Inc()
	m.routes.Set(float64(len(t.hosts) + len(t.wildcards)))
}
