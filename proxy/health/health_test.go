// SPDX-License-Identifier: Apache-2.0

package health

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

func newServer(t *testing.T) (*Server, *time.Time) {
	s, now := New(slog.New(slog.NewTextHandler(t.Output(), nil))), new(time.Time)
	*now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return *now }
	return s, now
}

func TestHealthz(t *testing.T) {
	s, now := newServer(t)
	want := func(when string, healthz, livez int) {
		t.Helper()
		for path, status := range map[string]int{"/healthz": healthz, "/livez": livez} {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != status || !strings.Contains(w.Body.String(), `"currentTime":"2026-01-01`) {
				t.Errorf("%s, %s: %d %s, expected %d", when, path, w.Code, w.Body, status)
			}
			if eligible := strings.Contains(w.Body.String(), `"nodeEligible"`); eligible != (path == "/healthz") {
				t.Errorf("%s, %s: %s", when, path, w.Body)
			}
		}
	}
	want("at the start", 503, 503)
	s.Updated()
	*now = now.Add(time.Hour)
	want("nothing to do", 200, 200)
	s.Changed()
	*now = now.Add(stuckAfter - time.Second)
	s.Changed()
	want("about to write", 200, 200)
	*now = now.Add(time.Second)
	want("stuck", 503, 503)
	s.Updated()
	want("written", 200, 200)
	s.SetEligible(false)
	want("node to be deleted", 503, 200)
	hasAnswers(t, s, map[string]float64{
		"kubeproxy_proxy_healthz_total 200": 3, "kubeproxy_proxy_healthz_total 503": 3,
		"kubeproxy_proxy_livez_total 200": 4, "kubeproxy_proxy_livez_total 503": 2,
	})
}

// hasAnswers compares the counters of answers, by name and code.
func hasAnswers(t *testing.T, s *Server, want map[string]float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			got[f.GetName()+" "+m.Label[0].GetValue()] = m.Counter.GetValue()
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func freePort(t *testing.T) uint16 {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestChecks(t *testing.T) {
	s, _ := newServer(t)
	s.Updated()
	name := types.NamespacedName{Namespace: "default", Name: "web"}
	port := freePort(t)
	get := func() (int, string, string, error) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return 0, "", "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("X-Load-Balancing-Endpoint-Weight"), string(body), err
	}
	for local, status := range map[int]int{0: 503, 2: 200} {
		if failed := s.SetChecks(map[types.NamespacedName]Check{name: {port, local}}); len(failed) > 0 {
			t.Fatal(failed)
		}
		code, weight, body, err := get()
		if err != nil || code != status || weight != fmt.Sprint(local) || !strings.Contains(body, fmt.Sprintf(`"localEndpoints":%d`, local)) {
			t.Errorf("with %d endpoints: %d, weight %s, %s, %v", local, code, weight, body, err)
		}
	}
	other := types.NamespacedName{Namespace: "default", Name: "taken"}
	if failed := s.SetChecks(map[types.NamespacedName]Check{name: {port, 1}, other: {port, 1}}); failed[other] == nil || len(failed) != 1 {
		t.Errorf("the same port twice: %v", failed)
	}
	s.SetChecks(nil)
	if code, _, _, err := get(); err == nil {
		t.Errorf("still served: %d", code)
	}
}
