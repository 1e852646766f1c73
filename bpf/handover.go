// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// Handover is the data path that is pinned on this machine, for the time in which
// another proxy takes its connections over. Nothing else may change it meanwhile.
type Handover struct{ View }

// OpenHandover opens what is pinned under pinDir.
func OpenHandover(pinDir string) (*Handover, error) {
	d := &Datapath{cfg: Config{PinDir: pinDir}, writes: true}
	if err := d.openPinned(); err != nil {
		d.Close()
		return nil, err
	}
	return &Handover{View{d}}, nil
}

// SetTakeover says where connections are looked for in netfilter's table.
func (h *Handover) SetTakeover(where Takeover) error { return h.d.setTakeover(where) }

// Forget removes an entry; one that is not there is no error.
func (h *Handover) Forget(c Conntrack) error {
	key := uplinkTuple{
		Src: toAddr(c.Src.Addr()), Dst: toAddr(c.Dst.Addr()), Proto: uint8(c.Protocol),
		Sport: toPort(c.Src.Port()), Dport: toPort(c.Dst.Port()),
	}
	if err := h.d.maps.Conntrack.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("forget connection from %s to %s: %w", c.Src, c.Dst, err)
	}
	return nil
}

// DetachUplinks has packets from other hosts pass untouched. Replies of connections
// that have begun are still translated.
func (h *Handover) DetachUplinks() error {
	var errs []error
	for _, hook := range []string{"wire_*", "uplink_in_*"} {
		pins, err := filepath.Glob(filepath.Join(h.d.cfg.linkDir(), hook))
		errs = append(errs, err)
		for _, pin := range pins {
			errs = append(errs, detachPinned(pin), os.Remove(pin))
		}
	}
	errs = append(errs, removeFilters(h.d.cfg.filterDir(), "uplink_in_*"))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach uplinks of %s: %w", h.d.cfg.PinDir, err)
	}
	return nil
}
