// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"time"
)

// Rest waits, or returns why ctx ended before.
func Rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
