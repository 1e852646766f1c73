// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"net/netip"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
)

// Upstream makes the directory of volume plugins: it must be one of ours, which goes
// when the node goes.
func TestPluginDirIsOurs(t *testing.T) {
	const dir = "/var/lib/slipway/kubelet/volume-plugins"
	cfg := Config{
		Kubeconfig: "kubeconfig", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}, PluginDir: dir,
		PKI: func(name string) string { return name }, Built: func() {},
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	opts, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	for _, set := range opts.Flags(app.KnownControllers(), nil, nil).FlagSets {
		flags.AddFlagSet(set)
	}

	if err := flags.Parse(cfg.args()); err != nil {
		t.Fatal(err)
	}
	if got := opts.PersistentVolumeBinderController.VolumeConfiguration.FlexVolumePluginDir; got != dir {
		t.Errorf("the directory of volume plugins is %s, expected %s", got, dir)
	}
}
