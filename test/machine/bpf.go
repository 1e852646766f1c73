// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// programs lists the loaded BPF programs. One that was let go stays for a
// moment: the kernel frees it later.
func programs() ([]string, error) {
	var out []string
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		program, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := program.Info()
		program.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s %s", info.Type, info.Name))
	}
}

// maps lists the BPF maps, those without a program too.
func maps() ([]string, error) {
	var out []string
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		info, err := m.Info()
		m.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s %s", info.Type, info.Name))
	}
}

// attached lists where BPF programs are attached: all BPF links, and programs
// that hang on a cgroup directly.
func attached() ([]string, error) {
	var out []string
	all := new(link.Iterator)
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			return nil, fmt.Errorf("BPF link: %w", err)
		}
		out = append(out, describe(info)+" by link")
	}
	if err := all.Err(); err != nil {
		return nil, err
	}
	direct, err := onCgroups()
	return append(out, direct...), err
}

func describe(info *link.Info) string {
	name := programName(info.Program)
	switch {
	case info.TCX() != nil:
		tcx := info.TCX()
		return fmt.Sprintf("%s at %s %v", name, interfaceName(tcx.Ifindex), ebpf.AttachType(tcx.AttachType))
	case info.XDP() != nil:
		return fmt.Sprintf("%s at %s XDP", name, interfaceName(info.XDP().Ifindex))
	case info.Cgroup() != nil:
		return fmt.Sprintf("%s at cgroup %v", name, ebpf.AttachType(info.Cgroup().AttachType))
	}
	return fmt.Sprintf("%s, type %v", name, info.Type)
}

func programName(id ebpf.ProgramID) string {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Sprintf("unknown program (%v)", err)
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return fmt.Sprintf("unknown program (%v)", err)
	}
	return info.Name
}

func interfaceName(index uint32) string {
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return "an interface that is gone or in another namespace"
	}
	return i.Name
}

// onCgroups asks the root of each cgroup v2 hierarchy.
func onCgroups() ([]string, error) {
	table, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range table {
		if m.fsType != "cgroup2" {
			continue
		}
		found, err := onCgroup(m.point)
		if err != nil {
			return nil, fmt.Errorf("cgroup %s: %w", m.point, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

func onCgroup(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var out []string
	for _, attach := range []ebpf.AttachType{
		ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupInetSockCreate, ebpf.AttachCgroupInetSockRelease,
		ebpf.AttachCGroupInet4Bind, ebpf.AttachCGroupInet6Bind, ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect,
		ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Sendmsg, ebpf.AttachCGroupUDP4Recvmsg, ebpf.AttachCGroupUDP6Recvmsg,
		ebpf.AttachCgroupInet4GetPeername, ebpf.AttachCgroupInet6GetPeername, ebpf.AttachCGroupSockOps, ebpf.AttachCGroupDevice,
	} {
		result, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: attach})
		if errors.Is(err, ebpf.ErrNotSupported) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", attach, err)
		}
		for _, p := range result.Programs {
			out = append(out, fmt.Sprintf("%s at %s %v", programName(p.ID), path, attach))
		}
	}
	return out, nil
}
