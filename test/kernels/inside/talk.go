// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"slipway.dev/slipway/test/e2e/talk"
)

// The machine's uplink, see guest/network.sh.
const (
	nodeAddress    = "192.0.2.10"
	outsideAddress = "192.0.2.1"
	// hidden is what the outside calls the node, see hide.
	hidden = "203.0.113.1"
)

// talkTimeout is for one thing to answer.
const talkTimeout = 90 * time.Second

// talkSteps ask a Service and a pod, from the node and from a pod. The suffix
// tells the times apart at which that is done.
func (c *trial) talkSteps(suffix string) []step {
	return []step{
		{"node to Service" + suffix, func() error {
			return within(talkTimeout, func() error { return c.ask(nil, "web") })
		}},
		{"pod to Service" + suffix, func() error {
			return within(talkTimeout, func() error { return c.ask(fromClient, "web") })
		}},
		{"pod to pod" + suffix, func() error {
			ip, err := get("pod/web", "{.status.podIP}")
			if err != nil {
				return err
			}
			return within(talkTimeout, func() error { return askAll(fromClient, "web", ip, 8080, 9000) })
		}},
	}
}

var (
	fromClient  = []string{"slipway", "kubectl", "exec", "client", "--", "/app"}
	fromOutside = []string{"ip", "netns", "exec", "outside", "app"}
)

// ask asks a Service at its address.
func (c *trial) ask(from []string, service string) error {
	ip, err := get("service/"+service, "{.spec.clusterIP}")
	if err != nil {
		return err
	}
	return askAll(from, service, ip, 80, 9000)
}

// askAll asks a server by every protocol, and wants its name. from runs the
// application elsewhere; when empty it runs here.
func askAll(from []string, name, ip string, web, echo int) error {
	var targets []string
	for _, t := range []struct {
		kind talk.Kind
		port int
	}{{talk.HTTP, web}, {talk.TCP, echo}, {talk.UDP, echo}, {talk.Datagram, echo}} {
		targets = append(targets, fmt.Sprintf("%s=%s", t.kind, net.JoinHostPort(ip, fmt.Sprint(t.port))))
	}
	return askTargets(from, name, targets)
}

func askTargets(from []string, name string, targets []string) error {
	if from == nil {
		from = []string{"app"}
	}
	args := append(append(from[1:len(from):len(from)], "ask", "-n", "2"), targets...)
	r := program(time.Minute, from[0], args...)
	if r.err != nil {
		return r.failure()
	}
	var answers []talk.Answers
	if err := json.Unmarshal([]byte(r.stdout), &answers); err != nil {
		return fmt.Errorf("answers %q: %w", r.stdout, err)
	}
	for _, a := range answers {
		if a.Error != "" || a.Names[name] == 0 {
			return fmt.Errorf("%s: %s, answers from %v", a.Target, a.Error, a.Names)
		}
	}
	return nil
}

// outsideSteps talk with a host on the uplink, in both directions.
func (c *trial) outsideSteps() []step {
	return []step{
		{"pod finds Service by name", func() error {
			return within(talkTimeout, func() error {
				return askTargets(fromClient, "web", []string{"http=web.default.svc.cluster.local:80"})
			})
		}},
		{"outside to NodePort", func() error {
			if err := hide(); err != nil {
				return err
			}
			return within(talkTimeout, func() error { return askAll(fromOutside, "web", hidden, 30080, 30090) })
		}},
		{"pod to outside", podToOutside},
	}
}

// hide lets programs outside use another address for the node, which the
// outside's own firewall turns into the real one: processes of this machine
// share its cgroups, and Slipway's socket programs would answer for the node
// before a packet is on the wire.
func hide() error {
	rules := fmt.Sprintf("add table ip hide; add chain ip hide out { type nat hook output priority -100; }; add rule ip hide out ip daddr %s dnat to %s",
		hidden, nodeAddress)
	return errors.Join(
		program(time.Minute, "ip", "-n", "outside", "route", "replace", hidden, "via", nodeAddress).failure(),
		program(time.Minute, "ip", "netns", "exec", "outside", "nft", rules).failure())
}

// podToOutside asks a server outside, which must see the node's address.
func podToOutside() error {
	server := exec.Command("ip", "netns", "exec", "outside", "app", "serve", "-name", "outside")
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { _, _ = server.Process.Kill(), server.Wait() }()
	return within(talkTimeout, func() error {
		r := program(time.Minute, fromClient[0], append(fromClient[1:len(fromClient):len(fromClient)], "ask", "http="+net.JoinHostPort(outsideAddress, "8080"))...)
		var answers []talk.Answers
		if err := errors.Join(r.failure(), json.Unmarshal([]byte(r.stdout), &answers)); err != nil {
			return err
		}
		want := netip.MustParseAddr(nodeAddress)
		if len(answers) != 1 || len(answers[0].Peers) != 1 || answers[0].Peers[0] != want {
			return fmt.Errorf("the server outside must see %s once: %s", want, strings.TrimSpace(r.stdout))
		}
		return nil
	})
}
