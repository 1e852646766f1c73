// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// testSnapshot saves the cluster, deletes all its data, brings it back and
// compares every object.
func testSnapshot(t *testing.T, c *cluster) {
	c.kubectl(t, "apply", "-f", "testdata/objects.yaml")
	c.kubectl(t, "wait", "--for=condition=Established", "crd/boats.e2e.test", "--timeout=30s")
	c.kubectl(t, "apply", "-f", "testdata/custom.yaml")
	wantEncrypted(t, c)
	dir := t.TempDir()
	file := filepath.Join(dir, "cluster.tar.gz")
	before := c.objects(t)
	if r := c.run(t, time.Minute, "snapshot", "save", file); r.status != 0 {
		t.Fatalf("snapshot save: %s%s", r.stdout, r.stderr)
	}
	if r := c.run(t, time.Minute, "snapshot", "restore", file); r.status == 0 || !strings.Contains(r.stderr, "stop it with `slipway down` first") {
		t.Errorf("restore below a running server: status %d, %s", r.status, r.stderr)
	}
	c.kubectl(t, "create", "configmap", "later")
	c.down(t, "--purge")
	testBadSnapshots(t, c, file)
	if r := c.run(t, time.Minute, "snapshot", "restore", file); r.status != 0 {
		t.Fatalf("snapshot restore: %s%s", r.stdout, r.stderr)
	}
	r := c.up(t)
	t.Logf("up after restore took %.1f s", r.took.Seconds())
	if _, err := c.try(t, "get", "configmap", "later"); err == nil {
		t.Error("an object that was made after the snapshot is there")
	}
	wantSameObjects(t, before, c.objects(t))
	// Images are not in a snapshot, nor is the data of volumes.
	c.loadImage(t)
	c.kubectl(t, "delete", "deployment/keeper", "pvc/kept", "--timeout=60s")
	c.kubectl(t, "apply", "-f", "testdata/base.yaml")
	c.waitBase(t)
	within(t, time.Minute, func() error {
		return fromAll(talk.Ask(targets(c.serviceIPs(t, "echo"), 80, 9000), enough))
	})
	c.kubectl(t, "delete", "-f", "testdata/custom.yaml", "-f", "testdata/objects.yaml")
}

// testBadSnapshots restores what cannot be restored; nothing may be left.
func testBadSnapshots(t *testing.T, c *cluster, good string) {
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]struct {
		content []byte
		says    string
	}{
		"cut off":     {data[:len(data)*2/3], "cut off"},
		"only begun":  {data[:100], "damaged"},
		"another":     {[]byte("no archive at all"), "no snapshot of slipway, or damaged"},
		"overwritten": {overwritten(data), "damaged"},
	} {
		path := filepath.Join(t.TempDir(), "bad.tar.gz")
		if err := os.WriteFile(path, bad.content, 0o600); err != nil {
			t.Fatal(err)
		}
		r := c.run(t, time.Minute, "snapshot", "restore", path)
		if r.status == 0 || !strings.Contains(r.stderr, bad.says) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
			t.Errorf("%s: status %d, %s, expected one line with %q", name, r.status, r.stderr, bad.says)
		}
		if exists(filepath.Join(dataDir, "etcd")) {
			t.Errorf("%s: there are data of a cluster", name)
		}
	}
}

func overwritten(data []byte) []byte {
	bad := slices.Clone(data)
	for i := range 64 {
		bad[len(bad)/2+i] ^= 0xff
	}
	return bad
}

// objects returns every object of every type that can be listed, without what
// a running cluster changes all the time.
func (c *cluster) objects(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for resource := range strings.FieldsSeq(c.kubectl(t, "api-resources", "--verbs=list", "-o", "name", "--cached=false")) {
		switch resource {
		case "events", "events.events.k8s.io", "leases.coordination.k8s.io", "nodes.metrics.k8s.io", "pods.metrics.k8s.io":
			continue
		}
		var list struct{ Items []map[string]any }
		if err := json.Unmarshal([]byte(c.kubectl(t, "get", resource, "-A", "-o", "json")), &list); err != nil {
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
	for _, field := range []string{"resourceVersion", "managedFields", "generation"} {
		delete(meta, field)
	}
	if annotations, ok := meta["annotations"].(map[string]any); ok {
		delete(annotations, "endpoints.kubernetes.io/last-change-trigger-time")
		if len(annotations) == 0 {
			delete(meta, "annotations")
		}
	}
	delete(object, "status")
	if strings.HasPrefix(resource, "endpoint") {
		// Pods have other addresses when they start again.
		delete(object, "endpoints")
		delete(object, "subsets")
		delete(object, "ports")
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

// wantEncrypted looks for the content of a Secret, and of a ConfigMap, in what
// etcd has written.
func wantEncrypted(t *testing.T, c *cluster) {
	t.Helper()
	inFiles := func(text string) bool {
		return exec.Command("grep", "-rqaF", text, filepath.Join(dataDir, "etcd")).Run() == nil
	}
	if !inFiles("plain-text-of-a-configmap") {
		t.Error("the content of a ConfigMap is not found in etcd's files: the test looks in the wrong place")
	}
	if inFiles("plain-text-of-a-secret") {
		t.Error("the content of a Secret is found in etcd's files")
	}
	info, err := os.Stat(filepath.Join(dataDir, "pki", "encryption.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", info, err)
	}
}
