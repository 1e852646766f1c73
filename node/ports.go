// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	"slipway.dev/slipway/metrics"
)

// port is a TCP port that a part of the node listens on.
type port struct {
	number    uint16
	component string
	change    string
}

func (c Config) ports() []port {
	return []port{
		{c.APIPort, "API server", "choose another with --api-port"},
		{10250, "kubelet", "this port cannot be changed"},
		{metrics.Port, "metrics", "this port cannot be changed"},
		{c.HTTPPort, "ingress", "choose another with --ingress-http-port"},
		{c.HTTPSPort, "ingress", "choose another with --ingress-https-port"},
	}
}

// checkPorts tells for each port whether it is free. A node that runs has them.
func (c Config) checkPorts() []Check {
	if holder, running := Holder(c); running {
		return []Check{{Name: "ports", OK: true, Says: fmt.Sprintf("slipway runs already, as process %d", holder.PID)}}
	}
	var checks []Check
	for _, p := range c.ports() {
		checks = append(checks, p.check())
	}
	return checks
}

func (p port) check() Check {
	check := Check{Name: fmt.Sprintf("port %d (%s)", p.number, p.component)}
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", p.number))
	switch {
	case err == nil:
		listener.Close()
		check.OK, check.Says = true, "free"
	case errors.Is(err, syscall.EADDRINUSE):
		check.Says, check.Do = "already in use"+portHolder(p.number), "stop that program, or "+p.change
	default:
		check.Says, check.Do = err.Error(), p.change
	}
	return check
}

// portHolder names the program that listens on a port, when it can be found.
func portHolder(number uint16) string {
	out, err := exec.Command("ss", "-Hltnp", fmt.Sprintf("sport = :%d", number)).Output()
	if err != nil {
		return ""
	}
	_, users, found := strings.Cut(string(out), `users:(("`)
	if !found {
		return ""
	}
	name, rest, _ := strings.Cut(users, `"`)
	pid, _, _ := strings.Cut(strings.TrimPrefix(rest, ",pid="), ",")
	return fmt.Sprintf(" by %s (process %s)", name, pid)
}
