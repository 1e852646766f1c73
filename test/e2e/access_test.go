// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

// testAccess looks at what roles, tokens and Pod Security allow and refuse.
func testAccess(t *testing.T, c *cluster) {
	c.use(t, "access.yaml")
	reader := "--as=system:serviceaccount:e2e:reader"
	c.kubectl(t, "get", "pods", reader)
	c.refused(t, `cannot list resource "secrets"`, "get", "secrets", reader)
	c.refused(t, `cannot list resource "pods" in API group "" in the namespace "default"`, "get", "pods", "-n", "default", reader)
	c.kubectl(t, "wait", "--for=condition=Ready", "pod/reader", "--timeout=30s")
	if out := c.mustExec(t, "reader", "api", "/api/v1/namespaces/e2e/pods/reader"); !strings.Contains(out, `"reader"`) {
		t.Errorf("the pod's own token reads %.200s", out)
	}
	if out, _ := c.exec(t, "reader", "api", "/api/v1/namespaces/e2e/secrets"); !strings.HasPrefix(out, "403") {
		t.Errorf("the pod's own token reads Secrets: %.200s", out)
	}
	token := strings.TrimSpace(c.kubectl(t, "create", "token", "reader", "--duration=10m"))
	review := exec.Command(c.path, "kubectl", "create", "-o", "jsonpath={.status.user.username}", "-f", "-")
	review.Stdin = strings.NewReader("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {token: " + token + "}\n")
	if r := c.start(t, time.Minute, review); r.stdout != "system:serviceaccount:e2e:reader" {
		t.Errorf("the token is that of %q %s", r.stdout, r.stderr)
	}
	c.refused(t, `violates PodSecurity "restricted:latest"`, runIn("e2e-restricted", "plain", "")...)
	c.kubectl(t, runIn("e2e-restricted", "modest", `{"spec":{"containers":[{"name":"modest","image":"slipway.dev/e2e:v1",`+
		`"securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"runAsUser":1000,"capabilities":{"drop":["ALL"]},`+
		`"seccompProfile":{"type":"RuntimeDefault"}}}]}}`)...)
}

// testPolicies has objects refused and changed by policies in CEL.
func testPolicies(t *testing.T, c *cluster) {
	c.use(t, "policies.yaml")
	without := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: checked, namespace: e2e, labels: {checked: policy}}\n"
	t.Cleanup(func() { c.kubectl(t, "delete", "configmap", "checked", "--ignore-not-found") })
	c.refusedObject(t, without, "needs the key that the policy asks for")
	c.apply(t, without+"data: {key: value}\n")
	c.wantField(t, 0, "configmap/checked", "{.metadata.annotations.e2e}", "seen")
}
