// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"context"
	"fmt"
	"sync"

	"slipway.dev/slipway/cni/store"
)

// keyLocks is one lock for each attachment that a request works on.
type keyLocks struct {
	mu   sync.Mutex
	held map[store.Key]*keyLock
}

type keyLock struct {
	// turn has one token; who has it has the lock.
	turn chan struct{}
	// users hold or wait; the lock is forgotten when there are none.
	users int
}

func newKeyLocks() *keyLocks { return &keyLocks{held: map[store.Key]*keyLock{}} }

// take waits for the lock of a key until the context ends. The function it
// returns gives the lock back.
func (l *keyLocks) take(ctx context.Context, key store.Key) (release func(), err error) {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &keyLock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		l.held[key] = k
	}
	k.users++
	l.mu.Unlock()

	select {
	case <-k.turn:
		return func() {
			k.turn <- struct{}{}
			l.leave(key, k)
		}, nil
	case <-ctx.Done():
		l.leave(key, k)
		return nil, fmt.Errorf("wait for another request on %s: %w", key, ctx.Err())
	}
}

func (l *keyLocks) leave(key store.Key, k *keyLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 {
		delete(l.held, key)
	}
}
