// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway.dev/slipway/apiserver/snapshot"
	"slipway.dev/slipway/internal/version"
)

func TestCheckSnapshot(t *testing.T) {
	for kubernetes, says := range map[string]string{
		version.Kubernetes: "",
		"v1.30.1":          "",
		"v1.99.0":          "of Kubernetes v1.99.0, written by slipway v9",
		"v2.0.0":           "may not know all",
		"":                 "its Kubernetes version",
		"new":              "its Kubernetes version",
	} {
		err := checkSnapshot(snapshot.Manifest{Kubernetes: kubernetes, Slipway: "v9"})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("Kubernetes %q: error %v, expected %q", kubernetes, err, says)
		}
	}
}

func TestFirstTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 15, 0, 0, 0, time.UTC)
	scheduled := func(hours int) snapshot.Info {
		when := now.Add(time.Duration(hours) * time.Hour)
		return snapshot.Info{Path: "/x/" + snapshot.Name(snapshot.Scheduled, when), Manifest: snapshot.Manifest{Time: when}}
	}
	damaged, asked := scheduled(-1), scheduled(-1)
	damaged.Err = errors.New("damaged")
	asked.Path = "/x/" + snapshot.Name(snapshot.OnDemand, asked.Time)
	soon, midnight := now.Add(catchUpDelay), time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		schedule string
		all      []snapshot.Info
		want     time.Time
	}{
		"none yet":                 {"0 */12 * * *", nil, midnight},
		"made when it was due":     {"0 */12 * * *", []snapshot.Info{scheduled(-15), scheduled(-3)}, midnight},
		"missed":                   {"0 */12 * * *", []snapshot.Info{scheduled(-27), scheduled(-15)}, soon},
		"missed, one is damaged":   {"0 */12 * * *", []snapshot.Info{scheduled(-15), damaged}, soon},
		"missed, one by hand":      {"0 */12 * * *", []snapshot.Info{scheduled(-15), asked}, soon},
		"one of a clock far off":   {"0 */12 * * *", []snapshot.Info{scheduled(-3), scheduled(9999)}, midnight},
		"interval, not over yet":   {"@every 4h", []snapshot.Info{scheduled(-3)}, now.Add(4 * time.Hour)},
		"interval, over while off": {"@every 4h", []snapshot.Info{scheduled(-5)}, soon},
	} {
		when, err := parseSchedule(tt.schedule)
		if err != nil {
			t.Fatal(err)
		}
		if got := firstTime(when, tt.all, now); !got.Equal(tt.want) {
			t.Errorf("%s: %v, expected %v", name, got, tt.want)
		}
	}
}

func TestParseSchedule(t *testing.T) {
	for _, bad := range []string{"12", "every hour", "0 0 30 2 *", "@every x", "* * * *"} {
		if _, err := parseSchedule(bad); err == nil || !strings.Contains(err.Error(), "--snapshot-schedule") {
			t.Errorf("%q: error %v, expected one that names the flag", bad, err)
		}
	}
}

// A scheduled snapshot that fails is told, tried again when the next one is
// due, and leaves older ones alone.
func TestScheduleFails(t *testing.T) {
	cfg := Defaults()
	cfg.DataDir, cfg.RunDir, cfg.SnapshotRetention = t.TempDir(), t.TempDir(), 1
	if err := os.Mkdir(cfg.SnapshotDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{snapshot.Name(snapshot.Scheduled, time.Unix(1, 0)), snapshot.Name(snapshot.Scheduled, time.Unix(2, 0))} {
		if err := os.WriteFile(filepath.Join(cfg.SnapshotDir(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	when, err := parseSchedule("@every 1h")
	if err != nil {
		t.Fatal(err)
	}
	var told error
	s := &schedule{cfg: cfg, when: when, fail: func(err error) { told = err }}
	s.once(t.Context())
	check := s.check(t.Context())
	if told == nil || check.OK || !strings.Contains(check.Says, told.Error()) || check.Do == "" {
		t.Errorf("told %v, status %+v", told, check)
	}
	if in := time.Until(s.due()); in < 59*time.Minute || in > time.Hour {
		t.Errorf("the next one is due in %v", in)
	}
	if all, err := os.ReadDir(cfg.SnapshotDir()); err != nil || len(all) != 2 {
		t.Errorf("left are %v, %v", all, err)
	}
}

// A server on an external etcd has nothing here to save, and what is restored
// here would not be used.
func TestSnapshotOfExternalEtcd(t *testing.T) {
	cfg := Defaults()
	cfg.DataDir, cfg.RunDir = t.TempDir(), t.TempDir()
	if err := os.WriteFile(cfg.etcdRecord(), []byte(`{"clusterID":"1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, saved := SaveSnapshot(t.Context(), cfg, "")
	_, restored := RestoreSnapshot(cfg, filepath.Join(t.TempDir(), "s.tar.gz"), RestoreOptions{})
	for _, err := range []error{saved, restored} {
		if err == nil || !strings.Contains(err.Error(), "external etcd") {
			t.Errorf("error %v, expected one that names the external etcd", err)
		}
	}
}
