// SPDX-License-Identifier: Apache-2.0

// Package firewall has the firewall of the host forward packets from and to pods.
// Docker, ufw, firewalld and many administrators have the host drop what it
// forwards unless a rule accepts it, and a packet must pass every chain at the
// forward hook: accepting it in a table of our own would change nothing.
//
// It owns one chain, SLIPWAY-FORWARD, in each table with a base chain at that
// hook which refuses packets, and the jump to it, which it keeps the first rule of
// that base chain. The chain accepts what comes in by a pod interface or leaves by
// one, and nothing else. Tables of nftables, also those that iptables-nft has made,
// are written over netlink, without a program; those of iptables-legacy by that
// program. No table is made, and a host that drops nothing is left alone.
//
// A Keeper looks once a second whether the rules have changed, which costs one small
// request. Its methods may be called from any goroutine.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netns"
)

// chainName is that of our chain in every table.
const chainName = "SLIPWAY-FORWARD"

const (
	// lookEvery is how often it is asked whether nftables has changed.
	lookEvery = time.Second
	// lookAnyway is after how many looks all is read, changed or not: only so
	// are changes of iptables-legacy seen.
	lookAnyway = 5
)

// Config of a Keeper.
type Config struct {
	// Interfaces are those whose packets are accepted; a name that ends with +
	// stands for all that begin so, as in iptables.
	Interfaces []string
	// NetNS is the path of the node's network namespace, empty for that of the
	// process.
	NetNS string
	Log   *slog.Logger
}

// Keeper keeps the rules in place.
type Keeper struct {
	cfg Config

	mu     sync.Mutex
	places []string
	err    error
}

// New makes a Keeper; Run does its work.
func New(cfg Config) *Keeper { return &Keeper{cfg: cfg} }

// Run sets the rules and puts them back when somebody removes them, until ctx
// ends. They stay afterwards; Remove takes them away.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var seen uint32
	for look := 0; ; look++ {
		err := inside(k.cfg.NetNS, func() error {
			now, err := generation()
			if err == nil && now == seen && look%lookAnyway != 0 {
				return nil
			}
			seen = now
			return k.set(ctx)
		})
		k.report(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// set brings all tables to what they should be, in the thread's namespace.
func (k *Keeper) set(ctx context.Context) error {
	nft, nftErr := setNFT(k.cfg.Interfaces)
	legacy, legacyErr := setLegacy(ctx, k.cfg.Interfaces)
	places := append(nft, legacy...)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(places, k.places) {
		k.cfg.Log.Info("host firewall accepts packets of pods", "chains", places)
	}
	k.places = places
	return errors.Join(nftErr, legacyErr)
}

// report logs an error when it is new.
func (k *Keeper) report(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.err == nil || k.err.Error() != err.Error()) {
		k.cfg.Log.Warn("host firewall may drop packets of pods", "err", err)
	}
	k.err = err
}

// State returns the chains that would drop packets of pods and accept them now,
// and why there may be others.
func (k *Keeper) State() (places []string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.places, k.err
}

// Remove removes all rules and chains of Keepers from a network namespace.
func Remove(netNS string) error {
	return inside(netNS, func() error {
		_, nftErr := setNFT(nil)
		_, legacyErr := setLegacy(context.Background(), nil)
		return errors.Join(nftErr, legacyErr)
	})
}

// inside runs fn on a thread that is in the namespace and ends with it.
func inside(netNS string, fn func() error) error {
	if netNS == "" {
		return fn()
	}
	ns, err := netns.GetFromPath(netNS)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", netNS, err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread is thrown away.
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", netNS, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// prefix splits the + from a name.
func prefix(name string) (string, bool) { return strings.CutSuffix(name, "+") }
