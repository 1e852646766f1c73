// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What a cluster writes by itself all the time, and cannot be compared.
var (
	// volatile resources are not looked at.
	volatile = []string{"events", "events.events.k8s.io", "leases.coordination.k8s.io", "nodes.metrics.k8s.io", "pods.metrics.k8s.io"}
	// restarted ones have a status that tells of running containers.
	restarted = []string{"nodes", "pods", "deployments.apps", "replicasets.apps", "apiservices.apiregistration.k8s.io"}
)

// objects returns every object of every type that can be listed, without what
// a running cluster changes all the time.
func (c *cluster) objects(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for resource := range strings.FieldsSeq(c.kubectl(t, "api-resources", "--verbs=list", "-o", "name", "--cached=false")) {
		if slices.Contains(volatile, resource) {
			continue
		}
		var list struct{ Items []map[string]any }
		if err := json.Unmarshal([]byte(c.kubectl(t, "get", resource, "-A", "-o", "json", "--show-managed-fields")), &list); err != nil {
			t.Fatalf("%s: %v", resource, err)
		}
		for _, item := range list.Items {
			key, value := normal(t, resource, item)
			out[key] = value
		}
	}
	return out
}

// normal returns the name of an object and what must not change in it.
func normal(t *testing.T, resource string, object map[string]any) (key, value string) {
	t.Helper()
	meta := object["metadata"].(map[string]any)
	key = fmt.Sprintf("%s %v/%v", resource, meta["namespace"], meta["name"])
	// It has changed when something else has, or the same was written again.
	delete(meta, "resourceVersion")
	if slices.Contains(restarted, resource) {
		delete(object, "status")
		delete(meta, "managedFields")
	}
	if strings.HasPrefix(resource, "endpoint") {
		// Pods have other addresses when they start again.
		for _, field := range []string{"endpoints", "subsets", "ports"} {
			delete(object, field)
		}
		for _, field := range []string{"generation", "managedFields", "annotations"} {
			delete(meta, field)
		}
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(data)
}

func wantSameObjects(t *testing.T, before, after map[string]string) {
	t.Helper()
	t.Logf("%d objects before, %d after", len(before), len(after))
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if now, there := after[key]; !there {
			t.Errorf("%s is gone", key)
		} else if now != before[key] {
			t.Errorf("%s differs:\nbefore %s\nafter  %s", key, before[key], now)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if _, there := before[key]; !there {
			t.Errorf("%s is new", key)
		}
	}
}
