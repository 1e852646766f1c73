// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	clientfake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// told takes the Events that there are.
func told(r *record.FakeRecorder) []string {
	var out []string
	for {
		select {
		case text := <-r.Events:
			out = append(out, text)
		default:
			slices.Sort(out)
			return out
		}
	}
}

// reporting runs a reporter in a bubble where time passes at once.
func reporting(t *testing.T, test func(r *reporter, recorder *record.FakeRecorder)) {
	synctest.Test(t, func(t *testing.T) {
		recorder := record.NewFakeRecorder(1000)
		r := &reporter{recorder: recorder, stays: stays, changed: make(chan struct{}, 1)}
		r.about = func(object string) runtime.Object {
			if object == "Service a/gone" {
				return nil
			}
			return &corev1.Service{}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.run(ctx) }()
		test(r, recorder)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestReporter(t *testing.T) {
	reporting(t, func(r *reporter, recorder *record.FakeRecorder) {
		expect := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if diff := cmp.Diff(want, told(recorder)); diff != "" {
				t.Error(diff)
			}
		}
		bad := []Problem{{"Service a/gone", "x"}, {"Service a/web", "one"}, {"Service a/web", "two"}}
		r.set(bad)
		expect(stays / 2)
		expect(stays, "Warning CannotServe one; two")
		r.set(bad)
		expect(3 * stays)
		r.set(nil)
		expect(3 * stays)
		// Only for a moment.
		r.set(bad)
		synctest.Wait()
		r.set(nil)
		expect(3 * stays)
		r.set([]Problem{{"EndpointSlice a/web-1", strings.Repeat("é", 1000)}})
		expect(2*stays, "Warning CannotServe EndpointSlice a/web-1: "+strings.Repeat("é", 499)+"…")
	})
}

func TestReporterIsBounded(t *testing.T) {
	reporting(t, func(r *reporter, recorder *record.FakeRecorder) {
		var many []Problem
		for i := range 3 * reportsAtOnce {
			many = append(many, Problem{fmt.Sprintf("Service a/s%02d", i), "many"})
		}
		r.set(many)
		time.Sleep(stays / 2)
		for round, want := range []int{0, reportsAtOnce, reportsAtOnce, reportsAtOnce, 0} {
			if n := len(told(recorder)); n != want {
				t.Errorf("round %d: %d Events, expected %d", round, n, want)
			}
			time.Sleep(stays)
			synctest.Wait()
		}
	})
}

// nonsense are objects that make no sense in part, and one that does.
func nonsense() []runtime.Object {
	wrong := service(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIP, s.Spec.ClusterIPs = "wrong", "10.96.0.6", []string{"10.96.0.6"}
		s.Spec.ExternalIPs = []string{"2001:db8::5"}
		s.Spec.Ports = []corev1.ServicePort{
			{Name: "none", Port: 0}, {Name: "big", Port: 70000}, {Name: "http", Port: 80}, {Name: "again", Port: 80}, {Name: "sctp", Port: 81, Protocol: "SCTP2"},
		}
	})
	good := slice(discoveryv1.AddressTypeIPv4, up("10.244.0.7", "n1"))
	bad := slice(discoveryv1.AddressTypeIPv4, up("10.244.0.8", "n1"), up("fd00:244::8", "n1"), up("x", "n1"))
	bad.Name, bad.Labels = "wrong-1", map[string]string{discoveryv1.LabelServiceName: "wrong"}
	other := slice(discoveryv1.AddressTypeIPv6, up("fd00:244::9", "n1"))
	other.Name, other.Labels = "wrong-2", bad.Labels
	zero := slice(discoveryv1.AddressTypeIPv4, up("10.244.0.9", "n1"))
	zero.Name, zero.Labels, zero.Ports[0].Port = "wrong-3", bad.Labels, new(int32)
	names := slice(discoveryv1.AddressTypeFQDN, up("example.com", "n1"))
	names.Name, names.Labels = "wrong-4", bad.Labels
	return []runtime.Object{service(nil), wrong, good, bad, other, zero, names}
}

// run runs a Proxy on these objects until the test ends.
func run(t *testing.T, objects []runtime.Object, recorder record.EventRecorder) *machine {
	t.Helper()
	factory := informers.NewSharedInformerFactory(clientfake.NewClientset(objects...), 0)
	datapath := &machine{fake: newFake(100, 100)}
	p, err := New(Config{
		NodeName: "n1", Informers: factory, Pods: factory.Core().V1().Pods(), Datapath: datapath,
		Recorder: recorder, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.reporter.stays = 50 * time.Millisecond
	t.Cleanup(start(t, p, factory))
	return datapath
}

// TestNonsense serves what can be served, and tells of the rest on the Service.
func TestNonsense(t *testing.T) {
	recorder := record.NewFakeRecorder(100)
	datapath := run(t, nonsense(), recorder)
	var events []string
	roottest.Eventually(t, 10*time.Second, func() error {
		if events = append(events, told(recorder)...); len(events) < 5 {
			return fmt.Errorf("Events %q", events)
		}
		return nil
	})
	slices.Sort(events)
	want := []string{
		`Warning CannotServe 10.96.0.6 port 80/TCP: belongs to Service a/wrong already; spec.externalIPs[0] "2001:db8::5": the Service has no IPv6 address; ` +
			"spec.ports[0].port 0: expected 1 to 65535; spec.ports[1].port 70000: expected 1 to 65535; spec.ports[4].protocol SCTP2: only TCP, UDP and SCTP are served",
		`Warning CannotServe EndpointSlice a/wrong-1: endpoints[1].addresses[0] "fd00:244::8": expected an address of type IPv4; endpoints[2].addresses[0] "x": expected an address of type IPv4`,
		"Warning CannotServe EndpointSlice a/wrong-2: addressType IPv6: the Service has no IPv6 address",
		"Warning CannotServe EndpointSlice a/wrong-3: ports[0].port 0: expected 1 to 65535",
		"Warning CannotServe EndpointSlice a/wrong-4: addressType FQDN: expected IPv4 or IPv6",
	}
	if diff := cmp.Diff(want, events); diff != "" {
		t.Error(diff)
	}
	for _, last := range []int{5, 6} {
		if f := (bpf.Frontend{Addr: frontend(last).Addr, Port: 80, Protocol: bpf.ProtocolTCP}); !datapath.has(f) {
			t.Errorf("%v is not served", f)
		}
	}
}
