# shellcheck shell=bash
# The daemons of one cluster: start, health, stop.

DAEMONS=(holder etcd containerd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy)

# shellcheck disable=SC2034 # lib/lifecycle.sh makes and removes them
# Mount points of the holder; the machine needs them as empty folders at least.
MOUNT_POINTS=(/var/lib/kubelet /var/lib/containerd /var/log/pods /var/log/containers /run/containerd)

start_cluster() {
    local cluster=$1 begin dir=$STATE/$1
    begin=$(date -u +%Y-%m-%dT%H:%M:%S)
    mkdir -p "$dir/log" "$dir/etcd" "$RUN/$cluster"
    chmod 700 "$dir/etcd"
    rm -rf "$RUN/$cluster/cni"
    make_pki "$cluster"
    make_kubeconfigs "$cluster"
    write_configs "$cluster"
    cgroup_make "$cluster"
    start_holder "$cluster"

    start_etcd "$cluster"
    start_containerd "$cluster"
    start_apiserver "$cluster"
    wait_for 90 "$cluster: kube-apiserver (log: $dir/log/kube-apiserver.log)" api_ready "$cluster" || return 1
    say "$cluster: kube-apiserver ready"
    start_clients "$cluster"
    wait_for 20 "$cluster: containerd (log: $dir/log/containerd.log)" containerd_ready "$cluster" || return 1
    import_images "$cluster" "$(images_dir)"
    say "$cluster: images imported"
    apply_base "$cluster"
    wait_for 90 "$cluster: node Ready (log: $dir/log/kubelet.log)" node_ready "$cluster" "$begin" || return 1
    say "$cluster: node Ready"
    wait_for 90 "$cluster: CoreDNS" dns_ready "$cluster" || return 1
    say "$cluster: CoreDNS answers"
}

# === daemons ===

start_holder() {
    local cluster=$1 ready=$RUN/$1/holder.ready
    rm -f "$ready"
    spawn "$cluster" holder nsenter --net="$(netns_of "$cluster")" \
        unshare --mount --uts --propagation private \
        sh "$LAB_DIR/lib/holder.sh" "$cluster" "$STATE/$cluster" "$ready"
    wait_for 10 "$cluster: holder (log: $STATE/$cluster/log/holder.log)" test -e "$ready"
}

# Nothing of the caller's environment (proxies, GODEBUG) gets into a daemon.
DAEMON_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# spawn CLUSTER NAME COMMAND…: a daemon in the cluster's cgroup; its own session,
# no stdin, its log in a file. exec all the way, so that $! is its pid.
spawn() {
    local cluster=$1 name=$2 log=$STATE/$1/log/$2.log
    shift 2
    [[ -e $log ]] && mv "$log" "$log.1"
    # shellcheck disable=SC2016 # for the inner shell
    setsid env -i PATH="$DAEMON_PATH" HOME=/root \
        sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$(cgroup_of_daemons "$cluster")" "$@" \
        </dev/null >"$log" 2>&1 {LOCK_FD}>&- &
    record_pid "$RUN/$cluster/$name.pid" "$!"
}

# nsenter and not "ip netns exec", which hides /sys/fs/cgroup.
inside() { printf 'nsenter\n-t\n%s\n-m\n-n\n-u\n--\n' "$(pid_in "$RUN/$1/holder.pid")"; }

in_cluster() {
    local enter
    mapfile -t enter < <(inside "$1")
    shift
    "${enter[@]}" "$@"
}

start_daemon() {
    local cluster=$1 name=$2 enter
    shift 2
    mapfile -t enter < <(inside "$cluster")
    spawn "$cluster" "$name" "${enter[@]}" "$@"
}

# Durability is given up for speed; see forget_after_reboot.
start_etcd() {
    start_daemon "$1" etcd "$(kubelab_dir)/etcd" --name "$1" --data-dir "$STATE/$1/etcd" \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 \
        --initial-cluster "$1=http://127.0.0.1:2380" --unsafe-no-fsync --log-level warn
}

start_containerd() {
    start_daemon "$1" containerd containerd --config "$(config_dir "$1")/containerd.toml"
}

start_apiserver() {
    local cluster=$1 pki audit=()
    pki=$(pki_dir "$cluster")
    if [[ ${CLUSTER_PROXY_LAB_AUDIT:-} == 1 ]]; then
        # 200 MB a cluster at most: two files of 100.
        audit=(--audit-policy-file="$(config_dir "$cluster")/audit-policy.yaml"
            --audit-log-path="$STATE/$cluster/log/audit.log"
            --audit-log-maxsize=100 --audit-log-maxbackup=1)
    else
        # One of an earlier start would pass for this one's.
        rm -f "$STATE/$cluster"/log/audit*.log
    fi
    start_daemon "$cluster" kube-apiserver "$(kubelab_dir)/kube-apiserver" \
        --advertise-address="${NODE_IP[$cluster]}" --secure-port=6443 \
        --etcd-servers=http://127.0.0.1:2379 \
        --service-cluster-ip-range="${SERVICE_CIDR[$cluster]}" \
        --client-ca-file="$pki/ca.crt" \
        --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
        --kubelet-certificate-authority="$pki/ca.crt" \
        --kubelet-preferred-address-types=InternalIP \
        --service-account-issuer="$ISSUER" \
        --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
        --requestheader-client-ca-file="$pki/front-proxy-ca.crt" \
        --requestheader-allowed-names=front-proxy-client \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --requestheader-group-headers=X-Remote-Group \
        --requestheader-username-headers=X-Remote-User \
        --proxy-client-cert-file="$pki/front-proxy-client.crt" \
        --proxy-client-key-file="$pki/front-proxy-client.key" \
        --enable-aggregator-routing=true \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --enable-bootstrap-token-auth --allow-privileged=true "${audit[@]}"
}

