// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"slipway.dev/slipway/csi/backend"
)

// toStatus gives an error from below its gRPC code. An error that has one
// keeps it.
func toStatus(err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codeOf(err), err.Error())
}

func codeOf(err error) codes.Code {
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{backend.ErrNotFound, codes.NotFound},
		{backend.ErrBadHandle, codes.NotFound},
		{backend.ErrExists, codes.AlreadyExists},
		{backend.ErrInUse, codes.FailedPrecondition},
		{backend.ErrNoSpace, codes.ResourceExhausted},
		{backend.ErrUnsupported, codes.InvalidArgument},
		{backend.ErrSize, codes.OutOfRange},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return codes.Internal
}

// localID reads a volume handle of this node. A handle that we cannot have
// given out names no volume: NotFound.
func localID(s, nodeName string) (backend.ID, error) {
	if s == "" {
		return "", status.Error(codes.InvalidArgument, "volume id is missing")
	}
	handle, err := backend.ParseHandle(s)
	if err != nil {
		return "", status.Error(codes.NotFound, err.Error())
	}
	if handle.Node != nodeName {
		return "", status.Errorf(codes.NotFound, "volume %s lives on node %s, this is %s", handle.ID, handle.Node, nodeName)
	}
	return handle.ID, nil
}
