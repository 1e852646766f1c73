// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// refusedObject waits until an object is refused in these words: policies and
// webhooks take effect a moment after they were made.
func (c *cluster) refusedObject(t *testing.T, manifest, words string) {
	t.Helper()
	within(t, 20*time.Second, func() error {
		cmd := exec.Command(c.path, "kubectl", "create", "--dry-run=server", "-f", "-")
		cmd.Stdin = strings.NewReader(manifest)
		if r := c.start(t, time.Minute, cmd); r.status == 0 || !strings.Contains(r.stderr, words) {
			return fmt.Errorf("status %d, expected a refusal with %q: %s%s", r.status, words, r.stdout, r.stderr)
		}
		return nil
	})
}

// admit answers the API server as webhooks do: it refuses what is labelled
// `webhook: refuse` and gives everything else an annotation.
func admit(w http.ResponseWriter, r *http.Request) {
	var review struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Request    struct {
			UID    string `json:"uid"`
			Object struct {
				Metadata struct{ Labels map[string]string }
			} `json:"object"`
		} `json:"request"`
	}
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer := map[string]any{"uid": review.Request.UID, "allowed": true}
	if review.Request.Object.Metadata.Labels["webhook"] == "refuse" {
		answer["allowed"], answer["status"] = false, map[string]any{"message": "the webhook refuses it"}
	} else if r.URL.Path == "/mutate" {
		answer["patchType"] = "JSONPatch"
		answer["patch"] = base64.StdEncoding.EncodeToString([]byte(`[{"op":"add","path":"/metadata/annotations","value":{"e2e":"webhook"}}]`))
	}
	json.NewEncoder(w).Encode(map[string]any{"apiVersion": review.APIVersion, "kind": review.Kind, "response": answer})
}

const webhookConfiguration = `apiVersion: admissionregistration.k8s.io/v1
kind: %[1]sWebhookConfiguration
metadata: {name: e2e}
webhooks:
  - name: e2e.slipway.dev
    admissionReviewVersions: [v1]
    sideEffects: None
    timeoutSeconds: 5
    clientConfig: {url: "%[2]s", caBundle: %[3]s}
    objectSelector: {matchExpressions: [{key: webhook, operator: Exists}]}
    rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}]
---
`

// testWebhooks has objects refused and changed by a webhook outside the cluster.
func testWebhooks(t *testing.T, c *cluster) {
	server := httptest.NewTLSServer(http.HandlerFunc(admit))
	t.Cleanup(server.Close)
	authority := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	t.Cleanup(func() {
		c.kubectl(t, "delete", "validatingwebhookconfiguration,mutatingwebhookconfiguration", "e2e", "--ignore-not-found")
		c.kubectl(t, "delete", "configmap", "hooked", "--ignore-not-found")
	})
	c.apply(t, fmt.Sprintf(webhookConfiguration, "Validating", server.URL+"/validate", authority))
	c.apply(t, fmt.Sprintf(webhookConfiguration, "Mutating", server.URL+"/mutate", authority))
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: hooked, namespace: e2e, labels: {webhook: %s}}\n"
	c.refusedObject(t, fmt.Sprintf(object, "refuse"), "the webhook refuses it")
	c.apply(t, fmt.Sprintf(object, "change"))
	c.wantField(t, 0, "configmap/hooked", "{.metadata.annotations.e2e}", "webhook")
}

const aggregated = `apiVersion: v1
kind: Service
metadata: {name: berths, namespace: e2e}
spec: {ports: [{port: 443, targetPort: %[2]s}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: berths, namespace: e2e, labels: {kubernetes.io/service-name: berths}}
addressType: IPv4
endpoints: [{addresses: ["%[1]s"]}]
ports: [{port: %[2]s}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.berths.e2e.test}
spec:
  group: berths.e2e.test
  version: v1
  groupPriorityMinimum: 1000
  versionPriority: 15
  insecureSkipTLSVerify: true
  service: {name: berths, namespace: e2e, port: 443}
`

// testAggregation has another server answer for a group of the API. It learns
// who asks from the API server, which shows a certificate.
func testAggregation(t *testing.T, c *cluster) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/apis/berths.e2e.test/v1":
			fmt.Fprint(w, `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"berths.e2e.test/v1","resources":[`+
				`{"name":"berths","singularName":"berth","namespaced":true,"kind":"Berth","verbs":["list"]}]}`)
		case strings.HasSuffix(r.URL.Path, "/berths"):
			fmt.Fprintf(w, `{"kind":"BerthList","apiVersion":"berths.e2e.test/v1","metadata":{},"items":[`+
				`{"kind":"Berth","apiVersion":"berths.e2e.test/v1","metadata":{"name":%q,"namespace":"e2e"}}]}`, r.Header.Get("X-Remote-User"))
		default:
			http.NotFound(w, r)
		}
	}))
	listener, err := net.Listen("tcp", net.JoinHostPort(c.nodeIPs[0].String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = listener
	server.StartTLS()
	t.Cleanup(server.Close)
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	t.Cleanup(func() {
		c.kubectl(t, "delete", "apiservice/v1.berths.e2e.test", "service/berths", "endpointslice/berths", "--ignore-not-found")
	})
	c.apply(t, fmt.Sprintf(aggregated, host, port))
	c.kubectl(t, "wait", "--for=condition=Available", "apiservice/v1.berths.e2e.test", "--timeout=30s")
	within(t, 20*time.Second, func() error {
		if out, err := c.try(t, "get", "berths", "-o", "name"); err != nil || !strings.Contains(out, "berth.berths.e2e.test/") {
			return fmt.Errorf("get berths: %s %v", out, err)
		}
		return nil
	})
}
