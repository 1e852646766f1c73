// SPDX-License-Identifier: Apache-2.0

package csi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// callTimeout bounds a call whose caller set no deadline.
	callTimeout = 2 * time.Minute
	// stopTimeout bounds how long running calls may hold up the end of Run.
	stopTimeout = 10 * time.Second
)

// servePlugin serves the CSI services for kubelet.
func (d *Driver) servePlugin(ctx context.Context) error {
	s := grpc.NewServer(grpc.UnaryInterceptor(d.around))
	d.services.Register(s)
	return serve(ctx, s, pluginSocket(d.config.KubeletRoot))
}

// serve serves on the socket until the context ends, and lets running calls
// finish.
func serve(ctx context.Context, s *grpc.Server, socket string) error {
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %s: %w", socket, err)
	case <-ctx.Done():
	}
	force := time.AfterFunc(stopTimeout, s.Stop)
	defer force.Stop()
	s.GracefulStop()
	<-ended
	return nil
}

// listen makes a unix socket that only root can use. It is made aside and
// renamed, so that it never has other permissions and replaces a stale one
// at once.
func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	aside := asidePath(socket)
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
		err = os.Rename(aside, socket)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen: %w", err), listener.Close())
	}
	return listener, nil
}

// asidePath is where a socket is made; kubelet ignores names with a dot.
func asidePath(socket string) string {
	return filepath.Join(filepath.Dir(socket), "."+filepath.Base(socket))
}

// around counts, times and bounds each call, and logs those that fail.
func (d *Driver) around(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	method := path.Base(info.FullMethod)
	start := time.Now()
	response, err := handler(ctx, request)
	code := status.Code(err)
	d.metrics.observe(method, code, time.Since(start))
	if err != nil && code != codes.Unimplemented {
		d.config.Log.Warn("csi call failed", "method", method, "code", code, "err", status.Convert(err).Message())
	}
	return response, err
}

// observedController lets calls from this process be counted like those
// from the socket.
type observedController struct {
	csi.ControllerServer
	around grpc.UnaryServerInterceptor
}

func (o *observedController) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	return observed(ctx, o.around, csi.Controller_CreateVolume_FullMethodName, r, o.ControllerServer.CreateVolume)
}

func (o *observedController) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return observed(ctx, o.around, csi.Controller_DeleteVolume_FullMethodName, r, o.ControllerServer.DeleteVolume)
}

func observed[Request, Response any](ctx context.Context, around grpc.UnaryServerInterceptor, method string, r *Request, call func(context.Context, *Request) (*Response, error)) (*Response, error) {
	handler := func(ctx context.Context, _ any) (any, error) { return call(ctx, r) }
	response, err := around(ctx, r, &grpc.UnaryServerInfo{FullMethod: method}, handler)
	if err != nil {
		return nil, err
	}
	return response.(*Response), nil
}
