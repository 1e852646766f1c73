// SPDX-License-Identifier: Apache-2.0

// Package kubelet runs the Kubernetes kubelet in this process, on a container
// runtime that is reached through CRI. It is an assembly of upstream
// packages. It works on cgroup v2 and on the cgroup v1 hybrid layout.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/certificate/bootstrap"
	"k8s.io/kubernetes/pkg/kubelet/eviction"
	"k8s.io/kubernetes/pkg/volume"
)

// Config is what the kubelet needs to know about its node.
type Config struct {
	// NodeName is the name of the Node object.
	NodeName string
	// NodeIPs are the node's addresses, at most one of each family, the
	// primary first.
	NodeIPs []netip.Addr
	// Labels are set on the Node when it registers.
	Labels map[string]string
	// RootDir holds pod volumes and plugin sockets.
	RootDir string
	// Kubeconfig holds the identity system:node:NAME.
	Kubeconfig string
	// Bootstrap is a kubeconfig with the right to ask for that identity. With
	// it the kubelet gets its certificates from the cluster and renews them;
	// without it they are in files.
	Bootstrap string
	// RuntimeSocket is the path of the CRI socket.
	RuntimeSocket string
	// CgroupRoot is the cgroup under which all pods live, as seen from the
	// root of each hierarchy. It must exist in all of them.
	CgroupRoot string
	// ClusterDNS is the address of the cluster's DNS Service.
	ClusterDNS []netip.Addr
	// ClusterDomain is the DNS suffix of the cluster.
	ClusterDomain string
	// OOMScoreAdj is written for this process; it cannot be lowered without
	// CAP_SYS_RESOURCE.
	OOMScoreAdj int32
	// ResolvConf is the file that pods with dnsPolicy Default inherit.
	ResolvConf string
	// PKI returns the path of a file in the certificate directory.
	PKI func(name string) string
}

// Validate reports the first field that cannot work.
func (c Config) Validate() error {
	switch {
	case c.NodeName == "":
		return errors.New("kubelet: no node name given")
	case len(c.NodeIPs) == 0:
		return errors.New("kubelet: no node address given")
	case c.RootDir == "" || c.Kubeconfig == "" || c.RuntimeSocket == "":
		return errors.New("kubelet: root directory, kubeconfig and runtime socket must all be given")
	case c.PKI == nil:
		return errors.New("kubelet: no certificates given")
	}
	return nil
}

// Run runs the kubelet until ctx ends or it fails. Pods go on running after
// that and are adopted by the next kubelet with the same root directory.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	conf, err := cfg.configuration()
	if err != nil {
		return err
	}
	server := &options.KubeletServer{KubeletFlags: *cfg.flags(), KubeletConfiguration: *conf}
	if err := options.ValidateKubeletServer(server); err != nil {
		return fmt.Errorf("kubelet options: %w", err)
	}
	deps, err := app.UnsecuredDependencies(ctx, server, utilfeature.DefaultFeatureGate)
	if err != nil {
		return fmt.Errorf("kubelet dependencies: %w", err)
	}
	// First, so that whoever initializes CSI last can be told, see ReclaimCSI.
	deps.VolumePlugins = append([]volume.VolumePlugin{hostKeeper{}}, deps.VolumePlugins...)
	if err := app.Run(ctx, server, deps, utilfeature.DefaultFeatureGate); err != nil {
		return err
	}
	// app.Run returns at once when it has started all its parts.
	<-ctx.Done()
	return nil
}

func (c Config) flags() *options.KubeletFlags {
	flags := options.NewKubeletFlags()
	flags.KubeConfig = c.Kubeconfig
	flags.HostnameOverride = c.NodeName
	flags.NodeIP = joinAddrs(c.NodeIPs)
	flags.RootDirectory = c.RootDir
	flags.NodeLabels = c.Labels
	flags.CertDirectory = c.certDir()
	return flags
}

func (c Config) certDir() string { return filepath.Join(c.RootDir, "pki") }

// Bootstrap gets the kubelet's identity from the cluster and writes its
// kubeconfig, unless there is a valid one; see
// https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/
func Bootstrap(ctx context.Context, cfg Config) error {
	return bootstrap.LoadClientCert(ctx, cfg.Kubeconfig, cfg.Bootstrap, cfg.certDir(), types.NodeName(cfg.NodeName))
}

func (c Config) configuration() (*kubeletconfig.KubeletConfiguration, error) {
	conf, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, fmt.Errorf("kubelet defaults: %w", err)
	}
	conf.Authentication.Anonymous.Enabled = false
	conf.Authentication.Webhook.Enabled = true
	conf.Authentication.X509.ClientCAFile = c.PKI("ca.crt")
	conf.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	if c.Bootstrap != "" {
		conf.RotateCertificates, conf.ServerTLSBootstrap = true, true
	} else {
		conf.TLSCertFile, conf.TLSPrivateKeyFile = c.PKI("kubelet-server.crt"), c.PKI("kubelet-server.key")
	}
	conf.ReadOnlyPort = 0
	conf.ContainerRuntimeEndpoint = "unix://" + c.RuntimeSocket
	conf.CgroupDriver, conf.CgroupRoot = "cgroupfs", c.CgroupRoot
	conf.FailCgroupV1, conf.FailSwapOn = false, false
	conf.OOMScoreAdj = c.OOMScoreAdj
	conf.ResolverConfig = c.ResolvConf
	conf.ClusterDomain = c.ClusterDomain
	for _, addr := range c.ClusterDNS {
		conf.ClusterDNS = append(conf.ClusterDNS, addr.String())
	}
	conf.VolumePluginDir = c.RootDir + "/volume-plugins"
	conf.EvictionHard = evictionHard()
	conf.SerializeImagePulls = false
	// Their only rule guards against what kube-proxy does to loopback.
	conf.MakeIPTablesUtilChains = false
	conf.EnableDebuggingHandlers, conf.EnableProfilingHandler = true, false
	// How long a watched ConfigMap or Secret may lag is bounded by the sync.
	conf.SyncFrequency = metav1.Duration{Duration: time.Minute}
	return conf, nil
}

// evictionHard is upstream's, but for the disk: it takes a large disk for full
// that has tens of gigabytes left.
func evictionHard() map[string]string {
	hard := maps.Clone(eviction.DefaultEvictionHard)
	for _, signal := range []string{"nodefs.available", "imagefs.available"} {
		hard[signal] = "5%"
	}
	return hard
}

func joinAddrs(addrs []netip.Addr) string {
	text := make([]string, len(addrs))
	for i, a := range addrs {
		text[i] = a.String()
	}
	return strings.Join(text, ",")
}
