# shellcheck shell=bash
# Configuration files of the node's daemons, written anew at every start.

config_dir() { printf '%s/%s/config' "$STATE" "$1"; }

write_configs() {
    local cluster=$1 dir
    dir=$(config_dir "$cluster")
    rm -rf "$dir"
    mkdir -p "$dir/cni"
    containerd_config "$dir" >"$dir/containerd.toml"
    cni_config "$cluster" >"$dir/cni/10-lab.conflist"
    kubelet_config "$cluster" "$dir" >"$dir/kubelet.yaml"
    kube_proxy_config "$cluster" >"$dir/kube-proxy.yaml"
    # Pods know cluster names only: the machine's resolver is out of reach.
    : >"$dir/resolv.conf"
    cp "$LAB_DIR/manifests/audit-policy.yaml" "$dir/audit-policy.yaml"
}

# root and state are the holder's own mounts (lib/holder.sh).
# restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in many VMs, runc may
# not lower oom_score_adj, and every sandbox would fail with "can't get final
# child's PID from pipe".
containerd_config() {
    cat <<END
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE_IMAGE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$1/cni"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
END
}

# Addresses given out are remembered under RUN: no pod outlives the cluster's
# daemons, so none is taken when they start.
cni_config() {
    cat <<END
{
  "cniVersion": "0.4.0",
  "name": "lab",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "ipMasq": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "${POD_CIDR[$1]}"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "$RUN/$1/cni"
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
END
}

# Image garbage collection is off: an image that is gone cannot be pulled.
# syncFrequency: after a change, Secrets reach running pods within that time
# (one minute where nobody says so).
kubelet_config() {
    local cluster=$1 dir=$2 pki
    pki=$(pki_dir "$cluster")
    cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $pki/kubelet-serving.crt
tlsPrivateKeyFile: $pki/kubelet-serving.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: ["${DNS_IP[$cluster]}"]
clusterDomain: cluster.local
resolvConf: $dir/resolv.conf
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /lab-$cluster
enforceNodeAllocatable: []
failSwapOn: false
syncFrequency: 10s
evictionHard: {memory.available: 100Mi, nodefs.available: 1Gi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
END
}

# The conntrack limits of a child namespace cannot be written: 0 leaves them.
kube_proxy_config() {
    cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: ${POD_CIDR[$1]}
hostnameOverride: $1
clientConnection: {kubeconfig: $(kubeconfig_of "$1" kube-proxy)}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}
