// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// faultyAPI answers each request with what fault says about its number, and
// with success where that is nil.
type faultyAPI struct {
	requests atomic.Int32
	fault    func(number int32) http.HandlerFunc
}

func (a *faultyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if answer := a.fault(a.requests.Add(1)); answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1"}`))
}

func answer(err *apierrors.StatusError) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		err.ErrStatus.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(err.ErrStatus.Code))
		_ = json.NewEncoder(w).Encode(err.ErrStatus)
	}
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		conn.Close()
	}
}

// clientOf has client-go make each request once.
func clientOf(t *testing.T, server string) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: server, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

var (
	slicesResource = schema.GroupResource{Group: "discovery.k8s.io", Resource: "endpointslices"}
	served         = []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:10:244::1")}
)

// TestStartOutlastsFaults makes the requests that once ended a start.
func TestStartOutlastsFaults(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"server timeout":   answer(apierrors.NewTimeoutError("context deadline exceeded", 0)),
		"etcd timeout":     answer(apierrors.NewInternalError(errors.New("etcdserver: request timed out"))),
		"deadline of etcd": answer(apierrors.NewInternalError(context.DeadlineExceeded)),
		"too many":         answer(apierrors.NewTooManyRequestsError("the server has received too many requests")),
		"unavailable":      answer(apierrors.NewServiceUnavailable("apiserver is shutting down")),
		"conflict":         answer(apierrors.NewConflict(slicesResource, "kube-dns-n1-ipv4", errors.New("modified"))),
		"no namespace yet": answer(apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "kube-system")),
		"hung up":          hangUp,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &faultyAPI{fault: func(number int32) http.HandlerFunc {
				if number <= 3 {
					return fault
				}
				return nil
			}}
			server := httptest.NewServer(api)
			defer server.Close()
			if err := publishDNS(t.Context(), clientOf(t, server.URL), valid(), served); err != nil {
				t.Error(err)
			}
			if n := api.requests.Load(); n != 5 {
				t.Errorf("%d requests, want 3 that fail and one for each family", n)
			}
		})
	}
}

// TestStartOutlastsRefusal has no server at all for the first requests.
func TestStartOutlastsRefusal(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	refused := make(chan struct{}, 1)
	go func() {
		<-refused
		again, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		server := httptest.NewUnstartedServer(&faultyAPI{fault: func(int32) http.HandlerFunc { return nil }})
		server.Listener.Close()
		server.Listener = again
		server.Start()
		t.Cleanup(server.Close)
	}()
	client := clientOf(t, "http://"+address)
	err = insist(t.Context(), func(ctx context.Context) error {
		_, err := client.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		select {
		case refused <- struct{}{}:
		default:
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestStartGivesUp sees that errors which stay are told at once.
func TestStartGivesUp(t *testing.T) {
	for name, fault := range map[string]*apierrors.StatusError{
		"forbidden":    apierrors.NewForbidden(slicesResource, "kube-dns-n1-ipv4", errors.New("no")),
		"invalid":      apierrors.NewInvalid(schema.GroupKind{Kind: "EndpointSlice"}, "kube-dns-n1-ipv4", nil),
		"unauthorized": apierrors.NewUnauthorized("who is it"),
		"bad request":  apierrors.NewBadRequest("no"),
		"no such API":  apierrors.NewNotFound(slicesResource, "kube-dns-n1-ipv4"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := &faultyAPI{fault: func(int32) http.HandlerFunc { return answer(fault) }}
			server := httptest.NewServer(api)
			defer server.Close()
			err := publishDNS(t.Context(), clientOf(t, server.URL), valid(), served)
			if err == nil || apierrors.ReasonForError(err) != fault.ErrStatus.Reason || !strings.Contains(err.Error(), "kube-dns-n1-ipv4") {
				t.Errorf("error is %v, want %v", err, fault)
			}
			if n := api.requests.Load(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

// TestInsistLeavesAnAttempt sees that a request which is never answered does
// not take all the time there is.
func TestInsistLeavesAnAttempt(t *testing.T) {
	attempts := 0
	err := insistFor(t.Context(), 10*time.Millisecond, func(ctx context.Context) error {
		if attempts++; attempts == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	if err != nil || attempts != 2 {
		t.Errorf("error %v after %d attempts, want success at the second", err, attempts)
	}
}

// TestInsistEnds sees that the start's own deadline ends it, with both reasons.
func TestInsistEnds(t *testing.T) {
	late, last := errors.New("not up within 3m"), errors.New("no answer")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, late)
	defer cancel()
	err := insist(ctx, func(context.Context) error { return last })
	if !errors.Is(err, late) || !errors.Is(err, last) {
		t.Errorf("error is %v, want both %v and %v", err, late, last)
	}
}
