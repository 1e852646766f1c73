// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// testSnapshot saves the cluster, deletes all its data, brings it back, and
// compares every object. The data of volumes, and images, are put back by other
// means.
func testSnapshot(t *testing.T, c *cluster) {
	check := c.mark(t)
	c.makeObjects(t)
	admin, token := c.keepCredentials(t), strings.TrimSpace(c.kubectl(t, "create", "token", "saved", "--duration=1h"))
	dir := t.TempDir()
	file, volumes := filepath.Join(dir, "cluster.tar.gz"), filepath.Join(dir, "volumes")
	before := c.objects(t)
	if r := c.run(t, time.Minute, "snapshot", "save", file); r.status != 0 {
		t.Fatalf("snapshot save: %s%s", r.stdout, r.stderr)
	}
	c.wantRefused(t, "stop it with `slipway down` first", "snapshot", "restore", "--force", file)
	c.kubectl(t, "create", "configmap", "later")
	seen := c.revision(t, "configmap/later")
	c.down(t)
	c.wantRefused(t, "holds a cluster already", "snapshot", "restore", file)
	copyVolumes(t, filepath.Join(dataDir, "volumes"), volumes)
	c.down(t, "--purge")
	testBadSnapshots(t, c, file)

	if r := c.run(t, time.Minute, "snapshot", "restore", file); r.status != 0 {
		t.Fatalf("snapshot restore: %s%s", r.stdout, r.stderr)
	}
	copyVolumes(t, volumes, filepath.Join(dataDir, "volumes"))
	r := c.up(t)
	t.Logf("up after restore took %.1f s", r.took.Seconds())
	wantSameObjects(t, before, c.objects(t))
	if _, err := c.try(t, "get", "configmap", "later"); err == nil {
		t.Error("an object that was made after the snapshot is there")
	}
	c.kubectl(t, "create", "configmap", "later")
	if now := c.revision(t, "configmap/later"); now <= seen {
		t.Errorf("an object has revision %d after others had %d", now, seen)
	}
	c.kubectl(t, "delete", "configmap", "later")
	authority := filepath.Join(dataDir, "pki", "ca.crt")
	for _, credentials := range [][]string{
		{"--kubeconfig", admin},
		{"--kubeconfig", os.DevNull, "--server", "https://127.0.0.1:6443", "--certificate-authority", authority, "--token", token},
	} {
		if _, err := c.try(t, append(credentials, "get", "pod", "client")...); err != nil {
			t.Errorf("with credentials from before: %v", err)
		}
	}
	c.loadImage(t)
	within(t, 2*time.Minute, check)
	c.waitBase(t)
	c.deleteObjects(t)
}

// makeObjects makes objects of many kinds.
func (c *cluster) makeObjects(t *testing.T) {
	t.Helper()
	c.kubectl(t, "apply", "-f", "testdata/objects.yaml")
	c.kubectl(t, "wait", "--for=condition=Established", "crd/boats.e2e.test", "--timeout=30s")
	c.kubectl(t, "apply", "-f", "testdata/custom.yaml")
	c.kubectl(t, "wait", "--for=condition=Complete", "job/saved", "--timeout=60s")
	c.kubectl(t, "wait", "--for=jsonpath={.status.hard}", "quota/saved", "--timeout=30s")
}

func (c *cluster) deleteObjects(t *testing.T) {
	t.Helper()
	c.kubectl(t, "delete", "-f", "testdata/custom.yaml", "-f", "testdata/objects.yaml", "--timeout=60s")
}

// keepCredentials returns a copy of the administrator's kubeconfig.
func (c *cluster) keepCredentials(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (c *cluster) revision(t *testing.T, object string) int {
	t.Helper()
	n, err := strconv.Atoi(c.get(t, object, "{.metadata.resourceVersion}"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// wantRefused runs a command that must say no in one line.
func (c *cluster) wantRefused(t *testing.T, says string, args ...string) {
	t.Helper()
	r := c.run(t, time.Minute, args...)
	if r.status == 0 || !strings.Contains(r.stderr, says) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
		t.Errorf("%v: status %d, %s, expected one line with %q", args, r.status, r.stderr, says)
	}
}

// copyVolumes copies the data of all volumes as docs/backup.md tells to.
func copyVolumes(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
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
		path := filepath.Join(t.TempDir(), strings.ReplaceAll(name, " ", "-")+".tar.gz")
		if err := os.WriteFile(path, bad.content, 0o600); err != nil {
			t.Fatal(err)
		}
		c.wantRefused(t, bad.says, "snapshot", "restore", path)
		left, err := filepath.Glob(filepath.Join(dataDir, "*"))
		if err != nil || !slices.Equal(left, []string{filepath.Join(dataDir, "lock")}) && len(left) > 0 {
			t.Errorf("%s: left are %v, %v", name, left, err)
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

// testRestoreBack puts an earlier state in the place of a cluster whose pods go
// on meanwhile. Pods that were there then are not touched; later ones go.
func testRestoreBack(t *testing.T, c *cluster) {
	check := c.mark(t)
	before := c.podFacts(t)
	if r := c.run(t, time.Minute, "snapshot", "save"); r.status != 0 {
		t.Fatalf("snapshot save: %s%s", r.stdout, r.stderr)
	}
	all, err := filepath.Glob(filepath.Join(dataDir, "snapshots", "on-demand-*.tar.gz"))
	if err != nil || len(all) != 1 {
		t.Fatalf("snapshots %v, %v", all, err)
	}
	if r := c.run(t, time.Minute, "snapshot", "list"); !strings.Contains(r.stdout, all[0]) {
		t.Errorf("list does not show %s:\n%s", all[0], r.stdout)
	}
	c.kubectl(t, "delete", "configmap", "--all")
	c.kubectl(t, "apply", "-f", "testdata/tools.yaml")
	c.kubectl(t, "rollout", "status", "deployment/tools", "--timeout=60s")

	kill9(t, c.pid(t, "slipway"))
	c.wantRefused(t, "holds a cluster already", "snapshot", "restore", all[0])
	r := c.run(t, time.Minute, "snapshot", "restore", "--force", all[0])
	if r.status != 0 || strings.Count(r.stdout, ".before-restore-") != 2 {
		t.Fatalf("snapshot restore: %s%s", r.stdout, r.stderr)
	}
	c.upAgain(t, check)
	within(t, time.Minute, func() error {
		if pods := c.pods(t, "tools"); len(pods) > 0 {
			return fmt.Errorf("pods from after the snapshot: %v", pods)
		}
		if now := c.podFacts(t); now != before {
			return fmt.Errorf("pods were\n%s\nand are\n%s", before, now)
		}
		return onlyKnownContainers(before)
	})
}

// onlyKnownContainers finds that no process of the pods that were forgotten
// goes on.
func onlyKnownContainers(pods string) error {
	out, err := exec.Command("pgrep", "-af", "^/app serve").Output()
	if have, want := strings.Count(string(out), "\n"), strings.Count(pods, "\n"); have != want {
		return fmt.Errorf("%d processes of the application, expected %d (%v):\n%s", have, want, err, out)
	}
	return nil
}
