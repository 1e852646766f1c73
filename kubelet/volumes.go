// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"fmt"
	"sync/atomic"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/csi"
)

// host is what volume plugins of this process' kubelet are initialized with.
var host atomic.Pointer[volume.VolumeHost]

// ReclaimCSI initializes upstream's CSI volume plugin for the kubelet once
// more. The plugin keeps package variables that belong to whoever has
// initialized it last; controllers that are built later than the kubelet take
// them away, and no CSI driver can be registered on the node until this is
// called. It does nothing before the kubelet initializes its plugins: then the
// kubelet will be last.
func ReclaimCSI() error {
	at := host.Load()
	if at == nil {
		return nil
	}
	for _, plugin := range csi.ProbeVolumePlugins() {
		if err := plugin.Init(*at); err != nil {
			return fmt.Errorf("initialize CSI for the kubelet again: %w", err)
		}
	}
	return nil
}

// hostKeeper is a volume plugin that supports no volume: it only learns what
// plugins are initialized with.
type hostKeeper struct{}

var _ volume.VolumePlugin = hostKeeper{}

func (hostKeeper) Init(h volume.VolumeHost) error {
	host.Store(&h)
	return nil
}

func (hostKeeper) GetPluginName() string             { return "slipway.dev/host" }
func (hostKeeper) CanSupport(*volume.Spec) bool      { return false }
func (hostKeeper) RequiresRemount(*volume.Spec) bool { return false }
func (hostKeeper) SupportsMountOption() bool         { return false }

func (hostKeeper) SupportsSELinuxContextMount(*volume.Spec) (bool, error) { return false, nil }

func (hostKeeper) GetVolumeName(*volume.Spec) (string, error) { return "", errNoVolumes }

func (hostKeeper) NewMounter(*volume.Spec, *v1.Pod) (volume.Mounter, error) { return nil, errNoVolumes }

func (hostKeeper) NewUnmounter(string, types.UID) (volume.Unmounter, error) { return nil, errNoVolumes }

func (hostKeeper) ConstructVolumeSpec(string, string) (volume.ReconstructedVolume, error) {
	return volume.ReconstructedVolume{}, errNoVolumes
}

var errNoVolumes = fmt.Errorf("%s has no volumes", hostKeeper{}.GetPluginName())
