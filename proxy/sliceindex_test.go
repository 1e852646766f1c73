// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestSliceIndex enters and takes out slices at random, and compares with a plain
// map.
func TestSliceIndex(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	x, plain := newSliceIndex(), map[string]map[string]*discoveryv1.EndpointSlice{"a/0": {}, "a/1": {}, "a/2": {}}
	for range 10_000 {
		service, name := fmt.Sprint("a/", rnd.IntN(3)), fmt.Sprint("web-", rnd.IntN(5))
		before := x.slices(service)
		kept := slices.Clone(before)
		var now *discoveryv1.EndpointSlice
		if delete(plain[service], name); rnd.IntN(2) == 0 {
			now = &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: rnd.Int64()}}
			plain[service][name] = now
		}
		x.set(service, name, now)
		if !slices.Equal(before, kept) {
			t.Fatal("a list that somebody has was changed")
		}
		var want []*discoveryv1.EndpointSlice
		for _, name := range slices.Sorted(maps.Keys(plain[service])) {
			want = append(want, plain[service][name])
		}
		if diff := cmp.Diff(want, x.slices(service)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", service, diff)
		}
	}
	for service, all := range plain {
		for name := range all {
			x.set(service, name, nil)
		}
	}
	if len(x.of) > 0 {
		t.Errorf("%v are left", x.of)
	}
}
