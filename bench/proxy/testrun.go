// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// testRun is the part of union bpf_attr for BPF_PROG_TEST_RUN.
type testRun struct {
	program, result       uint32
	sizeIn, sizeOut       uint32
	in, out               uint64
	repeat, nanoseconds   uint32
	contextIn, contextOut uint32
	context, changed      uint64
}

// runOnce gives a program one packet and returns what it makes of it, and how long
// that took. The library does not tell the time of a run with a context.
func runOnce(program *ebpf.Program, ifindex int, packet []byte) (out []byte, nanoseconds float64, err error) {
	out = make([]byte, len(packet)+256)
	context := contextOf(program.Type(), ifindex, len(packet))
	attr := testRun{
		program: uint32(program.FD()), repeat: 1,
		sizeIn: uint32(len(packet)), in: pointer(packet), sizeOut: uint32(len(out)), out: pointer(out),
		contextIn: uint32(len(context)), context: pointer(context),
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(packet)
	runtime.KeepAlive(context)
	if errno != 0 {
		return nil, 0, fmt.Errorf("run program: %w", os.NewSyscallError("bpf", errno))
	}
	return out[:attr.sizeOut], float64(attr.nanoseconds), nil
}

func pointer(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// contextOf is a struct __sk_buff or a struct xdp_md for a packet that came in
// by an interface.
func contextOf(kind ebpf.ProgramType, ifindex, length int) []byte {
	if kind == ebpf.XDP {
		out := make([]byte, 24)
		binary.NativeEndian.PutUint32(out[4:], uint32(length))
		binary.NativeEndian.PutUint32(out[12:], uint32(ifindex))
		return out
	}
	out := make([]byte, 192)
	binary.NativeEndian.PutUint32(out[40:], uint32(ifindex))
	return out
}

// emptyProgram does nothing: what it takes is the cost of a run.
func emptyProgram(kind ebpf.ProgramType) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "empty", Type: kind, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
}
