// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"slipway.dev/slipway/proxy/explain"
)

func TestClient(t *testing.T) {
	_, c := example()
	c.objects.Pods = []*corev1.Pod{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.0.5"}}},
	}}
	for text, want := range map[string]string{
		"default/web": "pod web", "10.244.0.5": "pod web", "::ffff:10.244.0.5": "pod web",
		"node": "node", "192.0.2.1": "node", "192.0.2.9": "host 192.0.2.9",
		"default/api": "from: no pod default/api",
		"web":         `from: "web": expected NAMESPACE/NAME of a pod, node, or an address`,
		"a/b/c":       `from: "a/b/c": expected NAMESPACE/NAME of a pod, node, or an address`,
	} {
		t.Run(text, func(t *testing.T) {
			found, err := c.client(text)
			got := "node"
			switch {
			case err != nil:
				got = err.Error()
			case found.Pod != nil:
				got = "pod " + found.Pod.Name
			case found.Outside():
				got = "host " + found.Addr.String()
			}
			if got != want {
				t.Errorf("got %s, expected %s", got, want)
			}
		})
	}
}

func TestExplainDestinations(t *testing.T) {
	_, c := example()
	for text, want := range map[string]string{
		"10.96.0.5:53":        "10.96.0.5:53/TCP",
		"10.96.0.5:53/udp":    "10.96.0.5:53/UDP",
		"default/web":         "10.96.0.5:80/TCP 10.96.0.5:53/UDP",
		"default/web:dns":     "10.96.0.5:53/UDP",
		"default/web:dns/tcp": "to: Service default/web has no such port of protocol TCP",
		"default/api":         "to: no Service default/api",
	} {
		t.Run(text, func(t *testing.T) {
			asked, err := parseTarget(text)
			if err != nil {
				t.Fatal(err)
			}
			found, err := c.destinations(explain.Client{}, asked)
			var texts []string
			for _, d := range found {
				texts = append(texts, d.String())
			}
			got := strings.Join(texts, " ")
			if err != nil {
				got = err.Error()
			}
			if got != want {
				t.Errorf("got %s, expected %s", got, want)
			}
		})
	}
}

func TestPrintExplanations(t *testing.T) {
	all := []explain.Explanation{
		{From: "this node", To: "10.96.0.5:80/TCP: ClusterIP", Steps: []explain.Step{{Says: "It has one backend:", Details: []string{"10.244.0.5:8080"}}, {Says: "Then this."}}},
		{From: "this node", To: "10.96.0.5:53/UDP: ClusterIP", Steps: []explain.Step{{Says: "It has no backends."}}},
	}
	golden(t, "explain.txt", func(out io.Writer) error { return printExplanations(out, all) })
}
