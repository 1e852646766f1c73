// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"slipway.dev/slipway/bench/report"
)

// programRuns is how many packets of each kind a program is given.
const programRuns = 5000

// programCost is what one packet costs in a BPF program.
type programCost struct {
	Name string
	// Nanoseconds is the median, without what an empty program takes.
	Nanoseconds float64
	// Instructions is how many the verifier went through, for each program once.
	Instructions uint32
}

// costs are the programs that are measured, with the interface that they are
// attached to, each on packets of one kind. Those that are not attached are left
// out.
var costs = []struct {
	what, program, on string
	packet            func(*packets) ([]byte, error)
}{
	{"new connection to a pod of this node", "uplink_in", "eth0", (*packets).first},
	{"further packet to a pod of this node", "uplink_in", "eth0", (*packets).further},
	{"new connection to a pod of another node", "uplink_in", "eth0", (*packets).firstAway},
	{"further packet to a pod of another node", "uplink_in", "eth0", (*packets).furtherAway},
	{"not for a Service", "uplink_in", "eth0", (*packets).foreign},
	{"new connection to a pod of another node", "wire", "eth0", (*packets).firstAway},
	{forwardsAway, "wire", "eth0", (*packets).furtherAway},
	{"not for a Service", "wire", "eth0", (*packets).foreign},
	{"pod to pod", "pod_from", "slwclient", (*packets).between},
	{"reply through a NodePort", "pod_from", "slwserver0", (*packets).reply},
	{"to elsewhere", "pod_from", "slwclient", (*packets).leaving},
}

// forwardsAway is the packet whose cost in XDP has a goal.
const forwardsAway = "further packet to a pod of another node"

// programCosts runs the programs that are attached to a node, with its tables,
// on packets that are made here. Nothing is sent.
func programCosts(n *node) ([]programCost, error) {
	var out []programCost
	return out, n.self.do(func() error {
		made, counted := &packets{}, map[string]bool{}
		for _, c := range costs {
			p, err := attached(c.program, c.on)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			if c.program == "uplink_in" {
				made.opener = p
			}
			one, err := p.cost(func() ([]byte, error) { return c.packet(made) })
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.program, c.what, err)
			}
			one.Name = c.program + ": " + c.what
			say("%s: %.0f ns", one.Name, one.Nanoseconds)
			if counted[c.program] {
				one.Instructions = 0
			}
			counted[c.program] = true
			out = append(out, one)
		}
		return nil
	})
}

// program is one that is attached to an interface.
type program struct {
	*ebpf.Program
	ifindex int
}

// attached opens the program of a pinned link.
func attached(name, device string) (program, error) {
	on, err := netlink.LinkByName(device)
	if err != nil {
		return program{}, err
	}
	index := on.Attrs().Index
	pinned, err := link.LoadPinnedLink(filepath.Join(pins, "links", name+"_"+strconv.Itoa(index)), nil)
	if err != nil {
		return program{}, err
	}
	defer pinned.Close()
	info, err := pinned.Info()
	if err != nil {
		return program{}, err
	}
	opened, err := ebpf.NewProgramFromID(info.Program)
	return program{opened, index}, err
}

// cost runs the program and an empty one in turn. Most programs change the
// packet, so that each run needs a new one.
func (p program) cost(packet func() ([]byte, error)) (programCost, error) {
	var out programCost
	empty, err := emptyProgram(p.Type())
	if err != nil {
		return out, err
	}
	defer empty.Close()
	info, err := p.Info()
	if err != nil {
		return out, err
	}
	out.Instructions, _ = info.VerifiedInstructions()
	var with, without []float64
	for range programRuns {
		frame, err := packet()
		if err != nil {
			return out, err
		}
		_, none, err := runOnce(empty, p.ifindex, frame)
		if err != nil {
			return out, err
		}
		_, one, err := runOnce(p.Program, p.ifindex, frame)
		if err != nil {
			return out, err
		}
		with, without = append(with, one), append(without, none)
	}
	out.Nanoseconds = report.Median(with) - report.Median(without)
	return out, nil
}
