// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// retryEvery is the time between two attempts to reach an absent agent.
const retryEvery = 100 * time.Millisecond

// ErrAbsent says that no agent listens on the socket. Nothing was asked.
var ErrAbsent = errors.New("agent does not run")

// Call asks the agent at path and waits for its response, at the latest until
// the context ends. While no agent listens it tries again for patience, and
// then fails with ErrAbsent. Any other error leaves open what the agent did.
func Call(ctx context.Context, path string, patience time.Duration, request Request) (Response, error) {
	conn, err := dial(ctx, path, patience)
	if err != nil {
		return Response{}, fmt.Errorf("call agent at %s: %w", path, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return Response{}, fmt.Errorf("call agent at %s: %w", path, err)
		}
	}
	response, err := exchange(conn, request)
	if err != nil {
		return Response{}, fmt.Errorf("call agent at %s: %w", path, err)
	}
	return response, nil
}

func exchange(conn *net.UnixConn, request Request) (Response, error) {
	if err := Write(conn, request); err != nil {
		return Response{}, err
	}
	if err := conn.CloseWrite(); err != nil {
		return Response{}, err
	}
	return ReadResponse(conn)
}

func dial(ctx context.Context, path string, patience time.Duration) (*net.UnixConn, error) {
	giveUp := time.Now().Add(patience)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
		if err == nil {
			return conn.(*net.UnixConn), nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
		if time.Now().Add(retryEvery).After(giveUp) {
			return nil, fmt.Errorf("%w: %w", ErrAbsent, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}
