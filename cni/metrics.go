// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"

	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/socket"
)

// metrics of the server. Verbs and codes are those of the CNI specification,
// so labels are bounded; code 0 is success.
type metrics struct {
	operations *prometheus.CounterVec
	duration   *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer, usage func() []ipam.Usage) (*metrics, error) {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "slipway_cni_operations_total", Help: "CNI requests by verb and error code; 0 is success.",
		}, []string{"verb", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "slipway_cni_operation_duration_seconds", Help: "Duration of CNI requests by verb.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, []string{"verb"}),
	}
	if registry == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.operations, m.duration, newUsageCollector(usage)} {
		if err := register(registry, c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// register lets a server take the place of an earlier one in the registry.
func register(registry prometheus.Registerer, c prometheus.Collector) error {
	err := registry.Register(c)
	if errors.As(err, &prometheus.AlreadyRegisteredError{}) && registry.Unregister(c) {
		err = registry.Register(c)
	}
	return err
}

func (m *metrics) observe(verb socket.Verb, failed *types.Error, took time.Duration) {
	var code uint
	if failed != nil {
		code = failed.Code
	}
	if verb == "" {
		verb = "invalid"
	}
	m.operations.WithLabelValues(string(verb), strconv.FormatUint(uint64(code), 10)).Inc()
	m.duration.WithLabelValues(string(verb)).Observe(took.Seconds())
}

// usage returns how full the pod CIDRs are, nothing while none are served.
func (s *Server) usage() []ipam.Usage {
	if n := s.serving.Load(); n != nil {
		return n.addresses.Usage()
	}
	return nil
}

// usageCollector counts addresses when it is asked.
type usageCollector struct {
	usage          func() []ipam.Usage
	used, capacity *prometheus.Desc
}

func newUsageCollector(usage func() []ipam.Usage) *usageCollector {
	return &usageCollector{
		usage:    usage,
		used:     prometheus.NewDesc("slipway_cni_addresses_used", "Pod addresses in use.", []string{"family"}, nil),
		capacity: prometheus.NewDesc("slipway_cni_addresses_capacity", "Pod addresses that the node can hand out.", []string{"family"}, nil),
	}
}

// Describe is that of prometheus.Collector.
func (c *usageCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- c.used
	descs <- c.capacity
}

// Collect is that of prometheus.Collector.
func (c *usageCollector) Collect(out chan<- prometheus.Metric) {
	for _, u := range c.usage() {
		family := "ipv6"
		if u.CIDR.Addr().Is4() {
			family = "ipv4"
		}
		out <- prometheus.MustNewConstMetric(c.used, prometheus.GaugeValue, float64(u.Used), family)
		out <- prometheus.MustNewConstMetric(c.capacity, prometheus.GaugeValue, float64(u.Capacity), family)
	}
}
