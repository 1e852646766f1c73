// SPDX-License-Identifier: Apache-2.0

package main

import "slipway.dev/slipway/bench/sandbox"

const cniConfDir = peerDir + "/cni"

// containerdConfig differs from what Slipway gives its own containerd in
// paths alone.
const containerdConfig = `version = 3
root = '` + peerDir + `/containerd'
state = '` + peerRun + `/containerd'
oom_score = 0

[grpc]
  address = '` + criSocket + `'

[ttrpc]
  address = '` + criSocket + `.ttrpc'

[plugins.'io.containerd.nri.v1.nri']
  disable = true

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = '` + podImage + `'

[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = %t
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = 'runc'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = 'io.containerd.runc.v2'
      runtime_path = '` + peerDir + `/bin/containerd-shim-runc-v2'
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['` + sandbox.Programs + `/peers']
    conf_dir = '` + cniConfDir + `'
    use_internal_loopback = true
`

// kubeletConfig says what Slipway's kubelet is told; the rest are defaults on
// both sides.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ` + peerDir + `/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: ` + peerDir + `/pki/kubelet-server.crt
tlsPrivateKeyFile: ` + peerDir + `/pki/kubelet-server.key
containerRuntimeEndpoint: unix://` + criSocket + `
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: %d
resolvConf: /etc/resolv.conf
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
volumePluginDir: ` + peerDir + `/volume-plugins
serializeImagePulls: false
makeIPTablesUtilChains: false
evictionHard:
  memory.available: 100Mi
  nodefs.available: 5%%
  nodefs.inodesFree: 5%%
  imagefs.available: 5%%
  imagefs.inodesFree: 5%%
enableProfilingHandler: false
`

// proxyConfig leaves connection tracking as it is: its limits belong to the
// host.
const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: ` + peerDir + `/pki/proxy.kubeconfig}
clusterCIDR: ` + podCIDRs + `
oomScoreAdj: %d
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

// bridgeConfig gives pods what the plain plugins can: a bridge and the
// addresses of the first node.
const bridgeConfig = `{
  "cniVersion": "1.0.0",
  "name": "peer",
  "plugins": [{
    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
    "ipam": {
      "type": "host-local",
      "ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:10:244::/64"}]],
      "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    }
  }]
}
`
