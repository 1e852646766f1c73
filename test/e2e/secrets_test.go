// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var keyFile = filepath.Join(dataDir, "pki", "encryption.json")

// testSecrets reads Secrets as etcd has them: encrypted, also those from before
// there was a key after the key was changed, while others are written and the
// change is killed half-way.
func testSecrets(t *testing.T, c *cluster) {
	etcd := openEtcd(t)
	for i := range 20 {
		c.kubectl(t, "create", "secret", "generic", fmt.Sprint("kept-", i), "--from-literal=key=plain-text-of-a-secret")
	}
	wantEncrypted(t, etcd, "key1")
	info, err := os.Stat(keyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key file is %v, %v", info, err)
	}
	plainSecret(t, c, etcd)
	if got := c.get(t, "secret/plain", "{.data.key}"); got != "eA==" {
		t.Errorf("a Secret from before there was a key is %q", got)
	}
	killRotation(t, c)
	kill9(t, c.pid(t, "slipway"))
	c.up(t)
	wantSecrets(t, c)
	if r := c.run(t, time.Minute, "status"); !strings.Contains(r.stdout, "encrypted with key2, some with key1 until") {
		t.Errorf("status does not tell that the key is changed:\n%s", r.stdout)
	}
	stop := writeSecrets(t, c)
	r := c.run(t, 5*time.Minute, "secrets", "rotate-key")
	stop()
	if r.status != 0 {
		t.Fatalf("rotate-key: %s%s", r.stdout, r.stderr)
	}
	t.Logf("rotate-key took %.1f s:\n%s", r.took.Seconds(), r.stdout)
	wantEncrypted(t, etcd, "key2")
	wantSecrets(t, c)
	if data, err := os.ReadFile(keyFile); err != nil || bytes.Contains(data, []byte(`"key1"`)) {
		t.Errorf("the old key is there still, %v", err)
	}
	c.kubectl(t, "delete", "secret", "--all")
}

func openEtcd(t *testing.T) *clientv3.Client {
	t.Helper()
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(runDir, "etcd", "client.sock")}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { etcd.Close() })
	return etcd
}

// stored returns what etcd has of Secrets.
func stored(t *testing.T, etcd *clientv3.Client, name string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, err := etcd.Get(ctx, "/registry/secrets/"+name, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, kv := range got.Kvs {
		all[string(kv.Key)] = string(kv.Value)
	}
	return all
}

func wantEncrypted(t *testing.T, etcd *clientv3.Client, key string) {
	t.Helper()
	all := stored(t, etcd, "")
	if len(all) < 20 {
		t.Errorf("etcd has %d Secrets, expected 20 or more", len(all))
	}
	for path, value := range all {
		if !strings.HasPrefix(value, "k8s:enc:secretbox:v1:"+key+":") || strings.Contains(value, "plain-text-of-a-secret") {
			t.Errorf("%s is not encrypted with %s: %.60q", path, key, value)
		}
	}
}

// plainSecret makes a Secret as a cluster without a key would store it.
func plainSecret(t *testing.T, c *cluster, etcd *clientv3.Client) {
	t.Helper()
	good, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(good, &config); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(config["resources"].([]any)[0].(map[string]any)["providers"].([]any))
	plain, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyFile, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	c.wantRefused(t, "changed by hand", "secrets", "rotate-key")
	within(t, 30*time.Second, func() error {
		c.kubectl(t, "delete", "secret", "plain", "--ignore-not-found")
		c.kubectl(t, "create", "secret", "generic", "plain", "--from-literal=key=x")
		for path, value := range stored(t, etcd, "e2e/plain") {
			if strings.HasPrefix(value, "k8s:enc:") {
				return fmt.Errorf("%s is encrypted", path)
			}
		}
		return nil
	})
	if err := os.WriteFile(keyFile, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// killRotation kills a change of the key when some Secrets have the new one.
func killRotation(t *testing.T, c *cluster) {
	t.Helper()
	cmd := exec.Command(c.path, "secrets", "rotate-key")
	cmd.Env = c.env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "writes with key2") {
		t.Errorf("rotate-key says %q, %v", line[:n], err)
	}
	kill9(t, cmd.Process.Pid)
	_ = cmd.Wait()
}

// writeSecrets makes and changes Secrets until it is told to stop.
func writeSecrets(t *testing.T, c *cluster) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			for _, args := range [][]string{
				{"create", "secret", "generic", fmt.Sprint("written-", i), "--from-literal=key=plain-text-of-a-secret"},
				{"annotate", "--overwrite", "secret", fmt.Sprint("kept-", i%20), fmt.Sprint("i=", i)},
			} {
				cmd := exec.Command(c.path, append([]string{"kubectl", "-n", "e2e"}, args...)...)
				cmd.Env = c.env
				if out, err := cmd.CombinedOutput(); err != nil {
					done <- fmt.Errorf("%v: %w: %s", args, err, out)
					return
				}
			}
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// wantSecrets reads all Secrets as a user does.
func wantSecrets(t *testing.T, c *cluster) {
	t.Helper()
	var list struct {
		Items []struct{ Data map[string][]byte }
	}
	if err := json.Unmarshal([]byte(c.kubectl(t, "get", "secrets", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) < 21 {
		t.Errorf("%d Secrets, expected 21 or more", len(list.Items))
	}
	for _, item := range list.Items {
		if key := string(item.Data["key"]); key != "plain-text-of-a-secret" && key != "x" {
			t.Errorf("a Secret has %q", item.Data)
		}
	}
}
