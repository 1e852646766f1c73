// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"slipway.dev/slipway/test/machine"
)

const (
	upTimeout = 6 * time.Minute
	// podTimeout is for a pod to run, and for what the API says to be done.
	podTimeout = 4 * time.Minute
)

var (
	//go:embed cluster.yaml
	baseManifest string
	//go:embed more.yaml
	moreManifest string
)

// start brings a cluster up, talks to a pod and a Service, and takes it down.
func start(h *host) {
	c := &trial{host: h}
	c.wrap(c.upSteps(), c.talkSteps("")...)
}

// cluster does what a user does in the first days.
func cluster(h *host) {
	c := &trial{host: h}
	steps := append(c.talkSteps(""), c.outsideSteps()...)
	steps = append(steps, c.moreSteps()...)
	steps = append(steps, c.killSteps()...)
	c.wrap(c.upSteps(), steps...)
}

// trial is a cluster on this machine.
type trial struct {
	*host
	before machine.State
}

// wrap does the steps if those before succeed; it always takes the cluster
// down and compares the machine with what it was.
func (c *trial) wrap(up []step, then ...step) {
	if !c.step(step{"machine before", c.snapshot}) {
		return
	}
	dumped := false
	dump := func(ok bool) {
		if !ok && !dumped {
			c.dump()
			dumped = true
		}
	}
	ok := c.steps(up)
	dump(ok)
	for i := 0; ok && i < len(then); i++ {
		dump(c.step(then[i]))
	}
	c.step(step{"down --purge", func() error { return program(3*time.Minute, "slipway", "down", "--purge").failure() }})
	c.step(step{"machine after is as before", c.compare})
}

func (c *trial) snapshot() error {
	state, err := machine.Snapshot()
	c.before = state
	return err
}

// compare waits a moment: the kernel frees some objects after they were let
// go.
func (c *trial) compare() error {
	return within(30*time.Second, func() error {
		after, err := machine.Snapshot()
		if err != nil {
			return err
		}
		if diff := machine.Diff(c.before, after); len(diff) > 0 {
			return errors.New(strings.Join(diff, "\n"))
		}
		return nil
	})
}

func (c *trial) upSteps() []step {
	return []step{
		{"up", c.up},
		{"load an image", func() error {
			return program(time.Minute, "slipway", "images", "load", "/lab/payload/image.tar").failure()
		}},
		{"two pods run", func() error {
			if err := apply(baseManifest); err != nil {
				return err
			}
			return kubectl("wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout="+podTimeout.String()).failure()
		}},
	}
}

func (c *trial) up() error {
	return program(upTimeout, "slipway", "up", "--detach").failure()
}

// kubectl talks to the cluster; a request may take long in emulation.
func kubectl(args ...string) ran {
	return program(podTimeout+time.Minute, "slipway", append([]string{"kubectl"}, args...)...)
}

// apply repeats itself: kubectl gives the API half a minute for its schema.
func apply(manifest string) error {
	return within(podTimeout, func() error {
		cmd := exec.Command("slipway", "kubectl", "apply", "-f", "-")
		cmd.Stdin = strings.NewReader(manifest)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apply: %w: %s", err, out)
		}
		return nil
	})
}

func get(object, path string) (string, error) {
	r := kubectl("get", object, "-o", "jsonpath="+path)
	if r.err == nil && strings.TrimSpace(r.stdout) == "" {
		return "", fmt.Errorf("%s has nothing at %s", object, path)
	}
	return strings.TrimSpace(r.stdout), r.failure()
}

// dump keeps what explains a failure beside the results.
func (c *trial) dump() {
	for name, command := range map[string]string{
		"status.txt":  "slipway status; slipway kubectl get pods,services,endpointslices,pvc,pv,ingress,events -A -o wide; slipway kubectl describe pods -A",
		"network.txt": "ip address; ip route; ip rule; nft list ruleset; lsmod; mount; dmesg | tail -n 50",
		"slipway.log": "cat /var/lib/slipway/log/slipway.log",
	} {
		r := program(2*time.Minute, "sh", "-c", command)
		_ = os.WriteFile("/lab/out/"+name, []byte(r.stdout+r.stderr), 0o644)
	}
}
