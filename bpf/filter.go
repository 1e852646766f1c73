// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Filters of ours have these numbers at each interface. Programs with another
// priority are others', and are left alone. A smaller one comes first.
const (
	filterPriority = 50
	filterHandle   = 0x51
)

// filterPrefix begins the names of our filters, as `tc filter show` prints them.
const filterPrefix = "slipway_"

// clsactMark is the hook that a queueing discipline is marked by.
const clsactMark = "clsact"

func filterOf(hook string, ifindex int) *netlink.BpfFilter {
	parent := uint32(netlink.HANDLE_MIN_INGRESS)
	if isEgress(hook) {
		parent = netlink.HANDLE_MIN_EGRESS
	}
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: parent, Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Name: filterPrefix + hook, DirectAction: true,
	}
}

func replaceFilter(h tcHook, ifindex int) error {
	filter := filterOf(h.name, ifindex)
	filter.Fd = h.program.FD()
	if err := netlink.FilterReplace(filter); err != nil {
		return fmt.Errorf("replace filter %s: %w", filter.Name, err)
	}
	return nil
}

func clsactOf(ifindex int) *netlink.GenericQdisc {
	return &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
		QdiscType:  "clsact",
	}
}

// addClsact gives an interface the place for filters, unless it has one. Others may
// use it, too.
func (d *Datapath) addClsact(ifindex int) error {
	err := netlink.QdiscAdd(clsactOf(ifindex))
	switch {
	case errors.Is(err, os.ErrExist):
		return requireClsact(ifindex)
	case err != nil:
		return fmt.Errorf("add clsact: %w", err)
	}
	return mark(d.cfg.filterDir(), pinName(clsactMark, ifindex))
}

// requireClsact tells clsact from the older ingress, which takes its place and has
// none for filters of what leaves.
func requireClsact(ifindex int) error {
	link, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return err
	}
	all, err := netlink.QdiscList(link)
	if err != nil {
		return fmt.Errorf("list queueing disciplines of %s: %w", link.Attrs().Name, err)
	}
	for _, q := range all {
		if q.Type() == "ingress" {
			return fmt.Errorf("%[1]s has the queueing discipline ingress of another program, expected clsact or none; remove it with `tc qdisc del dev %[1]s ingress`", link.Attrs().Name)
		}
	}
	return nil
}

// removeFilter takes a filter that is marked off its interface, and the queueing
// discipline with the last one, if it is ours and nobody else has a filter there.
func removeFilter(dir, name string) error {
	if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, hook := range []string{"pod_from", "pod_to", "uplink_in", "uplink_out"} {
		ifindex, ok := pinIndex(hook, name)
		if !ok {
			continue
		}
		if err := netlink.FilterDel(filterOf(hook, ifindex)); err != nil && !isGone(err) {
			return fmt.Errorf("remove filter %s of interface %d: %w", hook, ifindex, err)
		}
		return errors.Join(unmark(dir, name), removeClsact(dir, ifindex))
	}
	return nil
}

// isGone tells whether a filter cannot be removed since it, or all around it, is
// not there.
func isGone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL)
}

func removeClsact(dir string, ifindex int) error {
	name := pinName(clsactMark, ifindex)
	if _, err := os.Stat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	link, err := netlink.LinkByIndex(ifindex)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return unmark(dir, name)
	}
	if err != nil {
		return fmt.Errorf("find interface %d: %w", ifindex, err)
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if left, err := netlink.FilterList(link, parent); err != nil || len(left) > 0 {
			return err
		}
	}
	if err := netlink.QdiscDel(clsactOf(ifindex)); err != nil && !isGone(err) {
		return fmt.Errorf("remove clsact of %s: %w", link.Attrs().Name, err)
	}
	return unmark(dir, name)
}

// removeFilters removes all filters whose marks match a pattern.
func removeFilters(dir, pattern string) error {
	marks, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range marks {
		errs = append(errs, removeFilter(dir, filepath.Base(path)))
	}
	return errors.Join(errs...)
}
