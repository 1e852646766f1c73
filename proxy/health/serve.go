// SPDX-License-Identifier: Apache-2.0

package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// headerTimeout bounds how long a client may take to ask.
	headerTimeout = 5 * time.Second
	// listenRetry is when a port that somebody has is tried again.
	listenRetry = 5 * time.Second
)

// Run serves /healthz and /livez on an address until ctx ends, and closes all
// health checks of Services then. While another program has the port, as
// kube-proxy may, it tries again.
func (s *Server) Run(ctx context.Context, address string) error {
	defer s.SetChecks(nil)
	said := ""
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			return s.serveOn(ctx, l)
		}
		if text := err.Error(); text != said {
			s.log.Warn("health of the proxy is not served", "address", address, "err", err)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(listenRetry):
		}
	}
}

func (s *Server) serveOn(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health of the proxy: %w", err)
	}
	return nil
}
