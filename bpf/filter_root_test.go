// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"slipway.dev/slipway/bpf"
	"slipway.dev/slipway/internal/roottest"
)

// openWithFilters opens a data path as on a kernel without tcx.
func openWithFilters(t *testing.T, pins string) *bpf.Datapath {
	t.Helper()
	d, err := bpf.Open(bpf.Config{PinDir: pins, Without: []bpf.Feature{bpf.FeatureTCX}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// filters lists the filters of a device by name, and the queueing disciplines.
func filters(index int) ([]string, error) {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return nil, err
	}
	var out []string
	for side, parent := range map[string]uint32{"in": netlink.HANDLE_MIN_INGRESS, "out": netlink.HANDLE_MIN_EGRESS} {
		all, err := netlink.FilterList(link, parent)
		if err != nil {
			return nil, err
		}
		for _, f := range all {
			name := f.Type()
			if own, ok := f.(*netlink.BpfFilter); ok {
				name, _, _ = strings.Cut(own.Name, ":")
			}
			out = append(out, side+" "+name)
		}
	}
	disciplines, err := netlink.QdiscList(link)
	for _, q := range disciplines {
		if q.Type() == "clsact" || q.Type() == "ingress" {
			out = append(out, q.Type())
		}
	}
	slices.Sort(out)
	return out, err
}

func wantFilters(t *testing.T, when string, index int, want ...string) {
	t.Helper()
	got, err := filters(index)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestRootFilters attaches to an uplink as on kernels without tcx, beside another
// program that uses clsact or not. Another process takes the filters over, and Remove
// leaves what was there before.
func TestRootFilters(t *testing.T) {
	for _, others := range []bool{false, true} {
		t.Run(fmt.Sprintf("others use clsact: %v", others), func(t *testing.T) {
			node, outside, pins := roottest.NetNS(t), roottest.NetNS(t), bpffs(t)
			near := connect(t, node, outside, "up0").near
			var before []string
			if others {
				within(t, node, func() error { return othersFilter(near) })
				before = []string{"clsact", "in other"}
			}
			ours := append([]string{"in slipway_uplink_in", "out slipway_uplink_out"}, before...)
			if !others {
				ours = append(ours, "clsact")
			}
			slices.Sort(ours)
			first := openWithFilters(t, pins)
			roottest.In(t, node, func() error {
				for _, d := range []*bpf.Datapath{first, openWithFilters(t, pins)} {
					if err := d.AttachUplink(near, []netip.Addr{netip.MustParseAddr("192.0.2.1")}); err != nil {
						return err
					}
					wantFilters(t, "attached", near, ours...)
				}
				if err := first.Close(); err != nil {
					return err
				}
				wantFilters(t, "after the process", near, ours...)
				if uplinks, err := first.Uplinks(); err != nil || !slices.Equal(uplinks, []int{near}) {
					t.Errorf("uplinks: %v, %v", uplinks, err)
				}
				if err := bpf.Remove(pins); err != nil {
					return err
				}
				wantFilters(t, "removed", near, before...)
				return nil
			})
		})
	}
}

// othersFilter adds clsact with a filter that lets everything pass.
func othersFilter(index int) error {
	discipline := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
	if err := netlink.QdiscAdd(discipline); err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer program.Close()
	return netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL},
		Fd:          program.FD(), Name: "other", DirectAction: true,
	})
}

// TestRootFiltersNeedClsact names the device and the command when the place of
// filters is taken.
func TestRootFiltersNeedClsact(t *testing.T) {
	node, outside := roottest.NetNS(t), roottest.NetNS(t)
	near := connect(t, node, outside, "up0").near
	d := openWithFilters(t, bpffs(t))
	roottest.In(t, node, func() error {
		discipline := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: near, Parent: netlink.HANDLE_INGRESS}}
		if err := netlink.QdiscAdd(discipline); err != nil {
			return err
		}
		err := d.AttachUplink(near, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
		if err == nil || !strings.Contains(err.Error(), "tc qdisc del dev up0 ingress") {
			t.Errorf("got %v", err)
		}
		return nil
	})
}