# What needs the apiserver to be there. The cluster-signing flags let it issue
# certificates for CSRs, which OCM's registration and addons ask for.
start_clients() {
    local cluster=$1 bin pki kubeconfig
    bin=$(kubelab_dir)
    pki=$(pki_dir "$cluster")
    kubeconfig=$(kubeconfig_of "$cluster" controller-manager)
    start_daemon "$cluster" kubelet "$bin/kubelet" --config="$(config_dir "$cluster")/kubelet.yaml" \
        --kubeconfig="$(kubeconfig_of "$cluster" kubelet)" \
        --hostname-override="$cluster" --node-ip="${NODE_IP[$cluster]}"
    start_daemon "$cluster" kube-controller-manager "$bin/kube-controller-manager" \
        --kubeconfig="$kubeconfig" --authentication-kubeconfig="$kubeconfig" \
        --authorization-kubeconfig="$kubeconfig" \
        --use-service-account-credentials --service-account-private-key-file="$pki/sa.key" \
        --root-ca-file="$pki/ca.crt" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key" \
        --controllers='*,bootstrap-signer-controller,token-cleaner-controller' \
        --leader-elect=false --allocate-node-cidrs=false
    start_daemon "$cluster" kube-scheduler "$bin/kube-scheduler" \
        --kubeconfig="$(kubeconfig_of "$cluster" scheduler)" --leader-elect=false
    start_daemon "$cluster" kube-proxy "$bin/kube-proxy" --config="$(config_dir "$cluster")/kube-proxy.yaml"
}

# === contents ===

# import_images CLUSTER FOLDER: all tars in it, those of before excepted.
import_images() {
    local cluster=$1 dir=$2 tar mark
    for tar in "$dir"/*.tar; do
        # Named by the folder's hash: a changed image is imported again.
        mark=$STATE/$cluster/imported/$(basename "$dir")-$(basename "$tar")
        [[ -e $mark ]] && continue
        import_image "$cluster" "$tar"
        mkdir -p "$(dirname "$mark")"
        : >"$mark"
    done
}

import_image() {
    in_cluster "$1" ctr -n k8s.io images import "$2" >/dev/null || die "$1: cannot import $2"
}

apply_base() {
    sed -e "s|@COREDNS_IMAGE@|$COREDNS_IMAGE|" -e "s|@DNS_IP@|${DNS_IP[$1]}|" "$LAB_DIR/manifests/coredns.yaml" |
        kubectl_of "$1" apply --server-side --force-conflicts --field-manager=lab -f - >/dev/null
}

kubectl_of() {
    local cluster=$1
    shift
    NO_PROXY='*' KUBECONFIG=$(kubeconfig_of "$cluster") "$(kubelab_dir)/kubectl" "$@"
}

# === health ===

# api CLUSTER PATH: a GET as admin; cheaper than starting kubectl.
api() {
    local pki
    pki=$(pki_dir "$1")
    curl --silent --fail --max-time 3 --noproxy '*' --cacert "$pki/ca.crt" --cert "$pki/admin.crt" \
        --key "$pki/admin.key" "https://${NODE_IP[$1]}:6443$2" 2>/dev/null
}

containerd_ready() { in_cluster "$1" ctr version >/dev/null 2>&1; }

api_ready() { [[ $(api "$1" /readyz) == ok ]]; }

# node_ready CLUSTER SINCE: Ready by the word of a kubelet that has been alive
# since then. The condition alone may be that of a former run. A kubelet that
# just made its node has no lease yet: that comes with its next round, in 10 s.
node_ready() {
    local node
    node=$(api "$1" "/api/v1/nodes/$1") || return 1
    jq -e '.status.conditions[] | select(.type == "Ready" and .status == "True")' <<<"$node" >/dev/null || return 1
    jq -e --arg since "$2" '.metadata.creationTimestamp >= $since' <<<"$node" >/dev/null && return
    api "$1" "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/$1" |
        jq -e --arg since "$2" '.spec.renewTime >= $since' >/dev/null
}

# Asked through the Service address, so kube-proxy has done its work as well.
dns_ready() {
    in_net "$1" timeout 2 busybox nslookup -type=a kubernetes.default.svc.cluster.local "${DNS_IP[$1]}" >/dev/null 2>&1 &&
        api "$1" /api/v1/namespaces/default/serviceaccounts/default >/dev/null
}

daemons_alive() {
    local name
    for name in "${DAEMONS[@]}"; do
        pid_in "$RUN/$1/$name.pid" >/dev/null || return 1
    done
}

cluster_healthy() {
    daemons_alive "$1" && api_ready "$1" &&
        node_ready "$1" "$(date -u -d '-60 seconds' +%Y-%m-%dT%H:%M:%S)" && dns_ready "$1"
}

# === stop ===

# stop_cluster CLUSTER: everything in its cgroup ends; mounts go with the last
# process of their namespace. Works without pid files, so also after a crash.
stop_cluster() {
    local cluster=$1 pid
    # First, or it would start again what ends next to it.
    if pid=$(pid_in "$RUN/$cluster/kubelet.pid"); then
        kill "$pid" 2>/dev/null || true
        wait_for 3 "$cluster: kubelet to end" eval "! pid_in '$RUN/$cluster/kubelet.pid' >/dev/null" ||
            kill -KILL "$pid" 2>/dev/null || true
    fi
    kill_all "$cluster" cgroup_pids "$cluster"
    cgroup_remove "$cluster"
    rm -rf "${RUN:?}/$cluster"
}
