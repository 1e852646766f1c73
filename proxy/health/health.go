// SPDX-License-Identifier: Apache-2.0

// Package health answers load balancers outside of the cluster as kube-proxy
// does: whether this node's proxy works (/healthz and /livez, usually on port
// 10256), and how many endpoints of a Service it has (healthCheckNodePort). It
// owns the listeners; what it says is set by the proxy. A Server may be used
// from any goroutine.
package health

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
)

// stuckAfter is how long a change may wait to be written: kube-proxy's, twice the
// default sync period.
const stuckAfter = time.Minute

// Check is the health check of a Service.
type Check struct {
	Port  uint16
	Local int
}

// Server knows how the proxy is.
type Server struct {
	log *slog.Logger
	now func() time.Time
	// healthz and livez count answers by their status, as kube-proxy does.
	healthz, livez *prometheus.CounterVec

	mu sync.Mutex
	// updated is when the data path was last known to be right, waiting since
	// when it is not; zero while nothing waits.
	updated, waiting time.Time
	eligible         bool
	checks           map[types.NamespacedName]Check
	listeners        map[types.NamespacedName]*listener
}

// New returns a Server that is not healthy before the first Updated.
func New(log *slog.Logger) *Server {
	count := func(path string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Subsystem: "kubeproxy", Name: "proxy_" + path + "_total", Help: "Cumulative proxy " + path + " HTTP status",
		}, []string{"code"})
	}
	return &Server{
		log: log, now: time.Now, eligible: true, listeners: map[types.NamespacedName]*listener{},
		healthz: count("healthz"), livez: count("livez"),
	}
}

// Collectors are the metrics of the answers.
func (s *Server) Collectors() []prometheus.Collector {
	return []prometheus.Collector{s.healthz, s.livez}
}

// Changed notes that something has to be written.
func (s *Server) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.IsZero() {
		s.waiting = s.now()
	}
}

// Updated notes that all is written.
func (s *Server) Updated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updated, s.waiting = s.now(), time.Time{}
}

// SetEligible says whether the node should get traffic from outside: one that is
// about to be deleted should not (KEP-3836).
func (s *Server) SetEligible(eligible bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.eligible = eligible
}

// Healthy tells whether the data path is right, or has not been wrong for long.
func (s *Server) Healthy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.healthy()
}

func (s *Server) healthy() bool {
	return !s.updated.IsZero() && (s.waiting.IsZero() || s.now().Sub(s.waiting) < stuckAfter)
}

// answer is the body of /healthz and /livez.
type answer struct {
	LastUpdated  string `json:"lastUpdated"`
	CurrentTime  string `json:"currentTime"`
	NodeEligible *bool  `json:"nodeEligible,omitempty"`
}

// Handler serves /healthz, which says no also for a node that should get no
// traffic, and /livez, which does not.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { s.serve(w, true) })
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { s.serve(w, false) })
	return mux
}

func (s *Server) serve(w http.ResponseWriter, withNode bool) {
	s.mu.Lock()
	good, now, eligible := s.healthy(), s.now(), s.eligible
	last := s.updated
	if good {
		last = now
	}
	s.mu.Unlock()
	body, counter := answer{LastUpdated: last.String(), CurrentTime: now.String()}, s.livez
	if withNode {
		body.NodeEligible, good, counter = &eligible, good && eligible, s.healthz
	}
	counter.WithLabelValues(strconv.Itoa(status(good))).Inc()
	reply(w, good, body)
}

func status(good bool) int {
	if good {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

func reply(w http.ResponseWriter, good bool, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status(good))
	json.NewEncoder(w).Encode(body)
}

// checkAnswer is the body of a Service's health check.
type checkAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func (s *Server) serveCheck(w http.ResponseWriter, name types.NamespacedName) {
	s.mu.Lock()
	count, healthy := s.checks[name].Local, s.healthy()
	s.mu.Unlock()
	body := checkAnswer{LocalEndpoints: count, ServiceProxyHealthy: healthy}
	body.Service.Namespace, body.Service.Name = name.Namespace, name.Name
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(count))
	reply(w, count > 0 && healthy, body)
}

// SetChecks replaces the health checks of all Services. It returns those whose
// port cannot be had; they are tried again with the next call.
func (s *Server) SetChecks(checks map[types.NamespacedName]Check) map[types.NamespacedName]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checks = checks
	for name, l := range s.listeners {
		if check, ok := checks[name]; !ok || check.Port != l.port {
			l.server.Close()
			delete(s.listeners, name)
		}
	}
	failed := map[types.NamespacedName]error{}
	for name, check := range checks {
		if s.listeners[name] != nil {
			continue
		}
		l, err := s.listen(name, check.Port)
		if err != nil {
			failed[name] = err
			continue
		}
		s.listeners[name] = l
	}
	return failed
}

// listener serves the health check of a Service.
type listener struct {
	port   uint16
	server *http.Server
}

func (s *Server) listen(name types.NamespacedName, port uint16) (*listener, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(port))))
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		ReadHeaderTimeout: headerTimeout,
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { s.serveCheck(w, name) }),
	}
	go server.Serve(l)
	return &listener{port: port, server: server}, nil
}
