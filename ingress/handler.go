// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// dialTimeout is how long an endpoint may take to accept a connection.
	dialTimeout = 3 * time.Second
	// idleUpstream is how long an unused connection to an endpoint is kept.
	idleUpstream = 60 * time.Second
	// answerTimeout is how long an endpoint may take to begin its answer.
	answerTimeout = 60 * time.Second
	// maxIdle is how many of them are kept for one endpoint.
	maxIdle = 256
	// copyBuffer is the size of a buffer for bodies, in bytes.
	copyBuffer = 32 << 10
)

// handler serves requests from the table. It is safe for concurrent use.
type handler struct {
	table   atomic.Pointer[Table]
	proxy   *httputil.ReverseProxy
	metrics *metrics
	log     *slog.Logger
	// turns is where the round robin of a Service port is; it outlives tables.
	turns sync.Map
}

// target is where a request goes; it travels in the request's context.
type target struct {
	backend *Backend
	turn    uint64
}

type targetKey struct{}

func newHandler(m *metrics, log *slog.Logger) *handler {
	h := &handler{metrics: m, log: log}
	h.table.Store(&Table{})
	h.proxy = &httputil.ReverseProxy{
		Rewrite:      rewrite,
		Transport:    &spread{next: newTransport()},
		BufferPool:   &buffers{},
		ErrorHandler: h.failed,
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Streams reach the client as they come.
		FlushInterval: -1,
	}
	return h
}

// newTransport makes the pool of connections to endpoints. An address of a
// pod is never proxied, and a body never decompressed.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     idleUpstream,
		DisableCompression:  true,

		ResponseHeaderTimeout: answerTimeout,
	}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	rec := &recorder{ResponseWriter: w, code: http.StatusOK}
	// Also when an endpoint breaks off and the proxy ends by a panic.
	defer func() { h.metrics.observe(rec.code, time.Since(begin)) }()
	h.serve(rec, r)
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	backend := h.table.Load().Match(r.Host, r.URL.Path)
	switch {
	case backend == nil:
		http.Error(w, "default backend - 404", http.StatusNotFound)
	case len(backend.Endpoints) == 0:
		http.Error(w, "503 Service Unavailable: the Service has no ready endpoints", http.StatusServiceUnavailable)
	default:
		turn, _ := h.turns.LoadOrStore(backend.Service, new(atomic.Uint64))
		to := target{backend, turn.(*atomic.Uint64).Add(1)}
		h.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, to)))
	}
}

// rewrite makes the request for the endpoint: the host and path stay, and
// headers tell where it came from.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.URL.Scheme, pr.Out.URL.Host = "http", pr.In.Host
	pr.Out.Host = pr.In.Host
	// Go would decode and encode a raw query; it is passed on as it came.
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery
	// What a client in front of us says is kept and added to.
	pr.Out.Header["X-Forwarded-For"] = pr.In.Header["X-Forwarded-For"]
	pr.SetXForwarded()
	client, _, err := net.SplitHostPort(pr.In.RemoteAddr)
	if err == nil {
		pr.Out.Header.Set("X-Real-Ip", client)
	}
	if local, ok := pr.In.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if at, err := netip.ParseAddrPort(local.String()); err == nil {
			pr.Out.Header.Set("X-Forwarded-Port", strconv.Itoa(int(at.Port())))
		}
	}
}

// failed answers a request that no endpoint has answered.
func (h *handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		// The client went away; nobody reads the answer.
		w.WriteHeader(499)
	case errors.As(err, &timeout) && timeout.Timeout():
		http.Error(w, "504 Gateway Timeout", http.StatusGatewayTimeout)
	default:
		h.log.Debug("request failed", "host", r.Host, "path", r.URL.Path, "err", err)
		http.Error(w, "502 Bad Gateway", http.StatusBadGateway)
	}
}

// spread sends a request to one endpoint after the other until one accepts
// the connection. Nothing of the request was sent before that.
type spread struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s *spread) RoundTrip(r *http.Request) (*http.Response, error) {
	to, ok := r.Context().Value(targetKey{}).(target)
	if !ok {
		return nil, errors.New("request without a backend")
	}
	var errs []error
	for i := range to.backend.Endpoints {
		at := to.backend.Endpoints[(to.turn+uint64(i))%uint64(len(to.backend.Endpoints))]
		out := r.Clone(r.Context())
		out.URL = cloneURL(r.URL, at)
		if r.Body != nil {
			// A transport closes the body of a request that it could not
			// send; the next endpoint still needs it.
			out.Body = io.NopCloser(r.Body)
		}
		resp, err := s.next.RoundTrip(out)
		if err == nil {
			return resp, nil
		}
		errs = append(errs, err)
		if !isDial(err) || r.Context().Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func cloneURL(u *url.URL, at netip.AddrPort) *url.URL {
	out := *u
	out.Host = at.String()
	return &out
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// buffers is a pool of copy buffers.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

// recorder notes the status code.
type recorder struct {
	http.ResponseWriter
	code  int
	wrote bool
}

// WriteHeader implements http.ResponseWriter. Informational codes come before
// the real one.
func (r *recorder) WriteHeader(code int) {
	if !r.wrote && code >= 200 || code == http.StatusSwitchingProtocols {
		r.code, r.wrote = code, true
	}
	r.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach flush and hijack.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
