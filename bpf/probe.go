// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
)

// ProbeResult tells whether the kernel has a feature that the data path needs.
type ProbeResult struct {
	// Feature is its name, with the release that brought it.
	Feature string
	// Err is nil when the kernel has it.
	Err error
	// Do is what helps when it has not.
	Do string
}

// Probe asks the kernel for every feature that the data path needs. It leaves
// nothing behind.
func Probe() []ProbeResult {
	const upgrade = "run a kernel of release 6.6 or newer"
	return []ProbeResult{
		{"BTF type information", probeBTF(), "run a kernel with CONFIG_DEBUG_INFO_BTF=y"},
		{"socket address programs (4.17)", features.HaveProgramType(ebpf.CGroupSockAddr), "run a kernel with CONFIG_CGROUP_BPF=y"},
		{"error of socket programs (5.18)", features.HaveProgramHelper(ebpf.CGroupSockAddr, asm.FnSetRetval), upgrade},
		{"traffic control programs (4.1)", features.HaveProgramType(ebpf.SchedCLS), "run a kernel with CONFIG_NET_CLS_ACT=y"},
		{"redirect to a pod (5.10)", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectPeer), upgrade},
		{"redirect to a neighbour (5.10)", features.HaveProgramHelper(ebpf.SchedCLS, asm.FnRedirectNeigh), upgrade},
		{"LRU hash maps (4.10)", features.HaveMapType(ebpf.LRUHash), upgrade},
		{"memory-mapped arrays (5.5)", probeMemory(), upgrade},
		{"tcx links (6.6)", probeTCX(), upgrade},
	}
}

func probeBTF() error {
	_, err := btf.LoadKernelSpec()
	return err
}

// mmapable is BPF_F_MMAPABLE of linux/bpf.h.
const mmapable = 1 << 10

func probeMemory() error {
	m, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "probe", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1, Flags: mmapable,
	})
	if err != nil {
		return err
	}
	defer m.Close()
	_, err = m.Memory()
	return err
}

// probeTCX attaches a program to loopback that passes everything on.
func probeTCX() error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "probe", Type: ebpf.SchedCLS, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
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
