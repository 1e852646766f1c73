// SPDX-License-Identifier: Apache-2.0

package addresspool

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// renewPeriod is how often a node says that it is alive. One that has not
	// done so for deadAfter is not.
	renewPeriod = 2 * time.Second
	deadAfter   = 5 * time.Second
	// aliveLabel is on the Leases that nodes renew.
	aliveLabel = "slipway.dev/announces"
	// leasePrefix is followed by the node's name.
	leasePrefix = "slipway-announcer-"
)

// alive knows which nodes are alive: it renews the Lease of its own node and
// notes when those of the others change, by its own clock.
type alive struct {
	client kubernetes.Interface
	node   string
	log    *slog.Logger

	mu sync.Mutex
	// seen is when each node's Lease was last seen to change, renewed when
	// that of this node was written.
	seen    map[string]time.Time
	renewed time.Time
}

func newAlive(client kubernetes.Interface, node string, log *slog.Logger) *alive {
	return &alive{client: client, node: node, log: log, seen: map[string]time.Time{}}
}

// nodes returns who is alive, in order. It returns false when this node could not
// renew its own Lease: then it cannot know.
func (a *alive) nodes(now time.Time) ([]string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.renewed) > deadAfter {
		return nil, false
	}
	out := []string{a.node}
	for node, at := range a.seen {
		if node != a.node && now.Sub(at) <= deadAfter {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out, true
}

// run renews and watches until ctx ends, and calls touch when somebody appears.
func (a *alive) run(ctx context.Context, touch func()) error {
	factory := informers.NewSharedInformerFactoryWithOptions(a.client, 0, informers.WithNamespace(metav1.NamespaceSystem),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = aliveLabel }))
	informer := factory.Coordination().V1().Leases().Informer()
	note := func(item any) {
		if lease, ok := item.(*coordinationv1.Lease); ok && lease.Spec.HolderIdentity != nil {
			a.note(*lease.Spec.HolderIdentity, touch)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: note, UpdateFunc: func(_, item any) { note(item) },
		DeleteFunc: func(item any) {
			if lease, ok := item.(*coordinationv1.Lease); ok && lease.Spec.HolderIdentity != nil {
				a.forget(*lease.Spec.HolderIdentity, touch)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch announcers: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	tick := time.NewTicker(renewPeriod)
	defer tick.Stop()
	for {
		if err := a.renew(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("tell others that this node announces addresses", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *alive) note(node string, touch func()) {
	a.mu.Lock()
	_, known := a.seen[node]
	a.seen[node] = time.Now()
	a.mu.Unlock()
	if !known {
		touch()
	}
}

func (a *alive) forget(node string, touch func()) {
	a.mu.Lock()
	delete(a.seen, node)
	a.mu.Unlock()
	touch()
}

// renew writes the Lease of this node.
func (a *alive) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewPeriod)
	defer cancel()
	leases := a.client.CoordinationV1().Leases(metav1.NamespaceSystem)
	now := metav1.NowMicro()
	lease, err := leases.Get(ctx, leasePrefix+a.node, metav1.GetOptions{ResourceVersion: "0"})
	switch {
	case apierrors.IsNotFound(err):
		_, err = leases.Create(ctx, a.lease(now), metav1.CreateOptions{})
	case err == nil:
		lease.Spec = a.lease(now).Spec
		_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return fmt.Errorf("renew Lease %s%s: %w", leasePrefix, a.node, err)
	}
	a.mu.Lock()
	a.renewed = time.Now()
	a.mu.Unlock()
	return nil
}

func (a *alive) lease(now metav1.MicroTime) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: leasePrefix + a.node, Namespace: metav1.NamespaceSystem, Labels: map[string]string{aliveLabel: "true"}},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &a.node, RenewTime: &now, LeaseDurationSeconds: new(int32(deadAfter / time.Second)),
		},
	}
}
