// SPDX-License-Identifier: Apache-2.0

package csi_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	storagev1 "k8s.io/api/storage/v1"

	"slipway.dev/slipway/csi"
)

func TestValidate(t *testing.T) {
	good := csi.Config{NodeName: "node-a", Root: "/r", KubeletRoot: "/k", Log: slog.New(slog.DiscardHandler)}
	for name, test := range map[string]struct {
		change func(*csi.Config)
		ok     bool
	}{
		"good":             {func(*csi.Config) {}, true},
		"relative root":    {func(c *csi.Config) { c.Root = "r" }, false},
		"no root":          {func(c *csi.Config) { c.Root = "" }, false},
		"the whole disk":   {func(c *csi.Config) { c.Root = "/x/.." }, false},
		"no kubelet root":  {func(c *csi.Config) { c.KubeletRoot = "" }, false},
		"long socket path": {func(c *csi.Config) { c.KubeletRoot = "/" + strings.Repeat("k", 80) }, false},
		"no node name":     {func(c *csi.Config) { c.NodeName = "" }, false},
		"no log":           {func(c *csi.Config) { c.Log = nil }, false},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			test.change(&c)
			if err := c.Validate(); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestObjects(t *testing.T) {
	driver, class := csi.CSIDriverObject(), csi.StorageClassObject()
	if driver.Name != csi.DriverName || *driver.Spec.AttachRequired || *driver.Spec.FSGroupPolicy != storagev1.FileFSGroupPolicy {
		t.Errorf("driver: %+v", driver)
	}
	if class.Provisioner != csi.DriverName || *class.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer ||
		class.Annotations["storageclass.kubernetes.io/is-default-class"] != "true" {
		t.Errorf("class: %+v", class)
	}
}

func TestRootMetrics(t *testing.T) {
	h := newHost(t)
	h.stopDriver()
	registry := prometheus.NewRegistry()
	h.config.Registry = registry
	h.startDriver()
	_, err := h.create("pvc-metrics", 32*mib)
	must(t, err)
	_, err = h.create("pvc-metrics", 64*mib)
	wantCode(t, err, codes.AlreadyExists)

	families, err := registry.Gather()
	must(t, err)
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"slipway_csi_operations_total OK CreateVolume":            1,
		"slipway_csi_operations_total AlreadyExists CreateVolume": 1,
		"slipway_csi_used_bytes":                                  32 * mib,
		"slipway_csi_volumes":                                     1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["slipway_csi_capacity_bytes"] <= got["slipway_csi_available_bytes"] {
		t.Errorf("capacity %v, available %v", got["slipway_csi_capacity_bytes"], got["slipway_csi_available_bytes"])
	}
}

// TestRootSecondDriver cannot have the same root.
func TestRootSecondDriver(t *testing.T) {
	h := newHost(t)
	c := h.config
	c.KubeletRoot = filepath.Join(tempDir(t), "kubelet")
	second, err := csi.New(c)
	must(t, err)
	if err := second.Run(t.Context()); err == nil {
		t.Error("second driver runs")
	}
}
