// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	clientfake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

func serviceCIDR(name string, ranges ...string) *networkingv1.ServiceCIDR {
	return &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: ranges}}
}

// runOn runs a Proxy on a fake data path until the test ends.
func runOn(t *testing.T, client kubernetes.Interface, datapath *machine) *Proxy {
	t.Helper()
	factory := informers.NewSharedInformerFactory(client, 0)
	p, err := New(Config{
		NodeName: "n1", Informers: factory, Pods: factory.Core().V1().Pods(), Datapath: datapath, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(start(t, p, factory))
	return p
}

// wantRanges waits for the ranges that cluster addresses are taken from.
func wantRanges(t *testing.T, datapath *machine, texts ...string) {
	t.Helper()
	roottest.Eventually(t, 10*time.Second, func() error {
		datapath.mu.Lock()
		got := slices.Clone(datapath.sources[bpf.ServiceRanges])
		datapath.mu.Unlock()
		slices.SortFunc(got, comparePrefixes)
		if want := prefixes(texts...); !slices.Equal(got, want) {
			return fmt.Errorf("ranges are %v, expected %v", got, want)
		}
		return nil
	})
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

// TestServiceRanges follows ServiceCIDRs, from what an earlier process has left.
func TestServiceRanges(t *testing.T) {
	client := clientfake.NewClientset(serviceCIDR("kubernetes", "10.96.0.0/16", "fd00:96::/108"))
	datapath := &machine{fake: newFake(100, 100)}
	datapath.sources[bpf.ServiceRanges] = prefixes("10.0.0.0/24", "10.96.0.0/16")
	runOn(t, client, datapath)
	wantRanges(t, datapath, "10.96.0.0/16", "fd00:96::/108")
	all := client.NetworkingV1().ServiceCIDRs()
	if _, err := all.Create(t.Context(), serviceCIDR("more", "10.97.0.0/24"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wantRanges(t, datapath, "10.96.0.0/16", "10.97.0.0/24", "fd00:96::/108")
	if err := all.Delete(t.Context(), "more", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	wantRanges(t, datapath, "10.96.0.0/16", "fd00:96::/108")
}

// TestServiceRangesUnknown serves Services where the API has no ServiceCIDRs, and
// leaves the ranges that are there.
func TestServiceRangesUnknown(t *testing.T) {
	client := clientfake.NewClientset(service(nil))
	client.PrependReactor("list", "servicecidrs", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewNotFound(networkingv1.Resource("servicecidrs"), "")
	})
	datapath := &machine{fake: newFake(100, 100)}
	datapath.sources[bpf.ServiceRanges] = prefixes("10.96.0.0/16")
	p := runOn(t, client, datapath)
	roottest.Eventually(t, 10*time.Second, func() error {
		if !p.Synced() {
			return fmt.Errorf("not synced")
		}
		return nil
	})
	wantRanges(t, datapath, "10.96.0.0/16")
}
