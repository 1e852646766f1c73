// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
)

// requestTimeout is how long one attempt of a request may take. A server that
// has not answered by then has often lost the request.
const requestTimeout = 15 * time.Second

// insist makes a request to the API until it succeeds, fails for good, or ctx
// ends, which is the deadline of the start: an API server that has just come up
// on a busy machine answers late, with errors, or not at all. The request must
// be one that may be made twice.
func insist(ctx context.Context, request func(context.Context) error) error {
	return insistFor(ctx, requestTimeout, request)
}

func insistFor(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	pause := wait.Backoff{Duration: 50 * time.Millisecond, Factor: 2, Jitter: 0.2, Steps: 7, Cap: 3 * time.Second}
	for {
		err := attempt(ctx, timeout, request)
		if err == nil || isFinal(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-time.After(pause.Step()):
		}
	}
}

func attempt(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return request(ctx)
}

// isFinal tells whether an error will come again however often the request is
// made.
func isFinal(err error) bool {
	var untrusted *tls.CertificateVerificationError
	switch {
	case errors.As(err, &untrusted), errors.Is(err, errClock):
		return true
	case apierrors.IsNotFound(err):
		return !isNamespace(err)
	}
	return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) ||
		apierrors.IsBadRequest(err) || apierrors.IsAlreadyExists(err) || apierrors.IsMethodNotSupported(err) ||
		apierrors.IsNotAcceptable(err) || apierrors.IsUnsupportedMediaType(err) || apierrors.IsRequestEntityTooLargeError(err)
}

// isNamespace tells whether it is a namespace that was not found. The API
// server makes those of the system a moment after it has become ready.
func isNamespace(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	return status.Status().Details.Kind == "namespaces"
}
