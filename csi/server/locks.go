// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// locks is one lock for each key that somebody holds or waits for.
type locks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	// turn has one token; who has it has the lock.
	turn chan struct{}
	// users hold or wait; the lock is forgotten when there are none.
	users int
}

func newLocks() *locks { return &locks{held: map[string]*keyLock{}} }

// take waits for the lock of the key. The function it returns gives the lock
// back. Aborted means that the context ended first.
func (l *locks) take(ctx context.Context, key string) (release func(), err error) {
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
		return nil, status.Errorf(codes.Aborted, "another operation on volume %s is pending", key)
	}
}

func (l *locks) leave(key string, k *keyLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 {
		delete(l.held, key)
	}
}
