// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// randomService often wants what another Service or a pod wants, too.
func randomService(rnd *rand.Rand, i int) *corev1.Service {
	return service(func(s *corev1.Service) {
		s.Name = fmt.Sprintf("s%d", i)
		s.CreationTimestamp = metav1.NewTime(time.Unix(int64(rnd.IntN(3)), 0))
		s.Spec.ClusterIP = fmt.Sprintf("10.96.0.%d", rnd.IntN(6))
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		s.Spec.Ports[0].NodePort = int32(8000 + rnd.IntN(3))
		if rnd.IntN(3) == 0 {
			s.Spec.ExternalIPs = []string{fmt.Sprintf("203.0.113.%d", rnd.IntN(3)), "nonsense"}
		}
		if rnd.IntN(5) == 0 {
			s.Spec.Type = corev1.ServiceTypeExternalName
		}
	})
}

func randomSlice(rnd *rand.Rand, i int) *discoveryv1.EndpointSlice {
	s := slice(discoveryv1.AddressTypeIPv4, up(fmt.Sprintf("10.244.%d.%d", i, rnd.IntN(4)), "n1"), up(fmt.Sprintf("10.244.%d.9", i), "n2"))
	s.Labels[discoveryv1.LabelServiceName] = fmt.Sprintf("s%d", i)
	return s
}

// TestMergerFollows changes objects one by one: the tables are always those of
// all objects compiled at once, and what has changed in them was told.
func TestMergerFollows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	m := newMerger()
	services, found := map[int]*corev1.Service{}, map[int]*discoveryv1.EndpointSlice{}
	pods := map[int]*corev1.Pod{}
	mirror := Tables{}
	for range 2000 {
		switch i := rnd.IntN(8); rnd.IntN(6) {
		case 0:
			delete(services, i)
			m.remove(fmt.Sprintf("Service a/s%d", i))
		case 1:
			delete(pods, i)
			m.remove(fmt.Sprintf("Pod a/p%d", i))
		case 2:
			pods[i] = podWith(fmt.Sprintf("p%d", i), fmt.Sprintf("10.244.0.%d", i), corev1.ContainerPort{HostPort: int32(8000 + rnd.IntN(3)), ContainerPort: 80})
			m.set(compilePod(pods[i], node))
		default:
			services[i], found[i] = randomService(rnd, i), randomSlice(rnd, i)
			m.set(compileService(services[i], []*discoveryv1.EndpointSlice{found[i]}, node))
		}
		for f := range m.take() {
			if target, there := m.at(f); there {
				mirror[f] = target
			} else {
				delete(mirror, f)
			}
		}
		objects := Objects{slices.Collect(maps.Values(services)), slices.Collect(maps.Values(found)), slices.Collect(maps.Values(pods))}
		tables, problems := Compile(objects, node)
		if diff := cmp.Diff(text(tables), text(mirror)); diff != "" {
			t.Fatalf("tables, -all at once +one by one:\n%s", diff)
		}
		if diff := cmp.Diff(problems, m.problems()); diff != "" {
			t.Fatalf("problems, -all at once +one by one:\n%s", diff)
		}
	}
}

// BenchmarkChange compiles and writes one change of one Service of 30,000.
func BenchmarkChange(b *testing.B) {
	m := newMerger()
	datapath := newFake(1<<20, 1<<18)
	var all []*corev1.Service
	for i := range 30000 {
		all = append(all, service(func(s *corev1.Service) {
			s.Name = fmt.Sprintf("s%d", i)
			s.Spec.ClusterIP = fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255)
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}))
		m.set(compileService(all[i], []*discoveryv1.EndpointSlice{slice(discoveryv1.AddressTypeIPv4, up("10.244.0.1", "n1"))}, node))
	}
	w, err := newWriter(datapath, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.apply(m); err != nil {
		b.Fatal(err)
	}
	m.take()
	rnd := rand.New(rand.NewPCG(1, 1))
	for b.Loop() {
		endpoint := up(fmt.Sprintf("10.244.1.%d", rnd.IntN(250)), "n1")
		m.set(compileService(all[rnd.IntN(len(all))], []*discoveryv1.EndpointSlice{slice(discoveryv1.AddressTypeIPv4, endpoint)}, node))
		if _, err := w.update(m, maps.Keys(m.take())); err != nil {
			b.Fatal(err)
		}
	}
}
