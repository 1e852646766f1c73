// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"context"
	"errors"
	"testing"
)

func TestTake(t *testing.T) {
	l := New[string]()
	release, err := l.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Take(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Take(ended, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("second holder: %v", err)
	}
	next := make(chan error)
	go func() {
		release, err := l.Take(t.Context(), "a")
		if err == nil {
			release()
		}
		next <- err
	}()
	release()
	if err := <-next; err != nil {
		t.Error(err)
	}
	if n := l.Len(); n != 0 {
		t.Errorf("%d locks are remembered", n)
	}
}
