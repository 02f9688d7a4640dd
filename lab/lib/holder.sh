#!/bin/sh
# The first process of a cluster: holds its mount and UTS namespaces, in which
# its daemons see folders of their own where Kubernetes has fixed paths.
# Arguments: CLUSTER STATE-FOLDER READY-FILE
set -eu

# The namespace was made private; shared again, now among its own processes,
# so that what the kubelet mounts shows up in containers.
mount --make-rshared /

bind() {
    mkdir -p "$1"
    mount --bind "$1" "$2"
    mount --make-rshared "$2"
}
bind "$2/kubelet" /var/lib/kubelet
bind "$2/containerd" /var/lib/containerd
bind "$2/log/pods" /var/log/pods
bind "$2/log/containers" /var/log/containers
mount -t tmpfs -o mode=711 tmpfs /run/containerd
mount --make-rshared /run/containerd

hostname "$1"
: >"$3"
exec sleep infinity
