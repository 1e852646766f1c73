// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"slipway.dev/slipway/bench/report"
	"slipway.dev/slipway/bench/sandbox"
)

// plan is what is to be measured.
type plan struct {
	Sizes  []int
	Rounds int
	// Time is that of each load.
	Time time.Duration
	// Cold is what is programmed from cold, ColdRounds times on our side and
	// PeerColdRounds times on each of the others, which take longer.
	Cold                       shape
	ColdRounds, PeerColdRounds int
	// Limit is how long a side may take to program everything. One that does not
	// is left out.
	Limit time.Duration
	// Changes and PeerChanges are how many changes of an endpoint are timed on
	// our side, and on each of the others, which take longer.
	Changes, PeerChanges int
}

// results are those of all sides.
type results struct {
	Sizes []sizeResult
	Cold  map[string][]cost
	// Tables is the kernel memory of our maps and programs, megabytes.
	Tables []float64
	// Changes are the times from a change in the API until a client meets it,
	// milliseconds.
	Changes  map[string][]float64
	Programs []programCost
	// Missing says what was left out, and why.
	Missing []string
}

// sizeResult is what was measured with so many Services.
type sizeResult struct {
	Services int
	// Starts are what it took to program them from cold, once on each side.
	Starts map[string][]cost
	// Loads are by load and by side, one value a round.
	Loads map[string]map[string][]loaded
}

// sizeShape is what there is when traffic is measured.
func sizeShape(services int) shape { return shape{services, len(serverAddrs)} }

// proxies are the sides that have a proxy.
var proxies = []string{ours, iptables, nftables}

func measure(ctx context.Context, p plan) (results, error) {
	out := results{Cold: map[string][]cost{}, Changes: map[string][]float64{}}
	if err := os.MkdirAll(logDir, 0o755); err != nil {
		return out, err
	}
	if err := out.cold(ctx, p); err != nil {
		return out, fmt.Errorf("program from cold: %w", err)
	}
	for i, services := range p.Sizes {
		if err := out.size(ctx, p, services, i == len(p.Sizes)-1); err != nil {
			return out, fmt.Errorf("%d Services: %w", services, err)
		}
	}
	return out, nil
}

