// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	kernel "github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// ProbeResult tells whether the kernel has something that the data path uses.
type ProbeResult struct {
	// Name is that of the program or the Feature, in one word.
	Name string
	// Says is what it is in words, with the release that brought it; empty for a
	// program of the data path.
	Says string
	// Err is nil when the kernel has it.
	Err error
	// Fallback is what is used where the kernel does not have it, and what that
	// costs; empty when there is nothing.
	Fallback string
	// Do is what helps when there is no fallback.
	Do string
}

const upgrade = "run a kernel of release 6.1 or newer"

// Probe loads what the data path loads, program by program, and tells what the kernel
// takes, and what is used in place of what it lacks. It leaves nothing behind.
func Probe() []ProbeResult {
	types := btf.NewCache()
	if _, err := types.Kernel(); err != nil {
		return []ProbeResult{{Name: "btf", Says: "BTF type information", Err: err, Do: "run a kernel with CONFIG_DEBUG_INFO_BTF=y"}}
	}
	if missing := probeRequired(); len(missing) > 0 {
		return missing
	}
	out := []ProbeResult{{Name: "btf", Says: "BTF type information"}}
	each := probeEach(types)
	has := featureSet{}
	for f, err := range each {
		has[f] = err == nil
	}
	for _, f := range slices.Sorted(maps.Keys(each)) {
		d := descriptions[f]
		out = append(out, ProbeResult{Name: string(f), Says: d.name, Err: each[f], Fallback: d.fallback})
	}
	if !has[FeatureTCX] {
		out = append(out, ProbeResult{
			Name: "clsact", Says: "clsact filters (4.5)", Err: probeFilter(), Do: "load the kernel modules sch_ingress and cls_bpf",
		})
	}
	return append(out, probeEveryProgram(types, has)...)
}

// probeRequired asks for what older kernels lack and nothing replaces, since what the
// verifier says about a whole program may not name it. What cannot be told is left
// to the programs.
func probeRequired() []ProbeResult {
	var out []ProbeResult
	for _, r := range []ProbeResult{
		{Name: "coarse_clock", Says: "coarse clock for programs (5.11)", Err: kernel.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetCoarseNs)},
		{Name: "map_walk", Says: "walks through maps (5.13)", Err: kernel.HaveProgramHelper(ebpf.SchedCLS, asm.FnForEachMapElem)},
		{Name: "syscall_programs", Says: "programs run by command (5.14)", Err: kernel.HaveProgramType(ebpf.Syscall)},
	} {
		if errors.Is(r.Err, ebpf.ErrNotSupported) {
			r.Do = upgrade
			out = append(out, r)
		}
	}
	return out
}

// objects are the compiled files that a node loads, by name.
var objects = map[string]func() (*ebpf.CollectionSpec, error){
	"sock": loadSock, "pod": loadPod, "uplink": loadUplink, "wire": loadWire, "count": loadCount, "stale": loadStale,
}

// probeEveryProgram loads every program that a node with these features loads.
func probeEveryProgram(types *btf.Cache, has featureSet) []ProbeResult {
	var out []ProbeResult
	for _, object := range slices.Sorted(maps.Keys(objects)) {
		load := func() (*ebpf.CollectionSpec, error) {
			spec, err := objects[object]()
			if err != nil {
				return nil, err
			}
			return spec, has.apply(spec)
		}
		spec, err := load()
		if err != nil {
			out = append(out, ProbeResult{Name: object, Err: err, Do: upgrade})
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
			if has.uses(name) {
				out = append(out, ProbeResult{Name: name, Err: probeProgram(load, name, types), Do: upgrade})
			}
		}
	}
	return out
}

// uses tells whether a program is loaded where the kernel has these features.
func (all featureSet) uses(program string) bool {
	switch program {
	case "count_tables":
		return all[FeatureElemCount]
	case "walk_tables":
		return !all[FeatureElemCount]
	case "stale_tcp", "stale_udp":
		return all[FeatureSockDestroy]
	}
	return true
}

// newPasser makes a program that passes everything on to the next.
func newPasser() (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
}

// probeTCX attaches a program to loopback for a moment.
func probeTCX() error {
	program, err := newPasser()
	if err != nil {
		return err
	}
	defer program.Close()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: lo.Index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	return l.Close()
}

// probeFilter does the same with a filter.
func probeFilter() error {
	program, err := newPasser()
	if err != nil {
		return err
	}
	defer program.Close()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	switch err := netlink.QdiscAdd(clsactOf(lo.Index)); {
	case err == nil:
		defer netlink.QdiscDel(clsactOf(lo.Index))
	case !errors.Is(err, os.ErrExist):
		return fmt.Errorf("add clsact: %w", err)
	}
	if err := replaceFilter(tcHook{"probe", program}, lo.Index); err != nil {
		return err
	}
	return netlink.FilterDel(filterOf("probe", lo.Index))
}

// probeNetdev asks for what tells which drivers take packets from XDP programs.
func probeNetdev() error {
	if _, err := netlink.GenlFamilyGet(netdevFamily); err != nil {
		return fmt.Errorf("find netlink family %s: %w", netdevFamily, err)
	}
	return nil
}
