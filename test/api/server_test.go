// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"slipway.dev/slipway/internal/roottest"
)

const patience = 20 * time.Second

func started(t testing.TB) *Server {
	t.Helper()
	s := New()
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func put(t testing.TB, s *Server, objects ...Object) {
	t.Helper()
	if err := s.Put(objects...); err != nil {
		t.Fatal(err)
	}
}

// client gets what is asked for in a media type; "" leaves it to client-go.
func client(t testing.TB, s *Server, mediaType string) kubernetes.Interface {
	t.Helper()
	config := s.Config()
	config.ContentType = mediaType
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.5"}}
	for _, c := range change {
		c(s)
	}
	return s
}

func slice(i, endpoints int) *discoveryv1.EndpointSlice {
	name, port := fmt.Sprint("s", i), int32(80)
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "a", Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
	}
	for e := range endpoints {
		yes, node := true, "n1"
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i>>8, i&255, e)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
		})
	}
	return out
}

// follows starts an informer of Services and returns what says what it has.
func follows(t *testing.T, c kubernetes.Interface, options ...informers.SharedInformerOption) func(want ...string) {
	t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(c, 0, options...)
	lister := factory.Core().V1().Services().Lister()
	factory.Core().V1().Services().Informer()
	ctx, cancel := context.WithCancel(t.Context())
	factory.Start(ctx.Done())
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
	})
	return func(want ...string) {
		t.Helper()
		roottest.Eventually(t, patience, func() error {
			var have []string
			all, err := lister.List(labels.Everything())
			for _, s := range all {
				have = append(have, s.Name+" "+s.Spec.ClusterIP)
			}
			if slices.Sort(have); !slices.Equal(have, want) || err != nil {
				return fmt.Errorf("has %q, expected %q (%v)", have, want, err)
			}
			return nil
		})
	}
}

// TestWatch has clients of both encodings follow changes, also such that
// happen while the API is away.
func TestWatch(t *testing.T) {
	for _, mediaType := range []string{"", "application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(mediaType, func(t *testing.T) {
			s := started(t)
			put(t, s, service("one"), service("two"))
			has := follows(t, client(t, s, mediaType))
			has("one 10.96.0.5", "two 10.96.0.5")
			put(t, s, service("three"), service("one", func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.6" }))
			has("one 10.96.0.6", "three 10.96.0.5", "two 10.96.0.5")
			if err := s.Delete(service("two"), service("none")); err != nil {
				t.Fatal(err)
			}
			has("one 10.96.0.6", "three 10.96.0.5")
			s.Stop()
			put(t, s, service("four"))
			if err := s.Delete(service("three")); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(""); err != nil {
				t.Fatal(err)
			}
			has("four 10.96.0.5", "one 10.96.0.6")
		})
	}
}

// What kube-proxy selects Services by; objects come and go by their labels.
func TestSelectors(t *testing.T) {
	s := started(t)
	const label = "service.kubernetes.io/service-proxy-name"
	other := func(s *corev1.Service) { s.Labels = map[string]string{label: "other"} }
	put(t, s, service("one"), service("two", other))
	c := client(t, s, "")
	has := follows(t, c, informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "!" + label }))
	hasTwo := follows(t, c, informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = "metadata.name=two" }))
	has("one 10.96.0.5")
	hasTwo("two 10.96.0.5")
	put(t, s, service("one", other), service("two"))
	has("two 10.96.0.5")
	put(t, s, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "x"}, Spec: corev1.PodSpec{NodeName: "n1"}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "y"}, Spec: corev1.PodSpec{NodeName: "n2"}})
	pods, err := c.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=n2"})
	if err != nil || len(pods.Items) != 1 || pods.Items[0].Name != "y" {
		t.Errorf("pods of n2: %v (%v)", pods, err)
	}
}

func TestRequests(t *testing.T) {
	s := started(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := s.WriteKubeconfig(path); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, services := t.Context(), c.CoreV1().Services("a")
	made, err := services.Create(ctx, service("one"), metav1.CreateOptions{})
	if err != nil || made.UID == "" || made.ResourceVersion == "" || made.CreationTimestamp.IsZero() {
		t.Fatalf("created %v (%v)", made, err)
	}
	if _, err := services.Create(ctx, service("one"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("created again: %v", err)
	}
	made.Spec.ClusterIP = "10.96.0.7"
	if now, err := services.UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil || now.UID != made.UID || now.ResourceVersion == made.ResourceVersion {
		t.Errorf("updated %v (%v)", now, err)
	}
	if now, err := services.Patch(ctx, "one", "application/merge-patch+json", []byte("{}"), metav1.PatchOptions{}); err != nil || now.Spec.ClusterIP != "10.96.0.7" {
		t.Errorf("patched %v (%v)", now, err)
	}
	if _, err := services.Get(ctx, "two", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("got what is not there: %v", err)
	}
	if err := services.Delete(ctx, "one", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "a"}, Reason: "Test"}
	if _, err := c.CoreV1().Events("a").Create(ctx, event, metav1.CreateOptions{}); err != nil {
		t.Error(err)
	}
	if list, err := c.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) > 0 {
		t.Errorf("service CIDRs: %v (%v)", list, err)
	}
	if err := s.Put(&corev1.Service{}); err == nil {
		t.Error("an object without a name was taken")
	}
}

// Kinds that client-go does not know have no objects, and can be watched.
func TestUnknownKinds(t *testing.T) {
	s := started(t)
	c, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	informer := dynamicinformer.NewFilteredDynamicInformer(c, schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "things"}, "", 0, nil, nil).Informer()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		informer.Run(ctx.Done())
	}()
	roottest.Eventually(t, patience, func() error {
		if !informer.HasSynced() {
			return fmt.Errorf("the informer has not synced")
		}
		return nil
	})
	cancel()
	<-done
}

// Who has missed too much lists again.
func TestHistoryEnds(t *testing.T) {
	s := started(t)
	put(t, s, service("one"))
	list, err := client(t, s, "").CoreV1().Services("a").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2*history + 1 {
		put(t, s, service("one"))
	}
	_, err = client(t, s, "").CoreV1().Services("a").Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("watch from long ago: %v", err)
	}
}

// BenchmarkCold has an informer read 30,000 slices with 10 endpoints each.
func BenchmarkCold(b *testing.B) {
	s := started(b)
	for i := range 30000 {
		put(b, s, slice(i, 10))
	}
	for _, mediaType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		b.Run(mediaType[len("application/"):], func(b *testing.B) {
			for range b.N {
				factory := informers.NewSharedInformerFactory(client(b, s, mediaType), 0)
				factory.Discovery().V1().EndpointSlices().Informer()
				ctx, cancel := context.WithCancel(b.Context())
				factory.Start(ctx.Done())
				factory.WaitForCacheSync(ctx.Done())
				cancel()
				factory.Shutdown()
			}
		})
	}
	b.Run("list without a client", func(b *testing.B) {
		resource := discoveryv1.SchemeGroupVersion.WithResource("endpointslices")
		for range b.N {
			items, version := s.store.list(resource)
			if _, err := asProtobuf.list(kindFor(resource), version, items); err != nil {
				b.Fatal(err)
			}
		}
	})
}
