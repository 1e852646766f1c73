// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
)

// lockSeconds is for how long iptables-legacy waits for others that write.
const lockSeconds = 5

// tool is a family of the older iptables.
type tool struct {
	command string
	proto   iptables.Protocol
	// tables lists those that are in the kernel.
	tables string
}

var tools = []tool{
	{"iptables", iptables.ProtocolIPv4, "ip_tables_names"},
	{"ip6tables", iptables.ProtocolIPv6, "ip6_tables_names"},
}

// setLegacy is setNFT for the older iptables. It asks no program where there is no
// table, for asking would make it.
func setLegacy(ctx context.Context, interfaces []string) ([]string, error) {
	var places []string
	var errs []error
	for _, t := range tools {
		there, err := t.filters()
		if err != nil || !there {
			errs = append(errs, err)
			continue
		}
		set, err := t.set(ctx, interfaces)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s-legacy: %w", t.command, err))
		}
		if set {
			places = append(places, t.command+"-legacy filter FORWARD")
		}
	}
	return places, errors.Join(errs...)
}

// filters tells whether the table filter is in the kernel.
func (t tool) filters() (bool, error) {
	names, err := os.ReadFile("/proc/thread-self/net/" + t.tables)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return slices.Contains(strings.Fields(string(names)), "filter"), err
}

// find looks for the program by the name that says what it is, and by the common
// one.
func (t tool) find(ctx context.Context) (string, error) {
	if path, err := exec.LookPath(t.command + "-legacy"); err == nil {
		return path, nil
	}
	version, err := exec.CommandContext(ctx, t.command, "--version").Output()
	if err != nil || strings.Contains(string(version), "nf_tables") {
		return "", fmt.Errorf("the kernel has rules of it, but the program to read them is not installed: install the package iptables")
	}
	return t.command, nil
}

func (t tool) set(ctx context.Context, interfaces []string) (bool, error) {
	path, err := t.find(ctx)
	if err != nil {
		return false, err
	}
	program, err := iptables.New(iptables.IPFamily(t.proto), iptables.Path(path), iptables.Timeout(lockSeconds))
	if err != nil {
		return false, err
	}
	forward, err := program.List("filter", "FORWARD")
	if err != nil {
		return false, err
	}
	wanted := len(interfaces) > 0 && refusesText(forward)
	if !wanted {
		return false, removeLegacy(program, forward)
	}
	if err := fillLegacy(program, interfaces); err != nil {
		return false, err
	}
	jumps := jumpsAt(forward)
	if slices.Equal(jumps, []int{1}) {
		return true, nil
	}
	// The new one first, so that there is no moment without.
	if err := program.Insert("filter", "FORWARD", 1, "-j", chainName); err != nil {
		return false, err
	}
	for _, number := range slices.Backward(jumps) {
		if err := program.DeleteById("filter", "FORWARD", number+1); err != nil {
			return false, err
		}
	}
	return true, nil
}

// refusesText tells the same as refuses, of what iptables -S prints for a chain.
func refusesText(lines []string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return strings.HasPrefix(line, "-P ") && strings.HasSuffix(line, " DROP") ||
			strings.HasSuffix(line, "-j DROP") || strings.Contains(line, "-j REJECT")
	})
}

// jumpsAt returns the numbers of our jumps among the rules, the first of which is 1.
func jumpsAt(lines []string) []int {
	var at []int
	number := 0
	for _, line := range lines {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		number++
		if strings.HasSuffix(line, "-j "+chainName) {
			at = append(at, number)
		}
	}
	return at
}

func fillLegacy(program *iptables.IPTables, interfaces []string) error {
	var want []string
	var specs [][]string
	for _, name := range interfaces {
		for _, direction := range []string{"-i", "-o"} {
			spec := []string{direction, name, "-j", "ACCEPT"}
			specs, want = append(specs, spec), append(want, "-A "+chainName+" "+strings.Join(spec, " "))
		}
	}
	there, err := program.ChainExists("filter", chainName)
	if err != nil {
		return err
	}
	if there {
		have, err := program.List("filter", chainName)
		if err != nil || slices.Equal(have[1:], want) {
			return err
		}
	}
	// It makes the chain, or empties it.
	if err := program.ClearChain("filter", chainName); err != nil {
		return err
	}
	for _, spec := range specs {
		if err := program.Append("filter", chainName, spec...); err != nil {
			return err
		}
	}
	return nil
}

func removeLegacy(program *iptables.IPTables, forward []string) error {
	for _, number := range slices.Backward(jumpsAt(forward)) {
		if err := program.DeleteById("filter", "FORWARD", number); err != nil {
			return err
		}
	}
	there, err := program.ChainExists("filter", chainName)
	if err != nil || !there {
		return err
	}
	return program.ClearAndDeleteChain("filter", chainName)
}
