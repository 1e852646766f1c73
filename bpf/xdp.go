// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// uplinkXDP is UPLINK_XDP of lib/types.h.
const uplinkXDP = 1 << 0

// errNoTransmit says that what XDP programs send out of an interface is lost.
var errNoTransmit = errors.New("the driver does not take packets from XDP programs; at a veth pair the far end must have GRO on")

// attachWire attaches the XDP program to an uplink, in its driver, and tells
// whether it is there. Where it cannot be, the tcx programs do its work.
func (d *Datapath) attachWire(ifindex int) bool {
	err := d.tryWire(ifindex)
	if err != nil {
		err = errors.Join(err, d.detachWire(ifindex))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if before, told := d.wired[ifindex]; !told || before != (err == nil) {
		d.cfg.Log.Info("XDP on uplink", "interface", ifindex, "attached", err == nil, "reason", err)
	}
	d.wired[ifindex] = err == nil
	return err == nil
}

// detachWire takes the program off now: otherwise the kernel does so a moment
// later, and refuses another one until then.
func (d *Datapath) detachWire(ifindex int) error {
	name := pinName("wire", ifindex)
	err := detachPinned(filepath.Join(d.cfg.linkDir(), name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return errors.Join(err, d.detach(name))
}

func (d *Datapath) tryWire(ifindex int) error {
	dev, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("find interface %d: %w", ifindex, err)
	}
	// Other drivers say that they take packets once they have a program. A veth
	// pair says so before, and segments what it carries for the sake of one.
	if dev.Type() == "veth" {
		if err := canTransmit(ifindex); err != nil {
			return err
		}
	}
	err = d.attach(hook{
		name: pinName("wire", ifindex), program: d.wire.Wire,
		attach: func(p *ebpf.Program) (link.Link, error) {
			return link.AttachXDP(link.XDPOptions{Program: p, Interface: ifindex, Flags: link.XDPDriverMode})
		},
		here: func(info *link.Info) bool { return info.XDP() != nil && info.XDP().Ifindex == uint32(ifindex) },
	})
	if err != nil {
		return fmt.Errorf("attach wire to interface %d: %w", ifindex, err)
	}
	return canTransmit(ifindex)
}

// The request for what a device can do with XDP, of linux/netdev.h.
const (
	netdevFamily   = "netdev"
	netdevGet      = 1
	netdevIfindex  = 1
	netdevFeatures = 3
	// featureTransmit is NETDEV_XDP_ACT_NDO_XMIT.
	featureTransmit = 1 << 2
)

// canTransmit returns errNoTransmit when XDP programs cannot send out of an
// interface. For veth pairs this depends on the far end, and may change.
func canTransmit(ifindex int) error {
	family, err := netlink.GenlFamilyGet(netdevFamily)
	if err != nil {
		return fmt.Errorf("ask for XDP features of interface %d: %w", ifindex, err)
	}
	request := nl.NewNetlinkRequest(int(family.ID), 0)
	// nl.Genlmsg leaves what is reserved undefined, and the kernel wants zeros.
	header := []byte{netdevGet, uint8(family.Version), 0, 0}
	attr := nl.NewRtAttr(netdevIfindex, binary.NativeEndian.AppendUint32(nil, uint32(ifindex)))
	request.AddRawData(append(header, attr.Serialize()...))
	answers, err := request.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return fmt.Errorf("ask for XDP features of interface %d: %w", ifindex, err)
	}
	for _, answer := range answers {
		attrs, err := nl.ParseRouteAttrAsMap(answer[nl.SizeofGenlmsg:])
		if err != nil {
			return fmt.Errorf("read XDP features of interface %d: %w", ifindex, err)
		}
		if v := attrs[netdevFeatures].Value; len(v) == 8 && binary.NativeEndian.Uint64(v)&featureTransmit != 0 {
			return nil
		}
	}
	return errNoTransmit
}
