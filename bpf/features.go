// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Feature is something that kernels differ in and that the data path can do
// without. Most are named for a program in probe.c, which loads where the kernel
// has it.
type Feature string

// The features. Names of constants in lib/config.h are these with has_ before.
const (
	FeatureCTLookup    Feature = "ct_lookup"
	FeatureElemCount   Feature = "elem_count"
	FeatureKernCtx     Feature = "kern_ctx"
	FeatureLoop        Feature = "loop"
	FeatureMPTCPSock   Feature = "mptcp_sock"
	FeatureNetdev      Feature = "netdev"
	FeatureSetRetval   Feature = "set_retval"
	FeatureSockDestroy Feature = "sock_destroy"
	FeatureTCX         Feature = "tcx"
	FeatureXDPFrags    Feature = "xdp_frags"
)

// description is a feature in words: its name, with the release that brought it, and
// what is used where the kernel does not have it, with what that costs.
type description struct{ name, fallback string }

var descriptions = map[Feature]description{
	FeatureCTLookup: {
		"look-ups in netfilter's connection tracking (5.18)",
		"none of kube-proxy's connections are found in it. Where it is a module that is not loaded there are none; programs are loaded again when there are",
	},
	FeatureElemCount: {"number of entries of a map (6.6)", "each reading of metrics walks through all tables: some milliseconds of CPU where they are full"},
	FeatureKernCtx:   {"sk_buff of a packet (6.2)", "its fields are read with bpf_probe_read_kernel, for packets that are refused and for SCTP only"},
	FeatureLoop:      {"loops as a function (5.17)", "a client keeps its backend (session affinity) among the first 512 backends of a Service only"},
	FeatureMPTCPSock: {"multipath TCP sockets (5.19)", "what a TCP socket means by its peer is kept in a hash table: some 0.3 µs a connection"},
	FeatureNetdev:    {"what drivers can do with XDP (6.3)", "XDP is not used: connections passed on to other nodes cost what they cost in traffic control"},
	FeatureSetRetval: {"error of socket programs (5.18)", "a Service without endpoints is refused with EPERM in place of ECONNREFUSED"},
	FeatureSockDestroy: {
		"closing of sockets by programs (6.5)",
		"sockets to backends that are gone are closed by netlink: all sockets of a network namespace are listed to find them",
	},
	FeatureTCX:      {"tcx links (6.6)", "programs are clsact filters: some tens of ns a packet, and any program that may change filters can remove them"},
	FeatureXDPFrags: {"packets in several buffers for XDP (5.18)", "XDP is not used on interfaces with large MTUs whose drivers need it"},
}

// featureSet says which are used.
type featureSet map[Feature]bool

// probeFeatures asks the kernel for each feature. What cannot be told counts as
// missing: the fallback works everywhere.
func probeFeatures(types *btf.Cache, without []Feature) (featureSet, error) {
	all := featureSet{}
	for f, err := range probeEach(types) {
		all[f] = err == nil
	}
	for _, f := range without {
		if _, known := all[f]; !known {
			return nil, fmt.Errorf("feature %q: no such feature", f)
		}
		all[f] = false
	}
	return all, nil
}

// probeEach tells for each feature why the kernel does not have it, nil if it has.
func probeEach(types *btf.Cache) map[Feature]error {
	out := map[Feature]error{FeatureTCX: probeTCX(), FeatureNetdev: probeNetdev()}
	for _, f := range []Feature{
		FeatureCTLookup, FeatureElemCount, FeatureKernCtx, FeatureLoop, FeatureMPTCPSock, FeatureSetRetval,
		FeatureSockDestroy, FeatureXDPFrags,
	} {
		out[f] = probeProgram(loadProbe, string(f), types)
	}
	return out
}

// probeProgram loads one program of an object, with the smallest maps, and
// forgets it.
func probeProgram(load func() (*ebpf.CollectionSpec, error), name string, types *btf.Cache) error {
	spec, err := load()
	if err != nil {
		return fmt.Errorf("read bpf objects: %w", err)
	}
	spec.Programs = map[string]*ebpf.ProgramSpec{name: spec.Programs[name]}
	shrink(spec)
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return err
	}
	loaded.Close()
	return nil
}

// shrink keeps of all maps those that a program refers to, unpinned and with one
// entry.
func shrink(spec *ebpf.CollectionSpec) {
	used := map[string]bool{}
	for _, p := range spec.Programs {
		for _, ins := range p.Instructions {
			used[ins.Reference()] = true
		}
	}
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		switch {
		case strings.HasPrefix(name, "."):
			// Constants have the size that they have.
		case !used[name]:
			delete(spec.Maps, name)
		case m.InnerMap != nil:
			m.InnerMap.MaxEntries = 1
		default:
			m.MaxEntries = 1
		}
	}
}

// apply prepares a blueprint for a kernel with these features only.
func (all featureSet) apply(spec *ebpf.CollectionSpec) error {
	for f, has := range all {
		constant := spec.Variables["has_"+string(f)]
		if constant == nil {
			continue
		}
		if err := constant.Set(has); err != nil {
			return fmt.Errorf("set %s: %w", constant, err)
		}
	}
	for _, p := range spec.Programs {
		if p.Type == ebpf.XDP && !all[FeatureXDPFrags] {
			p.Flags = 0
		}
	}
	return nil
}
