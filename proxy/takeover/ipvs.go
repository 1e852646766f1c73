// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// ipvsDevice holds the addresses of all Services in mode ipvs.
	ipvsDevice = "kube-ipvs0"
	// setPrefix begins the names of kube-proxy's ipsets.
	setPrefix = "KUBE-"

	// Of linux/ip_vs.h.
	ipvsFamily  = "IPVS"
	ipvsFlush   = 17
	ipvsVersion = 1
)

// ipvs is what kube-proxy has made in mode ipvs.
type ipvs struct {
	device netlink.Link
	// servers tells that the kernel has virtual servers.
	servers bool
	sets    []string
}

func findIPVS() (ipvs, error) {
	var found ipvs
	link, err := netlink.LinkByName(ipvsDevice)
	switch {
	case err == nil && link.Type() == "dummy":
		found.device = link
	case err != nil && !errors.As(err, &netlink.LinkNotFoundError{}):
		return ipvs{}, fmt.Errorf("look for device %s: %w", ipvsDevice, err)
	}
	// Without the device the servers are someone else's.
	if _, err := os.Stat("/proc/thread-self/net/ip_vs"); err == nil {
		found.servers = found.device != nil
	}
	sets, err := netlink.IpsetListAll()
	// A kernel without ipset has none.
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return ipvs{}, fmt.Errorf("list ipsets: %w", err)
	}
	for _, set := range sets {
		if strings.HasPrefix(set.SetName, setPrefix) {
			found.sets = append(found.sets, set.SetName)
		}
	}
	return found, nil
}

func (i ipvs) list() []string {
	var out []string
	if i.servers {
		out = append(out, "IPVS: all virtual servers")
	}
	if i.device != nil {
		out = append(out, "device "+ipvsDevice)
	}
	for _, set := range i.sets {
		out = append(out, "ipset "+set)
	}
	return out
}

// remove is for after the rules that use the sets are gone.
func (i ipvs) remove() error {
	var errs []error
	if i.servers {
		if err := flushIPVS(); err != nil {
			errs = append(errs, fmt.Errorf("remove IPVS virtual servers: %w", err))
		}
	}
	if i.device != nil {
		if err := netlink.LinkDel(i.device); err != nil {
			errs = append(errs, fmt.Errorf("remove device %s: %w", ipvsDevice, err))
		}
	}
	for _, set := range i.sets {
		if err := netlink.IpsetDestroy(set); err != nil {
			errs = append(errs, fmt.Errorf("remove ipset %s: %w", set, err))
		}
	}
	return errors.Join(errs...)
}

func flushIPVS() error {
	family, err := netlink.GenlFamilyGet(ipvsFamily)
	if err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
	req.AddData(&nl.Genlmsg{Command: ipvsFlush, Version: ipvsVersion})
	_, err = req.Execute(unix.NETLINK_GENERIC, 0)
	return err
}
