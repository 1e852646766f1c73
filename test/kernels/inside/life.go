// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// moreSteps use a volume and an ingress.
func (c *trial) moreSteps() []step {
	const text = "outlives its pod"
	return []step{
		{"a volume is written", func() error {
			if err := errors.Join(apply(moreManifest), waitReady("keeper")); err != nil {
				return err
			}
			return kubectl("exec", "keeper", "--", "/app", "write", "/data/file", text).failure()
		}},
		{"the next pod reads the volume", func() error {
			if err := errors.Join(kubectl("delete", "pod", "keeper").failure(), apply(moreManifest), waitReady("keeper")); err != nil {
				return err
			}
			r := kubectl("exec", "keeper", "--", "/app", "read", "/data/file")
			if r.err == nil && r.stdout != text {
				return fmt.Errorf("it reads %q, expected %q", r.stdout, text)
			}
			return r.failure()
		}},
		{"ingress", func() error { return within(talkTimeout, askIngress) }},
	}
}

func waitReady(pod string) error {
	return kubectl("wait", "--for=condition=Ready", "pod/"+pod, "--timeout="+podTimeout.String()).failure()
}

// askIngress asks for the host of more.yaml at the node.
func askIngress() error {
	request, err := http.NewRequest(http.MethodGet, "http://"+nodeAddress+"/", nil)
	if err != nil {
		return err
	}
	request.Host = "lab.test"
	client := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "web ") {
		return fmt.Errorf("status %d, %q, %w", response.StatusCode, body, err)
	}
	return nil
}

// killSteps kill the process and start it again. Services go on meanwhile.
func (c *trial) killSteps() []step {
	var service string
	steps := []step{
		{"kill -9", func() error {
			var err error
			if service, err = get("service/web", "{.spec.clusterIP}"); err != nil {
				return err
			}
			return killSlipway()
		}},
		{"node to Service without slipway", func() error { return askAll(nil, "web", service, 80, 9000) }},
		{"up again", c.up},
		{"status", func() error {
			return within(talkTimeout, func() error { return program(time.Minute, "slipway", "status").failure() })
		}},
	}
	return append(steps, c.talkSteps(" again")...)
}

var processOf = regexp.MustCompile(`(?m)^\S+ +slipway .*process (\d+)`)

// killSlipway kills the process that `slipway status` tells.
func killSlipway() error {
	r := program(time.Minute, "slipway", "status")
	match := processOf.FindStringSubmatch(r.stdout)
	if match == nil {
		return fmt.Errorf("no process of slipway in its status: %s%s", r.stdout, r.stderr)
	}
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return err
	}
	return within(20*time.Second, func() error {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}

// beforeReboot leaves a cluster with pods behind.
func beforeReboot(h *host) {
	c := &trial{host: h}
	if c.steps(c.upSteps()) {
		c.steps(c.talkSteps(""))
	}
	if c.failed {
		c.dump()
	}
}

// afterReboot starts that cluster again, on whatever kernel this is.
func afterReboot(h *host) {
	c := &trial{host: h}
	steps := []step{
		{"up after the reboot", c.up},
		{"the pods run again", func() error { return errors.Join(waitReady("web"), waitReady("client")) }},
	}
	if c.steps(steps) {
		c.steps(c.talkSteps(" after the reboot"))
	}
	if c.failed {
		c.dump()
	}
	c.step(step{"down --purge", func() error { return program(3*time.Minute, "slipway", "down", "--purge").failure() }})
}
