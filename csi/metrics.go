// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"slipway.dev/slipway/csi/backend"
)

// metrics of the driver. Methods are those of the CSI services and codes
// those of gRPC, so labels are bounded.
type metrics struct {
	operations *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	registered prometheus.Gauge
}

func newMetrics(registry prometheus.Registerer, pool backend.Pool, log *slog.Logger) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_csi_operations_total", Help: "CSI calls by method and gRPC code.",
		}, []string{"method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_csi_operation_duration_seconds", Help: "Duration of CSI calls by method.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"method"}),
		registered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "slipway_csi_registered", Help: "1 when kubelet has accepted the driver.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.operations, m.duration, m.registered, newPoolCollector(pool, log)} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) observe(method string, code codes.Code, took time.Duration) {
	m.operations.WithLabelValues(method, code.String()).Inc()
	m.duration.WithLabelValues(method).Observe(took.Seconds())
}

func (m *metrics) setRegistered(ok bool) {
	if ok {
		m.registered.Set(1)
	} else {
		m.registered.Set(0)
	}
}

// poolCollector reads the pool when it is asked.
type poolCollector struct {
	pool                                  backend.Pool
	log                                   *slog.Logger
	capacity, available, allocated, count *prometheus.Desc
}

func newPoolCollector(pool backend.Pool, log *slog.Logger) *poolCollector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }
	return &poolCollector{
		pool: pool, log: log,
		capacity:  desc("slipway_csi_capacity_bytes", "Size of the file system that holds the volumes."),
		available: desc("slipway_csi_available_bytes", "Space that new volumes can still get."),
		allocated: desc("slipway_csi_used_bytes", "Space reserved by volumes."),
		count:     desc("slipway_csi_volumes", "Volumes on this node."),
	}
}

// Describe is that of prometheus.Collector.
func (c *poolCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.capacity, c.available, c.allocated, c.count} {
		descs <- d
	}
}

// Collect is that of prometheus.Collector.
func (c *poolCollector) Collect(out chan<- prometheus.Metric) {
	capacity, err := c.pool.Capacity()
	if err != nil {
		c.log.Warn("volume pool cannot be measured", "err", err)
		return
	}
	gauge := func(d *prometheus.Desc, v int64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	gauge(c.capacity, capacity.Total)
	gauge(c.available, capacity.Available)
	gauge(c.allocated, capacity.Allocated)
	gauge(c.count, capacity.Volumes)
}