// cold starts each side on a cluster that is there already, one at a time.
func (r *results) cold(ctx context.Context, p plan) error {
	if p.ColdRounds == 0 {
		return nil
	}
	c, err := newCluster(ctx, p.Cold, os.TempDir())
	if err != nil {
		return err
	}
	defer c.api.Stop()
	for round := range max(p.ColdRounds, p.PeerColdRounds) {
		for _, name := range rotated(proxies, round) {
			if name == ours && round >= p.ColdRounds || name != ours && round >= p.PeerColdRounds {
				continue
			}
			if err := r.coldOnce(ctx, p, name, c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *results) coldOnce(ctx context.Context, p plan, name string, c *cluster) error {
	s, took, err := start(ctx, name, c, p.Limit)
	if r.missing(name, p.Cold, p.Limit, err) {
		return nil
	}
	if err != nil {
		return err
	}
	say("cold, %s: %s", name, took)
	r.Cold[name] = append(r.Cold[name], took)
	if name == ours {
		tables, tableErr := tableMemory(s.program.Process.Pid)
		r.Tables, err = append(r.Tables, tables), tableErr
	}
	return errors.Join(err, s.stop())
}

// missing notes that a peer took too long, and tells whether it did.
func (r *results) missing(name string, s shape, limit time.Duration, err error) bool {
	if name == ours || !errors.Is(err, errTooLong) {
		return false
	}
	note := fmt.Sprintf("%s had not programmed %s × %d endpoints after %v.", name, services(s.Services), s.Endpoints, limit)
	say("%s", note)
	r.Missing = append(r.Missing, note)
	return true
}

// size puts all loads on all sides in turn, with so many Services. What does not
// depend on their number is measured with the last one.
func (r *results) size(ctx context.Context, p plan, count int, last bool) (err error) {
	c, err := newCluster(ctx, sizeShape(count), os.TempDir())
	if err != nil {
		return err
	}
	defer c.api.Stop()
	one := sizeResult{count, map[string][]cost{}, map[string]map[string][]loaded{}}
	var sides []*side
	defer func() {
		for _, s := range sides {
			err = errors.Join(err, s.stop())
		}
	}()
	for _, name := range proxies {
		if err := alone(ctx, sides, nil); err != nil {
			return err
		}
		s, took, err := start(ctx, name, c, p.Limit)
		if r.missing(name, c.shape, p.Limit, err) {
			continue
		}
		if err != nil {
			return err
		}
		say("%d Services, %s: %s", count, name, took)
		sides, one.Starts[name] = append(sides, s), []cost{took}
	}
	for round := range p.Rounds {
		if err := one.round(ctx, p, c.population, sides, round); err != nil {
			return err
		}
	}
	r.Sizes = append(r.Sizes, one)
	if !last {
		return nil
	}
	if r.Programs, err = programCosts(sides[0].node); err != nil {
		return fmt.Errorf("cost of programs: %w", err)
	}
	for _, s := range sides {
		if err := alone(ctx, sides, s.node); err != nil {
			return err
		}
		if r.Changes[s.name], err = timeChanges(ctx, p, c, s); err != nil {
			return fmt.Errorf("change of an endpoint, %s: %w", s.name, err)
		}
	}
	return nil
}

// round puts each load on one side after the other. Who begins changes.
func (r *sizeResult) round(ctx context.Context, p plan, objects population, sides []*side, round int) error {
	all := append([]*side{{name: direct, node: sides[0].node}}, sides...)
	for _, kind := range loads {
		for _, s := range rotated(all, round) {
			l := load{Kind: kind.kind, Clients: kind.clients, To: objects.clusterIPs()[:len(objects.targets)], For: p.Time}
			from := s.node.client
			switch {
			case kind.outside && s.name == direct:
				continue
			case kind.outside:
				l.To, from = objects.nodePorts(), s.node.outside
			case s.name == direct:
				l.To = objects.endpointAddrs()
			}
			if err := alone(ctx, sides, s.node); err != nil {
				return err
			}
			got, err := s.load(ctx, from, l)
			if err != nil {
				return fmt.Errorf("round %d, %s, %s: %w", round+1, kind.name, s.name, err)
			}
			if r.Loads[kind.name] == nil {
				r.Loads[kind.name] = map[string][]loaded{}
			}
			r.Loads[kind.name][s.name] = append(r.Loads[kind.name][s.name], got)
			say("%d Services, round %d, %s, %s: %s", r.Services, round+1, kind.name, s.name, got)
		}
	}
	return nil
}

// changeGap is between two changes, and longer than kube-proxy waits between two
// writes (minSyncPeriod): none has to wait for the one before. Ours does not wait
// and takes more of them in the time.
var changeGap = map[string]time.Duration{ours: 50 * time.Millisecond, iptables: 1200 * time.Millisecond, nftables: 1200 * time.Millisecond}

// timeChanges leads a Service from one server to the other and back, and has a
// client tell when it meets the other one.
func timeChanges(ctx context.Context, p plan, c *cluster, s *side) ([]float64, error) {
	number := c.targets[len(c.targets)-1]
	if err := c.point(number, serverAddrs[0]); err != nil {
		return nil, err
	}
	// Until nobody is led to the second server any more.
	if err := sandbox.Rest(ctx, settle); err != nil {
		return nil, err
	}
	observer, err := s.spawn(s.node.client, order{Watch: []netip.AddrPort{netip.AddrPortFrom(clusterIP(number), servicePort)}})
	if err != nil {
		return nil, err
	}
	defer observer.kill()
	var seen sighting
	if err := observer.result(ctx, &seen); err != nil {
		return nil, err
	}
	count := p.PeerChanges
	if s.name == ours {
		count = p.Changes
	}
	var out []float64
	for i := range count {
		if err := sandbox.Rest(ctx, changeGap[s.name]); err != nil {
			return nil, err
		}
		begin := monotonic()
		if err := c.point(number, serverAddrs[(i+1)%2]); err != nil {
			return nil, err
		}
		if err := observer.result(ctx, &seen); err != nil {
			return nil, err
		}
		if want := string(serverName((i + 1) % 2)); seen.Name != want {
			return nil, fmt.Errorf("server %s answers: expected %s", seen.Name, want)
		}
		out = append(out, float64(seen.At-begin)/1e6)
	}
	say("change of an endpoint, %s: %.2f ms, tail %.2f ms, at most %.2f ms", s.name,
		report.Percentile(out, 0.5), report.Percentile(out, 0.99), slices.Max(out))
	return out, nil
}

// rotated begins with another one each round.
func rotated[T any](all []T, round int) []T {
	first := round % len(all)
	return append(append([]T{}, all[first:]...), all[:first]...)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
