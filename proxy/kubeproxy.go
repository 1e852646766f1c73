// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// families are the values of kube-proxy's label ip_family. It has a proxier for
// each; ours writes both at once, so that times are told for both.
var families = []string{"IPv4", "IPv6"}

func familyOf(v4 bool) string {
	if v4 {
		return families[0]
	}
	return families[1]
}

// kubeProxy are metrics by kube-proxy's names, with its types, labels and
// buckets, for the dashboards and alerts that people have.
type kubeProxy struct {
	syncs, full, partial, programming    *prometheus.HistogramVec
	last, queued, withoutLocal           *prometheus.GaugeVec
	servicesPending, endpointsPending    prometheus.Gauge
	serviceChanges, endpointChangesTotal prometheus.Counter
}

func newKubeProxy() *kubeProxy {
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Subsystem: "kubeproxy", Name: name, Help: help, Buckets: buckets}, []string{"ip_family"})
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Subsystem: "kubeproxy", Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Subsystem: "kubeproxy", Name: name, Help: help})
	}
	return &kubeProxy{
		syncs:   histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", buckets),
		full:    histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", buckets),
		partial: histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", buckets),
		programming: histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", slices.Concat(
			prometheus.LinearBuckets(0.25, 0.25, 2), prometheus.LinearBuckets(1, 1, 59),
			prometheus.LinearBuckets(60, 5, 12), prometheus.LinearBuckets(120, 30, 7),
		)),
		last:   gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", "ip_family"),
		queued: gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", "ip_family"),
		withoutLocal: gauge("sync_proxy_rules_no_local_endpoints_total",
			"Number of services with a Local traffic policy and no endpoints", "traffic_policy", "ip_family"),
		servicesPending:      gauge("sync_proxy_rules_service_changes_pending", "Pending proxy rules Service changes").WithLabelValues(),
		endpointsPending:     gauge("sync_proxy_rules_endpoint_changes_pending", "Pending proxy rules Endpoint changes").WithLabelValues(),
		serviceChanges:       counter("sync_proxy_rules_service_changes_total", "Cumulative proxy rules Service changes"),
		endpointChangesTotal: counter("sync_proxy_rules_endpoint_changes_total", "Cumulative proxy rules Endpoint changes"),
	}
}

func (k *kubeProxy) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		k.syncs, k.full, k.partial, k.programming, k.last, k.queued, k.withoutLocal,
		k.servicesPending, k.endpointsPending, k.serviceChanges, k.endpointChangesTotal,
	}
}

// queue notes that something is to be written.
func (k *kubeProxy) queue() {
	for _, family := range families {
		k.queued.WithLabelValues(family).SetToCurrentTime()
	}
}

// observe notes one write: whether it went through all frontends, and how many
// ports of Services have no endpoint where their policy wants one.
func (k *kubeProxy) observe(took time.Duration, full bool, gaps gaps, err error) {
	kind := k.partial
	if full {
		kind = k.full
	}
	for _, family := range families {
		k.syncs.WithLabelValues(family).Observe(took.Seconds())
		kind.WithLabelValues(family).Observe(took.Seconds())
		if err == nil {
			k.last.WithLabelValues(family).SetToCurrentTime()
		}
		for _, policy := range []string{internalPolicy, externalPolicy} {
			k.withoutLocal.WithLabelValues(policy, family).Set(float64(gaps[gap{policy, family}]))
		}
	}
}
