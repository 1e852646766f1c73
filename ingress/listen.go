// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 3 * time.Minute
	maxHeader       = 64 << 10
	shutdownTimeout = 2 * time.Second
)

// listen opens a TCP listener and says in the error what the user can do.
func listen(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("ingress: listen on %s: address already in use; stop the program that holds it, or choose another port with %s", addr, flag)
	}
	if err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	return l, nil
}

// servers are the two listeners with their HTTP servers.
type servers struct {
	plain, secure              *http.Server
	plainListener, tlsListener net.Listener
}

func newServers(cfg Config, h *handler) (*servers, error) {
	fallback, err := defaultCertificate()
	if err != nil {
		return nil, err
	}
	s := &servers{plain: newServer(h, cfg.Log), secure: newServer(h, cfg.Log)}
	s.secure.TLSConfig = &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := h.table.Load().certificate(hello.ServerName); c != nil {
				return c, nil
			}
			return fallback, nil
		},
	}
	if s.plainListener, err = listen(cfg.HTTPAddr, "--ingress-http-port"); err != nil {
		return nil, err
	}
	if s.tlsListener, err = listen(cfg.HTTPSAddr, "--ingress-https-port"); err != nil {
		s.plainListener.Close()
		return nil, err
	}
	return s, nil
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		// TLS handshakes of scanners and the like.
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// close gives the ports back when nothing was served.
func (s *servers) close() {
	s.plainListener.Close()
	s.tlsListener.Close()
}

// run serves until ctx ends, then lets running requests finish for a moment.
func (s *servers) run(ctx context.Context) error {
	ended := make(chan error, 2)
	go func() { ended <- s.plain.Serve(s.plainListener) }()
	go func() { ended <- s.secure.ServeTLS(s.tlsListener, "", "") }()
	select {
	case err := <-ended:
		s.plain.Close()
		s.secure.Close()
		return fmt.Errorf("ingress: serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	for _, server := range []*http.Server{s.plain, s.secure} {
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	}
	return nil
}
