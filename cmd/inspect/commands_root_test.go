// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientfake "k8s.io/client-go/kubernetes/fake"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// run runs a command on pins, without an API.
func run(t *testing.T, pins string, args ...string) string {
	t.Helper()
	return runWith(t, pins, nil, args...)
}

// runWith runs a command on pins, with an API that has some objects.
func runWith(t *testing.T, pins string, api kubernetes.Interface, args ...string) string {
	t.Helper()
	root := &cobra.Command{Use: "slipway", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(Config{
		Program: "slipway", Pins: func() string { return pins },
		Client: func() (kubernetes.Interface, error) {
			if api == nil {
				return nil, errors.New("no API")
			}
			return api, nil
		},
	})...)
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	if err := root.ExecuteContext(t.Context()); err != nil {
		return "error: " + err.Error()
	}
	return out.String()
}

// TestRootCommands runs the commands on tables of the kernel that nobody holds
// open.
func TestRootCommands(t *testing.T) {
	roottest.Require(t)
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	pins := filepath.Join(dir, "slipway")
	if got := run(t, pins, "proxy", "list"); !strings.HasPrefix(got, "error: no data path on this machine: ") || strings.Contains(got, "\n") {
		t.Errorf("without a data path: got %q", got)
	}
	fill(t, pins)
	for args, want := range map[string]string{
		"proxy list": "FRONTEND           SCOPE      BACKENDS   AFFINITY   SERVICE\n" +
			"10.96.0.5:80/TCP   cluster    2          -          -\n" +
			"[fd00::1]:53/UDP   external   0          3h0m0s     -\n",
		"proxy get 10.96.0.5:80": "Frontend:  10.96.0.5:80/TCP\nScope:     cluster\nService:   -\nAffinity:  -\nBackends:  2\n" +
			"  10.244.0.5:8080   local pod\n  10.244.1.5:8080   remote\n",
		"proxy get 10.96.0.5:81":          "error: no frontend 10.96.0.5:81 in the data path; this address has 10.96.0.5:80/TCP",
		"proxy get default/web":           "error: default/web: the addresses of a Service are known to the API, which does not answer (no API); ask for ADDRESS:PORT",
		"proxy backends":                  "BACKEND           PLACE       FRONTENDS\n10.244.0.5:8080   local pod   1\n10.244.1.5:8080   remote      1\n",
		"proxy conntrack":                 "PROTOCOL   PACKETS   CLIENT   SERVICE   BACKEND   REWRITES   IDLE\n",
		"proxy conntrack --count":         "0\n",
		"proxy conntrack --protocol icmp": `error: --protocol: protocol "icmp": expected tcp, udp or sctp`,
	} {
		t.Run(args, func(t *testing.T) {
			if diff := cmp.Diff(want, run(t, pins, strings.Fields(args)...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	withAPI(t, pins)
}

// withAPI runs the commands that know Services. The kernel has more than these
// call for.
func withAPI(t *testing.T, pins string) {
	t.Helper()
	api := clientfake.NewClientset(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.5", ClusterIPs: []string{"10.96.0.5"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	})
	for args, want := range map[string]string{
		"proxy list":                   "10.96.0.5:80/TCP   cluster    2          -          default/web\n",
		"proxy get default/web":        "Service:   default/web\n",
		"proxy get default/web:https":  "service default/web has no port https; its ports are 80 (http)",
		"explain node default/web":     "too much: 10.244.0.5:8080, on this node\n",
		"explain default/a 10.0.0.1:1": "error: from: no pod default/a",
	} {
		t.Run("with an API "+args, func(t *testing.T) {
			got := runWith(t, pins, api, strings.Fields(args)...)
			if !strings.Contains(got, want) {
				t.Errorf("got %s\nexpected in it %s", got, want)
			}
		})
	}
}

// fill makes a data path with two frontends and lets go of it.
func fill(t *testing.T, pins string) {
	t.Helper()
	d, err := bpf.Open(bpf.Config{PinDir: pins, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	web := bpf.Frontend{Addr: netip.MustParseAddr("10.96.0.5"), Port: 80, Protocol: bpf.ProtocolTCP}
	dns := bpf.Frontend{Addr: netip.MustParseAddr("fd00::1"), Port: 53, Protocol: bpf.ProtocolUDP, Scope: bpf.ScopeExternal}
	err = errors.Join(
		d.SetBackend(4, bpf.Backend{Addr: netip.MustParseAddr("10.244.0.5"), Port: 8080, Flags: bpf.BackendLocalPod}),
		d.SetBackend(5, bpf.Backend{Addr: netip.MustParseAddr("10.244.1.5"), Port: 8080}),
		d.SetSlots(7, []uint32{4, 5}),
		d.SetFrontend(web, bpf.Range{First: 7, Count: 2, Generation: 1}),
		d.SetFrontend(dns, bpf.Range{Generation: 1, Affinity: 10800}),
		d.Close(),
	)
	if err != nil {
		t.Fatal(err)
	}
}
