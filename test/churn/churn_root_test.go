// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
	"slipway.dev/slipway/test/api"
)

const (
	// changeEvery and troubleEvery are how often something changes, and how
	// long the agent is left alone.
	changeEvery, troubleEvery = 10 * time.Millisecond, time.Second
	// away is how long the API, or the agent, is away at least; awayPart the
	// part of the whole time that it is when that is longer.
	away, awayPart = 1500 * time.Millisecond, 20
	// workers is how many connections each client has at once.
	workers = 8
	// catchUp is how long the agent may take to see the API again: client-go
	// tries ever later.
	catchUp = 60 * time.Second
)

// trouble makes trouble in turn.
type trouble struct {
	lab   *lab
	world *world
	agent *agent
	away  time.Duration
	// told is how often the mark has changed.
	told int
	// count is how often each was made.
	count map[string]int
}

// TestRootChurn changes Services and endpoints at random under load, while the
// agent is killed, upgraded and cut off from the API. SLIPWAY_CHURN is for how
// long, as in 5m; SLIPWAY_SEED repeats the changes of another run.
func TestRootChurn(t *testing.T) {
	roottest.Require(t)
	duration, seed := parameters(t)
	t.Logf("seed %d, %v", seed, duration)
	l := newLab(t)
	l.serve(t, (steadyPlaces+changingPlaces)*portsEach)
	server := api.New()
	roottest.In(t, l.node, func() error { return server.Start("127.0.0.1:0") })
	t.Cleanup(server.Stop)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := server.WriteKubeconfig(kubeconfig); err != nil {
		t.Fatal(err)
	}
	w := &world{api: server, model: newModel(), targets: l.targets}
	w.maker = &maker{Rand: rand.New(rand.NewPCG(seed, 0)), targets: l.targets, nodePort: map[int32]bool{}}
	tr := &trouble{lab: l, world: w, agent: newAgent(t, l, kubeconfig), away: max(away, duration/awayPart), count: map[string]int{}}
	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	w.model.blindFrom()
	tr.agent.start(t, 0)
	tr.caughtUp(t)
	tr.under(t, duration, seed)
}

func parameters(t *testing.T) (time.Duration, uint64) {
	t.Helper()
	duration, seed := 15*time.Second, rand.Uint64()
	var err error
	if text := os.Getenv("SLIPWAY_CHURN"); text != "" {
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SLIPWAY_CHURN: %v", err)
		}
	}
	if text := os.Getenv("SLIPWAY_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SLIPWAY_SEED: %v", err)
		}
	}
	return duration, seed
}

// under makes trouble under load and tells what came of it.
func (tr *trouble) under(t *testing.T, duration time.Duration, seed uint64) {
	inside := []*client{
		startClient(t, "node", tr.lab.node, tr.lab.cgroup),
		startClient(t, "pod", tr.lab.targets[0].ns, tr.lab.cgroup),
	}
	outside := startClient(t, "other host", tr.lab.outside, "")
	l := &load{world: tr.world, counts: &counts{verdicts: map[verdict]int{}}, seed: seed}
	began := time.Now()
	kept := append(l.keep(inside, false), l.keep([]*client{outside}, true)...)
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var running sync.WaitGroup
	for _, c := range inside {
		running.Go(func() { l.run(ctx, t, c, false, workers) })
	}
	running.Go(func() { l.run(ctx, t, outside, true, workers) })
	running.Go(func() { tr.change(ctx, t) })
	tr.make(ctx, t)
	running.Wait()
	for _, c := range append(inside, outside) {
		c.stop()
	}
	l.check(t, kept, began)
	t.Logf("%s; changes of Services and endpoints: %d; the agent was: %v", l.counts, tr.world.changes, tr.count)
	if l.counts.verdicts[delivered] == 0 || l.counts.kept == 0 {
		t.Error("nothing was delivered")
	}
}

func (tr *trouble) change(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(changeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := tr.world.change(); err != nil {
			t.Error(err)
			return
		}
	}
}

// make kills the agent, upgrades it, and takes the API away, in turn.
func (tr *trouble) make(ctx context.Context, t *testing.T) {
	kinds := []struct {
		name string
		do   func()
	}{
		{"killed", func() { tr.restart(t, syscall.SIGKILL, 0, 0) }},
		{"upgraded", func() { tr.restart(t, syscall.SIGTERM, tr.count["upgraded"]+1, 0) }},
		{"without API", func() { tr.withoutAPI(t) }},
		{"killed for long", func() { tr.restart(t, syscall.SIGKILL, 0, tr.away) }},
		{"killed and started without API", func() { tr.startWithoutAPI(t) }},
	}
	for i := 0; ; i++ {
		if !wait(ctx, troubleEvery) {
			return
		}
		kind := kinds[i%len(kinds)]
		tr.world.model.blindFrom()
		kind.do()
		tr.caughtUp(t)
		tr.count[kind.name]++
	}
}

func (tr *trouble) restart(t *testing.T, signal syscall.Signal, copy int, pause time.Duration) {
	tr.agent.end(signal)
	wait(t.Context(), pause)
	tr.agent.start(t, copy)
}

func (tr *trouble) withoutAPI(t *testing.T) {
	tr.world.api.Stop()
	wait(t.Context(), tr.away)
	roottest.In(t, tr.lab.node, func() error { return tr.world.api.Start("") })
}

// startWithoutAPI starts the agent when it can learn nothing: it leaves alone what
// the kernel has.
func (tr *trouble) startWithoutAPI(t *testing.T) {
	tr.agent.end(syscall.SIGKILL)
	tr.world.api.Stop()
	tr.agent.start(t, 0)
	wait(t.Context(), tr.away)
	roottest.In(t, tr.lab.node, func() error { return tr.world.api.Start("") })
}

// caughtUp waits until the data path has what the API has now, by a Service that
// is there for it.
func (tr *trouble) caughtUp(t *testing.T) {
	t.Helper()
	tr.told++
	number, endpoints := int32(1000+tr.told), 1+tr.told%3
	s := &service{place: 99, name: "mark", endpoints: make([]state, len(tr.lab.targets))}
	s.ports = []port{{corev1.ServicePort{Name: "mark", Protocol: corev1.ProtocolTCP, Port: number}, 1}}
	for i := range endpoints {
		s.endpoints[i] = ready
	}
	if err := tr.world.api.Put(s.object(), s.slice(tr.lab.targets, 0)); err != nil {
		t.Fatal(err)
	}
	mark := bpf.Frontend{Addr: netip.MustParseAddr(clusterIPs(99)[0]), Port: uint16(number), Protocol: bpf.ProtocolTCP}
	roottest.Eventually(t, catchUp, func() error {
		known, err := tr.lab.datapath.Frontends()
		if err != nil || known[mark].Count != uint32(endpoints) {
			return fmt.Errorf("the data path has %v for the mark, expected %d backends (%v)", known[mark], endpoints, err)
		}
		return nil
	})
	tr.world.model.sees()
}

// wait tells whether the time is over before ctx is.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
