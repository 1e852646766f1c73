// SPDX-License-Identifier: Apache-2.0

// Package keylock gives one lock for each key, for as long as somebody holds
// it or waits for it. All of it is safe for concurrent use.
package keylock

import (
	"context"
	"sync"
)

// Locks are the locks of one kind of key.
type Locks[Key comparable] struct {
	mu   sync.Mutex
	held map[Key]*lock
}

type lock struct {
	// turn has one token; who has it has the lock.
	turn chan struct{}
	// users hold or wait; the lock is forgotten when there are none.
	users int
}

// New returns Locks that nobody holds.
func New[Key comparable]() *Locks[Key] { return &Locks[Key]{held: map[Key]*lock{}} }

// Take waits for the lock of a key until the context ends, whose error it then
// returns. The function it returns gives the lock back.
func (l *Locks[Key]) Take(ctx context.Context, key Key) (release func(), err error) {
	l.mu.Lock()
	k := l.held[key]
	if k == nil {
		k = &lock{turn: make(chan struct{}, 1)}
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
		return nil, ctx.Err()
	}
}

// Len is how many keys are held or waited for.
func (l *Locks[Key]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

func (l *Locks[Key]) leave(key Key, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.users--
	if k.users == 0 {
		delete(l.held, key)
	}
}
