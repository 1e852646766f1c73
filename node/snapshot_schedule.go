// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"slipway.dev/slipway/apiserver/snapshot"
)

// schedule makes snapshots by the clock. One that was due while the server did
// not run is made soon after its start.
type schedule struct {
	cfg  Config
	when cron.Schedule
	fail func(error)

	mu   sync.Mutex
	next time.Time
	last error
}

const (
	// lookInterval is how often a schedule looks at the clock, which may be
	// set, or stand still while the machine sleeps.
	lookInterval = 30 * time.Second
	// catchUpDelay keeps what is overdue out of the way of the start.
	catchUpDelay = time.Minute
)

func parseSchedule(text string) (cron.Schedule, error) {
	when, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("--snapshot-schedule %q: expected a time like \"0 */12 * * *\" or \"@every 6h\", or nothing: %v", text, err)
	}
	if when.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("--snapshot-schedule %q: expected a time that comes", text)
	}
	return when, nil
}

// startSnapshots makes snapshots as the configuration says.
func (m *member) startSnapshots() error {
	if m.cfg.SnapshotSchedule == "" {
		return nil
	}
	when, err := parseSchedule(m.cfg.SnapshotSchedule)
	if err != nil {
		return err
	}
	all, err := snapshot.List(m.cfg.SnapshotDir())
	if err != nil {
		return err
	}
	s := &schedule{cfg: m.cfg, when: when, next: firstTime(when, all, time.Now())}
	s.fail = func(err error) { m.log.Error("scheduled snapshot", "err", err) }
	m.sup.Start("snapshots", stageRest, s.run)
	m.addProbe(s.check)
	return nil
}

// firstTime is when the first snapshot after a start is due, with those that
// there are, the newest last.
func firstTime(when cron.Schedule, all []snapshot.Info, now time.Time) time.Time {
	for _, s := range slices.Backward(all) {
		// A clock that was wrong must not keep the next one away.
		if s.Err != nil || s.Time.After(now) || !strings.HasPrefix(filepath.Base(s.Path), snapshot.Scheduled) {
			continue
		}
		if when.Next(s.Time.In(now.Location())).Before(now) {
			return now.Add(catchUpDelay)
		}
		break
	}
	return when.Next(now)
}

func (s *schedule) run(ctx context.Context) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			// Without the reading of the monotonic clock.
			if !now.Round(0).Before(s.due()) {
				s.once(ctx)
			}
		}
	}
}

func (s *schedule) due() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// once makes a snapshot, and notes how that went and when the next one is due.
func (s *schedule) once(ctx context.Context) {
	err := s.save(ctx)
	if err != nil && ctx.Err() == nil {
		s.fail(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.next = err, s.when.Next(time.Now())
}

// save makes a snapshot and only then removes old ones.
func (s *schedule) save(ctx context.Context) error {
	path := filepath.Join(s.cfg.SnapshotDir(), snapshot.Name(snapshot.Scheduled, time.Now()))
	if _, err := s.cfg.saveSnapshot(ctx, path); err != nil {
		return err
	}
	return snapshot.Retain(s.cfg.SnapshotDir(), s.cfg.SnapshotRetention)
}

func (s *schedule) check(context.Context) Check {
	s.mu.Lock()
	last, next := s.last, s.next
	s.mu.Unlock()
	if last != nil {
		return Check{
			Name: "snapshots", Says: fmt.Sprintf("the last one failed: %v; the next try is at %s", last, next.Format(time.DateTime)),
			Do: "make room or mend what it names; try `slipway snapshot save`",
		}
	}
	all, err := snapshot.List(s.cfg.SnapshotDir())
	if err != nil {
		return Check{Name: "snapshots", Says: err.Error(), Do: "look at " + s.cfg.SnapshotDir()}
	}
	return Check{Name: "snapshots", OK: true, Says: fmt.Sprintf("%d, the next one at %s", len(all), next.Format(time.DateTime))}
}
