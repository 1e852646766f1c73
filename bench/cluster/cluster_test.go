// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestCPUTicks(t *testing.T) {
	const stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1 0 500 0"
	if got, err := cpuTicks(stat); err != nil || got != 127 {
		t.Errorf("cpuTicks = %d, %v, want 127", got, err)
	}
	if _, err := cpuTicks("7 (a) S 1"); err == nil {
		t.Error("a line that is too short is taken")
	}
}

func TestMegabytes(t *testing.T) {
	const status = "Name:\tx\nVmRSS:\t    1000 kB\nRssAnon:\t     500 kB\n"
	for name, want := range map[string]float64{"VmRSS": 1.024, "RssAnon": 0.512, "VmSwap": 0} {
		if got := megabytes([]byte(status), name); got != want {
			t.Errorf("%s = %v MB, want %v", name, got, want)
		}
	}
}

func TestOfRuntime(t *testing.T) {
	for command, want := range map[string]bool{
		"/run/bench/bin/slipway up":                    false,
		"/run/bench/bin/slipway containerd --config x": true,
		"/x/containerd-shim-runc-v2 -id y":             true,
		"/pause":                                       true,
		"/run/bench/peers/kubelet --config=y":          false,
		"kubelet":                                      false,
	} {
		if got := ofRuntime(strings.Fields(command)); got != want {
			t.Errorf("ofRuntime(%s) = %v", command, got)
		}
	}
}

func TestDifference(t *testing.T) {
	before := map[int]process{
		2: {usage: usage{100, 50, 10}, program: "server"},
		3: {usage: usage{10, 5, 1}, program: "gone"},
	}
	after := map[int]process{
		2: {usage: usage{120, 60, 14}, program: "server"},
		4: {usage: usage{30, 3, 2}, program: "server"},
		5: {usage: usage{7, 1, 0.5}, program: "containerd", runtime: true},
	}
	want := footprint{
		Cluster: usage{150, 63, 3}, Runtime: usage{7, 1, 0.25},
		Programs: map[string]usage{"server": {150, 63, 3}},
	}
	if diff := cmp.Diff(want, difference(before, after, 2*time.Second)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReadySince(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 600e6, time.UTC)
	for _, test := range []struct {
		name   string
		status corev1.ConditionStatus
		at     time.Time
		want   bool
	}{
		{"in the same second", corev1.ConditionTrue, begin.Truncate(time.Second), true},
		{"later", corev1.ConditionTrue, begin.Add(time.Minute), true},
		{"of the kubelet before", corev1.ConditionTrue, begin.Add(-2 * time.Second), false},
		{"not ready", corev1.ConditionFalse, begin.Add(time.Minute), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(begin)},
				{Type: corev1.NodeReady, Status: test.status, LastHeartbeatTime: metav1.NewTime(test.at)},
			}}}
			if got := readySince(node, begin); got != test.want {
				t.Errorf("readySince = %v", got)
			}
		})
	}
	if readySince(&corev1.Node{}, begin) {
		t.Error("a node without a report is ready")
	}
}

func TestCollectAndMatch(t *testing.T) {
	events := watch.NewFake()
	go func() {
		events.Add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
		events.Modify(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
		events.Add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
	}()
	arrived := collect(events, 2)
	if len(arrived) != 2 || arrived["a"].IsZero() || arrived["b"].IsZero() {
		t.Errorf("collected %v", arrived)
	}
	at := arrived["a"]
	got := match(map[string]created{"a": {at.Add(-2 * time.Millisecond), at.Add(time.Millisecond)}}, arrived)
	if diff := cmp.Diff(latencies{[]float64{2}, []float64{-1}}, got, cmp.AllowUnexported(latencies{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCollectEnds(t *testing.T) {
	events := watch.NewFake()
	go events.Stop()
	if arrived := collect(events, 1); len(arrived) != 0 {
		t.Errorf("collected %v", arrived)
	}
}

func TestRows(t *testing.T) {
	first := result{First: starts{API: 1, Node: 2, Pod: 3}, Idle: footprint{Cluster: usage{Resident: 200}, Runtime: usage{Resident: 50}}}
	second := result{First: starts{API: 2, Node: 4, Pod: 6}, Idle: footprint{Cluster: usage{Resident: 300}, Runtime: usage{Resident: 50}}}
	rows := results{ours: []result{first}, peer: []result{first, second}}.rows()
	values := map[string][2]float64{}
	for _, r := range rows {
		values[r.Metric] = [2]float64{r.Ours, *r.Peer}
		if r.PeerRuns[0] > r.PeerRuns[1] {
			t.Errorf("%s: the order of the rounds is lost", r.Metric)
		}
	}
	for metric, want := range map[string][2]float64{
		"first start: API ready":                     {1, 1.5},
		"first start: pod Running":                   {3, 4.5},
		"resident memory":                            {200, 250},
		"resident memory, with containerd and shims": {250, 300},
	} {
		if got, found := values[metric]; !found || got != want {
			t.Errorf("%s = %v, want %v", metric, got, want)
		}
	}
	if len(values) != len(metrics) {
		t.Errorf("%d rows have %d names", len(metrics), len(values))
	}
}

func TestTails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/kubelet.log", []byte(strings.Repeat("early\n", 99)+"late\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := tails(dir).Error()
	if !strings.HasPrefix(text, "kubelet.log ends with:\nearly\n") || !strings.HasSuffix(text, "\nlate") || strings.Count(text, "\n") != 15 {
		t.Errorf("tails are:\n%s", text)
	}
}

// TestPeersHaveOurVersions compares what Slipway and its peers are built from.
func TestPeersHaveOurVersions(t *testing.T) {
	ours, peers := modules(t, "../../go.mod"), modules(t, "../peers/go.mod")
	for path, version := range peers {
		if have, shared := ours[path]; shared && have != version {
			t.Errorf("bench/peers/go.mod has %s %s, go.mod %s: run `go get %[1]s@%[3]s` in bench/peers", path, version, have)
		}
	}
	if len(peers) == 0 {
		t.Error("bench/peers/go.mod names no module")
	}
}

// moduleLine is a line of a go.mod that chooses a version.
var moduleLine = regexp.MustCompile(`(?m)^\t(?:\S+ => )?(\S+) (v\S+)`)

func modules(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	// What is required may be replaced, and that comes first in our files.
	for _, line := range moduleLine.FindAllStringSubmatch(string(text), -1) {
		if _, replaced := versions[line[1]]; !replaced {
			versions[line[1]] = line[2]
		}
	}
	return versions
}
