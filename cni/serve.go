// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"slipway.dev/slipway/cni/device"
	"slipway.dev/slipway/cni/ipam"
	"slipway.dev/slipway/cni/socket"
)

const (
	// requestTimeout bounds a request.
	requestTimeout = 30 * time.Second
	// maxRequests bounds how many are served at once; more wait in the
	// socket's queue.
	maxRequests = 64
)

// listen makes a unix socket that only root can use. It is made aside and
// renamed, so that it never has other permissions and replaces a stale one at
// once.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	aside := asidePath(path)
	if err := os.Remove(aside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	err = os.Chmod(aside, 0o600)
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), listener.Close())
	}
	return listener, nil
}

func asidePath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
}

// accept serves connections until the context ends, and then lets the
// requests finish that have begun.
func (s *Server) accept(ctx context.Context, listener net.Listener, n *network) error {
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	defer listener.Close()
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxRequests)
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			s.answer(context.WithoutCancel(ctx), conn, n)
		})
	}
}

// answer serves one connection. A runtime that has gone meanwhile sends DEL
// later, so a response that cannot be written changes nothing.
func (s *Server) answer(ctx context.Context, conn net.Conn, n *network) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	start := time.Now()
	if err := conn.SetDeadline(start.Add(requestTimeout)); err != nil {
		s.cfg.Log.Warn("cni connection failed", "err", err)
		return
	}
	request, err := socket.ReadRequest(conn)
	var response socket.Response
	if err == nil {
		response.Result, err = n.handle(ctx, request)
	}
	response.Error = cniError(err)
	took := time.Since(start)
	s.metrics.observe(request.Verb, response.Error, took)
	log := s.cfg.Log.With("verb", request.Verb, "container", request.ContainerID, "took", took)
	if response.Error != nil {
		log.Warn("cni request failed", "code", response.Error.Code, "err", response.Error)
	} else {
		log.Debug("cni request served")
	}
	if err := socket.Write(conn, response); err != nil {
		log.Warn("cni response could not be sent", "err", err)
	}
}

// handle runs the verb of a request and returns its result, if it has one.
func (n *network) handle(ctx context.Context, r socket.Request) (json.RawMessage, error) {
	var conf types.PluginConf
	if err := json.Unmarshal(r.Config, &conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "decode network configuration", err.Error())
	}
	if !slices.Contains(socket.Versions(), conf.CNIVersion) {
		return nil, types.NewError(types.ErrIncompatibleCNIVersion, "CNI version "+strconv.Quote(conf.CNIVersion)+" is not supported", "")
	}
	if r.Verb == socket.GC {
		n.gate.Lock()
		defer n.gate.Unlock()
		return nil, n.gc(ctx, conf)
	}
	n.gate.RLock()
	defer n.gate.RUnlock()
	switch r.Verb {
	case socket.Add:
		made, err := n.add(ctx, r, conf)
		if err != nil {
			return nil, err
		}
		asked, err := made.GetAsVersion(conf.CNIVersion)
		if err != nil {
			return nil, err
		}
		return json.MarshalIndent(asked, "", "    ")
	case socket.Del:
		return nil, n.del(ctx, r)
	case socket.Check:
		return nil, n.check(ctx, r, conf)
	default:
		return nil, n.status()
	}
}

// cniError gives an error the code of the CNI specification, section 5.
func cniError(err error) *types.Error {
	var known *types.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, device.ErrNamespace):
		return types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	case errors.Is(err, ipam.ErrExhausted), errors.Is(err, context.DeadlineExceeded):
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}
