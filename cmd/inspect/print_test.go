// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"bytes"
	"flag"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/proxy"
)

var update = flag.Bool("update", false, "write what is printed to testdata")

// golden compares what is printed with a file.
func golden(t *testing.T, name string, print func(io.Writer) error) {
	t.Helper()
	var out bytes.Buffer
	if err := print(&out); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestPrint(t *testing.T) {
	tables, c := example()
	all := describe(tables, slices.Collect(maps.Keys(tables)), proxy.Owners(c.own(), c.facts))
	unknown := describe(tables, slices.Collect(maps.Keys(tables)), nil)
	json := output{value: "json"}
	connections := []connection{
		connectionOf(request, isService), connectionOf(reply, isService), connectionOf(remoteRequest, isService), connectionOf(remoteReply, isService),
	}
	for name, print := range map[string]func(io.Writer) error{
		"list.txt":         func(out io.Writer) error { return printFrontends(out, all, false) },
		"list-wide.txt":    func(out io.Writer) error { return printFrontends(out, all, true) },
		"list-no-api.txt":  func(out io.Writer) error { return printFrontends(out, unknown, false) },
		"list.json":        func(out io.Writer) error { return json.print(out, all[:2], nil) },
		"get.txt":          func(out io.Writer) error { return printFrontend(out, all[1:3]) },
		"backends.txt":     func(out io.Writer) error { return printBackends(out, countBackends(tables)) },
		"backends.json":    func(out io.Writer) error { return json.print(out, countBackends(tables), nil) },
		"conntrack.txt":    func(out io.Writer) error { return printConnections(out, connections) },
		"conntrack.json":   func(out io.Writer) error { return json.print(out, connections, nil) },
		"conntrack-no.txt": func(out io.Writer) error { return printConnections(out, nil) },
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, print) })
	}
}

var (
	client, service = netip.MustParseAddrPort("192.0.2.9:40000"), netip.MustParseAddrPort("192.0.2.1:30080")
	pod, remote     = netip.MustParseAddrPort("10.244.0.5:8080"), netip.MustParseAddrPort("10.244.1.5:8080")
	own             = netip.MustParseAddrPort("192.0.2.1:5000")

	request       = bpf.Conntrack{Protocol: bpf.ProtocolTCP, Src: client, Dst: service, Rewrite: bpf.RewriteDestination, To: pod, Idle: 2 * time.Second}
	reply         = bpf.Conntrack{Protocol: bpf.ProtocolTCP, Src: pod, Dst: client, Rewrite: bpf.RewriteSource, To: service, Idle: 3 * time.Second}
	remoteRequest = bpf.Conntrack{Protocol: bpf.ProtocolUDP, Src: client, Dst: service, Rewrite: bpf.RewriteBoth, To: remote, From: own, Idle: time.Hour}
	remoteReply   = bpf.Conntrack{Protocol: bpf.ProtocolUDP, Src: remote, Dst: own, Rewrite: bpf.RewriteBoth, To: client, From: service, Idle: 90 * time.Second}
)

func isService(at netip.AddrPort) bool { return at == service }

func TestConnectionOf(t *testing.T) {
	none := netip.AddrPort{}
	for name, tt := range map[string]struct {
		entry bpf.Conntrack
		want  connection
	}{
		"request":        {request, connection{"TCP", "requests", client, service, pod, "destination", none, 2}},
		"reply":          {reply, connection{"TCP", "replies", client, service, pod, "source", none, 3}},
		"remote request": {remoteRequest, connection{"UDP", "requests", client, service, remote, "both", own, 3600}},
		"remote reply":   {remoteReply, connection{"UDP", "replies", client, service, remote, "both", own, 90}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := connectionOf(tt.entry, isService); got != tt.want {
				t.Errorf("got %+v, expected %+v", got, tt.want)
			}
		})
	}
}

func TestFilter(t *testing.T) {
	local, other := connectionOf(request, isService), connectionOf(remoteRequest, isService)
	for name, tt := range map[string]struct {
		only         filter
		local, other bool
		err          bool
	}{
		"none":            {local: true, other: true},
		"protocol":        {only: filter{protocol: "udp"}, other: true},
		"client":          {only: filter{address: "192.0.2.9"}, local: true, other: true},
		"pod":             {only: filter{address: "10.244.0.5"}, local: true},
		"mapped address":  {only: filter{address: "::ffff:10.244.1.5"}, other: true},
		"own address":     {only: filter{address: "192.0.2.1:5000"}, other: true},
		"another port":    {only: filter{address: "192.0.2.9:1"}},
		"both":            {only: filter{address: "10.244.0.5", protocol: "UDP"}},
		"no protocol":     {only: filter{protocol: "dccp"}, err: true},
		"no address":      {only: filter{address: "web"}, err: true},
		"no port":         {only: filter{address: "192.0.2.9:x"}, err: true},
		"nothing of this": {only: filter{address: "192.0.2.7"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.only.parse(); (err != nil) != tt.err {
				t.Fatal(err)
			} else if err != nil {
				return
			}
			if tt.only.keeps(local) != tt.local || tt.only.keeps(other) != tt.other {
				t.Errorf("local %v, other %v", tt.only.keeps(local), tt.only.keeps(other))
			}
		})
	}
}
